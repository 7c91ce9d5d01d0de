// Speaks with the server: JSON, streams of events, and its errors.

import { state } from './store.js';
import { TEXT } from './texts.js';

/** A refusal; status is 0 if the server did not answer at all. */
export class ApiError extends Error {
  constructor(message, status = 0, { code = null, param = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param });
  }
}

const BUSY = [429, 503];
const TRIES = 6;

/** GETs JSON, or POSTs `body`; waits where the server is busy and says so. */
export async function ask(path, body, signal) {
  for (let attempt = 1; ; attempt += 1) {
    const response = await send(path, body, signal);
    if (response.ok) return response.json();
    const error = await errorOf(response);
    if (
      !BUSY.includes(response.status) ||
      error.code === 'engine_dead' ||
      attempt === TRIES
    )
      throw error;
    await pause(
      1000 * Math.min(Number(response.headers.get('retry-after')) || 1, 5),
      signal,
    );
  }
}

/** POSTs `body` and yields each event's JSON until the stream ends. */
export async function* stream(path, body, signal) {
  const response = await send(path, body, signal);
  if (!response.ok) throw await errorOf(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (pending + value).split(/\r?\n\r?\n/);
    pending = events.pop();
    for (const event of events) {
      if (!event.startsWith('data:')) continue;
      const data = event.slice(5).trim();
      if (data === '[DONE]') return;
      const found = JSON.parse(data);
      if (found.error)
        throw new ApiError(found.error.message, 500, found.error);
      yield found;
    }
  }
}

/** What the server says of itself: 'ready', 'warming' and so on. */
export async function health() {
  const response = await send('health');
  const found = await response.json().catch(() => ({}));
  return found.status ?? (response.ok ? 'ready' : '');
}

async function send(path, body, signal) {
  const headers = {};
  if (state.apiKey) headers.authorization = `Bearer ${state.apiKey}`;
  if (body) headers['content-type'] = 'application/json';
  try {
    return await fetch(path, {
      method: body ? 'POST' : 'GET',
      headers,
      signal,
      body: body && JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(TEXT.errors.unreachable);
  }
}

async function errorOf(response) {
  const found = await response.json().then(
    (value) => value.error,
    () => null,
  );
  const message = found?.message ?? TEXT.errors.status(response.status);
  return new ApiError(message, response.status, found ?? {});
}

export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(new DOMException('stopped', 'AbortError'));
    });
  });
}
