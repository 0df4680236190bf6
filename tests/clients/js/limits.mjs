// Does npm's client meet each limit at its default, with its name, and go on afterwards?

import { api, assert } from "./stage.mjs";

const MIB = 1024 * 1024;
const work = api.work;

const nested = (levels) => (levels === 0 ? 1 : [nested(levels - 1)]);
const wide = (count) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`f${n}`, n]));

/** A client with a live query of what was committed, and a check that `over` fails where `within` does not. */
async function meeting(stage) {
  const client = stage.client();
  const traces = stage.watch(client, work.traces);
  await traces.first();
  const expected = traces.latest.value;
  return async (code, run, { left = 1, jobs = 1 } = {}) => {
    await run(client, "within");
    expected[0] += left;
    expected[1] += jobs;
    await traces.value(expected);
    await assert.rejects(run(client, "over"), (error) => {
      assert.match(error.message, new RegExp(`\\b${code}: `), `${code}: ${error.message.slice(0, 300)}`);
      return true;
    });
    // The connection goes on, and nothing was left behind.
    await client.mutation(work.answer, { size: 1 });
    expected[0] += 1;
    expected[1] += 1;
    await traces.value(expected);
  };
}

/** One of two values. */
const pick = (which, within, over) => (which === "within" ? within : over);

export async function values(stage) {
  const check = await meeting(stage);
  const store = (make) => (client, which) => client.mutation(work.store, { kind: "values", value: make(which) });
  await check("DocumentTooLarge", store((which) => "x".repeat(pick(which, MIB - 120, MIB))));
  await check("ArrayTooLong", store((which) => Array(pick(which, 8192, 8193)).fill(null)));
  await check("TooManyFields", store((which) => wide(pick(which, 1024, 1025))));
  // The document is the first level, the arguments are the first of theirs.
  await check("DocumentTooDeep", store((which) => nested(pick(which, 15, 16))));
  const take = (which) => ({ value: nested(pick(which, 63, 64)) });
  const client = stage.client();
  await assert.rejects(client.mutation(work.store, { kind: "deep", ...take("within") }), /DocumentTooDeep/);
  await assert.rejects(client.mutation(work.store, { kind: "deep", ...take("over") }), /ValueTooDeep/);
}

export async function reading(stage) {
  const check = await meeting(stage);
  const client = stage.client();
  for (const count of [16000, 16000, 1]) await client.mutation(work.fill, { kind: "many", count });
  await client.mutation(work.fill, { kind: "large", count: 15, size: MIB - 1000 });
  await client.mutation(work.fill, { kind: "large", count: 2, size: MIB - 1000 });
  await check("TooManyDocumentsRead", (to, which) =>
    to.mutation(work.read, { kind: "many", count: pick(which, 32000, 32001) }),
  );
  await check("TooManyBytesRead", (to, which) =>
    to.mutation(work.read, { kind: "large", count: pick(which, 16, 17) }),
  );
  await check("TooManyReads", (to, which) => to.mutation(work.look, { ranges: pick(which, 4096, 4097) }));
}

export async function writing(stage) {
  const check = await meeting(stage);
  // The trace is two documents more.
  await check("TooManyDocumentsWritten", (to, which) =>
    to.mutation(work.write, { count: pick(which, 15998, 15999) }),
  );
  await check("TooManyBytesWritten", (to, which) =>
    to.mutation(work.write, { count: pick(which, 15, 16), size: MIB - 100 }),
  );
}

export async function scheduling(stage) {
  const check = await meeting(stage);
  await check(
    "TooManyFunctionsScheduled",
    (to, which) => to.mutation(work.schedule, { count: pick(which, 999, 1000) }),
    { jobs: 1000 },
  );
  await check(
    "ScheduledFunctionArgumentsTooLarge",
    (to, which) => to.mutation(work.schedule, { count: 1, size: pick(which, 4 * MIB - 100, 4 * MIB) }),
    { jobs: 2 },
  );
}

export async function calling(stage) {
  const check = await meeting(stage);
  await check("NestedCallsTooDeep", (to, which) => to.mutation(work.nest, { levels: pick(which, 8, 9) }));
  await check("ArgumentsTooLarge", (to, which) =>
    to.mutation(work.take, { text: "x".repeat(pick(which, 16 * MIB - 100, 16 * MIB)) }),
  );
  await check("ResultTooLarge", (to, which) =>
    to.mutation(work.answer, { size: pick(which, 16 * MIB - 2, 16 * MIB - 1) }),
  );
}

/** On the application of conformance: the one of limits allows a minute. */
export async function time(stage) {
  const client = stage.client();
  const live = stage.watch(client, api.counter.value, { name: "time" });
  await live.value(0);
  await assert.rejects(client.mutation(api.moments.countForEver, { name: "time" }), /\bFunctionTimeout: /);
  assert.equal(await client.mutation(api.counter.increment, { name: "time", by: 5 }), 5);
  await live.value(5);
  assert.deepStrictEqual(live.values, [0, 5]);
  assert.equal(client.connectionState().connectionCount, 1);
}

export async function logging(stage) {
  const client = stage.client();
  const logger = client.client.logger ?? client.client._logger;
  await client.query(work.log, { count: 257 });
  const lines = logger.lines.filter((line) => line.includes("[CONVEX"));
  assert.equal(lines.length, 257, lines.slice(-3).join("\n"));
  assert.match(lines.at(-1), /log truncated/);
}
