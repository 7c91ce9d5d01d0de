// An image, or the mention of one, inside a text.

import { h } from './dom.js';
import { dragChip } from './drag.js';
import { addFile, dataUrl } from './images.js';
import { chooseFiles } from './files.js';
import { notify, say } from './notice.js';
import { menu } from './popup.js';
import { imagesOf, newKey, numbers } from './prompt.js';
import { changed, ownerOf, remember, state } from './store.js';
import { TEXT } from './texts.js';

/** The element of an image or mention. */
export function island(part) {
  if (part.kind === 'mention') {
    return h('span', {
      class: 'mention',
      contenteditable: 'false',
      'data-key': part.key,
    });
  }
  const url = dataUrl(part.image);
  const chip = h(
    'span',
    {
      class: url ? 'chip' : 'chip missing',
      contenteditable: 'false',
      'data-key': part.key,
      tabindex: '0',
      role: 'button',
      'aria-haspopup': 'menu',
      'data-name': part.name,
      onclick: () => chipMenu(chip, part.key),
      onkeydown: (event) => keyed(event, chip, part.key),
      onpointerdown: (event) => dragChip(event, chip, part.key),
    },
    url
      ? h('img', { src: url, alt: '', draggable: 'false' })
      : h('span', { class: 'name' }, part.name),
    h('span', { class: 'number', 'aria-hidden': 'true' }),
  );
  return chip;
}

/** Writes the numbers that images have now into a card's chips. */
export function renumber(root, numbered) {
  for (const chip of root.querySelectorAll('.chip')) {
    const number = numbered.get(chip.dataset.key);
    const name = chip.dataset.name;
    chip.querySelector('.number').textContent = number ?? '–';
    const label =
      number === undefined
        ? TEXT.chip.mutedLabel(name)
        : chip.classList.contains('missing')
          ? TEXT.chip.missingLabel(number, name)
          : TEXT.chip.label(number, name);
    chip.setAttribute('aria-label', label);
    chip.title = chip.classList.contains('missing') ? TEXT.chip.missing : name;
  }
  for (const mention of root.querySelectorAll('.mention')) {
    const number = numbered.get(mention.dataset.key);
    mention.textContent = number ?? '?';
    mention.classList.toggle('lost', number === undefined);
    mention.title =
      number === undefined ? TEXT.chip.gone : TEXT.chip.title(number);
  }
}

const partOf = (key) =>
  ownerOf(key).parts.find((part) => part.key === key && part.kind === 'image');

function chipMenu(chip, key) {
  const part = partOf(key);
  const url = dataUrl(part.image);
  const own = imagesOf(ownerOf(key));
  const at = own.findIndex((other) => other.key === key);
  menu(
    chip,
    [
      h(
        'div',
        { class: 'look' },
        url && h('img', { src: url, alt: '' }),
        h('span', {}, part.name),
      ),
      { label: TEXT.chip.mention, icon: 'plus', run: () => mention(key) },
      {
        label: TEXT.chip.earlier,
        icon: 'left',
        off: at === 0,
        run: () => shift(key, -1),
      },
      {
        label: TEXT.chip.later,
        icon: 'right',
        off: at === own.length - 1,
        run: () => shift(key, 1),
      },
      {
        label: url ? TEXT.chip.replace : TEXT.chip.choose,
        icon: 'image',
        run: () => replace(key),
      },
      { label: TEXT.chip.remove, icon: 'trash', run: () => removeImage(key) },
    ],
    TEXT.chip.title(numbers(state.cards).get(key)),
  );
}

function keyed(event, chip, key) {
  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  if (event.altKey && event.key in steps) shift(key, steps[event.key]);
  else if (event.key === 'Enter' || event.key === ' ') chipMenu(chip, key);
  else if (event.key === 'Delete' || event.key === 'Backspace')
    removeImage(key);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

/** Changes places with the image before or after it in the same card. */
function shift(key, step) {
  const card = ownerOf(key);
  const own = imagesOf(card);
  const other = own[own.findIndex((part) => part.key === key) + step];
  if (!other) return;
  remember();
  const mine = own.find((part) => part.key === key);
  card.parts = card.parts.map((part) =>
    part === mine ? other : part === other ? mine : part,
  );
  changed('cards');
  say(TEXT.chip.moved(numbers(state.cards).get(key)));
  document.querySelector(`.chip[data-key="${key}"]`)?.focus();
}

/** Takes an image out of its card; its mentions become plain numbers. */
export function removeImage(key) {
  remember();
  const number = numbers(state.cards).get(key) ?? '?';
  const plainly = (part) =>
    part.kind === 'mention' && part.key === key
      ? { kind: 'text', text: String(number) }
      : part;
  for (const card of state.cards) {
    card.parts = card.parts
      .filter((part) => !(part.kind === 'image' && part.key === key))
      .map(plainly);
    card.answer = card.answer.map(plainly);
  }
  changed('cards');
}

function mention(key) {
  const card = ownerOf(key);
  const last = card.parts.at(-1);
  const space = last.kind === 'text' && /\s$/.test(last.text) ? '' : ' ';
  remember();
  card.parts = [
    ...card.parts,
    { kind: 'text', text: `${last.kind === 'image' ? '' : space}image ` },
    { kind: 'mention', key },
    { kind: 'text', text: ' ' },
  ];
  changed('cards');
}

async function replace(key) {
  const [file] = await chooseFiles(false);
  if (!file) return;
  try {
    const { id, name } = await addFile(file);
    remember();
    put(key, id, name);
  } catch (error) {
    notify(error.message, { bad: true });
  }
}

/** Gives an image's place another file. */
export function put(key, image, name) {
  Object.assign(partOf(key), { image, name });
  // The chip is made anew, because its key tells it from others.
  const card = ownerOf(key);
  const fresh = newKey('image');
  const moved = (part) => (part.key === key ? { ...part, key: fresh } : part);
  for (const other of state.cards) {
    if (other !== card) other.parts = other.parts.map(moved);
    other.answer = other.answer.map(moved);
  }
  card.parts = card.parts.map(moved);
  changed('cards');
}
