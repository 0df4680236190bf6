/**
 * reactivedb in a browser: live queries, mutations and actions over one WebSocket.
 *
 * An ES module without dependencies or build step. It speaks Convex's sync protocol: the client
 * sends the set of queries it watches, the server sends transitions that move all of them together
 * to one timestamp. A mutation's promise resolves when a transition has shown its effect; a mutation
 * that is cut off is sent again under the same id, which the server runs at most once.
 *
 *     const db = new ReactiveClient(location.origin);
 *     const stop = db.subscribe("messages:byTask", { taskId }, (messages) => draw(messages));
 *     await db.mutation("messages:append", { taskId, content: "hi" });
 */

/** @typedef {null | boolean | number | bigint | string | ArrayBuffer | Uint8Array | Array<any> | {[key: string]: any}} Value */
/** @typedef {{[key: string]: Value | undefined}} Args */
/**
 * What is known about the connection. `phase` is "connecting" before the first connection, "open",
 * "waiting" between two attempts, "closed" after `close()`, and "failed" when the server refused us for good.
 * @typedef {{phase: "connecting"|"open"|"waiting"|"closed"|"failed", retries: number, pendingMutations: number,
 *   pendingActions: number, reason: string}} ConnectionState
 */
/**
 * The results as an optimistic update sees and sets them. Treat what `get` gives as read-only: set a copy.
 * @typedef {{get: (path: string, args?: Args) => any, set: (path: string, args: Args, value: any) => void}} OptimisticStore
 */
/** @typedef {{querySet: number, identity: number, ts: bigint}} Version */
/**
 * @typedef {object} Query
 * @property {number} id
 * @property {string} path
 * @property {any} args encoded
 * @property {Set<{callback: (value: any) => void, onError?: (error: Error) => void}>} listeners
 * @property {string | null} journal what the server wants back when the query is added again
 * @property {Result | undefined} result the newest from the server
 * @property {Result | undefined} shown the newest that listeners have been told, optimistic updates included
 */
/** @typedef {{value: any} | {error: Error}} Result */
/**
 * @typedef {object} Request
 * @property {"Mutation" | "Action"} type
 * @property {number} requestId
 * @property {string} udfPath
 * @property {any[]} args
 * @property {boolean} sent on this connection
 * @property {{value: any, ts: bigint} | undefined} answer a mutation's, until a transition covers it
 * @property {((store: OptimisticStore) => void) | undefined} optimistic
 * @property {(value: any) => void} resolve
 * @property {(error: Error) => void} reject
 */

const INACTIVITY_MS = 60_000; // The server sends something every 15 s.
const BACKOFF_MAX_MS = 16_000;
const OWN_RESTART = /^(InactiveServer|VersionMismatch|ChunkOutOfOrder|AuthError)/;
const OVERLOADED =
  /^(SubscriptionsWorkerFull|TooMany|CommitterFull|AwsTooMany|ExecuteFull|SystemTimeout|ExpiredInQueue|VectorIndexTooLarge|SearchIndexTooLarge)/;

/** An error that the server answered. `data` is what an ApplicationError carried, else undefined. */
export class ReactiveError extends Error {
  /** @param {string} message @param {any} [data] */
  constructor(message, data) {
    super(message);
    this.name = "ReactiveError";
    this.data = data;
  }
}

export class ReactiveClient {
  /** @type {Map<string, Query>} by path and arguments */
  #queries = new Map();
  /** @type {Map<number, Query>} */
  #queriesById = new Map();
  #nextQueryId = 0;
  /** @type {Set<number>} what the server knows of on this connection */
  #sentQueries = new Set();
  #flushQueued = false;

  /** @type {Map<number, Request>} in the order of their ids, which is the order they are sent in */
  #requests = new Map();
  #nextRequestId = 0;

  /** @type {WebSocket | null} */
  #socket = null;
  #isOpen = false;
  #sessionId = randomUuid();
  #connectionCount = 0;
  #querySetVersion = 0;
  #identityVersion = 0;
  /** @type {Version} */
  #version = initialVersion();
  #maxObservedTs = 0n;
  /** @type {{id: string, parts: string[]} | null} */
  #chunks = null;
  /** Requests older than this connection; until they are settled its success is not proven. */
  #unproven = new Set();

  #retries = 0;
  #closeReason = "InitialConnect";
  /** @type {ConnectionState["phase"]} */
  #phase = "connecting";
  /** @type {any} */
  #reconnectTimer = 0;
  /** @type {any} */
  #inactivityTimer = 0;
  /** @type {string | null} */
  #token = null;
  /** @type {((reason: string) => void) | undefined} */
  #onAuthError;
  /** @type {Set<(state: ConnectionState) => void>} */
  #stateListeners = new Set();
  #url;
  #WebSocket;
  #onOnline = () => {
    if (this.#phase === "waiting") this.#connect();
  };

  /**
   * @param {string} [url] the server's, such as `http://localhost:3210`; the page's own by default
   * @param {{WebSocket?: any}} [options] another WebSocket class, where the platform has none
   */
  constructor(url = globalThis.location?.origin, options = {}) {
    if (!/^https?:\/\//.test(url ?? "")) {
      throw new TypeError(`a server's URL begins with http:// or https://, got ${JSON.stringify(url)}`);
    }
    this.#url = `${url.replace(/^http/, "ws").replace(/\/+$/, "")}/api/sync`;
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    globalThis.addEventListener?.("online", this.#onOnline);
    this.#connect();
  }

  /**
   * Watch a query. `callback` gets each new result, `onError` each failure; after either, later results
   * still come. Subscriptions to the same path with the same arguments share one query.
   * @param {string} path @param {Args} args @param {(value: any) => void} callback
   * @param {(error: Error) => void} [onError] @returns {() => void} unsubscribe
   */
  subscribe(path, args, callback, onError) {
    const encoded = encodeArgs(args);
    const key = queryKey(path, encoded);
    let query = this.#queries.get(key);
    if (!query) {
      query = { id: this.#nextQueryId++, path, args: encoded, listeners: new Set(),
                journal: null, result: undefined, shown: undefined };
      this.#queries.set(key, query);
      this.#queriesById.set(query.id, query);
      this.#queueFlush();
      this.#showChanges(); // An optimistic update may already know a value for it.
    }
    const watched = query;
    const listener = { callback, onError };
    watched.listeners.add(listener);
    queueMicrotask(() => {
      if (watched.shown && watched.listeners.has(listener)) tell(listener, watched.shown);
    });
    return () => {
      watched.listeners.delete(listener);
      if (watched.listeners.size === 0 && this.#queries.get(key) === watched) {
        this.#queries.delete(key);
        this.#queriesById.delete(watched.id);
        this.#queueFlush();
      }
    };
  }

  /**
   * Run a mutation. Resolves once the results on this page show it; rejects if it failed. Safe across
   * lost connections: it is sent again, and runs once.
   * @param {string} path @param {Args} [args]
   * @param {{optimistic?: (store: OptimisticStore) => void}} [options] `optimistic` is run at once, and again
   *   over newer results, until the real effect is there; so it must compute the same from the same.
   * @returns {Promise<any>}
   */
  mutation(path, args = {}, options = {}) {
    return this.#request("Mutation", path, args, options.optimistic);
  }

  /**
   * Run an action. Rejects when the connection is lost before the answer: nobody knows what was done then.
   * @param {string} path @param {Args} [args] @returns {Promise<any>}
   */
  action(path, args = {}) {
    return this.#request("Action", path, args, undefined);
  }

  /**
   * Say who is calling, from now on and after each reconnect; null for nobody.
   * @param {string | null} token @param {(reason: string) => void} [onRefused] the server did not take it
   */
  setAuth(token, onRefused) {
    this.#token = token;
    this.#onAuthError = onRefused;
    if (this.#isOpen) this.#sendToken();
  }

  /**
   * Be told the state of the connection, now and whenever it changes.
   * @param {(state: ConnectionState) => void} callback @returns {() => void} stop being told
   */
  onConnectionState(callback) {
    this.#stateListeners.add(callback);
    callback(this.connectionState);
    return () => void this.#stateListeners.delete(callback);
  }

  /** @returns {ConnectionState} */
  get connectionState() {
    let pendingMutations = 0;
    for (const request of this.#requests.values()) pendingMutations += request.type === "Mutation" ? 1 : 0;
    return { phase: this.#phase, retries: this.#retries, pendingMutations,
             pendingActions: this.#requests.size - pendingMutations, reason: this.#closeReason };
  }

  /** End for good. What has not been answered is rejected. */
  close() {
    if (this.#phase === "closed") return;
    globalThis.removeEventListener?.("online", this.#onOnline);
    this.#end("closed", "the client was closed");
  }

  // Requests

  /** @param {"Mutation" | "Action"} type @param {string} path @param {Args} args @param {any} optimistic */
  #request(type, path, args, optimistic) {
    return new Promise((resolve, reject) => {
      if (this.#phase === "closed" || this.#phase === "failed") {
        throw new ReactiveError(`\`${path}\` was not sent: ${this.#closeReason}`);
      }
      /** @type {Request} */
      const request = { type, requestId: this.#nextRequestId++, udfPath: path, args: [encodeArgs(args)],
                        sent: false, answer: undefined, optimistic, resolve, reject };
      this.#requests.set(request.requestId, request);
      if (this.#isOpen) this.#sendRequest(request);
      if (optimistic) this.#showChanges();
      this.#tellState();
    });
  }

  /** @param {Request} request */
  #sendRequest(request) {
    this.#flushQueries(); // What was watched before is sent before.
    request.sent = true;
    const { type, requestId, udfPath, args } = request;
    this.#send({ type, requestId, udfPath, args });
  }

  /** @param {any} message a MutationResponse or an ActionResponse */
  #onResponse(message) {
    const request = this.#requests.get(message.requestId);
    if (!request) return; // Answered twice: once before a reconnect, once after.
    if (!message.success) {
      this.#settle([request], () => request.reject(failureOf(message, message.result)));
    } else if (request.type === "Action") {
      this.#settle([request], () => request.resolve(decodeValue(message.result)));
    } else {
      request.answer = { value: decodeValue(message.result), ts: decodeTs(message.ts) };
      this.#observe(request.answer.ts);
    }
  }

  /** Take requests off the list, show what that changes, then let their callers go on.
   * @param {Request[]} requests @param {(request: Request) => void} release */
  #settle(requests, release) {
    for (const { requestId } of requests) {
      this.#requests.delete(requestId);
      this.#unproven.delete(requestId);
    }
    this.#showChanges();
    requests.forEach(release);
    if (requests.length > 0) this.#tellState();
  }

  // The query set

  #queueFlush() {
    if (this.#flushQueued) return;
    this.#flushQueued = true;
    queueMicrotask(() => this.#flushQueries());
  }

  /** Tell the server what is watched now and was not, or the other way round, in one message. */
  #flushQueries(evenIfEmpty = false) {
    this.#flushQueued = false;
    if (!this.#isOpen) return;
    const modifications = [];
    for (const queryId of this.#sentQueries) {
      if (!this.#queriesById.has(queryId)) modifications.push({ type: "Remove", queryId });
    }
    for (const { id, path, args, journal } of this.#queries.values()) {
      if (!this.#sentQueries.has(id)) {
        modifications.push({ type: "Add", queryId: id, udfPath: path, args: [args], ...(journal && { journal }) });
      }
    }
    if (modifications.length === 0 && !evenIfEmpty) return;
    this.#sentQueries = new Set(this.#queriesById.keys());
    const baseVersion = this.#querySetVersion++;
    this.#send({ type: "ModifyQuerySet", baseVersion, newVersion: this.#querySetVersion, modifications });
  }

  /** @param {any} message */
  #onTransition(message) {
    const start = decodeVersion(message.startVersion);
    const { querySet, identity, ts } = this.#version;
    if (start.querySet !== querySet || start.identity !== identity || start.ts !== ts) {
      // Going on from here would show a mixture of two states; a new connection starts from none.
      this.#onClosed("VersionMismatch");
      return;
    }
    for (const change of message.modifications) {
      const query = this.#queriesById.get(change.queryId);
      if (!query) continue; // Nobody watches it any more, and the server will hear of that.
      switch (change.type) {
        case "QueryUpdated":
          query.result = { value: decodeValue(change.value) };
          query.journal = change.journal ?? null;
          break;
        case "QueryFailed":
          query.result = { error: failureOf(change, change.errorMessage) };
          query.journal = change.journal ?? null;
          break;
        case "QueryRemoved":
          break;
        default:
          console.warn(`reactivedb: unknown modification ${JSON.stringify(change.type)}`);
      }
    }
    this.#version = decodeVersion(message.endVersion);
    this.#observe(this.#version.ts);
    const covered = [...this.#requests.values()].filter((r) => r.answer && r.answer.ts <= this.#version.ts);
    this.#settle(covered, (request) => request.resolve(request.answer?.value));
    if (this.#retries > 0 && this.#unproven.size === 0 && this.#version.querySet > 0) {
      this.#retries = 0;
      this.#tellState();
    }
  }

  /** Tell listeners of every result that differs from what they saw, optimistic updates laid over. */
  #showChanges() {
    /** @type {Map<Query, Result>} */
    const laid = new Map();
    const find = (/** @type {string} */ path, /** @type {Args} */ args) =>
      this.#queries.get(queryKey(path, encodeArgs(args)));
    /** @type {OptimisticStore} */
    const store = {
      get: (path, args = {}) => {
        const query = find(path, args);
        const result = query && (laid.get(query) ?? query.result);
        return result && "value" in result ? result.value : undefined;
      },
      set: (path, args, value) => {
        const query = find(path, args);
        if (query) laid.set(query, { value });
      },
    };
    for (const request of this.#requests.values()) {
      try {
        request.optimistic?.(store);
      } catch (error) {
        // A guess that fails must not keep the truth from being shown.
        console.error(`reactivedb: the optimistic update of ${request.udfPath} failed`, error);
      }
    }
    for (const query of [...this.#queries.values()]) {
      const result = laid.get(query) ?? query.result;
      if (result === query.shown) continue;
      query.shown = result;
      if (result) for (const listener of [...query.listeners]) tell(listener, result);
    }
  }

  // The connection

  #connect() {
    clearTimeout(this.#reconnectTimer);
    const socket = new this.#WebSocket(this.#url);
    this.#socket = socket;
    // A socket that was given up may still speak; only the current one is heard.
    const isCurrent = () => this.#socket === socket;
    socket.onopen = () => isCurrent() && this.#onOpen();
    socket.onmessage = (/** @type {MessageEvent} */ event) => isCurrent() && this.#onFrame(event.data);
    socket.onclose = (/** @type {CloseEvent} */ event) =>
      isCurrent() && this.#onClosed(event.reason || `closed with code ${event.code}`);
    socket.onerror = () => {}; // A close event follows it, and says more.
    this.#watchInactivity();
  }

  #onOpen() {
    this.#isOpen = true;
    this.#querySetVersion = this.#identityVersion = 0;
    this.#version = initialVersion();
    this.#sentQueries.clear();
    this.#chunks = null;
    const observed = this.#maxObservedTs > 0n && { maxObservedTimestamp: encodeTs(this.#maxObservedTs) };
    this.#send({ type: "Connect", sessionId: this.#sessionId, connectionCount: this.#connectionCount++,
                 lastCloseReason: this.#closeReason, clientTs: Date.now(), ...observed });
    if (this.#token !== null) this.#sendToken();
    this.#flushQueries(true);
    this.#unproven = new Set(this.#requests.keys());
    this.#setPhase("open");
    for (const request of [...this.#requests.values()]) this.#sendRequest(request);
  }

  #sendToken() {
    const who = this.#token === null ? { tokenType: "None" } : { tokenType: "User", value: this.#token };
    this.#send({ type: "Authenticate", baseVersion: this.#identityVersion++, ...who });
  }

  /** @param {string} text */
  #onFrame(text) {
    this.#watchInactivity();
    const message = JSON.parse(text);
    switch (message.type) {
      case "Transition":
        return this.#onTransition(message);
      case "TransitionChunk":
        return this.#onChunk(message);
      case "MutationResponse":
      case "ActionResponse":
        for (const line of message.logLines) console.debug(`reactivedb: ${line}`);
        return this.#onResponse(message);
      case "FatalError":
        console.error(`reactivedb: the server ended the session: ${message.error}`);
        return this.#end("failed", message.error);
      case "AuthError":
        return this.#onTokenRefused(message);
      case "Ping":
        return;
      default:
        console.warn(`reactivedb: unknown message ${JSON.stringify(message.type)}`);
    }
  }

  /** @param {any} message */
  #onChunk({ transitionId, partNumber, totalParts, chunk }) {
    if (partNumber === 0) this.#chunks = { id: transitionId, parts: [] };
    const chunks = this.#chunks;
    if (!chunks || chunks.id !== transitionId || chunks.parts.length !== partNumber) {
      this.#onClosed("ChunkOutOfOrder");
      return;
    }
    chunks.parts.push(chunk);
    if (partNumber + 1 === totalParts) {
      this.#chunks = null;
      this.#onTransition(JSON.parse(chunks.parts.join("")));
    }
  }

  /** @param {any} message */
  #onTokenRefused(message) {
    this.#token = null;
    this.#onClosed(`AuthError: ${message.error}`); // To come back as nobody.
    this.#onAuthError?.(message.error);
  }

  /** @param {string} reason */
  #onClosed(reason) {
    this.#drop(reason);
    const initialMs = OWN_RESTART.test(reason) ? 100 : OVERLOADED.test(reason) ? 3_000 : 1_000;
    const delayMs = Math.min(initialMs * 2 ** this.#retries, BACKOFF_MAX_MS) * (0.5 + Math.random());
    this.#retries += 1;
    this.#reconnectTimer = setTimeout(() => this.#connect(), delayMs);
    const lost = [...this.#requests.values()].filter((r) => r.type === "Action" && r.sent);
    for (const request of this.#requests.values()) request.sent = false;
    this.#settle(lost, (r) => r.reject(new ReactiveError(`connection lost while action \`${r.udfPath}\` ran`)));
    this.#setPhase("waiting");
  }

  /** @param {"closed" | "failed"} phase @param {string} reason */
  #end(phase, reason) {
    this.#drop(reason);
    clearTimeout(this.#reconnectTimer);
    this.#phase = phase;
    const all = [...this.#requests.values()];
    this.#settle(all, (r) => r.reject(new ReactiveError(`\`${r.udfPath}\` was given up: ${reason}`)));
    this.#tellState();
  }

  /** @param {string} reason */
  #drop(reason) {
    clearTimeout(this.#inactivityTimer);
    const socket = this.#socket;
    this.#socket = null;
    this.#isOpen = false;
    this.#closeReason = reason;
    socket?.close();
  }

  #watchInactivity() {
    clearTimeout(this.#inactivityTimer);
    this.#inactivityTimer = setTimeout(() => this.#onClosed("InactiveServer"), INACTIVITY_MS);
  }

  /** @param {object} message */
  #send(message) {
    this.#socket?.send(JSON.stringify(message));
  }

  /** @param {bigint} ts */
  #observe(ts) {
    if (ts > this.#maxObservedTs) this.#maxObservedTs = ts;
  }

  /** @param {ConnectionState["phase"]} phase */
  #setPhase(phase) {
    this.#phase = phase;
    this.#tellState();
  }

  #tellState() {
    for (const callback of [...this.#stateListeners]) callback(this.connectionState);
  }
}

/** @param {{callback: (value: any) => void, onError?: (error: Error) => void}} listener @param {Result} result */
function tell(listener, result) {
  try {
    if ("value" in result) listener.callback(result.value);
    else if (listener.onError) listener.onError(result.error);
    else console.error("reactivedb: a query failed and nobody listens for that", result.error);
  } catch (error) {
    // One listener's mistake must not keep the others from their result, nor end the connection.
    console.error("reactivedb: a listener failed", error);
  }
}

/** @param {any} message @param {string} text */
function failureOf(message, text) {
  return new ReactiveError(text, "errorData" in message ? decodeValue(message.errorData) : undefined);
}

/** The same text for the same path and arguments, whatever the order of the keys.
 * @param {string} path @param {any} encodedArgs */
function queryKey(path, encodedArgs) {
  const sorted = (/** @type {string} */ _, /** @type {any} */ value) =>
    value && typeof value === "object" && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value;
  return `${path} ${JSON.stringify(encodedArgs, sorted)}`;
}

// Values: the JSON form keeps what JSON alone would lose (int64 as bigint, bytes, NaN, infinities, -0).

/** @param {Args} [args] */
function encodeArgs(args = {}) {
  return encodeValue(args, "args");
}

/** @param {any} value @param {string} [where] @returns {any} */
export function encodeValue(value, where = "value") {
  switch (typeof value) {
    case "boolean":
    case "string":
      return value;
    case "number":
      if (Number.isFinite(value) && !Object.is(value, -0)) return value;
      return { $float: packed((view) => view.setFloat64(0, value, true)) };
    case "bigint":
      if (value !== BigInt.asIntN(64, value)) throw new RangeError(`${where}: ${value} does not fit into 64 bits`);
      return { $integer: packed((view) => view.setBigInt64(0, value, true)) };
  }
  if (value === null) return null;
  if (value instanceof ArrayBuffer) return { $bytes: toBase64(new Uint8Array(value)) };
  if (value instanceof Uint8Array) return { $bytes: toBase64(value) };
  if (Array.isArray(value)) return value.map((item, index) => encodeValue(item, `${where}[${index}]`));
  const prototype = value && typeof value === "object" ? Object.getPrototypeOf(value) : undefined;
  if (prototype !== null && prototype !== Object.prototype) {
    throw new TypeError(`${where}: expected a value that can be stored, got ${prototype?.constructor.name ?? typeof value}`);
  }
  /** @type {{[key: string]: any}} */
  const fields = {};
  for (const [key, field] of Object.entries(value)) {
    if (key.startsWith("$")) throw new TypeError(`${where}: a field's name may not begin with $, got ${key}`);
    if (field !== undefined) fields[key] = encodeValue(field, `${where}.${key}`);
  }
  return fields;
}

/** @param {any} json @returns {any} */
export function decodeValue(json) {
  if (json === null || typeof json !== "object") return json;
  if (Array.isArray(json)) return json.map(decodeValue);
  const entries = Object.entries(json);
  if (entries.length === 1 && entries[0][0].startsWith("$")) {
    const [kind, text] = entries[0];
    const bytes = fromBase64(text);
    const view = new DataView(bytes.buffer);
    if (kind === "$integer") return view.getBigInt64(0, true);
    if (kind === "$float") return view.getFloat64(0, true);
    if (kind === "$bytes") return bytes.buffer;
    throw new TypeError(`expected $integer, $float or $bytes, got ${kind}`);
  }
  return Object.fromEntries(entries.map(([key, field]) => [key, decodeValue(field)]));
}

/** @param {(view: DataView) => void} write */
function packed(write) {
  const view = new DataView(new ArrayBuffer(8));
  write(view);
  return toBase64(new Uint8Array(view.buffer));
}

/** @param {Uint8Array} bytes */
function toBase64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

/** @param {string} text */
function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** @param {bigint} ts */
function encodeTs(ts) {
  return packed((view) => view.setBigUint64(0, ts, true));
}

/** @param {string} text */
function decodeTs(text) {
  return new DataView(fromBase64(text).buffer).getBigUint64(0, true);
}

/** @param {any} json @returns {Version} */
function decodeVersion({ querySet, identity, ts }) {
  return { querySet, identity, ts: decodeTs(ts) };
}

/** @returns {Version} */
function initialVersion() {
  return { querySet: 0, identity: 0, ts: 0n };
}

/** `crypto.randomUUID` exists on secure pages only, and a phone may look at a machine of the local network. */
export function randomUuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
