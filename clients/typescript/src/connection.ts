/** One request: its headers, its time limit, and when it is sent again. */

import {
  ConnectionError,
  ServiceError,
  TamisError,
  TimeoutError,
  excerpt,
  retryAfterS,
  serviceError,
} from "./errors.js";

/** How a service is reached. */
export interface TamisOptions {
  /** Such as `http://localhost:8080`. */
  baseUrl: string;
  /** If the service has keys. */
  apiKey?: string | undefined;
  /** The time limit of each try, in milliseconds: 60,000. */
  timeoutMs?: number | undefined;
  /**
   * How often a request that was refused with 429 or 503, or never arrived, is sent again: 3. None
   * is where the service asks for a longer wait than `timeoutMs`.
   */
  retries?: number | undefined;
  /** Used in place of the platform's own `fetch`. */
  fetch?: typeof fetch | undefined;
}

/** What may be different for one call. */
export interface CallOptions {
  /** Ends the call, between two tries as well; the call rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  timeoutMs?: number | undefined;
  retries?: number | undefined;
}

const RETRIED = [429, 503];
const LONGEST_PAUSE_S = 8;
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** Codes of connections that were never made: what was sent cannot have been served. */
const NEVER_SENT = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
]);

export class Connection {
  readonly #url: string;
  readonly #headers: Record<string, string>;
  readonly #options: TamisOptions;

  constructor(options: TamisOptions) {
    const { baseUrl, apiKey } = options;
    if (!URL.canParse(baseUrl)) {
      throw new TamisError(`baseUrl is ${excerpt(baseUrl)}; give one as http://localhost:8080`);
    }
    if (apiKey && /^ |[^ -~]| $/.test(apiKey)) {
      // fetch would show the header in its error, and the key with it
      throw new TamisError(
        "apiKey has blanks around it, a line break or a character beyond ASCII, which no header " +
          "may have; trim what it was read from",
      );
    }
    this.#url = baseUrl.replace(/\/+$/, "");
    this.#headers = apiKey ? { authorization: `Bearer ${apiKey}` } : {};
    this.#options = options;
  }

  /** The answer of a request, as JSON. */
  async request<Answer>(
    verb: "GET" | "POST",
    path: string,
    body: unknown,
    call: CallOptions = {},
  ): Promise<Answer> {
    const retries = call.retries ?? this.#options.retries ?? 3;
    for (let tries = 0; ; tries++) {
      call.signal?.throwIfAborted();
      const answer = await this.#attempt<Answer>(verb, path, body, call);
      if (!(answer instanceof Again)) return answer;
      if (tries >= retries || (answer.afterS ?? 0) * 1000 > this.#limitMs(call)) throw answer.error;
      await pause(answer.afterS ?? Math.min(0.25 * 2 ** tries, LONGEST_PAUSE_S), call.signal);
    }
  }

  /** The time limit of a try. No pause is longer: the caller has the refusal at once. */
  #limitMs(call: CallOptions): number {
    const given = call.timeoutMs ?? this.#options.timeoutMs ?? 60_000;
    return Math.min(given, LONGEST_TIMER_MS); // a timer of more milliseconds fires at once
  }

  async #attempt<Answer>(
    verb: string,
    path: string,
    body: unknown,
    call: CallOptions,
  ): Promise<Answer | Again> {
    const limit = AbortSignal.timeout(this.#limitMs(call));
    const signal = call.signal ? AbortSignal.any([call.signal, limit]) : limit;
    let response: Response, text: string;
    try {
      response = await (this.#options.fetch ?? fetch)(this.#url + path, {
        method: verb,
        headers:
          verb === "POST"
            ? { ...this.#headers, "content-type": "application/json" }
            : this.#headers,
        body: verb === "POST" ? JSON.stringify(body) : null,
        signal,
      });
      text = await response.text();
    } catch (error) {
      call.signal?.throwIfAborted();
      return this.#withoutAnswer(error, limit);
    }
    if (response.ok) return this.#parsed<Answer>(text, response.status);
    const error = serviceError(response, text, this.#url);
    if (RETRIED.includes(response.status)) return new Again(error, retryAfterS(response.headers));
    throw error;
  }

  /** A request that was sent may have been served: only one that never arrived is sent again. */
  #withoutAnswer(error: unknown, limit: AbortSignal): Again {
    if (limit.aborted) {
      throw new TimeoutError(`${this.#url} did not answer in time`, { cause: error });
    }
    const cause = (error as { cause?: { code?: string; message?: string } }).cause;
    const why = cause?.code ?? cause?.message ?? String(error);
    const failed = new ConnectionError(`${this.#url} could not be reached (${why})`, {
      cause: error,
    });
    if (!NEVER_SENT.has(cause?.code ?? "")) throw failed;
    return new Again(failed);
  }

  #parsed<Answer>(text: string, status: number): Answer {
    try {
      const answer: unknown = JSON.parse(text);
      if (typeof answer === "object" && answer !== null) return answer as Answer;
    } catch {
      // what is no JSON is no answer of tamis, either
    }
    throw new ServiceError(
      `${this.#url} answered ${status} with what is no answer of tamis: ${excerpt(text)}`,
      { status },
    );
  }
}

/** A failure after which the request may be sent again. */
class Again {
  constructor(
    readonly error: TamisError,
    readonly afterS?: number | undefined,
  ) {}
}

function pause(seconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
