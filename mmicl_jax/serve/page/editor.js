// A text with images and mentions inside it, as one field.
//
// The browser edits the text; images and mentions are islands in it. A line's
// end is a <br>, and the last <br> only gives the caret a place.

import { h } from './dom.js';
import { tidy } from './prompt.js';

/**
 * A field for `parts`. island(part) makes the element of an image or mention,
 * which must have data-key. onchange is called with the parts as typed, onfiles
 * with pasted files.
 */
export function editor({
  parts,
  island,
  onchange,
  onfiles,
  label,
  hint,
  lines = 'many',
}) {
  const known = new Map();
  const field = h('div', {
    class: `editor ${lines}`,
    contenteditable: 'true',
    role: 'textbox',
    tabindex: '0',
    'aria-multiline': lines === 'many' ? 'true' : 'false',
    'aria-label': label,
    'data-hint': hint,
    spellcheck: 'true',
    oninput: () => report(),
    onkeydown: keyed,
    onpaste: pasted,
    ondrop: (event) => event.preventDefault(),
    onkeyup: keep,
    onpointerup: keep,
    onfocus: keep,
  });
  let caret = null;

  function show(shown) {
    known.clear();
    const nodes = shown.flatMap((part) => {
      if (part.kind === 'text') return textNodes(part.text);
      known.set(part.key, part);
      return [island(part)];
    });
    if (nodes.length) nodes.push(h('br'));
    field.replaceChildren(...nodes);
    mark();
  }

  function read() {
    const found = [];
    const visit = (node, last) => {
      if (node.nodeType === Node.TEXT_NODE)
        found.push({
          kind: 'text',
          text: node.data.replace(/[\u200b\r]/g, '').replaceAll('\u00a0', ' '),
        });
      else if (node.dataset?.key) found.push(known.get(node.dataset.key));
      else if (node.nodeName === 'BR') {
        if (!last) found.push({ kind: 'text', text: '\n' });
      } else {
        if (found.length) found.push({ kind: 'text', text: '\n' });
        walk(node);
      }
    };
    const walk = (parent) => {
      const children = [...parent.childNodes];
      children.forEach((node, i) => visit(node, i === children.length - 1));
    };
    walk(field);
    return tidy(found.filter(Boolean));
  }

  function report() {
    mark();
    onchange(read());
  }

  const mark = () =>
    field.classList.toggle(
      'blank',
      !field.textContent && !field.querySelector('[data-key]'),
    );

  function keep() {
    const chosen = getSelection();
    if (chosen.rangeCount && field.contains(chosen.anchorNode))
      caret = chosen.getRangeAt(0).cloneRange();
  }

  function keyed(event) {
    if (event.target !== field) return;
    if (
      event.key === 'Enter' &&
      !event.ctrlKey &&
      !event.metaKey &&
      !event.isComposing
    ) {
      event.preventDefault();
      if (lines === 'many') document.execCommand('insertLineBreak');
    } else if (
      (event.ctrlKey || event.metaKey) &&
      'biu'.includes(event.key.toLowerCase())
    ) {
      event.preventDefault(); // no bold: the model reads plain text
    }
  }

  function pasted(event) {
    event.preventDefault();
    keep();
    if (event.clipboardData.files.length && onfiles) {
      event.stopPropagation();
      onfiles([...event.clipboardData.files]);
      return;
    }
    const lines = event.clipboardData.getData('text/plain').split(/\r\n?|\n/);
    lines.forEach((line, i) => {
      if (i) document.execCommand('insertLineBreak');
      if (line) document.execCommand('insertText', false, line);
    });
  }

  /** Puts parts where the caret was, or at a range; in front without either. */
  function insert(added, range = caret) {
    const nodes = added.map((part) => {
      if (part.kind === 'text') return document.createTextNode(part.text);
      known.set(part.key, part);
      return island(part);
    });
    if (!field.lastChild) field.append(h('br'));
    if (range && field.contains(range.startContainer)) {
      range.deleteContents();
      for (const node of nodes.toReversed()) range.insertNode(node);
      const after = document.createRange();
      after.setStartAfter(nodes.at(-1));
      caret = after;
      if (document.activeElement === field) {
        getSelection().removeAllRanges();
        getSelection().addRange(after);
      }
    } else {
      const images = [...field.childNodes].findIndex(
        (node) => !node.dataset?.key,
      );
      field.childNodes[images].before(...nodes);
    }
    report();
  }

  const put = (range) => {
    field.focus();
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    keep();
  };

  function focus() {
    const end = document.createRange();
    end.selectNodeContents(field);
    if (field.lastChild?.nodeName === 'BR') end.setEndBefore(field.lastChild);
    end.collapse(false);
    put(end);
  }

  show(parts);
  return {
    field,
    show,
    insert,
    focus,
    /** The focus, with the caret where it was or after what was inserted. */
    resume: () =>
      caret && field.contains(caret.startContainer) ? put(caret) : focus(),
    forgetCaret: () => {
      caret = null;
    },
  };
}

function textNodes(value) {
  return value
    .split('\n')
    .flatMap((line, i) => [
      ...(i ? [h('br')] : []),
      ...(line ? [document.createTextNode(line)] : []),
    ]);
}

let pressed = false;
document.addEventListener('pointerdown', () => (pressed = true), true);
for (const end of ['pointerup', 'pointercancel'])
  document.addEventListener(end, () => (pressed = false), true);

/**
 * Calls a function now, or once the pointer is up: a press elsewhere ends the
 * editing, and what it presses must not be made anew before it is a click.
 */
export function afterPress(action) {
  if (!pressed) return action();
  const soon = () => setTimeout(action);
  return document.addEventListener('pointerup', soon, { once: true });
}

/** The place in an editor's text at a point of the window, or null. */
export function rangeAt(x, y) {
  if (document.caretPositionFromPoint) {
    const found = document.caretPositionFromPoint(x, y);
    if (!found) return null;
    const range = document.createRange();
    range.setStart(found.offsetNode, found.offset);
    return range;
  }
  return document.caretRangeFromPoint?.(x, y) ?? null;
}
