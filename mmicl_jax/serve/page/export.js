// The dialog of code to copy, and what the header's buttons hand out.

import {
  curlCommand,
  micRecord,
  openaiPython,
  shortCode,
  turnPython,
} from './code.js';
import { fill, h } from './dom.js';
import { icon } from './icons.js';
import { notify } from './notice.js';
import { dialog } from './popup.js';
import { linkOf, saved } from './session.js';
import { state } from './store.js';
import { TEXT } from './texts.js';

let kind = 'turn';

function codeOf(name) {
  const { cards, settings, apiKey } = state;
  if (name === 'curl') return curlCommand(cards, settings, apiKey);
  if (name === 'openai') return openaiPython(cards, settings, apiKey);
  if (name === 'mic') return micRecord(cards, settings);
  const root =
    (state.models.find(({ id }) => id === settings.model) ?? state.models[0])
      ?.root ?? 'CHECKPOINT';
  return turnPython(cards, settings, root);
}

/** Shows the prompt as code of four kinds. */
export function codeDialog() {
  const T = TEXT.code;
  const shown = h('pre', { tabindex: '0', class: 'code' });
  const note = h('p', { class: 'hint' });
  const show = () => {
    const code = codeOf(kind);
    const short = shortCode(code);
    fill(shown, short);
    fill(note, T.notes[kind], short === code ? '' : ` ${T.shortened}`);
  };
  const picks = Object.entries(T.kinds).map(([name, label]) =>
    h(
      'label',
      {},
      h('input', {
        type: 'radio',
        name: 'code',
        value: name,
        checked: name === kind,
        onchange: () => {
          kind = name;
          show();
        },
      }),
      h('span', {}, label),
    ),
  );
  const copy = async () => {
    await navigator.clipboard.writeText(codeOf(kind));
    notify(T.copied);
    close();
  };
  show();
  const close = dialog(
    T.heading,
    h(
      'fieldset',
      { class: 'segments' },
      h('legend', { class: 'unseen' }, T.heading),
      picks,
    ),
    note,
    shown,
    h(
      'div',
      { class: 'dialog-end' },
      h(
        'button',
        { type: 'button', class: 'primary', onclick: copy },
        icon('copy'),
        T.copy,
      ),
    ),
  );
}

/** Saves the session as a file. */
export function saveSession() {
  const url = URL.createObjectURL(
    new Blob([saved()], { type: 'application/json' }),
  );
  h('a', { href: url, download: TEXT.save.file }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
  notify(TEXT.save.done);
}

/** Copies a link that holds the session's texts. */
export async function copyLink() {
  const link = await linkOf();
  history.replaceState(null, '', link);
  await navigator.clipboard.writeText(link);
  notify(TEXT.link.copied);
}
