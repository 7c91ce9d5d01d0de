// Drawings of probabilities: a curve over shots, and bars.

import { h, svg } from './dom.js';
import { TEXT } from './texts.js';

const HEIGHT = 260;
const [NARROW, WIDE] = [290, 520]; // letters keep their size on a phone
const ROOM = { left: 44, right: 96, top: 32, bottom: 40 };
const SHOWN = 6; // curves with a colour and a name of their own
const LINE = 15; // from a curve's name to the next one

/**
 * A curve for each of `series` = [{name, values, strong}] over 0 … k shots;
 * values are shares from 0 to 1, undefined while unknown.
 */
export function curves(series, k) {
  const T = TEXT.shots;
  const width = Math.min(Math.max(innerWidth - 62, NARROW), WIDE);
  const x = (i) =>
    ROOM.left + (k ? (i / k) * (width - ROOM.left - ROOM.right) : 0);
  const y = (p) => ROOM.top + (1 - p) * (HEIGHT - ROOM.top - ROOM.bottom);
  const named = [...series].sort(
    (a, b) =>
      Number(b.strong) - Number(a.strong) || b.values.at(-1) - a.values.at(-1),
  );
  const colour = new Map(
    named.map((one, i) => [
      one,
      one.strong ? 'strong' : i < SHOWN ? `c${i % SHOWN}` : 'faint',
    ]),
  );
  const grid = [0, 0.25, 0.5, 0.75, 1].map((p) =>
    svg(
      'g',
      { class: 'grid' },
      svg('line', {
        x1: ROOM.left,
        x2: width - ROOM.right,
        y1: y(p),
        y2: y(p),
      }),
      svg(
        'text',
        { x: ROOM.left - 8, y: y(p) + 4, 'text-anchor': 'end' },
        `${100 * p} %`,
      ),
    ),
  );
  const every = Math.max(1, Math.ceil(k / 8));
  const ticks = Array.from({ length: k + 1 }, (_, i) => i)
    .filter((i) => i % every === 0)
    .map((i) =>
      svg(
        'text',
        {
          class: 'tick',
          x: x(i),
          y: HEIGHT - ROOM.bottom + 20,
          'text-anchor': 'middle',
        },
        String(i),
      ),
    );
  const lines = named.toReversed().map((one) => {
    const points = one.values
      .map((p, i) => [i, p])
      .filter(([, p]) => p !== undefined);
    return svg(
      'g',
      { class: `curve ${colour.get(one)}` },
      svg('polyline', {
        points: points.map(([i, p]) => `${x(i)},${y(p)}`).join(' '),
      }),
      points.map(([i, p]) =>
        svg(
          'circle',
          { cx: x(i), cy: y(p), r: one.strong ? 4 : 3 },
          svg('title', {}, `${one.name}, ${T.shots(i)}: ${TEXT.percent(p)}`),
        ),
      ),
    );
  });
  const labels = spread(
    named
      .filter(
        (one) => colour.get(one) !== 'faint' && one.values.at(-1) !== undefined,
      )
      .map((one) => ({ one, at: y(one.values.at(-1)) })),
  );
  const names = labels.map(({ one, at }) =>
    svg(
      'text',
      {
        class: `name ${colour.get(one)}`,
        x: width - ROOM.right + 10,
        y: at + 4,
      },
      shortened(one.name, 13),
    ),
  );
  return svg(
    'svg',
    {
      viewBox: `0 0 ${width} ${HEIGHT}`,
      class: 'chart',
      role: 'img',
      'aria-label': T.chart(named[0].name),
    },
    grid,
    ticks,
    svg('text', { class: 'axis', x: 0, y: 12 }, T.y),
    svg(
      'text',
      {
        class: 'axis',
        x: (ROOM.left + width - ROOM.right) / 2,
        y: HEIGHT - 4,
        'text-anchor': 'middle',
      },
      T.x,
    ),
    lines,
    names,
  );
}

/** Names at the curves' ends, pushed apart where they would overlap. */
function spread(labels) {
  const sorted = labels.sort((a, b) => a.at - b.at);
  sorted.forEach((label, i) => {
    if (i) label.at = Math.max(label.at, sorted[i - 1].at + LINE);
  });
  // Only those that are now below the axis go up, and whom they meet there.
  let lowest = HEIGHT - ROOM.bottom + 4;
  for (const label of sorted.toReversed()) {
    label.at = Math.min(label.at, lowest);
    lowest = label.at - LINE;
  }
  return sorted;
}

/** A text of at most so many characters. */
export const shortened = (value, most) =>
  value.length > most ? `${value.slice(0, most - 1)}…` : value;

/** The curves' numbers as a table. */
export function curveTable(series, k) {
  const T = TEXT.shots;
  return h(
    'div',
    { class: 'scroll' },
    h(
      'table',
      {},
      h(
        'thead',
        {},
        h(
          'tr',
          {},
          h('th', { scope: 'col' }, T.x),
          series.map((one) => h('th', { scope: 'col' }, one.name)),
        ),
      ),
      h(
        'tbody',
        {},
        Array.from({ length: k + 1 }, (_, i) =>
          h(
            'tr',
            {},
            h('th', { scope: 'row' }, String(i)),
            series.map((one) =>
              h(
                'td',
                {},
                one.values[i] === undefined ? '' : TEXT.percent(one.values[i]),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

/** A row of a bar chart: a name, a bar from 0 to 1 and notes. */
export function bar({ name, value, note, strong, title, base }) {
  const filled = h('span', { class: 'bar-fill' });
  filled.style.width = `${100 * value}%`;
  const mark = base !== undefined && h('span', { class: 'bar-base' });
  if (mark) mark.style.left = `${100 * base}%`;
  return h(
    'li',
    { class: strong ? 'bar strong' : 'bar', title },
    h('span', { class: 'bar-name' }, name),
    h('span', { class: 'bar-track', 'aria-hidden': 'true' }, filled, mark),
    h('span', { class: 'bar-value' }, TEXT.percent(value)),
    note && h('span', { class: 'bar-note' }, note),
  );
}
