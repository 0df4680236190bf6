// Does npm's client see a job come, run and end?

import { api, assert } from "./stage.mjs";

const { later, laterButFail, meetLater, state } = api.jobs;
const { value } = api.counter;

export async function states(stage) {
  const client = stage.client();
  const id = await client.mutation(meetLater, { room: "of the job", delayS: 1 });
  const live = stage.watch(client, state, { id });
  await live.value("inProgress");
  await client.action(api.meeting.meet, { room: "of the job", count: 2 });
  await live.value("success");
  assert.deepStrictEqual(live.values, ["pending", "inProgress", "success"]);
}

export async function afterCommit(stage) {
  const client = stage.client();
  const live = stage.watch(client, value, { name: "c" });
  await live.value(0);
  await assert.rejects(client.mutation(laterButFail, { name: "c" }), /nothing may run after this/);
  const id = await client.mutation(later, { name: "c", delayS: 0 });
  const job = stage.watch(client, state, { id });
  await job.value("success");
  // Due jobs run in the order of their time: one of the failed mutation would have run before.
  await live.value(1);
  assert.deepStrictEqual(live.values, [0, 1]);
}
