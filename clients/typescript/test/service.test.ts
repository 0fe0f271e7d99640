/** Against the tamis service at TAMIS_URL, which has an index and keeps originals. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { InvalidRequestError, NotFoundError, Tamis } from "../src/index.js";

const baseUrl = process.env["TAMIS_URL"];
assert.ok(baseUrl, "set TAMIS_URL to the address of a running service");
const tamis = new Tamis({ baseUrl });
const QUESTION = "How often are keys rotated?";
const NEEDLE = "Keys are rotated every 90 days.";
const DOCUMENTS = [
  "Nothing is said here. Nobody knows why.",
  `🚂🚂 The wall is blue 👩🏽‍🚀. ${NEEDLE} Rooms are painted in spring.`,
];
const LOG = [
  ...Array.from({ length: 90 }, (_, i) => `tests/test_🔑.py::test_room_${i} PASSED`),
  "E       assert 30 == 90",
  "FAILED tests/test_🔑.py::test_rotation - assert 30 == 90",
  "==== 1 failed, 90 passed in 1.03s ====",
  "",
].join("\n");

test("compress: spans are those of JavaScript's strings", async () => {
  const short = await tamis.compress({ question: QUESTION, documents: DOCUMENTS, max_tokens: 40 });
  assert.ok(short.text?.includes(NEEDLE));
  assert.ok(short.usage.output_tokens <= 40);
  const kept = short.results?.[1]?.relevant_spans ?? [];
  assert.ok(kept.some(({ start, end }) => DOCUMENTS[1]!.slice(start, end) === NEEDLE));
  const codePoints = await tamis.compress({
    question: QUESTION,
    documents: DOCUMENTS,
    max_tokens: 40,
    offset_unit: "codepoint",
  });
  const other = codePoints.results?.[1]?.relevant_spans ?? [];
  assert.ok(other.every(({ start }, i) => start < kept[i]!.start));
});

test("compress: what must be kept is named in the same offsets", async () => {
  const text = DOCUMENTS[1]!;
  const start = text.indexOf("Rooms");
  const short = await tamis.compress({
    question: QUESTION,
    documents: [{ text, keep: [[start, text.length]] }],
    max_tokens: 30,
  });
  assert.ok(short.text?.includes("Rooms are painted in spring."));
});

test("compress: any string goes there and back", async () => {
  const text = "\ud800 and \0 and 🚂. So.";
  const short = await tamis.compress({ question: "\udc00?", documents: [text], max_tokens: 100 });
  assert.equal(short.text, text);
});

test("compress: a refusal has the message of the service", async () => {
  const asked = tamis.compress({ question: QUESTION, documents: DOCUMENTS, max_tokens: 1 });
  await assert.rejects(asked, (error) => {
    assert.ok(error instanceof InvalidRequestError);
    assert.match(error.message, /raise the budget/);
    assert.deepEqual([error.status, error.code], [422, "budget_too_small"]);
    assert.ok(error.requestId);
    return true;
  });
});

test("compressEach: one answer for each question", async () => {
  const questions = [QUESTION, "When are rooms painted?"];
  const { data } = await tamis.compressEach({ questions, documents: DOCUMENTS, max_tokens: 40 });
  assert.equal(data.length, 2);
  assert.ok(data[0]!.text?.includes(NEEDLE));
});

test("explain and expand: every sentence, and what stands around one", async () => {
  const found = await tamis.explain({ question: QUESTION, documents: DOCUMENTS, max_tokens: 40 });
  const shown = (found.results ?? []).flatMap(({ index, units }) =>
    (units ?? []).map(({ start, end }) => DOCUMENTS[index]!.slice(start, end)),
  );
  assert.ok(shown.includes(NEEDLE));
  const start = DOCUMENTS[1]!.indexOf(NEEDLE);
  const { results } = await tamis.expand({
    documents: DOCUMENTS,
    spans: [{ index: 1, start, end: start + NEEDLE.length }],
  });
  const { text, start: from, end: to } = results[0]!;
  assert.equal(text, DOCUMENTS[1]!.slice(from, to));
  assert.ok(text.length > NEEDLE.length);
});

test("rerank: best first, with spans of JavaScript's strings", async () => {
  const options = { relevant_spans: { mode: "enabled" as const, threshold: 0.2 }, top_n: 1 };
  for (const documents of [DOCUMENTS, DOCUMENTS.map((text) => ({ text }))]) {
    const { results } = await tamis.rerank({ query: QUESTION, documents, ...options });
    assert.deepEqual(results.map(({ index }) => index), [1]);
    const shown = results[0]!.relevant_spans!.map((span) =>
      DOCUMENTS[1]!.slice(span.start, span.end),
    );
    assert.ok(shown.includes(NEEDLE), `${shown}`);
  }
});

test("score: the scores of single pairs", async () => {
  const { data } = await tamis.score({ queries: QUESTION, documents: DOCUMENTS });
  assert.ok(data[1]!.score > data[0]!.score);
});

test("compressMessages and retrieve: shorter, and whole again", async () => {
  const call = { name: "bash", arguments: '{"command": "pytest"}' };
  const answer = await tamis.compressMessages({
    messages: [
      { role: "user", content: "Run the tests." },
      { role: "assistant", content: null, tool_calls: [{ id: "c1", type: "function", function: call }] },
      { role: "tool", tool_call_id: "c1", content: LOG },
      { role: "user", content: "Why does the rotation of keys fail?" },
    ],
    config: { mode: "ccr" },
  });
  assert.equal(answer.messages.length, 4);
  const shown = String(answer.messages[2]!["content"]);
  assert.ok(shown.includes("assert 30 == 90") && shown.length < LOG.length / 2);
  for (const [start, end] of answer.compressions[0]!.kept!) {
    const part = LOG.slice(start, end).trim();
    assert.ok(part && shown.includes(part), part);
  }
  const [hash] = answer.ccr_hashes;
  assert.equal((await tamis.retrieve(hash!)).original_content, LOG);
  const lines = await tamis.retrieve(hash!, { lines: "1-2" });
  assert.equal(lines.original_content.trim(), LOG.split("\n").slice(0, 2).join("\n"));
  await assert.rejects(tamis.retrieve("0".repeat(24)), NotFoundError);
});

test("search: passages of an index", async () => {
  const { data } = await tamis.search({ question: QUESTION, k: 2 });
  assert.ok(data[0]!.text.includes("rotated"));
  await assert.rejects(tamis.search({ question: QUESTION, index: "none" }), NotFoundError);
});

test("rankTools: the tool that fits, and whether any does", async () => {
  const tools = ["Rain and temperatures.", "Books a seat on a plane."].map((description, i) => ({
    name: `tool_${i}`,
    description,
  }));
  const { data, fits } = await tamis.rankTools({ question: "Will there be rain?", tools, top_n: 1 });
  assert.deepEqual(data.map(({ index }) => index), [0]);
  assert.equal(typeof fits, "boolean");
});

test("models, info and health", async () => {
  assert.equal((await tamis.models()).data[0]!.id, "default");
  assert.ok((await tamis.info()).limits.max_documents > 0);
  assert.equal((await tamis.health()).status, "ok");
});

test("a signal ends a call to the service", async () => {
  const documents = Array.from({ length: 100 }, (_, i) => `${DOCUMENTS[1]} Room ${i}. `.repeat(9));
  const signal = AbortSignal.timeout(1);
  const asked = tamis.compress({ question: QUESTION, documents, max_tokens: 40 }, { signal });
  await assert.rejects(asked, { name: "TimeoutError" });
});
