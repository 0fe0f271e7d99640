/** Clients of other services and our own, against the tamis service at TAMIS_URL. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { createCohere } from "@ai-sdk/cohere";
import { CohereRerank } from "@langchain/cohere";
import { Document } from "@langchain/core/documents";
import { RunnableLambda } from "@langchain/core/runnables";
import { Tamis } from "@tamis-rag/client";
import { rerank } from "ai";
import { CohereClient, CohereClientV2 } from "cohere-ai";

const url = process.env.TAMIS_URL;
const model = "rerank-v4.0";
const query = "How often are keys rotated?";
const needle = "Keys are rotated every 90 days.";
const documents = [
  "Nothing is said here. Nobody knows why.",
  `🚂 The wall is blue. ${needle} Rooms are painted in spring.`,
  "Cheese ripens for a year. Caves are cool.",
];

test("our client, as it is packed", async () => {
  const tamis = new Tamis({ baseUrl: url });
  const short = await tamis.compress({ query, documents, max_tokens: 16 });
  const [span] = short.results[1].relevant_spans;
  assert.equal(documents[1].slice(span.start, span.end), needle);
  const { results } = await tamis.rerank({ query, documents, top_n: 1 });
  assert.equal(results[0].index, 1);
});

test("Vercel's AI SDK", async () => {
  const cohere = createCohere({ baseURL: `${url}/v2`, apiKey: "none" });
  const found = await rerank({ model: cohere.reranking(model), query, documents, topN: 2 });
  assert.deepEqual(found.ranking.map((one) => one.originalIndex).slice(0, 1), [1]);
  assert.equal(found.ranking.length, 2);
  assert.equal(found.rerankedDocuments[0], documents[1]);
});

test("Vercel's AI SDK with documents as objects", async () => {
  const cohere = createCohere({ baseURL: `${url}/v2`, apiKey: "none" });
  const objects = documents.map((text, id) => ({ id, text }));
  const found = await rerank({ model: cohere.reranking(model), query, documents: objects });
  assert.equal(found.ranking[0].originalIndex, 1);
});

test("Cohere's client, versions 1 and 2 of its API", async () => {
  for (const Client of [CohereClient, CohereClientV2]) {
    const client = new Client({ token: "none", environment: url });
    const { results } = await client.rerank({ model, query, documents, topN: 2 });
    assert.equal(results[0].index, 1);
    assert.equal(results.length, 2);
  }
});

test("LangChain's reranker of Cohere", async () => {
  const client = new CohereClient({ token: "none", environment: url });
  const reranker = new CohereRerank({ client, model, topN: 2 });
  const given = documents.map((pageContent) => new Document({ pageContent }));
  const found = await reranker.compressDocuments(given, query);
  assert.equal(found[0].pageContent, documents[1]);
  assert.ok(found[0].metadata.relevanceScore > found[1].metadata.relevanceScore);
});

test("a step of a LangChain chain that compresses", async () => {
  const tamis = new Tamis({ baseUrl: url });
  const compress = RunnableLambda.from(async ({ question, docs }, { signal } = {}) => {
    const input = { query: question, documents: docs.map((d) => d.pageContent), max_tokens: 10 };
    const { results } = await tamis.compress(input, { signal });
    return results.flatMap(({ index, text, kept }) =>
      kept ? [new Document({ pageContent: text, metadata: docs[index].metadata })] : [],
    );
  });
  const docs = documents.map((pageContent, id) => new Document({ pageContent, metadata: { id } }));
  const found = await compress.invoke({ question: query, docs });
  assert.deepEqual(
    found.map((d) => [d.pageContent, d.metadata.id]),
    [[needle, 1]],
  );
});
