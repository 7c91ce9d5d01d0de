// Keeps the prompt in this tab, so that a reload loses nothing.

import { later } from './dom.js';
import { isEmpty } from './prompt.js';
import { readSession, saved } from './session.js';
import { isUnset, on, restore, state } from './store.js';

const KEPT = 'mmicl-session';

/** From now on what changes is kept, if the browser has room for it. */
export function keepInTab() {
  on(
    'cards text candidates settings',
    later(() => {
      try {
        sessionStorage.setItem(KEPT, saved());
      } catch {
        sessionStorage.removeItem(KEPT); // better nothing than a former prompt
      }
    }, 500),
  );
}

/** Shows what was kept before a reload, unless something is there already. */
export async function openKept() {
  const kept = sessionStorage.getItem(KEPT);
  if (!kept) return;
  const session = await readSession(kept);
  if (state.cards.every(isEmpty) && isUnset()) restore(session);
}
