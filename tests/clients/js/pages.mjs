// Do ranges, ways to consume them, and pages give npm's client what a Convex deployment would?

import { ConvexError, jsonToConvex } from "convex/values";

import { api, assert } from "./stage.mjs";

const { shelf } = api;

/** The test has worked out what each range gives; values come as Convex's JSON. */
export async function ranges(stage) {
  const client = stage.client();
  await client.mutation(shelf.add, { documents: stage.params.documents.map((one) => jsonToConvex(one)) });
  for (const { asked, expected } of stage.params.ranges) {
    const names = await client.query(shelf.namesInRange, jsonToConvex(asked));
    assert.deepStrictEqual(names, expected, JSON.stringify(asked));
  }
}

async function shelve(client, kind, keys) {
  const documents = Object.entries(keys).map(([name, key]) => {
    const document = { kind, name };
    if (key !== undefined) document.key = key;
    return document;
  });
  await client.mutation(shelf.add, { documents });
}

export async function absence(stage) {
  const client = stage.client();
  await shelve(client, "k", { missing: undefined, none: null, one: 1 });
  const names = (equal, bounds = {}) =>
    client.query(shelf.namesInRange, { index: "by_kind_key", equal, bounds, desc: false });
  assert.deepStrictEqual(await names(["k", "<absent>"]), ["missing"]);
  assert.deepStrictEqual(await names(["k", null]), ["none"]);
  assert.deepStrictEqual(await names(["k"], { gt: "<absent>" }), ["none", "one"]);
  assert.deepStrictEqual(await names(["k"], { gte: null }), ["none", "one"]);
  assert.deepStrictEqual(await names(["k"], { lt: 1 }), ["missing", "none"]);
  assert.deepStrictEqual(await client.query(shelf.namesKept, { kind: "k", otherThan: 1 }), ["missing", "none"]);
}

export async function ties(stage) {
  const client = stage.client();
  await shelve(client, "k", { first: 1, second: 1, third: 1 });
  await shelve(client, "k", { fourth: 1, lower: 0 });
  const names = (desc) =>
    client.query(shelf.namesInRange, { index: "by_kind_key", equal: ["k"], bounds: {}, desc });
  const order = ["lower", "first", "second", "third", "fourth"];
  assert.deepStrictEqual(await names(false), order);
  assert.deepStrictEqual(await names(true), order.toReversed());
}

export async function consuming(stage) {
  const client = stage.client();
  await shelve(client, "two", { a: 1, b: 2 });
  await shelve(client, "one", { c: 1 });
  const consumed = (kind, how) => client.query(shelf.consumed, { kind, how });
  await assert.rejects(consumed("two", "unique"), /not unique/i);
  assert.equal(await consumed("one", "unique"), "c");
  assert.equal(await consumed("none", "unique"), null);
  assert.equal(await consumed("two", "first"), "a");
  assert.equal(await consumed("none", "first"), null);
  assert.deepStrictEqual(await consumed("two", "take"), []);
}

export async function everyPageSize(stage) {
  const client = stage.client();
  const names = Array.from({ length: 7 }, (_, number) => `n${number}`);
  await shelve(client, "k", Object.fromEntries(names.map((name, number) => [name, number])));
  const page = (paginationOpts) => client.query(shelf.pageOf, { kind: "k", paginationOpts });
  for (let numItems = 1; numItems <= 8; numItems++) {
    const seen = [];
    let found = { continueCursor: null, isDone: false };
    while (!found.isDone) {
      found = await page({ numItems, cursor: found.continueCursor });
      assert.ok(found.page.length <= numItems);
      seen.push(...found.page);
    }
    assert.deepStrictEqual(seen, names);
    const after = await page({ numItems, cursor: found.continueCursor });
    assert.deepStrictEqual([after.page, after.isDone], [[], true]);
  }
  for (const numItems of [0, -1, 1.5]) await assert.rejects(page({ numItems, cursor: null }));
}

export async function foreignCursor(stage) {
  const client = stage.client();
  await shelve(client, "k", { a: 1, b: 2 });
  const one = await client.query(shelf.pageOf, { kind: "k", paginationOpts: { numItems: 1, cursor: null } });
  const paginationOpts = { numItems: 1, cursor: one.continueCursor };
  await assert.rejects(client.query(shelf.pageOf, { kind: "other", paginationOpts }), (error) => {
    assert.ok(error instanceof ConvexError);
    assert.deepStrictEqual(error.data, { isConvexSystemError: true, paginationError: "InvalidCursor" });
    assert.match(error.message, /InvalidCursor/);
    return true;
  });
}

/** A live page and a cursor, both from before the test loses the connection or restarts the server. */
export async function survival(stage) {
  const client = stage.client();
  await shelve(client, "k", { a: 1, b: 2, c: 3 });
  const live = stage.watch(client, shelf.pageOf, { kind: "k", paginationOpts: { numItems: 2, cursor: null } });
  const before = (await live.first()).value;
  assert.deepStrictEqual(before.page, ["a", "b"]);
  stage.say("watching");
  await stage.hear("go on");
  await shelve(client, "k", { between: 1.5 });
  await live.until((call) => call.value?.page.length === 3, { ms: 15000 });
  assert.deepStrictEqual(live.latest.value.page, ["a", "between", "b"]);
  assert.equal(live.latest.value.continueCursor, before.continueCursor);
  const next = { kind: "k", paginationOpts: { numItems: 2, cursor: before.continueCursor } };
  assert.deepStrictEqual((await client.query(shelf.pageOf, next)).page, ["c"]);
}
