// The documents as a heat map: one mark a unit, folded where much was left out.

import { blockKind, fillMark } from "./markdown.js";

const FOLD_UNITS = 6; // a longer run of left-out units is folded
const EDGE_UNITS = 1; // units of it that stay on either side

/** One document as an article; `heat` gives a unit's colour between 0 and 1. */
export function renderDocument({ label, place, text, units, markdown }, heat) {
  const article = element("article");
  const title = element("h2");
  const facts = element("span");
  facts.id = `facts-${place}`;
  title.append(label, facts);
  const body = element("div", markdown ? "text markdown" : "text");
  let at = 0, block = body;
  units.forEach((unit, i) => {
    const gap = text.slice(at, unit.start);
    if (markdown && beginsBlock(units[i - 1], unit, gap)) {
      if (gap) body.append(gapSpan(gap, true));
      block = body.appendChild(element("div", `block ${blockKind(unit)}`));
    } else if (gap) block.append(gapSpan(gap, false));
    block.append(makeMark(text, unit, markdown, heat));
    at = unit.end;
  });
  if (at < text.length) body.append(gapSpan(text.slice(at), markdown));
  article.append(title, body);
  return article;
}

function beginsBlock(before, unit, gap) {
  if (!before) return true;
  if (!gap.includes("\n")) return false;
  const [here, there] = [blockKind(before), blockKind(unit)];
  return here !== there || here === "heading" || here === "item" || (here === "prose" && /\n\s*\n/.test(gap));
}

function makeMark(text, unit, markdown, heat) {
  const mark = element("mark");
  const own = text.slice(unit.start, unit.end);
  if (markdown) fillMark(mark, own, unit);
  else mark.textContent = own;
  mark.dataset.unit = unit.index;
  mark.tabIndex = -1;
  mark.style.setProperty("--h", heat(unit.score).toFixed(3));
  return mark;
}

function gapSpan(text, between) {
  const span = element("span", between ? "gap syntax" : "gap");
  span.textContent = text;
  return span;
}

/** Marks what is kept, and folds what is left out: view is `all`, `folded` or `kept`. */
export function showSelection(root, units, kept, view, opened) {
  root.querySelectorAll(".fold").forEach((button) => button.remove());
  const marks = new Map([...root.querySelectorAll("mark")].map((mark) => [Number(mark.dataset.unit), mark]));
  const hidden = hiddenRuns(units, kept, view, opened);
  const inside = new Set(hidden.flat().map((unit) => unit.index));
  for (const [index, mark] of marks) {
    mark.classList.toggle("kept", kept.has(index));
    mark.hidden = inside.has(index);
    const gap = mark.previousElementSibling;
    if (gap?.classList.contains("gap")) gap.hidden = mark.hidden;
  }
  for (const run of hidden) marks.get(run[0].index).before(foldButton(run, view));
}

/** Runs of left-out units that are not shown. */
function hiddenRuns(units, kept, view, opened) {
  if (view === "all") return [];
  const runs = [];
  let run = [];
  const close = () => { if (run.length) runs.push(run); run = []; };
  units.forEach((unit, i) => {
    if (i && units[i - 1].document !== unit.document) close();
    if (kept.has(unit.index) || opened.has(unit.index)) close();
    else run.push(unit);
  });
  close();
  if (view === "kept") return runs;
  return runs.filter((one) => one.length > FOLD_UNITS).map((one) => one.slice(EDGE_UNITS, -EDGE_UNITS));
}

function foldButton(run, view) {
  const button = element("button", "fold");
  const tokens = run.reduce((sum, unit) => sum + unit.tokens, 0).toLocaleString();
  button.type = "button";
  button.textContent = view === "kept" ? "…" : `… ${run.length.toLocaleString()} left out, ${tokens} tokens: show`;
  button.title = `Show ${run.length} left-out sentences`;
  button.dataset.units = JSON.stringify(run.map((unit) => unit.index));
  return button;
}

/** Draws where in all documents something was kept. */
export function drawMap(canvas, units, kept, heat) {
  const scale = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const total = units.reduce((sum, unit) => sum + unit.tokens, 0) || 1;
  const colour = { kept: style.getPropertyValue("--accent"), line: style.getPropertyValue("--quiet") };
  let at = 0;
  units.forEach((unit, i) => {
    const [x, width] = [(at / total) * canvas.width, (unit.tokens / total) * canvas.width];
    context.fillStyle = colour.kept;
    context.globalAlpha = kept.has(unit.index) ? 1 : 0.35 * heat(unit.score);
    context.fillRect(x, 0, Math.max(kept.has(unit.index) ? 2 * scale : 0.5, width), canvas.height);
    if (i && units[i - 1].document !== unit.document) {
      context.globalAlpha = 1;
      context.fillStyle = colour.line;
      context.fillRect(x, 0, scale, canvas.height);
    }
    at += unit.tokens;
  });
}

/** The unit at a share of the way through all documents. */
export function unitAt(units, share) {
  let left = share * units.reduce((sum, unit) => sum + unit.tokens, 0);
  return units.find((unit) => (left -= unit.tokens) <= 0) ?? units.at(-1);
}

function element(name, className = "") {
  const made = document.createElement(name);
  made.className = className;
  return made;
}
