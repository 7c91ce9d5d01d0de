// What the page knows, who is told when it changes, and how to go back.

import { newCard } from './prompt.js';

export const DEFAULTS = {
  model: '',
  mode: 'greedy',
  maxTokens: 50,
  temperature: 0.7,
  topP: 1,
  topK: 0,
  beams: 5,
  seed: '',
  stop: '',
  style: 'plain',
  format: 'auto',
  truncate: false,
};

export const state = {
  cards: [newCard()],
  settings: { ...DEFAULTS },
  candidates: [],
  models: [],
  ownFormat: 'auto', // of images, as the model's own examples have it
  mostTokens: null, // of an answer, as the server says
  apiKey: '',
  rendered: null, // what the server made of the prompt, or its error
  results: {},
  history: [],
};

const listeners = new Map();

/** Calls a function whenever something of this name has changed. */
export function on(names, listener) {
  for (const name of names.split(' ')) {
    listeners.set(name, [...(listeners.get(name) ?? []), listener]);
  }
}

/**
 * Tells those who asked: 'cards' were added, moved or removed; a 'text' was
 * typed; 'settings', 'candidates', 'models', 'rendered', 'results', 'history'.
 */
export function changed(...names) {
  for (const name of names)
    for (const listener of listeners.get(name) ?? []) listener();
}

const past = [];
const future = [];

/** A copy of all that a user has made; images are named, not copied. */
export const snapshot = () =>
  structuredClone({
    cards: state.cards,
    candidates: state.candidates,
    settings: state.settings,
  });

/** To be called before cards are added, moved or removed. */
export function remember() {
  past.push(snapshot());
  future.length = 0;
  if (past.length > 100) past.shift();
}

export function undo() {
  if (past.length) swap(past, future);
}

export function redo() {
  if (future.length) swap(future, past);
}

function swap(from, to) {
  to.push(snapshot());
  restore(from.pop());
}

/** Shows what `snapshot` returned. */
export function restore(saved) {
  const { cards, candidates, settings } = structuredClone(saved);
  Object.assign(state, {
    cards,
    candidates,
    settings: { ...DEFAULTS, ...settings },
  });
  state.settings.maxTokens = fitting(state.settings.maxTokens);
  changed('cards', 'candidates', 'settings');
}

/** The server's models are known, and how long answers may be. */
export function setModels(models) {
  state.models = models;
  state.mostTokens = models[0]?.mmicl?.max_tokens ?? null;
  const { settings } = state;
  if (!models.some(({ id }) => id === settings.model))
    settings.model = models[0]?.id ?? '';
  settings.maxTokens = fitting(settings.maxTokens);
  changed('models', 'settings');
}

/** The format of images that the model's own examples have. */
export function setOwnFormat(format) {
  const { settings } = state;
  const before = state.ownFormat;
  state.ownFormat = format;
  // What someone has chosen stays.
  if (settings.format !== before || format === before) return;
  settings.format = format;
  changed('settings');
}

/** A number of tokens, or as many as the server gives. */
export const fitting = (tokens) => Math.min(tokens, state.mostTokens ?? tokens);

/** Whether nobody has set anything yet. */
export const isUnset = () =>
  Object.entries(DEFAULTS).every(([name, value]) => {
    if (name === 'model') return true;
    const unset = { maxTokens: fitting(value), format: state.ownFormat };
    return state.settings[name] === (unset[name] ?? value);
  });

/** Replaces the cards, which can be undone. */
export function setCards(cards) {
  remember();
  state.cards = cards;
  changed('cards');
}

export const query = () => state.cards.at(-1);
export const cardOf = (id) => state.cards.find((card) => card.id === id);
export const ownerOf = (key) =>
  state.cards.find((card) =>
    card.parts.some((part) => part.key === key && part.kind === 'image'),
  );
