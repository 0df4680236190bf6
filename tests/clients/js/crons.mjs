// Does npm's client see a job tick, and one that is under way never begin a second time?

import { api, assert } from "./stage.mjs";

const { letEnd, times } = api.work;

export async function ticks(stage) {
  const client = stage.client();
  const live = stage.watch(client, times, { job: "tick" });
  await live.until((call) => call.value?.length >= 3);
  const [first, second, third] = live.latest.value;
  // A busy machine may be late with one of them, which moves none of the others.
  assert.ok(first < second && second < third);
  assert.ok(third - first > 1500 && third - first < 5000, `two intervals of a second: ${third - first} ms`);
}

export async function overlap(stage) {
  const client = stage.client();
  const [tick, begin, end] = ["tick", "begin", "end"].map((job) => stage.watch(client, times, { job }));
  await begin.until((call) => call.value?.length === 1);
  const before = tick.latest.value.length;
  await tick.until((call) => call.value?.length >= before + 2);
  // Two ticks later the first run still goes on, and no other has begun.
  assert.equal(begin.latest.value.length, 1);
  assert.deepStrictEqual(end.latest.value, []);
  await client.action(letEnd, {});
  await begin.until((call) => call.value?.length === 2);
  assert.equal(end.latest.value.length, 1);
  assert.ok(begin.latest.value[1] >= end.latest.value[0]);
  // What was missed is not caught up on: the second run goes on alone.
  const then = tick.latest.value.length;
  await tick.until((call) => call.value?.length >= then + 2);
  assert.equal(begin.latest.value.length, 2);
}
