// Moves cards and images with a mouse, pen or finger.

import { h } from './dom.js';
import { rangeAt } from './editor.js';
import { cardOf, changed, ownerOf, remember, state } from './store.js';

const FAR = 5; // pixels until a press becomes a drag

/** Follows the pointer after a press on a card's handle. */
export function dragCard(event, id, element) {
  if (event.button) return;
  event.preventDefault();
  let offset = event.clientY - element.getBoundingClientRect().top;
  let began = false;
  follow(
    event,
    (move) => {
      if (!began && Math.abs(move.clientY - event.clientY) < FAR) return;
      if (!began) remember();
      began = true;
      element.classList.add('dragged');
      element.style.transform = '';
      const place = element.getBoundingClientRect();
      const at = state.cards.findIndex((card) => card.id === id);
      const top = move.clientY - offset;
      const above = element.previousElementSibling?.getBoundingClientRect();
      const below = element.nextElementSibling?.getBoundingClientRect();
      if (above && at > 0 && top < above.top + above.height / 2 - 8)
        shift(at, at - 1);
      else if (
        below &&
        at < state.cards.length - 2 &&
        top + place.height > below.top + below.height / 2 + 8
      )
        shift(at, at + 1);
      const now = element.getBoundingClientRect();
      element.style.transform = `translateY(${move.clientY - offset - now.top}px)`;
    },
    () => {
      element.classList.remove('dragged');
      element.style.transform = '';
    },
  );
}

function shift(from, to) {
  const [card] = state.cards.splice(from, 1);
  state.cards.splice(to, 0, card);
  changed('cards');
}

/** Follows the pointer after a press on an image. */
export function dragChip(event, chip, key) {
  if (event.button) return;
  let ghost = null;
  const bar = h('div', { class: 'dropbar' });
  let goal = null;
  follow(
    event,
    (move) => {
      if (!ghost) {
        if (
          Math.hypot(
            move.clientX - event.clientX,
            move.clientY - event.clientY,
          ) < FAR
        )
          return;
        ghost = chip.cloneNode(true);
        ghost.classList.add('ghost');
        document.body.append(ghost, bar);
        chip.classList.add('lifted');
      }
      ghost.style.transform = `translate(${move.clientX}px, ${move.clientY}px)`;
      goal = placeAt(move.clientX, move.clientY, bar);
    },
    (up) => {
      if (!ghost) return;
      ghost.remove();
      bar.remove();
      chip.classList.remove('lifted');
      // The click that ends a drag opens no menu.
      chip.addEventListener(
        'click',
        (click) => click.stopImmediatePropagation(),
        { capture: true, once: true },
      );
      if (up && goal) moveChip(key, goal);
    },
  );
}

/** The card and the place in its text under the pointer; shows it. */
function placeAt(x, y, bar) {
  bar.style.display = 'none';
  const field = document.elementFromPoint(x, y)?.closest('.editor.many');
  const range = field && rangeAt(x, y);
  if (!range || !field.contains(range.startContainer)) return null;
  const [box] = range.getClientRects();
  if (box) {
    bar.style.display = 'block';
    bar.style.transform = `translate(${box.left - 1}px, ${box.top - 2}px)`;
    bar.style.height = `${box.height + 4}px`;
  }
  return { id: field.closest('.card').dataset.id, ...offsetOf(field, range) };
}

/** How many islands, and characters after the last one, stand before a range. */
function offsetOf(field, range) {
  const before = document.createRange();
  before.setStart(field, 0);
  before.setEnd(range.startContainer, range.startOffset);
  let islands = 0;
  let characters = 0;
  for (const node of before.cloneContents().childNodes) {
    if (node.dataset?.key) [islands, characters] = [islands + 1, 0];
    else characters += node.nodeName === 'BR' ? 1 : node.textContent.length;
  }
  return { islands, characters };
}

function moveChip(key, { id, islands, characters }) {
  const from = ownerOf(key);
  const to = cardOf(id);
  const part = from.parts.find(
    (other) => other.key === key && other.kind === 'image',
  );
  const marker = { kind: 'marker' };
  remember();
  to.parts = inserted(to.parts, marker, islands, characters);
  from.parts = from.parts.filter((other) => other !== part);
  to.parts = to.parts.map((other) => (other === marker ? part : other));
  changed('cards');
}

function inserted(parts, added, islands, characters) {
  let at = 0;
  while (islands > 0 && at < parts.length)
    islands -= parts[at++].kind === 'text' ? 0 : 1;
  const next = parts[at];
  if (next?.kind !== 'text') return parts.toSpliced(at, 0, added);
  const halves = [next.text.slice(0, characters), next.text.slice(characters)];
  const cut = halves.map((half) => ({ kind: 'text', text: half }));
  return parts
    .toSpliced(at, 1, cut[0], added, cut[1])
    .filter((part) => part.kind !== 'text' || part.text);
}

function follow(event, moved, ended) {
  const stop = (up) => {
    document.removeEventListener('pointermove', move);
    document.removeEventListener('pointerup', release);
    document.removeEventListener('pointercancel', cancel);
    document.removeEventListener('keydown', escape, true);
    ended(up);
  };
  const same = (other) => other.pointerId === event.pointerId;
  const move = (other) => {
    if (same(other)) moved(other);
  };
  const release = (other) => {
    if (same(other)) stop(true);
  };
  const cancel = (other) => {
    if (same(other)) stop(false);
  };
  const escape = (other) => {
    if (other.key === 'Escape') stop(false);
  };
  document.addEventListener('pointermove', move);
  document.addEventListener('pointerup', release);
  document.addEventListener('pointercancel', cancel);
  document.addEventListener('keydown', escape, true);
}
