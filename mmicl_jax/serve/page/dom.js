// Makes elements. Strangers' texts become text nodes, never markup.

const SVG = 'http://www.w3.org/2000/svg';

/** An element: h('button', {class: 'quiet', onclick: run}, 'Run'). */
export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** An element of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'style') setStyles(element, value);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(
    ...children
      .flat(3)
      .filter((c) => c !== null && c !== undefined && c !== false),
  );
  return element;
}

// Set by script, which the content security policy allows; a style attribute
// it does not.
function setStyles(element, styles) {
  for (const [name, value] of Object.entries(styles)) {
    element.style.setProperty(name, value);
  }
}

/** Replaces what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(
    ...children
      .flat(3)
      .filter((c) => c !== null && c !== undefined && c !== false),
  );
  return element;
}

/** Calls a function once nothing has asked for it for so many milliseconds. */
export function later(action, wait) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), wait);
  };
}
