// Examples of the model's own held-out data, and forms to be filled.

import { ask } from './api.js';
import { fill, h } from './dom.js';
import { say } from './notice.js';
import { openTurns } from './open.js';
import { dialog } from './popup.js';
import { isInline } from './read_turns.js';
import { on, setOwnFormat, state } from './store.js';
import { TEXT } from './texts.js';

let known = []; // those of all models
const opened = new Map(); // how many of each kind were

/** Asks the server for examples; without any there are the forms only. */
export async function loadExamples() {
  known = (await ask('page/examples.json')).examples;
  followModel();
}

export const hasExamples = () => known.length > 0;

/** Those of the chosen model; while no model is known, of all. */
function own() {
  const { model } = state.settings;
  return known.filter(({ models }) => !model || models.includes(model));
}

// A prompt that is begun here has its images as the model's data have them.
const followModel = () =>
  setOwnFormat(isInline(own().map(({ turns }) => turns)) ? 'inline' : 'auto');

const kinds = () => [...new Set(own().map(({ kind }) => kind))];

export async function openExample(example) {
  // An address may name the example of another model.
  const { models } = example;
  if (!models.includes(state.settings.model)) state.settings.model = models[0];
  const answers = own()
    .filter(({ kind }) => kind === example.kind)
    .map((one) => one.turns.at(-1).answer);
  const shown = example.turns.map(({ answer }) => answer);
  // Demonstrations name the candidates; without any, other answers of the kind.
  const candidates = shown.length > 1 ? shown : answers;
  const usable = candidates.every((text) => text && !/\{\d+\}/.test(text));
  await openTurns(
    example.turns,
    example.style,
    usable ? [...new Set(candidates)] : [],
  );
  history.replaceState(null, '', `#example=${encodeURIComponent(example.id)}`);
  say(TEXT.examples.opened(TEXT.examples.kind(example.kind)));
}

/** Opens the example that the address names; returns whether there is one. */
export async function openNamed() {
  const id =
    location.hash.startsWith('#example=') &&
    decodeURIComponent(location.hash.slice(9));
  const found =
    id && [...own(), ...known].find((example) => example.id === id);
  if (found) await openExample(found);
  return Boolean(found);
}

function next(kind) {
  const all = own().filter((example) => example.kind === kind);
  const at = opened.get(kind) ?? 0;
  opened.set(kind, at + 1);
  return all[at % all.length];
}

const urls = (example) =>
  example.turns.flatMap(({ images }) => images.map(({ data }) => data));

function kindButton(kind, done = () => {}) {
  const first = own().find((example) => example.kind === kind);
  return h(
    'button',
    {
      type: 'button',
      class: 'example',
      onclick: () => {
        done();
        openExample(next(kind));
      },
    },
    h(
      'span',
      { class: 'thumbs', 'aria-hidden': 'true' },
      urls(first)
        .slice(0, 4)
        .map((url) => h('img', { src: url, alt: '' })),
    ),
    h('span', {}, TEXT.examples.kind(kind)),
  );
}

/** A short choice under an empty query. */
export function suggestions() {
  const place = h('div', { class: 'suggestions' });
  let shown = null; // the model whose examples are there
  const show = () => {
    const many = kinds();
    shown = state.settings.model;
    // Those with most demonstrations first: they are what this page is for.
    const shots = (kind) =>
      own().find((example) => example.kind === kind).turns.length;
    const best = many.toSorted((a, b) => shots(b) - shots(a));
    const chosen = [
      ...best.slice(0, 2),
      ...best
        .slice(2)
        .filter((kind) => shots(kind) === 1)
        .toReversed(),
    ];
    fill(
      place,
      h('h3', {}, TEXT.examples.start),
      h(
        'div',
        { class: 'example-grid' },
        many.length
          ? chosen.slice(0, 4).map((kind) => kindButton(kind))
          : TEMPLATES.slice(0, 4).map((form) => formButton(form)),
      ),
    );
  };
  show();
  on('models settings', () => {
    if (shown === state.settings.model) return;
    show();
    followModel();
  });
  return Object.assign(place, { show });
}

// The forms of prompts of the paper's figures, without anyone's pictures.
const picture = () => TEXT.examples.picture;
const TEMPLATES = [
  {
    name: 'shots',
    turns: () => [
      {
        text: 'image {0} is {image}.\nWhat is in image {0}?',
        images: [picture()],
        answer: 'a dax',
      },
      {
        text: 'image {0} is {image}.\nWhat is in image {0}?',
        images: [picture()],
        answer: 'a wug',
      },
      {
        text: 'image {0} is {image}.\nWhat is in image {0}?',
        images: [picture()],
        answer: '',
      },
    ],
  },
  {
    name: 'compare',
    turns: () => [
      {
        text: 'image {0} is {image}.\nimage {1} is {image}.\nWhat is different between image {0} and image {1}?',
        images: [picture(), picture()],
        answer: '',
      },
    ],
  },
  {
    name: 'relation',
    turns: () => [
      {
        text: 'image {0} is {image}.\nimage {1} is a part of image {0}: {image}.\nWhat is the person in image {1} doing in image {0}?',
        images: [picture(), picture()],
        answer: '',
      },
    ],
  },
  {
    name: 'frames',
    turns: () => [
      {
        text: 'image {0} is {image}.\nimage {1} is {image}.\nimage {2} is {image}.\nimage {0} to image {2} are frames of one video.\nWhat happens in the video?',
        images: [picture(), picture(), picture()],
        answer: '',
      },
    ],
  },
  {
    name: 'odd',
    turns: () => [
      {
        text: 'image {0} is {image}.\nimage {1} is {image}.\nimage {2} is {image}.\nWhich image is the odd one out?',
        images: [picture(), picture(), picture()],
        answer: '',
      },
    ],
  },
];

const formButton = (form, done = () => {}) =>
  h(
    'button',
    {
      type: 'button',
      class: 'example',
      onclick: () => {
        done();
        openTurns(form.turns());
      },
    },
    h('span', {}, TEXT.examples.templates[form.name]),
  );

/** All examples and forms. */
export function examplesDialog() {
  const T = TEXT.examples;
  const close = dialog(
    T.heading,
    h('h3', {}, T.ofModel),
    kinds().length
      ? h(
          'div',
          { class: 'example-grid' },
          kinds().map((kind) => kindButton(kind, () => close())),
        )
      : h('p', { class: 'hint' }, T.none),
    h('h3', {}, T.forms),
    h(
      'div',
      { class: 'example-grid' },
      TEMPLATES.map((form) => formButton(form, () => close())),
    ),
  );
}
