// Cards as what the server and Python read: messages, turns and the prompt.

import { active, declared, imagesOf, numbers, plain } from './prompt.js';

/**
 * Messages of chat completions. urlOf gives the address of a part's image. A
 * demonstration is a user's message and the assistant's after it.
 */
export function toMessages(cards, urlOf) {
  const numbered = numbers(cards);
  const used = active(cards);
  return used.flatMap((card, i) => {
    const asked = { role: 'user', content: contentOf(card, numbered, urlOf) };
    if (i === used.length - 1) return [asked];
    return [
      asked,
      { role: 'assistant', content: plain(card.answer, numbered) },
    ];
  });
}

function contentOf(card, numbered, urlOf) {
  const content = [];
  let pending = '';
  const flush = () => {
    if (pending) content.push({ type: 'text', text: pending });
    pending = '';
  };
  for (const part of card.parts) {
    if (part.kind === 'image') {
      flush();
      content.push({ type: 'image_url', image_url: { url: urlOf(part) } });
    } else {
      pending += plain([part], numbered);
    }
  }
  flush();
  return content.length ? content : '';
}

const escaped = (value) => value.replace(/\{(image|[0-9]+)\}/g, '{{$1}}');

/** A card as an mmicl.Turn: {text, answer} with slots, and its image parts. */
export function toTurn(card, numbered, format = 'auto') {
  const own = imagesOf(card);
  const place = new Map(own.map((part, i) => [part.key, i]));
  const starts = declared(card);
  const slots = (part) => {
    if (part.kind === 'text') return escaped(part.text);
    if (part.kind === 'mention') {
      return place.has(part.key)
        ? `{${place.get(part.key)}}`
        : plain([part], numbered);
    }
    const declare =
      format === 'declare' || (format === 'auto' && starts.get(part.key));
    return declare ? `image {${place.get(part.key)}} is {image}.\n` : '{image}';
  };
  // All declarations stand in front where the format says so.
  const parts =
    format === 'declare'
      ? [...own, ...card.parts.filter((p) => p.kind !== 'image')]
      : card.parts;
  return {
    text: parts.map(slots).join(''),
    answer: card.answer
      .map((part) => (part.kind === 'image' ? '' : slots(part)))
      .join(''),
    images: own,
  };
}

/**
 * The prompt, as context/turns.py assembles it: {prompt, target, spans}. spans
 * are where each card of the prompt begins and ends.
 */
export function assemble(cards, style = 'plain', format = 'auto') {
  const numbered = numbers(cards);
  const used = active(cards);
  let prompt = '';
  let first = 0;
  const spans = [];
  let target = '';
  used.forEach((card, i) => {
    const turn = toTurn(card, numbered, format);
    const body = fillSlots(turn.text, first);
    const answer = fillSlots(turn.answer, first);
    first += turn.images.length;
    const last = i === used.length - 1;
    const start = prompt.length;
    if (style === 'chat')
      prompt += `User: ${body}` + (last ? '' : `\nBot: ${answer}\n`);
    else
      prompt += last
        ? body
        : `${body.trimEnd()} ${answer}`.trimStart() + '\n\n';
    spans.push({ id: card.id, start, end: prompt.length });
    if (last) target = style === 'chat' && answer ? `Bot: ${answer}` : answer;
  });
  return { prompt, target, spans };
}

function fillSlots(value, first) {
  let place = first;
  return value.replace(
    /\{\{(image|[0-9]+)\}\}|\{(image|[0-9]+)\}/g,
    (_, literal, slot) => {
      if (literal) return `{${literal}}`;
      return slot === 'image'
        ? `<image${place++}>图`
        : String(first + Number(slot));
    },
  );
}
