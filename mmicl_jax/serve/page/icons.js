// The drawings of buttons: strokes on a grid of 20 by 20.

import { svg } from './dom.js';

const PATHS = {
  up: 'M5 12l5-5 5 5',
  down: 'M5 8l5 5 5-5',
  left: 'M12 5l-5 5 5 5',
  right: 'M8 5l5 5-5 5',
  plus: 'M10 4v12M4 10h12',
  close: 'M5 5l10 10M15 5L5 15',
  grip: 'M7.5 5v.01M12.5 5v.01M7.5 10v.01M12.5 10v.01M7.5 15v.01M12.5 15v.01',
  eye: 'M2 10s3-5 8-5 8 5 8 5-3 5-8 5-8-5-8-5zM10 12.2a2.2 2.2 0 100-4.4 2.2 2.2 0 000 4.4z',
  eyeOff:
    'M3 3l14 14M8 5.3C8.6 5.1 9.3 5 10 5c5 0 8 5 8 5s-.9 1.5-2.5 2.9M12.8 14.5c-.9.3-1.8.5-2.8.5-5 0-8-5-8-5s1.2-2 3.3-3.5',
  copy: 'M7 7h9v9H7zM4 13V4h9',
  trash: 'M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6M8.5 9v4M11.5 9v4',
  image: 'M3.5 4h13v12h-13zM3.5 13l3.5-3.5 3 3 2.5-2.5 4 4M12.5 7.5v.01',
  play: 'M6.5 4.5l9 5.5-9 5.5z',
  stop: 'M6 6h8v8H6z',
  sun: 'M10 13.5a3.5 3.5 0 100-7 3.5 3.5 0 000 7zM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M4.3 15.7l1.1-1.1M14.6 5.4l1.1-1.1',
  moon: 'M16.5 11.8A7 7 0 018.2 3.5a7 7 0 108.3 8.3z',
  auto: 'M10 17a7 7 0 100-14 7 7 0 000 14zM10 3v14M10 6h3.5M10 9h6M10 12h6M10 15h3',
  link: 'M8.5 11.5a3 3 0 004.5.3l2.5-2.5a3 3 0 00-4.2-4.2L10 6.3M11.5 8.5a3 3 0 00-4.5-.3l-2.5 2.5a3 3 0 004.2 4.2l1.3-1.2',
  save: 'M10 3v9M6.5 8.5L10 12l3.5-3.5M4 16h12',
  open: 'M10 12V3M6.5 6.5L10 3l3.5 3.5M4 16h12',
  code: 'M7 6l-4 4 4 4M13 6l4 4-4 4',
  more: 'M5 10v.01M10 10v.01M15 10v.01',
  sliders: 'M4 6h6M14 6h2M4 14h2M10 14h6M12 4v4M8 12v4',
  grid: 'M4 4h5v5H4zM11 4h5v5h-5zM4 11h5v5H4zM11 11h5v5h-5z',
  check: 'M4.5 10.5l3.5 3.5 7.5-8',
};

const BOLD = new Set(['grip', 'more']);

/** A drawing by its name; screen readers pass over it. */
export function icon(name) {
  return svg(
    'svg',
    {
      viewBox: '0 0 20 20',
      class: 'icon',
      'aria-hidden': 'true',
      fill: 'none',
      stroke: 'currentColor',
      'stroke-width': BOLD.has(name) ? '2.2' : '1.5',
      'stroke-linecap': 'round',
      'stroke-linejoin': 'round',
    },
    svg('path', { d: PATHS[name] }),
  );
}
