// Do values survive the way from npm's client to a function, into storage, and back?

import { ConvexError } from "convex/values";

import { api, assert } from "./stage.mjs";

/** The same value through a query, a mutation, an action and the store. */
async function everywhere(client, value) {
  const id = await client.mutation(api.echo.store, { value });
  return [
    await client.query(api.echo.fromQuery, { value }),
    await client.mutation(api.echo.fromMutation, { value }),
    await client.action(api.echo.fromAction, { value }),
    await client.query(api.echo.stored, { id }),
  ];
}

const PLAIN = [
  null,
  true,
  false,
  "",
  "text",
  0,
  -1.5,
  [],
  {},
  [[], [[null]], { a: [{}] }],
  { z: 1, a: { "key with spaces": [true, ""] }, _underscore: null },
];

export async function plain(stage) {
  const client = stage.client();
  for (const value of PLAIN) {
    for (const back of await everywhere(client, value)) assert.deepStrictEqual(back, value);
  }
}

export async function plainOverHttp(stage) {
  const client = stage.http();
  for (const value of PLAIN) {
    for (const back of await everywhere(client, value)) assert.deepStrictEqual(back, value);
  }
}

export async function bigints(stage) {
  const client = stage.client();
  for (const value of [-5n, 0n, 2n ** 63n - 1n, -(2n ** 63n)]) {
    for (const back of await everywhere(client, value)) assert.strictEqual(back, value);
  }
  await assert.rejects(client.mutation(api.echo.fromMutation, { value: 2n ** 63n }), /does not fit/);
}

export async function specialNumbers(stage) {
  const client = stage.client();
  for (const value of [NaN, Infinity, -Infinity, -0]) {
    for (const back of await everywhere(client, value)) assert.ok(Object.is(back, value), `${back} for ${value}`);
  }
}

export async function bytes(stage) {
  const client = stage.client();
  const value = Uint8Array.from({ length: 256 }, (_, index) => index).buffer;
  for (const back of await everywhere(client, value)) {
    assert.ok(back instanceof ArrayBuffer);
    assert.deepStrictEqual(new Uint8Array(back), new Uint8Array(value));
  }
}

export async function three(stage) {
  const client = stage.client();
  for (const back of await everywhere(client, 3)) assert.strictEqual(back, 3);
  assert.strictEqual(await client.mutation(api.counter.increment, { name: "three", by: 3 }), 3);
  assert.strictEqual(await client.query(api.counter.value, { name: "three" }), 3);
}

export async function nothing(stage) {
  const client = stage.client();
  assert.strictEqual(await client.query(api.echo.nothing, {}), null);
  assert.strictEqual(await client.mutation(api.echo.nothingWritten, {}), null);
  assert.strictEqual(await client.action(api.echo.nothingDone, {}), null);
  assert.strictEqual(await stage.http().query(api.echo.nothing, {}), null);
}

export async function undefinedField(stage) {
  const client = stage.client();
  const names = await client.query(api.echo.fieldNames, { value: { kept: 1, dropped: undefined } });
  assert.deepStrictEqual(names, ["kept"]);
  // A parameter with a default may be undefined, too.
  assert.strictEqual(await client.mutation(api.counter.increment, { name: "undefined", by: undefined }), 1);
}

export async function strings(stage) {
  const client = stage.client();
  const texts = ["😀 \u{10FFFF}", "e\u0301 is not \u00e9", "a\u0000b", "\u2028 \u2029 \u007f \u0001", '"\\/'];
  for (const value of texts) {
    for (const back of await everywhere(client, value)) assert.strictEqual(back, value);
  }
  const live = stage.watch(client, api.counter.value, { name: "strings" });
  await live.value(0);
  await assert.rejects(client.mutation(api.echo.fromMutation, { value: "\ud800" }), Error);
  await assert.rejects(client.action(api.echo.fromAction, { value: ["\udfff!"] }), Error);
  await assert.rejects(client.query(api.echo.fromQuery, { value: "\ud83d" }), Error);
  await client.mutation(api.counter.increment, { name: "strings" });
  await live.value(1);
  assert.strictEqual(client.connectionState().connectionCount, 1);
}

const ascending = (client, group) => client.query(api.mixed.inOrder, { group, direction: "asc" });
const descending = (client, group) => client.query(api.mixed.inOrder, { group, direction: "desc" });

function readable(value) {
  return value instanceof ArrayBuffer ? `bytes ${[...new Uint8Array(value)]}` : value;
}

async function assertOrder(client, group, expected) {
  const up = (await ascending(client, group)).map(readable);
  const down = (await descending(client, group)).map(readable);
  assert.deepStrictEqual(up, expected.map(readable));
  assert.deepStrictEqual(down, expected.map(readable).reverse());
}

export async function rankOrder(stage) {
  const client = stage.client();
  const ranked = [null, 7n, -1.5, false, true, "a", new Uint8Array([1]).buffer, [0], { a: 0 }];
  const shuffled = [5, 0, 8, 2, 6, 1, 7, 4, 3].map((index) => ranked[index]);
  await client.mutation(api.mixed.fill, { group: "ranks", values: shuffled });
  await client.mutation(api.mixed.addWithoutValue, { group: "ranks" });
  await assertOrder(client, "ranks", ["(absent)", ...ranked]);
}

export async function stringOrder(stage) {
  const client = stage.client();
  const ordered = ["", "Z", "a", "a\u0000", "aa", "é", "\uFFFD", "😀"];
  await client.mutation(api.mixed.fill, { group: "strings", values: [...ordered].reverse() });
  await assertOrder(client, "strings", ordered);
}

export async function numberOrder(stage) {
  const client = stage.client();
  const ordered = [1n, -Infinity, -0, 0, 0.5, Infinity, NaN];
  await client.mutation(api.mixed.fill, { group: "numbers", values: [...ordered].reverse() });
  await assertOrder(client, "numbers", ordered);
  const equalTo = (value) => client.query(api.mixed.equalTo, { group: "numbers", value });
  assert.deepStrictEqual(await equalTo(0), [0]);
  assert.deepStrictEqual(await equalTo(-0), [-0]);
  assert.deepStrictEqual(await equalTo(1), []);
  assert.deepStrictEqual(await equalTo(NaN), [NaN]);
}

export async function compoundOrder(stage) {
  const client = stage.client();
  const arrays = [[], [1n], [0], [0, null], [0, 1], [1], [[]]];
  await client.mutation(api.mixed.fill, { group: "arrays", values: [...arrays].reverse() });
  await assertOrder(client, "arrays", arrays);
  const objects = [{}, { a: 0 }, { a: 0, b: 0 }, { a: 1 }, { b: 0 }];
  await client.mutation(api.mixed.fill, { group: "objects", values: [...objects].reverse() });
  await assertOrder(client, "objects", objects);
}

export async function errorData(stage) {
  const client = stage.client();
  const http = stage.http();
  const data = { code: "Full", count: 3n, nested: [null, NaN, { bytes: new ArrayBuffer(2) }] };
  const told = [
    () => client.query(api.failing.toldByQuery, { data }),
    () => client.mutation(api.failing.toldByMutation, { data }),
    () => client.action(api.failing.toldByAction, { data }),
    () => http.query(api.failing.toldByQuery, { data }),
    () => http.mutation(api.failing.toldByMutation, { data }),
    () => http.action(api.failing.toldByAction, { data }),
  ];
  for (const call of told) {
    await assert.rejects(call(), (error) => {
      assert.ok(error instanceof ConvexError, String(error));
      assert.deepStrictEqual(error.data, data);
      return true;
    });
  }
  const live = stage.watch(client, api.failing.toldByQuery, { data });
  const { error } = await live.first();
  assert.ok(error instanceof ConvexError);
  assert.deepStrictEqual(error.data, data);
  const plain = [
    () => client.query(api.failing.plainQuery, {}),
    () => client.mutation(api.failing.plainMutation, {}),
    () => client.action(api.failing.plainAction, {}),
    () => http.query(api.failing.plainQuery, {}),
    () => http.mutation(api.failing.plainMutation, {}),
    () => http.action(api.failing.plainAction, {}),
  ];
  for (const call of plain) {
    await assert.rejects(call(), (error) => {
      assert.ok(!(error instanceof ConvexError), "a plain failure is no ConvexError");
      assert.match(error.message, /a plain failure/);
      return true;
    });
  }
}

/** Every change of one character, and what is no id at all. */
export async function changedIds(stage) {
  const client = stage.client();
  const { createLeft, createRight, getLeft, normalized } = api.documents;
  const id = await client.mutation(createLeft, { name: "ada" });
  const foreign = await client.mutation(createRight, { name: "bob" });
  assert.equal(await client.query(normalized, { text: id }), id);
  assert.equal((await client.query(getLeft, { id })).name, "ada");
  const changed = [...id].map((char, at) => id.slice(0, at) + (char === "0" ? "1" : "0") + id.slice(at + 1));
  for (const text of [...changed, foreign, "", id.toUpperCase(), `${id}0`, id.slice(1)]) {
    assert.equal(await client.query(normalized, { text }), null, text);
    await assert.rejects(client.query(getLeft, { id: text }), /ArgumentValidationError/);
  }
}

export async function changes(stage) {
  const client = stage.client();
  const { createLoose, patch, replace, getLoose } = api.documents;
  const id = await client.mutation(createLoose, { fields: { text: "a", mood: null, nested: { x: 1, y: 2 } } });
  const live = stage.watch(client, getLoose, { id });
  const { _creationTime, ...fields } = (await live.first()).value;
  assert.deepStrictEqual(fields, { _id: id, text: "a", mood: null, nested: { x: 1, y: 2 } });
  // Undefined removes; null is a value; what is nested is replaced whole; the rest stays.
  await client.mutation(patch, { id, fields: { nested: { z: 3 }, more: null }, removed: ["text", "absent"] });
  await live.value({ _id: id, _creationTime, mood: null, nested: { z: 3 }, more: null });
  await client.mutation(replace, { id, fields: { text: "b" } });
  await live.value({ _id: id, _creationTime, text: "b" });
  // A document that was read can be written back, and nothing else in the place of its id.
  await client.mutation(replace, { id, fields: { _id: id, _creationTime, text: "c" } });
  await live.value({ _id: id, _creationTime, text: "c" });
  const other = await client.mutation(createLoose, { fields: {} });
  for (const system of [{ _id: other }, { _creationTime: 1 }]) {
    await assert.rejects(client.mutation(patch, { id, fields: system, removed: [] }));
    await assert.rejects(client.mutation(replace, { id, fields: { text: "d", ...system } }));
    await assert.rejects(client.mutation(createLoose, { fields: system }));
  }
  await assert.rejects(client.mutation(patch, { id, fields: {}, removed: ["_id"] }));
  assert.deepStrictEqual(live.latest.value, { _id: id, _creationTime, text: "c" });
}
