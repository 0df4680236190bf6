// What does npm's client tell its user when the connection or the server goes away in mid-sentence?

import { api, assert } from "./stage.mjs";

const { increment, value } = api.counter;
// The client waits up to 1.5 s before its first new attempt and up to 3 s before the second.
const PATIENT = { ms: 15000 };

/** The test cuts, writes through another connection, and lets the client come back. */
export async function missedWrites(stage) {
  const client = stage.client();
  const a = stage.watch(client, value, { name: "a" });
  const b = stage.watch(client, value, { name: "b" });
  await Promise.all([a.value(0), b.value(0)]);
  stage.say("watching");
  await a.value(7, PATIENT);
  await b.value(0);
  await stage.connection(client, (state) => state.isWebSocketConnected && state.connectionCount === 2);
  await client.mutation(increment, { name: "b" });
  await Promise.all([a.value(7), b.value(1)]);
  stage.say("sessionId", { sessionId: client.client.sessionId });
}

/** The test arms a cut at the mutation; the promise has to hold all the same. */
export async function mutationCut(stage) {
  const client = stage.client();
  const live = stage.watch(client, api.tasks.allOf, { listName: "home" });
  await live.value([]);
  stage.say("watching");
  await stage.hear("go on");
  const id = await client.mutation(api.tasks.add, { listName: "home", text: "once" });
  const { value: documents } = await live.until((call) => call.value?.length > 0, PATIENT);
  assert.deepStrictEqual(documents.map((task) => [task._id, task.text]), [[id, "once"]]);
  assert.equal(client.connectionState().hasInflightRequests, false);
  assert.ok(client.connectionState().connectionCount >= 2);
  stage.say("result", { id });
}

export async function actionCut(stage) {
  const client = stage.client();
  const live = stage.watch(client, value, { name: "c" });
  await live.value(0);
  const action = client.action(api.meeting.meet, { room: "nobody else comes", count: 2 });
  const lost = assert.rejects(action, /Connection lost while action was in flight/);
  stage.say("acting");
  await stage.hear("go on");
  // The connection is down, or about to be: this one waits in the client until it is back.
  const queued = client.mutation(increment, { name: "c" });
  stage.say("queued");
  await lost;
  assert.equal(await queued, 1);
  await live.value(1, PATIENT);
}

/** Two runs of the server: the client carries the greatest timestamp it has seen into the second. */
export async function serverRestart(stage) {
  const client = stage.client();
  const live = stage.watch(client, value, { name: "c" });
  await live.value(0);
  assert.equal(await client.mutation(increment, { name: "c" }), 1);
  stage.say("written");
  await stage.hear("go on");
  assert.equal(await client.mutation(increment, { name: "c" }), 2);
  await live.value(2, PATIENT);
  stage.say("written");
}
