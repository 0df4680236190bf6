// Does npm's client sign in, stay signed in and sign out as against a Convex deployment?

import { ConvexHttpClient } from "convex/browser";
import { makeFunctionReference } from "convex/server";

import { api, assert, withDeadline } from "./stage.mjs";

const { amI, profile, lineCount, write, act, hidden, hiddenMutation, hiddenAction } = api.who;
const systemTables = makeFunctionReference("_system/cli/tables");
const PAGE = { paginationOpts: { numItems: 100, cursor: null } };

/** What `onChange` was called with, in order. */
class States {
  constructor() {
    this.seen = [];
    this.waiting = [];
  }
  onChange = (isAuthenticated) => {
    this.seen.push(isAuthenticated);
    for (const check of [...this.waiting]) check();
  };
  until(expected) {
    return withDeadline(
      new Promise((resolve) => {
        const check = () => this.seen.at(-1) === expected && resolve();
        this.waiting.push(check);
        check();
      }),
      `the state ${expected}; so far ${this.seen}`,
    );
  }
}

/** A `fetchToken` that gives these one after another, and the last one again and again. */
function tokensOf(tokens, asked = []) {
  let given = 0;
  return async (how) => {
    asked.push(how);
    return tokens[Math.min(given++, tokens.length - 1)];
  };
}

export async function signIn(stage) {
  const states = new States();
  const client = stage.client();
  client.setAuth(tokensOf(stage.params.tokens), states.onChange);
  await states.until(true);
  const me = stage.watch(client, amI);
  await me.value(`${stage.params.issuer}|ada`);
  const seen = stage.watch(client, profile);
  await seen.value({ subject: "ada", issuer: stage.params.issuer, name: "Ada", role: "admin" });
  assert.equal(await client.mutation(write, { text: "hi" }), "ada");
  assert.deepStrictEqual(await client.action(act, {}), ["ada", `${stage.params.issuer}|ada`]);
  // The client says so again when the token that it fetched anew is confirmed.
  assert(states.seen.every(Boolean), states.seen);
}

export async function refused(stage) {
  const states = new States();
  const client = stage.client();
  const me = stage.watch(client, amI);
  client.setAuth(tokensOf(stage.params.tokens), states.onChange);
  await states.until(false);
  assert.deepStrictEqual(states.seen, [false]);
  await me.value(null);
  assert.equal(await client.mutation(write, { text: "hi" }), "nobody");
  const count = stage.watch(client, lineCount);
  await count.until((call) => call.value >= 1);
}

export async function secondTokenGood(stage) {
  const states = new States();
  const asked = [];
  const client = stage.client();
  const me = stage.watch(client, amI);
  client.setAuth(tokensOf(stage.params.tokens, asked), states.onChange);
  await states.until(true);
  await me.value(`${stage.params.issuer}|ada`);
  assert.deepStrictEqual(states.seen, [true]);
  assert.deepStrictEqual(
    asked.slice(0, 2).map((how) => how.forceRefreshToken),
    [false, true],
  );
}

export async function refreshed(stage) {
  const states = new States();
  const client = stage.client();
  let fetched = 0;
  const refreshedTwice = new Promise((resolve) => {
    client.setAuth(async () => {
      stage.say("token");
      const { value } = await stage.input.next();
      if (++fetched === 3) resolve();
      return value;
    }, states.onChange);
  });
  const me = stage.watch(client, amI);
  const count = stage.watch(client, lineCount);
  await me.value(`${stage.params.issuer}|ada`);
  await count.value(stage.params.before);
  await withDeadline(refreshedTwice, "the refresh before the token expires", 12000);
  assert.equal(await client.mutation(write, { text: "still here" }), "ada");
  await count.value(stage.params.before + 1);
  // One connection all along, and no result was taken back or computed for anybody else.
  assert.equal(client.connectionState().connectionCount, 1);
  assert(states.seen.every(Boolean), states.seen);
  assert.deepStrictEqual(me.values, [`${stage.params.issuer}|ada`]);
  stage.say("done");
}

export async function signOut(stage) {
  const client = stage.client();
  const me = stage.watch(client, amI);
  client.setAuth(tokensOf(stage.params.tokens));
  await me.value(`${stage.params.issuer}|ada`);
  client.client.clearAuth();
  await me.value(null);
  assert.equal(await client.mutation(write, { text: "hi" }), "nobody");
}

export async function tokenTakenAway(stage) {
  const states = new States();
  const client = stage.client();
  const me = stage.watch(client, amI);
  client.setAuth(tokensOf([stage.params.token, null]), states.onChange);
  await states.until(false);
  await me.value(null);
  // The confirmation may come before the first result, and the sign-out be folded into that one.
  assert.deepStrictEqual(me.values.slice(-1), [null]);
  assert(me.values.slice(0, -1).every((value) => value === `${stage.params.issuer}|ada`), me.values);
  assert.deepStrictEqual(states.seen, [true, false]);
}

export async function http(stage) {
  const client = stage.http();
  assert.equal(await client.query(amI, {}), null);
  client.setAuth(stage.params.good);
  assert.equal(await client.query(amI, {}), `${stage.params.issuer}|ada`);
  assert.equal(await client.mutation(write, { text: "hi" }), "ada");
  assert.deepStrictEqual(await client.action(act, {}), ["ada", `${stage.params.issuer}|ada`]);
  for (const bad of stage.params.bad) {
    client.setAuth(bad);
    await assert.rejects(client.query(amI, {}), /"code":/);
    await assert.rejects(client.mutation(write, { text: "hi" }), /"code":/);
    await assert.rejects(client.action(act, {}), /"code":/);
  }
  client.clearAuth();
  assert.equal(await client.query(amI, {}), null);
}

export async function admin(stage) {
  const { key } = stage.params;
  const caller = new ConvexHttpClient(stage.url, { logger: false });
  await assert.rejects(caller.query(hidden, {}), /ould not find public function/);
  await assert.rejects(caller.query(systemTables, PAGE), /You do not have permission/);
  caller.setAdminAuth(key);
  assert.equal(await caller.query(hidden, {}), "internal");
  assert.equal(await caller.mutation(hiddenMutation, {}), "internal");
  assert.equal(await caller.action(hiddenAction, {}), "internal");
  assert.ok((await caller.query(systemTables, PAGE)).page.some((table) => table.name === "lines"));
  assert.equal(await caller.query(amI, {}), null);
  caller.setAdminAuth(`${key}x`);
  await assert.rejects(caller.query(hidden, {}), /BadDeployKey/);

  const client = stage.client();
  client.setAdminAuth(key);
  await stage.watch(client, hidden).value("internal");
  await stage.watch(client, amI).value(null);
  const tables = stage.watch(client, systemTables, PAGE);
  await tables.until((call) => call.value?.page.some((table) => table.name === "lines"));
  assert.equal(await client.mutation(hiddenMutation, {}), "internal");
  assert.equal(await client.action(hiddenAction, {}), "internal");

  // A wrong key over the socket: the client drops it and goes on as nobody.
  const stranger = stage.client();
  stranger.setAdminAuth(`${key}x`);
  await stage.watch(stranger, amI).value(null);
  const refused = await stage.watch(stranger, hidden).until((call) => "error" in call);
  assert.match(refused.error.message, /ould not find public function/);
}

export async function actingAs(stage) {
  const { key } = stage.params;
  const identity = { issuer: "https://elsewhere", subject: "bob", name: "Bob", role: "guest" };
  const expected = { subject: "bob", issuer: "https://elsewhere", name: "Bob", role: "guest" };
  const caller = new ConvexHttpClient(stage.url, { logger: false });
  caller.setAdminAuth(key, identity);
  assert.equal(await caller.query(amI, {}), "https://elsewhere|bob");
  assert.deepStrictEqual(await caller.query(profile, {}), expected);

  const client = stage.client();
  client.setAdminAuth(key, identity);
  await stage.watch(client, amI).value("https://elsewhere|bob");
  await stage.watch(client, profile).value(expected);
  assert.equal(await client.mutation(write, { text: "hi" }), "bob");
}

export async function acrossRestart(stage) {
  const states = new States();
  const client = stage.client();
  client.setAuth(tokensOf(stage.params.tokens), states.onChange);
  const me = stage.watch(client, amI);
  await me.value(`${stage.params.issuer}|ada`);
  stage.say("watching");
  await stage.hear("restarted");
  assert.equal(await client.mutation(write, { text: "after" }), "ada");
  assert(client.connectionState().connectionCount > 1);
  // Told again on the new connection, and at no moment for nobody.
  assert(me.values.every((value) => value === `${stage.params.issuer}|ada`), me.values);
  assert(states.seen.every(Boolean), states.seen);
}
