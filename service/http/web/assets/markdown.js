// Markdown as it reads: headings, lists, tables, code, emphasis and links. No character of the text
// is lost: markup is in the page, hidden, and nothing of a document is ever parsed as HTML.

const MAX_INLINE_CHARS = 5000;
const INLINE = new RegExp([
  /(?<tick>`+)(?<code>[^`]+)\k<tick>(?!`)/,
  /(?<open>!?\[)(?<label>[^[\]]*)(?<close>\]\((?<target>[^()\s]*)(?:\s+"[^"\n]*")?\))/,
  /(?<strong>\*\*|__)(?=\S)(?<bold>[^*_]+)\k<strong>/,
  /(?<star>\*)(?=\S)(?<em>[^*\n]+)\*/,
  /(?<escape>\\)(?<escaped>[\\`*_{}[\]()#+\-.!|<>])/,
].map((part) => part.source).join("|"), "g");

/** Whether a text looks like Markdown: a heading, a fence, a link or a table. */
export const isMarkdown = (text) => /^#{1,6} \S|^```|\]\(\S+\)|^\|.*\|$/m.test(text);

/** The family of a unit's block. */
export function blockKind(unit) {
  if (unit.kind.startsWith("table")) return "table";
  return { heading: "heading", list_item: "item", code: "code" }[unit.kind] ?? "prose";
}

/** Fills a unit's mark with its text as it reads. */
export function fillMark(mark, text, unit) {
  const kind = blockKind(unit);
  if (kind === "table") return fillRow(mark, text);
  if (kind === "code") return fillCode(mark, text);
  const marker = kind === "heading" ? /^#{1,6}\s+/ : kind === "item" ? /^[-*+]\s+/ : /^(?!)/;
  const lead = text.match(marker)?.[0] ?? "";
  if (lead) mark.append(syntax(lead));
  if (kind === "heading") mark.classList.add(`level-${Math.min(4, lead.trim().length || 3)}`);
  if (kind === "item" && lead) mark.classList.add("bullet");
  inline(mark, text.slice(lead.length));
}

function fillRow(mark, text) {
  const [first, ...rest] = text.split(/(?=\n)/);
  for (const part of first.split(/((?<!\\)\|)/)) {
    if (part === "|" || !part.trim()) mark.append(syntax(part));
    else inline(mark.appendChild(element("span", "cell")), part);
  }
  if (rest.length) mark.append(syntax(rest.join("")));
}

function fillCode(mark, text) {
  for (const line of text.split(/(?<=\n)/)) mark.append(/^\s*(```|~~~)/.test(line) ? syntax(line) : line);
}

function inline(parent, text) {
  let at = 0;
  if (text.length <= MAX_INLINE_CHARS) {
    for (const match of text.matchAll(INLINE)) {
      parent.append(text.slice(at, match.index));
      inlineMatch(parent, match.groups);
      at = match.index + match[0].length;
    }
  }
  parent.append(text.slice(at));
}

function inlineMatch(parent, found) {
  if (found.tick) wrap(parent, "code", found.tick, found.code, found.tick);
  else if (found.open) link(parent, found);
  else if (found.strong) wrap(parent, "strong", found.strong, found.bold, found.strong);
  else if (found.star) wrap(parent, "em", "*", found.em, "*");
  else parent.append(syntax(found.escape), found.escaped);
}

function wrap(parent, name, before, text, after) {
  const inner = element(name);
  inner.textContent = text;
  parent.append(syntax(before), inner, syntax(after));
}

function link(parent, { open, label, close, target }) {
  const inner = element(/^https?:/.test(target) ? "a" : "span", "link");
  if (inner.localName === "a") Object.assign(inner, { href: target, rel: "noreferrer", target: "_blank", tabIndex: -1 });
  inner.title = target;
  const [, before, word, after] = label.match(/^(\s*`?)([^`]*)(`?\s*)$/) ?? [null, "", label, ""];
  inner.append(syntax(before), word, syntax(after));
  parent.append(syntax(open), inner, syntax(close));
}

function syntax(text) {
  const hidden = element("span", "syntax");
  hidden.textContent = text;
  return hidden;
}

function element(name, className = "") {
  const made = document.createElement(name);
  made.className = className;
  return made;
}
