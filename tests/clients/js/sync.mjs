// Does npm's `ConvexClient` see live queries and mutations as a Convex deployment shows them?

import { api, assert } from "./stage.mjs";

const { increment, transfer, value, valueUpTo } = api.counter;

export async function firstUpdate(stage) {
  await stage.http().mutation(api.tasks.add, { listName: "home", text: "milk" });
  const client = stage.client();
  const live = stage.watch(client, api.tasks.texts, { listName: "home" });
  const fence = stage.watch(client, value, { name: "fence" });
  await live.first();
  await client.mutation(increment, { name: "fence" });
  await fence.value(1);
  assert.deepStrictEqual(live.calls, [{ value: ["milk"] }]);
}

export async function othersMutation(stage) {
  const live = stage.watch(stage.client(), api.tasks.texts, { listName: "home" });
  await live.value([]);
  await stage.client().mutation(api.tasks.add, { listName: "home", text: "milk" });
  await live.value(["milk"], { ms: 1000 });
  await stage.http().mutation(api.tasks.add, { listName: "home", text: "bread" });
  await live.value(["milk", "bread"], { ms: 1000 });
}

export async function untouchedQuery(stage) {
  const client = stage.client();
  const home = stage.watch(client, api.tasks.texts, { listName: "home" });
  const work = stage.watch(client, api.tasks.texts, { listName: "work" });
  await Promise.all([home.value([]), work.value([])]);
  await client.mutation(api.tasks.add, { listName: "work", text: "report" });
  // All queries of a client move in one step, so an update of `home` would be here by now.
  await work.value(["report"]);
  assert.equal(home.calls.length, 1);
}

export async function equalResult(stage) {
  const client = stage.client();
  const empty = stage.watch(client, api.tasks.isEmpty, { listName: "home" });
  const texts = stage.watch(client, api.tasks.texts, { listName: "home" });
  await Promise.all([empty.value(true), texts.value([])]);
  await client.mutation(api.tasks.add, { listName: "home", text: "milk" });
  await empty.value(false);
  const id = await client.mutation(api.tasks.add, { listName: "home", text: "bread" });
  await texts.value(["milk", "bread"]);
  await client.mutation(api.tasks.rename, { id, text: "bread" });
  await client.mutation(api.tasks.rename, { id, text: "rolls" });
  await texts.value(["milk", "rolls"]);
  assert.deepStrictEqual(empty.values, [true, false]);
  assert.deepStrictEqual(texts.values, [[], ["milk"], ["milk", "bread"], ["milk", "rolls"]]);
}

export async function oneStep(stage) {
  const client = stage.client();
  const a = stage.watch(client, value, { name: "a" });
  const b = stage.watch(client, value, { name: "b" });
  await Promise.all([a.value(0), b.value(0)]);
  const sums = [];
  client.client.addOnTransitionHandler(() => {
    const now = ["a", "b"].map((name) => client.client.localQueryResult("counter:value", { name }));
    sums.push(now[0] + now[1]);
  });
  const writer = stage.client();
  const writes = [];
  for (let amount = 1; amount <= 20; amount += 1) {
    writes.push(writer.mutation(transfer, { source: "a", target: "b", amount }));
  }
  await Promise.all(writes);
  await Promise.all([a.value(-210), b.value(210)]);
  assert.ok(sums.length > 0);
  assert.deepStrictEqual([...new Set(sums)], [0]);
}

export async function readYourWrites(stage) {
  const client = stage.client();
  const live = stage.watch(client, api.tasks.texts, { listName: "home" });
  await live.first();
  const expected = [];
  for (const text of ["milk", "bread", "eggs"]) {
    await client.mutation(api.tasks.add, { listName: "home", text });
    expected.push(text);
    const cached = client.client.localQueryResult("tasks:texts", { listName: "home" });
    assert.deepStrictEqual(cached, expected);
  }
  // A query that this client does not hold yet is answered at least as of its last write.
  const documents = await client.query(api.tasks.allOf, { listName: "home" });
  assert.deepStrictEqual(documents.map((task) => task.text), expected);
}

export async function writesNothing(stage) {
  const client = stage.client();
  assert.equal(await client.mutation(api.echo.nothingWritten, {}), null);
  assert.equal(await client.mutation(api.echo.fromMutation, { value: "x" }), "x");
  assert.equal(client.connectionState().hasInflightRequests, false);
}

export async function callOrder(stage) {
  const client = stage.client();
  const texts = Array.from({ length: 50 }, (_, index) => `task ${index}`);
  const answers = [];
  await Promise.all(
    texts.map(async (text) => {
      await client.mutation(api.tasks.add, { listName: "home", text });
      answers.push(text);
    }),
  );
  assert.deepStrictEqual(await stage.http().query(api.tasks.texts, { listName: "home" }), texts);
  assert.deepStrictEqual(answers, texts);
}

export async function failingMutation(stage) {
  const client = stage.client();
  const live = stage.watch(client, value, { name: "c" });
  await live.value(0);
  const first = client.mutation(increment, { name: "c" });
  const failing = client.mutation(api.counter.incrementThenFail, { name: "c" });
  const later = client.mutation(increment, { name: "c" });
  await assert.rejects(failing, (error) => {
    assert.ok(error.message.startsWith("[CONVEX M(counter:incrementThenFail)] "), error.message);
    assert.match(error.message, /must be undone/);
    assert.match(error.message, /Called by client/);
    return true;
  });
  assert.deepStrictEqual(await Promise.all([first, later]), [1, 2]);
  await live.value(2);
  await assert.rejects(client.mutation(api.counter.noSuchFunction, {}), /ould not find public function/);
  await assert.rejects(client.mutation(increment, { name: 7 }), /ArgumentValidationError/);
  await assert.rejects(client.mutation(increment, {}), /ArgumentValidationError/);
  await assert.rejects(client.mutation(increment, { name: "c", extra: 1 }), /ArgumentValidationError/);
  await assert.rejects(client.mutation(value, { name: "c" }), /query/i);
  assert.equal(await client.mutation(increment, { name: "c" }), 3);
}

export async function concurrentActions(stage) {
  const client = stage.client();
  const first = client.action(api.meeting.meet, { room: "r", count: 2 });
  // The first action waits for the second; a mutation and a query pass it by.
  assert.equal(await client.mutation(increment, { name: "c" }), 1);
  assert.equal(await client.query(value, { name: "c" }), 1);
  const second = client.action(api.meeting.meet, { room: "r", count: 2 });
  assert.deepStrictEqual((await Promise.all([first, second])).sort(), [0, 1]);
  const count = await client.action(api.tasks.addThroughAction, { listName: "home", text: "milk" });
  assert.equal(count, 1);
}

export async function unsubscribe(stage) {
  const client = stage.client();
  const live = stage.watch(client, value, { name: "c" });
  const fence = stage.watch(client, value, { name: "fence" });
  await Promise.all([live.value(0), fence.value(0)]);
  live.stop();
  await client.mutation(increment, { name: "c" });
  await client.mutation(increment, { name: "fence" });
  await fence.value(1);
  assert.deepStrictEqual(live.values, [0]);
  const again = stage.watch(client, value, { name: "c" });
  await again.value(1);
  await client.mutation(increment, { name: "c" });
  await again.value(2);
  assert.deepStrictEqual(again.values, [1, 2]);
}

export async function subscribedTwice(stage) {
  const client = stage.client();
  const one = stage.watch(client, value, { name: "c" });
  const two = stage.watch(client, value, { name: "c" });
  await Promise.all([one.value(0), two.value(0)]);
  await client.mutation(increment, { name: "c" });
  await Promise.all([one.value(1), two.value(1)]);
  one.stop();
  await client.mutation(increment, { name: "c" });
  await two.value(2);
  assert.deepStrictEqual(one.values, [0, 1]);
}

export async function failingQuery(stage) {
  const client = stage.client();
  const live = stage.watch(client, valueUpTo, { name: "c", limit: 1 });
  const other = stage.watch(client, value, { name: "c" });
  await live.value(0);
  await client.mutation(increment, { name: "c", by: 2 });
  const { error } = await live.until((call) => "error" in call);
  assert.match(error.message, /^\[CONVEX Q\(counter:valueUpTo\)\] /);
  assert.match(error.message, /above 1/);
  await other.value(2);
  await client.mutation(increment, { name: "c", by: -1 });
  await live.value(1);
  const born = stage.watch(client, api.failing.plainQuery, {});
  await born.until((call) => "error" in call);
}

export async function optimistic(stage) {
  const client = stage.client();
  const live = stage.watch(client, value, { name: "c" });
  await live.value(0);
  const optimisticUpdate = (store, { name, by = 1 }) => {
    const known = store.getQuery(value, { name });
    if (known !== undefined) store.setQuery(value, { name }, known + by);
  };
  const pending = client.mutation(increment, { name: "c" }, { optimisticUpdate });
  assert.deepStrictEqual(live.values, [0, 1], "the optimistic value shows before anything was sent back");
  assert.equal(await pending, 1);
  await Promise.all(
    [1, 2, 3].map(() => client.mutation(increment, { name: "c" }, { optimisticUpdate })),
  );
  await live.value(4);
  const values = live.values;
  const regress = values.findIndex((shown, index) => index > 0 && shown < values[index - 1]);
  assert.equal(regress, -1, `the shown values go back: ${values}`);

  const failing = client.mutation(api.counter.incrementThenFail, { name: "c" }, { optimisticUpdate });
  await live.value(5);
  await assert.rejects(failing);
  await live.value(4);
  const fence = await client.mutation(increment, { name: "fence" });
  assert.equal(fence, 1);
  assert.deepStrictEqual(live.values.slice(-2), [5, 4]);
}

export async function logLines(stage) {
  const client = stage.client();
  const { lines } = client.client.logger;
  await client.query(api.logs.fromQuery, {});
  await client.mutation(api.logs.fromMutation, {});
  await client.action(api.logs.fromAction, {});
  const has = (pattern) => assert.ok(lines.some((line) => pattern.test(line)), `${pattern} in ${lines}`);
  has(/\[CONVEX Q\(logs:fromQuery\)\] \[LOG\].*seen in the query/);
  has(/\[CONVEX M\(logs:fromMutation\)\] \[LOG\].*seen in the mutation/);
  has(/\[CONVEX M\(logs:fromMutation\)\] \[WARN\].*careful in the mutation/);
  has(/\[CONVEX A\(logs:fromAction\)\] \[LOG\].*seen in the action/);
  assert.ok(!lines.some((line) => /ould not parse/.test(line)), String(lines));
}
