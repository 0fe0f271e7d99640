// Requests to the service, and how far a reading has come.

const POLL_MS = 400;

export class Service {
  /** `key` gives the API key, if any; `needsKey` is called when the service wants one. */
  constructor(key, needsKey) {
    Object.assign(this, { key, needsKey });
  }

  async call(path, body, options = {}) {
    const headers = { "Content-Type": "application/json", ...options.headers };
    if (this.key()) headers.Authorization = `Bearer ${this.key()}`;
    const request = { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal: options.signal };
    const answer = await fetch(path, request).catch((error) => {
      throw error.name === "AbortError" ? error : new Error("The service cannot be reached; is it still running?");
    });
    const data = await answer.json().catch(() => ({}));
    if (answer.ok) return data;
    if (answer.status === 401) this.needsKey();
    throw new Error(data.error?.message ?? data.message ?? `the service answered ${answer.status}`);
  }

  /** Reads documents; `report` gets { status, tokens, tokens_read } until the answer is there. */
  async explain(body, report, signal) {
    const id = `page-${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
    const poll = setInterval(async () => {
      const progress = await this.call(`/v1/progress/${id}`).catch(() => null);
      if (progress && running) report(progress);
    }, POLL_MS);
    let running = true;
    try {
      return await this.call("/v1/explain", body, { signal, headers: { "X-Request-Id": id } });
    } finally {
      running = false;
      clearInterval(poll);
    }
  }
}
