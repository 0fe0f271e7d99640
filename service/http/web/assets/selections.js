// What is kept under each budget. The service says so once for every stop of the slider; from then
// on choosing needs neither the service nor another reading.

/** The stops of the slider: [{ budget, tokens, kept }], `kept` a Set of unit indexes. */
export function readStops(answer, units) {
  const all = new Set(units.map((unit) => unit.index));
  const total = answer.usage.input_tokens;
  if (!answer.selections?.length) return [{ budget: total, tokens: total, kept: all }];
  let kept = new Set();
  return answer.selections.map((one) => {
    kept = new Set(kept);
    one.removed.forEach((index) => kept.delete(index));
    one.added.forEach((index) => kept.add(index));
    return { budget: one.max_tokens, tokens: one.tokens, kept };
  });
}

/** The place of the largest stop that is within a budget; the smallest stop where none is. */
export function stopWithin(stops, budget) {
  const above = stops.findIndex((stop) => stop.budget > budget);
  return above < 0 ? stops.length - 1 : Math.max(0, above - 1);
}

/**
 * The prompt as the service writes it: documents with kept units, joined by its separator.
 * With `whole` the documents are as they came, white space at their ends included.
 */
export function promptText(documents, kept, { separator, cited, whole }) {
  const parts = documents.map(({ text, units }, place) => {
    const body = whole ? text : keptText(text, units, kept);
    return body && (cited ? `[${place + 1}] ` : "") + body;
  });
  return parts.filter(Boolean).join(separator);
}

/** The kept units of one document. Where something was left out, the strongest break of it stays. */
function keptText(text, units, kept) {
  const chosen = units.map((_, place) => place).filter((place) => kept.has(units[place].index));
  if (!chosen.length) return "";
  let body = indentation(text, units[chosen[0]]);
  let start = units[chosen[0]].start;
  chosen.forEach((here, at) => {
    body += text.slice(start, units[here].end);
    const after = chosen[at + 1];
    if (after === undefined) return;
    body += spaceBetween(text, units, here, after);
    start = units[after - 1].next;
  });
  return body;
}

/** The white space at the start of the line of a unit that is not prose: code stays indented. */
function indentation(text, unit) {
  const blanks = text.slice(text.lastIndexOf("\n", unit.start - 1) + 1, unit.start);
  return unit.start > 0 && !["sentence", "heading"].includes(unit.kind) && /^\s+$/.test(blanks) ? blanks : "";
}

function spaceBetween(text, units, here, after) {
  const spaceAfter = (place) => text.slice(units[place].end, units[place].next);
  if (after === here + 1) return spaceAfter(here);
  const last = spaceAfter(after - 1);
  const indent = last.includes("\n") ? last.slice(last.lastIndexOf("\n") + 1) : "";
  for (const lineEnds of [2, 1]) {
    for (let place = here; place < after; place++) {
      const space = spaceAfter(place);
      if (space.split("\n").length > lineEnds) return space.slice(0, space.lastIndexOf("\n") + 1) + indent;
    }
  }
  return spaceAfter(here) || last;
}
