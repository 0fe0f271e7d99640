/** Retries, errors, limits and signals, against a server that does what a test tells it. */

import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";

import * as client from "../src/index.js";
import { Tamis, TamisError, utf16Offsets } from "../src/index.js";

const HEALTHY = JSON.stringify({ status: "ok", queue_tokens: 0, queue_fraction: 0 });
type Handler = (request: IncomingMessage, response: ServerResponse, count: number) => void;

/** A server for one test: its address, and when each request came. */
async function server(t: TestContext, handle: Handler) {
  const times: number[] = [];
  const running = createServer((request, response) => {
    times.push(performance.now());
    request.resume().on("end", () => handle(request, response, times.length));
  });
  await new Promise<void>((resolve) => running.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    running.closeAllConnections();
    running.close();
  });
  const close = () => new Promise((resolve) => running.close(resolve));
  return { baseUrl: `http://127.0.0.1:${(running.address() as AddressInfo).port}`, times, close };
}

function answering(t: TestContext, status: number, body: string, headers = {}) {
  return server(t, (_, response) => response.writeHead(status, headers).end(body));
}

test("a refusal for the moment is sent again when the service said", async (t) => {
  const { baseUrl, times } = await server(t, (_, response, count) => {
    if (count === 1) response.writeHead(429, { "retry-after": "1" }).end();
    else if (count === 2) response.writeHead(503).end();
    else response.end(HEALTHY);
  });
  assert.equal((await new Tamis({ baseUrl }).health()).status, "ok");
  assert.equal(times.length, 3);
  assert.ok(times[1]! - times[0]! >= 990, `${times}`);
});

test("a date in Retry-After is waited for, too", async (t) => {
  const until = new Date(Date.now() + 2500).toUTCString();
  const { baseUrl, times } = await server(t, (_, response, count) => {
    if (count === 1) response.writeHead(429, { "retry-after": until }).end();
    else response.end(HEALTHY);
  });
  await new Tamis({ baseUrl }).health();
  assert.ok(times[1]! - times[0]! >= 900, `${times}`);
});

test("without retries the refusal is thrown, with all that it says", async (t) => {
  const { baseUrl, times } = await answering(
    t,
    429,
    '{"error": {"message": "come later", "code": "overloaded", "param": null}}',
    { "retry-after": "7", "x-request-id": "r1" },
  );
  await assert.rejects(new Tamis({ baseUrl, retries: 0 }).health(), (error) => {
    assert.ok(error instanceof client.RateLimitError);
    const { name, message, status, code, param, requestId, retryAfterS } = error;
    assert.deepEqual(
      { name, message, status, code, param, requestId, retryAfterS },
      {
        name: "RateLimitError",
        message: "come later",
        status: 429,
        code: "overloaded",
        param: undefined,
        requestId: "r1",
        retryAfterS: 7,
      },
    );
    return true;
  });
  assert.equal(times.length, 1);
});

const SHAPES: [number, string, new (...all: never[]) => TamisError, string, string?][] = [
  [422, '{"error": {"message": "no", "code": "x"}}', client.InvalidRequestError, "no", "x"],
  [413, '{"error": "big", "error_type": "validation"}', client.InvalidRequestError, "big", "validation"],
  [401, '{"message": "of cohere"}', client.AuthenticationError, "of cohere"],
  [404, '{"error": {"message": "no index"}}', client.NotFoundError, "no index"],
  [500, "<html>\nBad gateway", client.ServerError, 'answered 500: "<html> Bad gateway"'],
  [502, "", client.ServerError, "answered 502: an empty body"],
  [500, '{"error": null}', client.ServerError, "answered 500"],
  [500, '{"error": {"message": 3, "code": 5}}', client.ServerError, "answered 500"],
  [500, '["a"]', client.ServerError, "answered 500"],
  [200, "<p>Welcome", client.ServiceError, 'what is no answer of tamis: "<p>Welcome"'],
  [200, "null", client.ServiceError, "what is no answer of tamis"],
];
for (const [status, body, kind, message, code] of SHAPES) {
  test(`${status} with ${body || "nothing"} is a ${kind.name}`, async (t) => {
    const { baseUrl } = await answering(t, status, body);
    await assert.rejects(new Tamis({ baseUrl, retries: 0 }).health(), (error) => {
      assert.ok(error instanceof client.ServiceError && error.constructor === kind, `${error}`);
      assert.ok(error.message.includes(message), error.message);
      assert.deepEqual([error.status, error.code], [status, code]);
      return true;
    });
  });
}

test("a service that is not there is named, after the retries", async (t) => {
  const { baseUrl, close } = await server(t, () => {});
  await close();
  let tries = 0;
  const counted: typeof fetch = (input, init) => {
    tries++;
    return fetch(input, init);
  };
  await assert.rejects(new Tamis({ baseUrl, retries: 1, fetch: counted }).health(), (error) => {
    assert.ok(error instanceof client.ConnectionError);
    assert.equal(error.message, `${baseUrl} could not be reached (ECONNREFUSED)`);
    return true;
  });
  assert.equal(tries, 2);
});

test("a request that arrived is not sent again when its connection breaks", async (t) => {
  const { baseUrl, times } = await server(t, (request) => request.socket.destroy());
  const tamis = new Tamis({ baseUrl });
  await assert.rejects(tamis.search({ question: "x" }), client.ConnectionError);
  assert.equal(times.length, 1);
});

test("the time limit holds, for the body of the answer as well", async (t) => {
  const { baseUrl } = await server(t, (_, response) => response.writeHead(200).write("{"));
  const tamis = new Tamis({ baseUrl, timeoutMs: 100 });
  await assert.rejects(tamis.health(), client.TimeoutError);
  await assert.rejects(tamis.health({ timeoutMs: 50 }), client.TimeoutError);
});

test("a signal ends a request, and the wait between two, with its own reason", async (t) => {
  const hung = await server(t, () => {});
  const busy = await answering(t, 429, "", { "retry-after": "50" });
  for (const { baseUrl } of [hung, busy]) {
    const controller = new AbortController();
    const reason = new Error("enough");
    const asked = new Tamis({ baseUrl }).health({ signal: controller.signal });
    setTimeout(() => controller.abort(reason), 200);
    const start = performance.now();
    await assert.rejects(asked, (error) => error === reason);
    assert.ok(performance.now() - start < 20_000);
  }
  assert.equal(busy.times.length, 1);
});

test("a wait longer than the time limit is not begun", async (t) => {
  for (const wait of ["61", "99999999999", "9".repeat(400)]) {
    const { baseUrl, times } = await answering(t, 429, "", { "retry-after": wait });
    const start = performance.now();
    await assert.rejects(new Tamis({ baseUrl }).health(), client.RateLimitError);
    assert.ok(performance.now() - start < 20_000);
    assert.equal(times.length, 1);
  }
});

test("a time limit that no timer can hold is a long one", async (t) => {
  const { baseUrl } = await server(t, (_, response) => {
    setTimeout(() => response.end(HEALTHY), 200);
  });
  for (const timeoutMs of [2 ** 31, 2 ** 33, Infinity]) {
    await new Tamis({ baseUrl, timeoutMs }).health();
  }
});

test("a signal that was aborted before sends nothing", async (t) => {
  const { baseUrl, times } = await answering(t, 200, HEALTHY);
  const asked = new Tamis({ baseUrl }).health({ signal: AbortSignal.abort() });
  await assert.rejects(asked, { name: "AbortError" });
  assert.equal(times.length, 0);
});

test("a key goes along, and is never shown", async (t) => {
  const seen: (string | undefined)[] = [];
  const { baseUrl } = await server(t, (request, response) => {
    seen.push(request.headers.authorization);
    response.end(HEALTHY);
  });
  await new Tamis({ baseUrl: `${baseUrl}/`, apiKey: "0123456789abcdef" }).health();
  assert.deepEqual(seen, ["Bearer 0123456789abcdef"]);
  for (const apiKey of ["secret\n", " secret", "sécret"]) {
    assert.throws(
      () => new Tamis({ baseUrl, apiKey }),
      (error) => error instanceof TamisError && !error.message.includes("cret"),
    );
  }
});

test("an address that is none is refused at once", () => {
  assert.throws(() => new Tamis({ baseUrl: "localhost" }), /http:\/\/localhost:8080/);
});

test("an offset in code points becomes one in code units, in every text", () => {
  const characters = ["a", "é", "漢", "🚂", "\ud800", "\udc00", "\n", "👩🏽‍🚀"];
  for (let round = 0; round < 300; round++) {
    const text = Array.from({ length: round % 17 }, (_, i) => {
      return characters[(round * 7 + i * i * 13 + i) % characters.length]!;
    }).join("");
    const points = [...text];
    const convert = utf16Offsets(text);
    for (let i = 0; i <= points.length; i++) {
      assert.equal(convert(i), points.slice(0, i).join("").length);
    }
    assert.throws(() => convert(points.length + 1), RangeError);
    assert.throws(() => convert(-1), RangeError);
  }
});

