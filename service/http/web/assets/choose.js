// Which units stay under a budget, from scores that are already here: the service's greedy filling
// with its own counts per unit. The service counts the joined text, so its own choice is exact; the
// page asks for that once the slider rests.

/** Units by score, best first, that fit: returns a Set of unit indexes and their tokens. */
export function choose(units, separatorTokens, budget) {
  const walk = [...units].sort((a, b) => b.score - a.score || a.index - b.index);
  const kept = new Set();
  const documents = new Set();
  let tokens = 0;
  for (const unit of walk) {
    const joint = kept.size && !documents.has(unit.document) ? separatorTokens : 0;
    if (tokens + unit.tokens + joint > budget) continue;
    kept.add(unit.index);
    documents.add(unit.document);
    tokens += unit.tokens + joint;
  }
  return { kept, tokens };
}

/** Kept text of one document, verbatim: units that follow each other keep what stands between them. */
export function keptText(text, units, kept) {
  const parts = [];
  let last = null;
  units.forEach((unit, place) => {
    if (!kept.has(unit.index)) return;
    if (last !== null && place === last.place + 1) {
      last.end = unit.end;
      last.place = place;
    } else {
      last = { start: unit.start, end: unit.end, place };
      parts.push(last);
    }
  });
  return parts.map((part) => text.slice(part.start, part.end)).join(" ");
}
