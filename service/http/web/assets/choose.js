// Selects units under a budget from scores that were already received: greedy, as the service does,
// with its token counts per unit. The service counts the joined text, so its own selection is exact;
// the page requests it once the slider rests.

/** Units by score, best first, that fit: returns a Set of unit indexes and their tokens. */
export function choose(units, separatorTokens, budget) {
  const ranked = [...units].sort((a, b) => b.score - a.score || a.index - b.index);
  const kept = new Set();
  const documents = new Set();
  let tokens = 0;
  for (const unit of ranked) {
    const joint = kept.size && !documents.has(unit.document) ? separatorTokens : 0;
    if (tokens + unit.tokens + joint > budget) continue;
    kept.add(unit.index);
    documents.add(unit.document);
    tokens += unit.tokens + joint;
  }
  return { kept, tokens };
}

/** Kept text of one document, verbatim: adjacent units keep the text between them. */
export function keptText(text, units, kept) {
  const parts = [];
  let last = null;
  units.forEach((unit, position) => {
    if (!kept.has(unit.index)) return;
    if (last !== null && position === last.position + 1) {
      last.end = unit.end;
      last.position = position;
    } else {
      last = { start: unit.start, end: unit.end, position };
      parts.push(last);
    }
  });
  return parts.map((part) => text.slice(part.start, part.end)).join(" ");
}
