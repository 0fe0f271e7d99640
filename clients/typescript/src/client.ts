/** The client: one method for each thing that a tamis service does. */

import { Connection, type CallOptions, type TamisOptions } from "./connection.js";
import { utf16Offsets } from "./offsets.js";
import type {
  CohereAnswer,
  CohereRequest,
  CompressRequest,
  Compression,
  CompressionList,
  ExpandRequest,
  Expansion,
  Explanation,
  Health,
  Info,
  MessagesAnswer,
  MessagesRequest,
  Models,
  RankToolsRequest,
  RankedToolsAnswer,
  RetrievedOriginal,
  ScoreAnswer,
  ScoreRequest,
  SearchAnswer,
  SearchRequest,
} from "./openapi.js";

/** The fields that a schema names, without the unnamed ones that the service would pass over. */
type Named<T> = { [K in keyof T as string extends K ? never : K]: T[K] };
type WithDocuments<T, Document> = Omit<T, "documents"> & { documents: readonly Document[] };

/** One question and its documents. */
export type CompressInput = Omit<CompressRequest, "question" | "questions"> & { question: string };
/** Many questions on the same documents. */
export type CompressEachInput = Omit<CompressRequest, "question" | "questions"> & { questions: string[] };
/** A conversation; see `POST /v1/compress` with `messages`. */
export type MessagesInput = Named<MessagesRequest>;
/** A question and the documents to rank, as texts. */
export type RerankInput = WithDocuments<
  Omit<Named<CohereRequest>, "rank_fields">,
  string | { text: string }
>;
/** One text for each score, or one pair. */
export type ScoreInput = Named<ScoreRequest>;
/** What of an original is asked for. */
export interface RetrieveInput {
  /** Only the lines that have words of it. */
  question?: string | undefined;
  /** Only these lines, such as `12-47`. */
  lines?: string | undefined;
  /** Of the lines that answer `question`. */
  max_tokens?: number | undefined;
}

/**
 * A tamis service.
 *
 *     const tamis = new Tamis({ baseUrl: "http://localhost:8080" });
 *     const short = await tamis.compress({ question, documents, max_tokens: 500 });
 *     short.text; short.usage.output_tokens;
 *
 * Fields have the names of the HTTP service. Offsets, in requests and answers, are those of
 * JavaScript's strings: `documents[index].slice(start, end)` is the text of a span. Every method
 * throws a `TamisError`, or the reason of the signal that ended it.
 */
export class Tamis {
  readonly #connection: Connection;

  constructor(options: TamisOptions) {
    this.#connection = new Connection(options);
  }

  /** Keeps the sentences that answer, verbatim, within a token budget. */
  compress(input: CompressInput, call?: CallOptions): Promise<Compression> {
    return this.#post("/v1/compress", withUtf16(input), call);
  }

  /** As `compress`, for many questions on the same documents. */
  compressEach(input: CompressEachInput, call?: CallOptions): Promise<CompressionList> {
    return this.#post("/v1/compress", withUtf16(input), call);
  }

  /** The same messages, with what tools returned in fewer tokens. */
  compressMessages(input: MessagesInput, call?: CallOptions): Promise<MessagesAnswer> {
    return this.#post("/v1/compress", withUtf16(input), call);
  }

  /** As `compress`, with every sentence and its score. */
  explain(input: CompressInput, call?: CallOptions): Promise<Explanation> {
    return this.#post("/v1/explain", withUtf16(input), call);
  }

  /** The text around spans of an answer, in whole sentences. */
  expand(input: ExpandRequest, call?: CallOptions): Promise<Expansion> {
    return this.#post("/v1/expand", withUtf16(input), call);
  }

  /** Sorts documents, best first; `relevant_spans` says which parts of each answer. */
  async rerank(input: RerankInput, call?: CallOptions): Promise<CohereAnswer> {
    const answer = await this.#post<CohereAnswer>("/v2/rerank", input, call);
    for (const { index, relevant_spans } of answer.results) {
      if (!relevant_spans?.length) continue;
      const document = input.documents[index]!;
      const toUtf16 = utf16Offsets(typeof document === "string" ? document : document.text);
      for (const span of relevant_spans) {
        span.start = toUtf16(span.start);
        span.end = toUtf16(span.end);
      }
    }
    return answer;
  }

  /** One score for each text, independent of the other texts. */
  score(input: ScoreInput, call?: CallOptions): Promise<ScoreAnswer> {
    return this.#post("/score", input, call);
  }

  /**
   * Passages of an index. `start` and `end` are code points of a document that only the service
   * has: `utf16Offsets(document)` converts them for whoever has it, too.
   */
  search(input: SearchRequest, call?: CallOptions): Promise<SearchAnswer> {
    return this.#post("/v1/search", input, call);
  }

  /** Which of many tool definitions fit what is asked, best first, and whether any does. */
  rankTools(input: RankToolsRequest, call?: CallOptions): Promise<RankedToolsAnswer> {
    return this.#post("/v1/tools/rank", input, call);
  }

  /** What `compressMessages` left out, by a hash of its `ccr_hashes`. */
  retrieve(
    hash: string,
    input: RetrieveInput = {},
    call?: CallOptions,
  ): Promise<RetrievedOriginal> {
    const asked = Object.entries(input).filter(([, value]) => value !== undefined);
    const parameters = new URLSearchParams(asked.map(([name, value]) => [name, String(value)]));
    const path = `/v1/retrieve/${encodeURIComponent(hash)}${asked.length ? `?${parameters}` : ""}`;
    return this.#get(path, call);
  }

  /** The values that `model` may have. */
  models(call?: CallOptions): Promise<Models> {
    return this.#get("/v1/models", call);
  }

  /** The service's model, methods and limits. */
  info(call?: CallOptions): Promise<Info> {
    return this.#get("/info", call);
  }

  /** Resolves if the service is ready. */
  health(call?: CallOptions): Promise<Health> {
    return this.#get("/readyz", call);
  }

  #post<Answer>(path: string, body: unknown, call?: CallOptions): Promise<Answer> {
    return this.#connection.request("POST", path, body, call);
  }

  #get<Answer>(path: string, call?: CallOptions): Promise<Answer> {
    return this.#connection.request("GET", path, undefined, call);
  }
}

/** A request whose offsets are those of JavaScript, unless it names a unit itself. */
function withUtf16<T extends object>(input: T): T {
  return { offset_unit: "utf16", ...input };
}
