/**
 * Everything that this client throws, save the reason of a signal that was aborted.
 *
 *     TamisError
 *       ServiceError            the service answered, and refused
 *         InvalidRequestError   400, 413, 422, ...: the request cannot be served as it is
 *         AuthenticationError   401, 403
 *         NotFoundError         404: no such path, model, index or original
 *         RateLimitError        429: come back after retryAfterS
 *         ServerError           5xx: the service failed or is not ready
 *       ConnectionError         there was no answer; cause says why
 *       TimeoutError            there was no answer in time
 */
export class TamisError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** What an error's answer says. */
export interface Refusal {
  /** The status of HTTP. */
  status: number;
  /** The service's code for programs, such as `budget_too_small`. */
  code?: string | undefined;
  /** The field that was wrong, where there is one. */
  param?: string | undefined;
  /** The id of the request in the service's log. */
  requestId?: string | undefined;
  /** Seconds after which the service would be asked again. */
  retryAfterS?: number | undefined;
}

/** The service refused; the message is the service's. */
export class ServiceError extends TamisError {
  readonly status: number;
  readonly code: string | undefined;
  readonly param: string | undefined;
  readonly requestId: string | undefined;
  readonly retryAfterS: number | undefined;

  constructor(message: string, refusal: Refusal) {
    super(message);
    this.status = refusal.status;
    this.code = refusal.code;
    this.param = refusal.param;
    this.requestId = refusal.requestId;
    this.retryAfterS = refusal.retryAfterS;
  }
}

export class InvalidRequestError extends ServiceError {}
export class AuthenticationError extends ServiceError {}
export class NotFoundError extends ServiceError {}
export class RateLimitError extends ServiceError {}
export class ServerError extends ServiceError {}
export class ConnectionError extends TamisError {}
export class TimeoutError extends TamisError {}

const BY_STATUS = new Map<number, typeof ServiceError>([
  [401, AuthenticationError],
  [403, AuthenticationError],
  [404, NotFoundError],
  [429, RateLimitError],
]);
const EXCERPT_CHARS = 120;

/** The error of an answer that is no success, whoever of a service or a proxy before it sent it. */
export function serviceError(response: Response, body: string, url: string): ServiceError {
  const { status, headers } = response;
  const { message, code, param } = said(body);
  const kind =
    BY_STATUS.get(status) ??
    (status >= 500 ? ServerError : status >= 400 ? InvalidRequestError : ServiceError);
  return new kind(message ?? `${url} answered ${status}: ${excerpt(body)}`, {
    status,
    code,
    param,
    requestId: headers.get("x-request-id") ?? undefined,
    retryAfterS: retryAfterS(headers),
  });
}

/** The seconds of `Retry-After`, which may be a date. */
export function retryAfterS(headers: Headers): number | undefined {
  const given = headers.get("retry-after")?.trim();
  if (!given) return undefined;
  if (/^\d+$/.test(given)) return Number(given);
  const until = Date.parse(given);
  return Number.isNaN(until) ? undefined : Math.max(0, (until - Date.now()) / 1000);
}

/** The start of a body on one line, for messages. */
export function excerpt(body: string): string {
  const line = body.replace(/\s+/g, " ").trim();
  if (!line) return "an empty body";
  return JSON.stringify(line.length > EXCERPT_CHARS ? `${line.slice(0, EXCERPT_CHARS)}...` : line);
}

/** The message of an error in the formats of OpenAI, TEI and Cohere. */
function said(body: string): { message?: string; code?: string; param?: string } {
  const given = parsed(body);
  const error = fields(given)["error"];
  const detail = typeof error === "object" ? fields(error) : fields(given);
  return {
    ...text("message", typeof error === "string" ? error : detail["message"]),
    ...text("code", typeof error === "string" ? detail["error_type"] : detail["code"]),
    ...text("param", detail["param"]),
  };
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

function fields(given: unknown): Record<string, unknown> {
  return typeof given === "object" && given !== null ? (given as Record<string, unknown>) : {};
}

function text(name: string, value: unknown): Record<string, string> {
  return typeof value === "string" && value ? { [name]: value } : {};
}
