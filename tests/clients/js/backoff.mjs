// How long does npm's client stay away after the server has closed on it, and does it come back whole?

import { api, assert, MemoryLogger } from "./stage.mjs";

const { increment, value, wait } = api.work;
// Up to 4.5 s, and some for coming back.
const PATIENT = { ms: 15000 };

/** A client that follows the counter, and what it says about waiting, in milliseconds. */
async function following(stage) {
  const logger = new MemoryLogger();
  const client = stage.client({ logger });
  const live = stage.watch(client, value);
  await live.value(0);
  const delays = () =>
    logger.lines.flatMap((line) => line.match(/Attempting reconnect in (\d+)ms/)?.[1] ?? []).map(Number);
  return { client, live, delays };
}

/** As a user sees it: another one's write arrives, and one's own goes through. */
async function resumes(stage, { client, live }) {
  stage.say("away");
  await live.value(1, PATIENT);
  await client.mutation(increment, {});
  await live.value(2);
  assert.equal(client.connectionState().connectionCount, 2);
}

/** One action more than may run: the server closes, and the mutation behind it is sent again. */
export async function overload(stage) {
  const it = await following(stage);
  const actions = [1, 2, 3].map(() => assert.rejects(it.client.action(wait, {}), /Connection lost/));
  await Promise.all(actions);
  await resumes(stage, it);
  assert.equal(it.delays().length, 1);
  const [delay] = it.delays();
  assert.ok(delay >= 1500 && delay <= 4500, `${delay} ms`);
}

/** The test closes as the server does when something of its own has gone wrong. */
export async function accident(stage) {
  const it = await following(stage);
  stage.say("following");
  await stage.connection(it.client, (state) => !state.isWebSocketConnected);
  await resumes(stage, it);
  const [delay] = it.delays();
  assert.ok(delay >= 500 && delay <= 1500, `${delay} ms`);
}
