export { Tamis } from "./client.js";
export type {
  CompressEachInput,
  CompressInput,
  MessagesInput,
  RerankInput,
  RetrieveInput,
  ScoreInput,
} from "./client.js";
export type { CallOptions, TamisOptions } from "./connection.js";
export {
  AuthenticationError,
  ConnectionError,
  InvalidRequestError,
  NotFoundError,
  RateLimitError,
  ServerError,
  ServiceError,
  TamisError,
  TimeoutError,
} from "./errors.js";
export { utf16Offsets } from "./offsets.js";
export type {
  CohereAnswer as RerankAnswer,
  Compression,
  CompressionList,
  Document,
  DocumentResult,
  Expansion,
  Explanation,
  Health,
  Info,
  Message,
  MessageCompression,
  MessagesAnswer,
  Models,
  RetrievedOriginal,
  ScoreAnswer,
  SearchAnswer,
  SearchHit,
  SpanScore,
  UnitScore,
  Usage,
} from "./openapi.js";
