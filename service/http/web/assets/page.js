// The page: documents and a question in, a heat map out. Scores come from the service once; the
// slider then selects in the browser.

import { choose, keptText } from "./choose.js";
import * as code from "./code.js";

const $ = (id) => document.getElementById(id);
const EXACT_AFTER_MS = 400;
const EXAMPLE = {
  question: "Who built the lighthouse of Kerlan, and when was its light first lit?",
  documents: [
    { id: "harbour.txt", text: "The harbour of Kerlan silted up in the winter of 1861. Fishermen moved their boats to the north quay. The lighthouse was built by the engineer Anne Le Goff after three ships were lost on the reef. Its stone came from the quarry of Saint-Malo." },
    { id: "calendar.txt", text: "The market is held on Tuesdays. The light of Kerlan was first lit on 4 May 1864, in the presence of the prefect. Since 1992 it runs without a keeper." },
    { id: "menu.txt", text: "The inn serves mussels and buckwheat pancakes. Its cellar holds forty barrels of cider." },
  ],
};

const state = { documents: [], answer: null, units: [], kept: new Set(), tokens: 0, exact: false, submitted: null, needsKey: false };
let exactTimer = 0;
let lastRequestNumber = 0;

// ---- documents in

function addDocument(id, text) {
  if (!text.trim()) return;
  state.documents.push({ id: uniqueId(id), text });
  showCards();
}

function uniqueId(id) {
  const taken = new Set(state.documents.map((d) => d.id));
  let name = id, n = 2;
  while (taken.has(name)) name = `${id} (${n++})`;
  return name;
}

function showCards() {
  $("cards").replaceChildren(...state.documents.map((d, index) => {
    const item = document.createElement("li");
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = "×";
    remove.ariaLabel = `Remove ${d.id}`;
    remove.onclick = () => { state.documents.splice(index, 1); showCards(); };
    item.append(`${d.id}, ${d.text.length.toLocaleString()} characters`, remove);
    return item;
  }));
}

function takePaste() {
  addDocument(`pasted ${state.documents.length + 1}`, $("paste").value);
  $("paste").value = "";
}

async function takeFiles(files) {
  for (const file of files) {
    const bytes = await file.arrayBuffer();
    try {
      addDocument(file.name, new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
    } catch {
      showMessage(`${file.name} is not UTF-8 text and was left out.`, true);
    }
  }
}

// ---- requests

async function call(path, body) {
  const headers = { "Content-Type": "application/json" };
  if ($("key").value) headers.Authorization = `Bearer ${$("key").value}`;
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  const data = await answer.json().catch(() => ({}));
  if (answer.ok) return data;
  if (answer.status === 401) {
    state.needsKey = true;
    $("key-row").hidden = false;
    $("key").focus();
  }
  throw new Error(data.error?.message ?? data.message ?? `the service answered ${answer.status}`);
}

function request(maxTokens) {
  return {
    query: state.submitted.question, model: state.submitted.method, documents: state.submitted.documents,
    max_tokens: maxTokens, ...($("citations").checked ? { citations: "[{doc}] " } : {}),
  };
}

async function compressDocuments(event) {
  event?.preventDefault();
  takePaste();
  if (!$("question").reportValidity()) return;
  if (!state.documents.length) {
    showMessage("Add a document first: paste one, drop a file, or load the example.", true);
    $("paste").focus();
    return;
  }
  state.submitted = { question: $("question").value, method: $("method").value || "default", documents: [...state.documents] };
  $("go").disabled = true;
  showMessage("Reading…");
  const began = performance.now();
  try {
    const answer = await call("/v1/explain", { ...request(500), offset_unit: "utf16" });
    showAnswer(answer);
    showMessage(`Read ${answer.usage.input_tokens.toLocaleString()} tokens in ${((performance.now() - began) / 1000).toFixed(1)} s.`);
    $("result").focus({ preventScroll: true });
    $("result").scrollIntoView({ block: "start" });
  } catch (error) {
    showMessage(error.message, true);
  } finally {
    $("go").disabled = false;
  }
}

function showMessage(message, isError = false) {
  $("status").textContent = message;
  $("status").className = isError ? "error" : "";
}

// ---- the heat map

function showAnswer(answer) {
  state.answer = answer;
  const results = [...answer.results].sort((a, b) => a.index - b.index);
  state.units = results.flatMap((result) => result.units.map((unit) => ({ ...unit, document: result.index, score: unit.score ?? 0 })));
  const scores = state.units.map((unit) => unit.score);
  const [low, high] = [Math.min(...scores, 0), Math.max(...scores, answer.calibrated ? 1 : 1e-9)];
  const heat = (score) => answer.calibrated ? score ** 0.5 : (score - low) / (high - low || 1);
  $("heat").replaceChildren(...results.map((result) => renderDocument(result, heat)));
  const total = answer.usage.input_tokens;
  $("budget").max = $("tokens").max = total;
  const start = Math.min(total, Math.max(1, answer.usage.output_tokens < total ? answer.usage.output_tokens : Math.ceil(total / 2)));
  $("budget").value = $("tokens").value = start;
  $("answerability").textContent = answer.answerability == null ? "" : `holds an answer: ${Math.round(100 * answer.answerability)} %`;
  $("result").hidden = false;
  selectWithinBudget();
}

function renderDocument(result, heat) {
  const text = state.submitted.documents[result.index].text;
  const article = document.createElement("article");
  const title = document.createElement("h2");
  const facts = document.createElement("span");
  facts.id = `facts-${result.index}`;
  title.append(`[${result.index + 1}] ${result.id ?? ""}`, facts);
  const body = document.createElement("p");
  body.className = "text";
  let at = 0;
  for (const unit of result.units) {
    if (unit.start > at) body.append(plainSpan(text.slice(at, unit.start)));
    const mark = document.createElement("mark");
    mark.textContent = text.slice(unit.start, unit.end);
    mark.dataset.unit = unit.index;
    mark.tabIndex = -1;
    mark.style.setProperty("--h", heat(unit.score ?? 0).toFixed(3));
    body.append(mark);
    at = unit.end;
  }
  if (at < text.length) body.append(plainSpan(text.slice(at)));
  article.append(title, body);
  return article;
}

function plainSpan(text) {
  const span = document.createElement("span");
  span.textContent = text;
  return span;
}

function selectWithinBudget() {
  const { kept, tokens } = choose(state.units, state.answer.selection.separator_tokens, Number($("budget").value));
  applySelection(kept, tokens, false);
  clearTimeout(exactTimer);
  exactTimer = setTimeout(selectExactly, EXACT_AFTER_MS);
}

/** Asks the service for its selection, which counts the joined text. */
async function selectExactly() {
  const requestNumber = ++lastRequestNumber;
  const budget = Number($("budget").value);
  if (budget >= state.answer.usage.input_tokens) return applySelection(new Set(state.units.map((u) => u.index)), state.answer.usage.input_tokens, true);
  try {
    const answer = await call("/v1/explain", { ...request(budget), offset_unit: "utf16" });
    if (requestNumber !== lastRequestNumber || budget !== Number($("budget").value)) return;
    state.text = answer.text;
    applySelection(new Set(answer.results.flatMap((r) => r.units.filter((u) => u.kept).map((u) => u.index))), answer.usage.output_tokens, true);
  } catch (error) {
    if (requestNumber === lastRequestNumber) showMessage(error.message, true);
  }
}

function applySelection(kept, tokens, exact) {
  Object.assign(state, { kept, tokens, exact });
  if (!exact) state.text = null;
  for (const mark of document.querySelectorAll("mark")) mark.classList.toggle("kept", kept.has(Number(mark.dataset.unit)));
  for (const result of state.answer.results) {
    const own = state.units.filter((u) => u.document === result.index);
    const here = own.filter((u) => kept.has(u.index)).length;
    const score = result.relevance_score == null ? "" : `score ${result.relevance_score.toFixed(2)}, `;
    $(`facts-${result.index}`).textContent = `${score}${here} of ${own.length} kept`;
  }
  const total = state.answer.usage.input_tokens;
  const share = Math.round(100 * (1 - tokens / total));
  $("saved").textContent = `${exact ? "" : "≈ "}${tokens.toLocaleString()} of ${total.toLocaleString()} tokens, ${share} % saved`;
}

// ---- the tooltip, by mouse and by keyboard

function showTooltip(mark) {
  const unit = state.units.find((u) => u.index === Number(mark.dataset.unit));
  const position = state.units.filter((u) => u.document === unit.document).indexOf(unit) + 1;
  const kind = state.answer.calibrated ? "probability" : "score";
  $("tip").textContent = `[${unit.document + 1}:${position}] ${kind} ${unit.score.toFixed(3)}, ${unit.tokens} tokens, ${state.kept.has(unit.index) ? "kept" : "left out"}`;
  const box = mark.getClientRects()[0];
  $("tip").hidden = false;
  $("tip").style.left = `${Math.max(8, Math.min(box.left, innerWidth - $("tip").offsetWidth - 8))}px`;
  $("tip").style.top = `${box.top > 48 ? box.top - $("tip").offsetHeight - 6 : box.bottom + 6}px`;
  mark.setAttribute("aria-describedby", "tip");
}

function moveFocus(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const marks = [...document.querySelectorAll("mark")];
  if (!step || !marks.length) return;
  const at = marks.indexOf(document.activeElement);
  if (at < 0 && document.activeElement !== $("heat") && document.activeElement !== $("result")) return;
  event.preventDefault();
  marks[Math.max(0, Math.min(marks.length - 1, at + step))].focus();
}

// ---- copying

function prompt() {
  if (state.text != null) return state.text;
  const { separator } = state.answer.selection;
  return state.submitted.documents
    .map((d, i) => keptText(d.text, state.units.filter((u) => u.document === i), state.kept))
    .filter(Boolean).join(separator);
}

async function copy(event) {
  const what = event.currentTarget.dataset.copy;
  const body = request(Number($("budget").value));
  if (what === "prompt" && !state.exact) await selectExactly();
  const copied = what === "prompt" ? prompt() : code[what](location.origin, body, state.needsKey);
  try {
    await navigator.clipboard.writeText(copied);
    showMessage(`Copied ${what === "prompt" ? `a prompt of ${state.tokens} tokens` : what}.`);
  } catch {
    showMessage("The browser did not allow copying; select the text below instead.", true);
    const field = document.createElement("textarea");
    field.value = copied;
    field.rows = 8;
    $("status").append(field);
    field.select();
  }
}

// ---- wiring

$("ask").addEventListener("submit", compressDocuments);
$("add").onclick = takePaste;
$("clear").onclick = () => { state.documents = []; $("paste").value = ""; showCards(); $("result").hidden = true; showMessage(""); };
$("example").onclick = () => {
  state.documents = EXAMPLE.documents.map((d) => ({ ...d }));
  $("question").value = EXAMPLE.question;
  showCards();
  compressDocuments();
};
$("files").onchange = (event) => takeFiles(event.target.files);
$("budget").oninput = () => { $("tokens").value = $("budget").value; selectWithinBudget(); };
$("tokens").oninput = () => { if ($("tokens").checkValidity() && $("tokens").value) { $("budget").value = $("tokens").value; selectWithinBudget(); } };
$("citations").onchange = () => state.answer && selectWithinBudget();
document.querySelectorAll("[data-copy]").forEach((button) => button.addEventListener("click", copy));
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") compressDocuments(event);
  else if (event.key === "Escape") $("tip").hidden = true;
  else moveFocus(event);
});
$("heat").addEventListener("mouseover", (event) => event.target.matches("mark") && showTooltip(event.target));
$("heat").addEventListener("mouseout", () => { $("tip").hidden = true; });
$("heat").addEventListener("focusin", (event) => event.target.matches("mark") && showTooltip(event.target));
$("heat").addEventListener("focusout", () => { $("tip").hidden = true; });
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").hidden = false; });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").hidden = true;
  takeFiles(event.dataTransfer.files);
});

async function loadMethods() {
  try {
    const { data } = await call("/v1/models");
    $("method").replaceChildren(...data.filter((m) => m.kind === "compression" && m.id !== "default").map((m) => {
      const option = new Option(`${m.id} — ${m.summary}`, m.id, m.default, m.default);
      option.title = m.summary;
      return option;
    }));
  } catch (error) {
    showMessage(error.message, true);
  }
}
$("key").onchange = loadMethods;
loadMethods();
