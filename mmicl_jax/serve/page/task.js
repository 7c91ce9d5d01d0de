// A pane that asks the server many times: a button, progress, errors, results.

import { fill, h } from './dom.js';
import { icon } from './icons.js';
import { active } from './prompt.js';
import { changed, on, state } from './store.js';
import { TEXT } from './texts.js';

/** What a result depends on, to see whether it still holds. */
const stamp = () => JSON.stringify([active(state.cards), state.candidates]);

/**
 * A pane with a button. name: of its result in state.results. start(signal,
 * progress) resolves to the result. show(result) makes its elements. blocked()
 * is a sentence if it cannot run now.
 */
export function taskPane({
  name,
  title,
  hint,
  label,
  start,
  show,
  blocked,
  extra = () => null,
}) {
  const body = h('div', { class: 'task-body' });
  const note = h('p', { class: 'hint', 'aria-live': 'polite' });
  const error = h('div', {});
  const button = h('button', {
    type: 'button',
    class: 'secondary',
    onclick: press,
  });
  let running = null;
  let refused = ''; // why it could not run when it was asked to

  async function press() {
    if (running) return running.abort();
    refused = blocked();
    if (refused) {
      fail(new Error(refused));
      return draw();
    }
    running = new AbortController();
    const mine = running;
    fail(null);
    draw();
    const asked = stamp();
    try {
      const found = await start(mine.signal, (done, all) => {
        note.textContent = TEXT.shots.progress(done, all);
      });
      state.results[name] = { ...found, asked };
    } catch (problem) {
      if (problem.name !== 'AbortError') fail(problem);
    } finally {
      running = null;
      changed('results');
    }
  }

  const fail = (problem) =>
    fill(
      error,
      problem && h('p', { class: 'error', role: 'alert' }, problem.message),
    );

  function draw() {
    const result = state.results[name];
    fill(
      button,
      icon(running ? 'stop' : 'play'),
      running ? TEXT.run.stop : label,
    );
    const reason = blocked();
    if (refused && refused !== reason) {
      refused = reason;
      fail(reason ? new Error(reason) : null);
    }
    if (!running)
      note.textContent = !result
        ? (!refused && reason) || hint // it is said once, above
        : result.asked === stamp()
          ? ''
          : TEXT.shots.stale;
    fill(body, result ? show(result) : null);
  }

  on('results cards text candidates', draw);
  draw();
  const pane = h(
    'div',
    { class: 'pane' },
    h('div', { class: 'pane-head' }, h('h3', {}, title), extra(), button),
    error,
    note,
    body,
  );
  return Object.assign(pane, { stop: () => running?.abort() ?? false, press });
}
