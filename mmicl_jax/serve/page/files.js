// Files that are chosen, dropped or pasted: images, sessions and records.

import { h } from './dom.js';
import { rangeAt } from './editor.js';
import { ACCEPTED, addFile } from './images.js';
import { notify } from './notice.js';
import { imagePart, imagesOf } from './prompt.js';
import { put } from './chip.js';
import { remember, state } from './store.js';
import { TEXT } from './texts.js';

/** Lets the user choose files; an empty list if none. */
export function chooseFiles(several = true, accept = ACCEPTED) {
  return new Promise((resolve) => {
    const input = h('input', {
      type: 'file',
      accept,
      multiple: several,
      class: 'unseen',
      'aria-hidden': 'true',
      tabindex: '-1',
      onchange: () => {
        resolve([...input.files]);
        input.remove();
      },
      oncancel: () => {
        resolve([]);
        input.remove();
      },
    });
    document.body.append(input);
    input.click();
  });
}

/**
 * Files as image parts. One whose name a missing image has takes that place.
 * Whatever is no image is told to the user.
 */
export async function partsOf(files) {
  const parts = [];
  for (const file of files) {
    try {
      const { id, name } = await addFile(file);
      const place = state.cards
        .flatMap(imagesOf)
        .find(
          (part) => part.image === null && part.name.split('/').at(-1) === name,
        );
      if (place) put(place.key, id, name);
      else parts.push(imagePart(id, name));
    } catch (error) {
      notify(error.message, { bad: true });
    }
  }
  return parts;
}

/**
 * Puts files into an editor: at a range, at its caret, or in front. Returns
 * whether it has more images now.
 */
export async function insertFiles(files, target, range) {
  if (!files.length) return false;
  remember();
  const parts = await partsOf(files);
  if (parts.length) target.insert(parts, range);
  return parts.length > 0;
}

/**
 * Takes files that are dropped or pasted anywhere. editorAt(element) is the
 * editor that an element belongs to, or that of the query; openText is called
 * with the text of a file that is no image.
 */
export function takeFiles({ editorAt, openText }) {
  const veil = h(
    'div',
    { class: 'veil', 'aria-hidden': 'true' },
    TEXT.images.drop,
  );
  document.body.append(veil);
  const holdsFiles = (event) => event.dataTransfer?.types.includes('Files');
  const show = (shown) => veil.classList.toggle('shown', shown);

  async function take(files, element, range) {
    const images = files.filter((file) => file.type.startsWith('image/'));
    const others = files.filter((file) => !file.type.startsWith('image/'));
    if (images.length) await insertFiles(images, editorAt(element), range);
    for (const file of others) openText(await file.text(), file.name);
  }

  document.addEventListener('dragenter', (event) => {
    if (holdsFiles(event)) show(true);
  });
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) show(false);
  });
  document.addEventListener('dragover', (event) => {
    if (holdsFiles(event)) event.preventDefault();
  });
  document.addEventListener('drop', (event) => {
    show(false);
    if (!holdsFiles(event)) return;
    event.preventDefault();
    const field = event.target.closest?.('.editor.many');
    take(
      [...event.dataTransfer.files],
      event.target,
      field ? rangeAt(event.clientX, event.clientY) : null,
    );
  });
  document.addEventListener('paste', (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    take([...event.clipboardData.files], event.target, null);
  });
}
