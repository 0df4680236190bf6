// What does a case stand on? Clients that are closed at its end, watchers of live queries, and the
// conversation with the test that started it. Everything waits for events, with a deadline.

import assert from "node:assert/strict";
import process from "node:process";
import readline from "node:readline";

import { BaseConvexClient, ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";

export const api = anyApi;
export { assert, BaseConvexClient, ConvexClient };

const DEADLINE_MS = 8000;

export function withDeadline(promise, what, ms = DEADLINE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Every value and error that one `onUpdate` was called with, in order. */
export class Watcher {
  constructor(client, query, args) {
    this.query = query;
    this.calls = [];
    this.waiting = new Set();
    this.stop = client.onUpdate(
      query,
      args,
      (value) => this.#called({ value }),
      (error) => this.#called({ error }),
    );
  }

  #called(call) {
    this.calls.push(call);
    for (const check of [...this.waiting]) check();
  }

  get values() {
    return this.calls.filter((call) => "value" in call).map((call) => call.value);
  }

  get latest() {
    return this.calls.at(-1);
  }

  /** Until the newest call satisfies `holds`; `ms` bounds the wait. */
  async until(holds, { what = String(holds), ms = DEADLINE_MS } = {}) {
    let check;
    const reached = new Promise((resolve) => {
      check = () => {
        if (this.latest !== undefined && holds(this.latest)) resolve(this.latest);
      };
      this.waiting.add(check);
      check();
    });
    try {
      return await withDeadline(reached, what, ms);
    } catch (error) {
      error.message += `; calls so far: ${inspectable(this.calls)}`;
      throw error;
    } finally {
      this.waiting.delete(check);
    }
  }

  first() {
    return this.until(() => true, { what: "the first call" });
  }

  value(expected, options) {
    return this.until((call) => same(call.value, expected), {
      what: `the value ${inspectable(expected)}`,
      ...options,
    });
  }
}

export function same(a, b) {
  try {
    assert.deepStrictEqual(a, b);
    return true;
  } catch {
    return false;
  }
}

function inspectable(value) {
  return JSON.stringify(value, (_, part) => {
    if (typeof part === "bigint") return `${part}n`;
    return part instanceof Error ? part.message : part;
  });
}

/** A logger as the client's option wants it, that remembers. */
export class MemoryLogger {
  lines = [];
  #keep = (...parts) => {
    this.lines.push(parts.map(String).join(" "));
  };
  logVerbose = () => {};
  log = this.#keep;
  warn = this.#keep;
  error = this.#keep;
}

export class Stage {
  constructor(url, params) {
    this.url = url;
    this.params = params;
    this.clients = [];
    this.input = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  }

  client(options = {}) {
    const client = new ConvexClient(this.url, { logger: new MemoryLogger(), ...options });
    this.clients.push(client);
    return client;
  }

  /** An uninvolved caller on another connection. */
  http() {
    return new ConvexHttpClient(this.url, { logger: false });
  }

  watch(client, query, args = {}) {
    return new Watcher(client, query, args);
  }

  /** Until the client's connection state satisfies `holds`. */
  async connection(client, holds) {
    let stop;
    const reached = new Promise((resolve) => {
      const check = (state) => holds(state) && resolve(state);
      stop = client.subscribeToConnectionState(check);
      check(client.connectionState());
    });
    return withDeadline(reached, `connection state ${holds}`, 15000).finally(() => stop());
  }

  say(name, data = {}) {
    process.stdout.write(`@${JSON.stringify({ said: name, ...data })}\n`);
  }

  /** The test's next word. */
  async hear(word, ms = 60000) {
    const { value } = await withDeadline(this.input.next(), `the word ${word}`, ms);
    assert.equal(value, word);
  }

  async close() {
    await withDeadline(Promise.all(this.clients.map((client) => client.close())), "closing the clients");
  }
}
