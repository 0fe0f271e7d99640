// The page: documents and a question in, a heat map out. The service reads once, and says what it
// keeps at every stop of the slider; from then on nothing is asked of it.

import * as code from "./code.js";
import { Documents } from "./documents.js";
import { drawMap, renderDocument, showSelection, unitAt } from "./heat.js";
import { isMarkdown } from "./markdown.js";
import { promptText, readStops, stopWithin } from "./selections.js";
import { Service } from "./service.js";

const $ = (id) => document.getElementById(id);
const STOPS = 120, FOLD_CHARS = 6000;
const PLAIN_METHODS = {
  question_rows: "A small model reads each sentence with the question: it finds most, in seconds",
  lexical: "Words in common with the question are counted: no model, in milliseconds",
  embedding: "Sentences that mean something like the question are found, by a smaller model",
};

const state = { answer: null, documents: [], units: [], stops: [], at: 0, budget: 300, opened: new Set(), asked: null, needsKey: false, reading: null };
const documents = new Documents($("cards"), () => showMessage(""), (reason) => showMessage(reason, true));
const service = new Service(() => $("key").value, () => {
  state.needsKey = true;
  $("key-row").hidden = false;
  $("key").focus();
});
const stop = () => state.stops[state.at];

function showMessage(message, isError = false) {
  $("status").textContent = message;
  $("status").className = isError ? "error" : "";
  if (isError) $("status").scrollIntoView({ block: "nearest" });
}

// ---- one reading

function takePaste() {
  documents.add(`pasted ${documents.all.length + 1}`, $("paste").value);
  $("paste").value = "";
}

function request(maxTokens) {
  const { question, method, documents, cited } = state.asked;
  return { question, model: method, documents, max_tokens: maxTokens, ...(cited ? { citations: "[{doc}]" } : {}) };
}

async function read(event) {
  event?.preventDefault();
  takePaste();
  if (!$("question").reportValidity()) return;
  if (!documents.all.length) {
    showMessage("Add a document first: paste one, drop a file, or load the example.", true);
    $("paste").focus();
    return;
  }
  state.reading?.abort();
  const reading = state.reading = new AbortController();
  state.asked = { question: $("question").value, method: $("method").value || "default", documents: documents.all, cited: $("citations").checked };
  showReading(true);
  const began = performance.now();
  try {
    const answer = await service.explain({ ...request(state.budget), selections: STOPS, offset_unit: "utf16" }, showProgress, reading.signal);
    if (state.reading !== reading) return;
    showAnswer(answer);
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    state.said = `Read ${answer.usage.input_tokens.toLocaleString()} tokens in ${seconds} s. The slider needs no further reading.`;
    showMessage([state.said, ...answer.warnings].join(" "));
    $("result").focus({ preventScroll: true });
    $("result").scrollIntoView({ block: "start" });
  } catch (error) {
    if (error.name !== "AbortError") showMessage(error.message, true);
    else if (state.reading === reading) showMessage("Stopped.");
  } finally {
    if (state.reading === reading) showReading(false);
  }
}

function showReading(running) {
  $("go").disabled = running;
  $("reading").hidden = $("stop").hidden = !running;
  if (!running) return;
  $("reading").removeAttribute("value");
  showMessage("Preparing the documents…");
}

function showProgress({ status, tokens, tokens_read: done }) {
  if (status === "waiting") showMessage("Waiting for the model…");
  if (status !== "reading") return;
  $("reading").max = tokens;
  $("reading").value = done;
  showMessage(done < tokens ? `Reading: ${done.toLocaleString()} of ${tokens.toLocaleString()} tokens` : "Everything is read; choosing…");
}

// ---- the result

function showAnswer(answer) {
  const results = [...answer.results].sort((a, b) => a.index - b.index);
  state.answer = answer;
  state.opened = new Set();
  state.documents = results.map((result) => {
    const given = state.asked.documents[result.index];
    const text = result.extracted_text ?? given.text;
    const units = result.units.map((unit) => ({ ...unit, document: result.index, score: unit.score ?? 0 }));
    return { label: `[${result.index + 1}] ${given.id}`, place: result.index, text, units };
  });
  state.units = state.documents.flatMap((one) => one.units);
  state.stops = readStops(answer, state.units);
  $("budget").max = state.stops.length - 1;
  $("tokens").max = state.stops.at(-1).budget;
  const chars = state.documents.reduce((sum, one) => sum + one.text.length, 0);
  $("view").value = chars > FOLD_CHARS ? "folded" : "all";
  $("answerability").textContent = answer.answerability == null ? "" : `holds an answer: ${Math.round(100 * answer.answerability)} % (${answer.verdict ?? "no verdict"})`;
  $("answerability").title = answer.reason;
  $("result").hidden = false;
  drawDocuments();
  select(stopWithin(state.stops, state.typed ? state.budget : Math.min(state.budget, Math.ceil(answer.usage.input_tokens / 2))));
  $("tokens").value = stop().budget;
}

function heat(score) {
  if (state.answer.calibrated) return Math.sqrt(score);
  const scores = state.units.map((unit) => unit.score);
  state.range ??= [Math.min(0, ...scores), Math.max(1e-9, ...scores)];
  return (score - state.range[0]) / (state.range[1] - state.range[0] || 1);
}

function drawDocuments() {
  state.range = null;
  const asWritten = $("written").checked;
  $("heat").replaceChildren(...state.documents.map((one) => renderDocument({ ...one, markdown: !asWritten && isMarkdown(one.text) }, heat)));
}

/** Shows a stop of the slider. */
function select(at) {
  state.at = at;
  const { budget, tokens, kept } = stop();
  $("budget").value = at;
  $("budget").setAttribute("aria-valuetext", `${budget} tokens`);
  showSelection($("heat"), state.units, kept, $("view").value, state.opened);
  drawMap($("map"), state.units, kept, heat);
  for (const { place, units } of state.documents) {
    const score = state.answer.results.find((result) => result.index === place).evidence_score;
    const here = units.filter((unit) => kept.has(unit.index)).length;
    $(`facts-${place}`).textContent = `${score == null ? "" : `evidence ${score.toFixed(2)}, `}${here} of ${units.length} kept`;
  }
  const total = state.answer.usage.input_tokens;
  const share = Math.max(0, Math.round(100 * (1 - tokens / total)));
  $("saved").textContent = `${tokens.toLocaleString()} of ${total.toLocaleString()} tokens, ${share} % saved`;
}

/** Shows another stop than the one that was read for, whose warnings are not about this one. */
function move(at) {
  select(at);
  showMessage(state.said);
}

function open(indexes, focused) {
  indexes.forEach((index) => state.opened.add(index));
  if ($("view").value === "kept") $("view").value = "folded";
  select(state.at);
  jumpTo(focused);
}

function jumpTo(index) {
  const mark = document.querySelector(`mark[data-unit="${index}"]`);
  if (mark.hidden) return open([index], index);
  mark.focus({ preventScroll: true });
  mark.scrollIntoView({ block: "center" });
}

/** Focuses the kept unit after or before the one in focus; at the end it starts again. */
function jumpToKept(step) {
  const kept = state.units.map((unit) => unit.index).filter((index) => stop().kept.has(index));
  if (!kept.length) return;
  const here = Number(document.activeElement?.dataset?.unit ?? state.lastFocused ?? (step > 0 ? -1 : Infinity));
  const next = step > 0 ? kept.find((index) => index > here) ?? kept[0] : kept.findLast((index) => index < here) ?? kept.at(-1);
  jumpTo(next);
}

// ---- the tooltip, by mouse and by keyboard

function showTooltip(mark) {
  const unit = state.units.find((one) => one.index === Number(mark.dataset.unit));
  const own = state.documents.find((one) => one.place === unit.document).units;
  const kind = state.answer.calibrated ? "probability" : "score";
  state.lastFocused = unit.index;
  $("tip").textContent = `[${unit.document + 1}:${own.indexOf(unit) + 1}] ${kind} ${unit.score.toFixed(3)}, ${unit.tokens} tokens, ${stop().kept.has(unit.index) ? "kept" : "left out"}`;
  const box = mark.getClientRects()[0];
  if (!box) return;
  $("tip").hidden = false;
  $("tip").style.left = `${Math.max(8, Math.min(box.left, innerWidth - $("tip").offsetWidth - 8))}px`;
  $("tip").style.top = `${box.top > 48 ? box.top - $("tip").offsetHeight - 6 : box.bottom + 6}px`;
  mark.setAttribute("aria-describedby", "tip");
}

function moveFocus(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const marks = [...document.querySelectorAll("mark:not([hidden])")];
  if (!step || !marks.length) return;
  const at = marks.indexOf(document.activeElement);
  if (at < 0 && document.activeElement !== $("heat") && document.activeElement !== $("result")) return;
  event.preventDefault();
  marks[Math.max(0, Math.min(marks.length - 1, at + step))].focus();
}

// ---- copying

function copiedText(what) {
  if (what !== "prompt") return code[what](location.origin, { ...request(stop().budget), documents: state.documents.map((one) => ({ id: state.asked.documents[one.place].id, text: one.text })) }, state.needsKey);
  const whole = state.at === state.stops.length - 1;
  return promptText(state.documents, stop().kept, { separator: state.answer.selection.separator, cited: state.asked.cited, whole });
}

async function copy(event) {
  const what = event.currentTarget.dataset.copy;
  const text = copiedText(what);
  $("copied").value = text;
  try {
    await navigator.clipboard.writeText(text);
    $("copy-note").textContent = `Copied ${what === "prompt" ? `a prompt of ${stop().tokens.toLocaleString()} tokens` : what}.`;
    $("copied").hidden = true;
  } catch {
    $("copy-note").textContent = "The browser did not allow copying; take it from here:";
    $("copied").hidden = false;
    $("copied").select();
  }
}

// ---- wiring

$("ask").addEventListener("submit", read);
$("stop").onclick = () => state.reading?.abort();
$("add").onclick = takePaste;
$("clear").onclick = () => { documents.replace([]); $("paste").value = ""; $("result").hidden = true; };
$("example").onclick = async () => {
  const example = await service.call("/assets/example.json");
  $("question").value = example.question;
  documents.replace(example.documents);
  read();
};
$("files").onchange = (event) => documents.addFiles(event.target.files);
$("budget").oninput = () => { move(Number($("budget").value)); $("tokens").value = stop().budget; };
$("tokens").oninput = () => { if (Number($("tokens").value) >= 1) move(stopWithin(state.stops, Number($("tokens").value))); };
$("tokens").onchange = () => {
  const budget = Math.min(Math.floor(Number($("tokens").value)), state.stops.at(-1).budget);
  if (budget < 1 || budget === stop().budget) return void ($("tokens").value = stop().budget);
  Object.assign(state, { budget, typed: true }); // between two stops of the slider: read for this very budget
  read();
};
$("view").onchange = () => { state.opened = new Set(); select(state.at); };
$("written").onchange = () => { drawDocuments(); select(state.at); };
$("next").onclick = () => jumpToKept(1);
$("previous").onclick = () => jumpToKept(-1);
$("map").onclick = (event) => jumpTo(unitAt(state.units, event.offsetX / $("map").clientWidth).index);
$("heat").addEventListener("click", (event) => {
  const units = event.target.dataset?.units;
  if (units) open(JSON.parse(units), JSON.parse(units)[0]);
});
document.querySelectorAll("[data-copy]").forEach((button) => button.addEventListener("click", copy));
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") read(event);
  else if (event.key === "Escape") $("tip").hidden = true;
  else moveFocus(event);
});
const markOf = (event) => event.target.closest?.("mark");
$("heat").addEventListener("mouseover", (event) => markOf(event) && showTooltip(markOf(event)));
$("heat").addEventListener("mouseout", () => { $("tip").hidden = true; });
$("heat").addEventListener("focusin", (event) => markOf(event) && showTooltip(markOf(event)));
$("heat").addEventListener("focusout", () => { $("tip").hidden = true; });
addEventListener("resize", () => state.answer && drawMap($("map"), state.units, stop().kept, heat));
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").hidden = false; });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").hidden = true;
  documents.addFiles(event.dataTransfer.files);
});

async function loadMethods() {
  try {
    const { data } = await service.call("/v1/models");
    const own = data.filter(({ id, default: first }) => id !== "default" && (first || id in PLAIN_METHODS));
    own.sort((a, b) => b.default - a.default);
    $("method").replaceChildren(...own.map((method) => {
      const option = new Option(`${PLAIN_METHODS[method.id] ?? method.summary} (${method.id})${method.default ? ", the default" : ""}`, method.id, method.default, method.default);
      option.title = method.summary;
      return option;
    }));
  } catch (error) {
    showMessage(error.message, true);
  }
}
$("key").onchange = loadMethods;
loadMethods();
