// Do many clients at once lose an update or break a rule?

import { api, assert } from "./stage.mjs";

function several(stage, count) {
  return Array.from({ length: count }, () => stage.client());
}

export async function lostUpdate(stage) {
  const clients = several(stage, 20);
  await Promise.all(
    clients.flatMap((client) =>
      Array.from({ length: 50 }, () => client.mutation(api.counter.increment, { name: "c" })),
    ),
  );
  assert.equal(await stage.http().query(api.counter.value, { name: "c" }), 1000);
}

export async function writeSkew(stage) {
  const [ada, bob] = several(stage, 2);
  for (let round = 0; round < 25; round += 1) {
    const ward = `ward ${round}`;
    await ada.mutation(api.contention.openWard, { ward, names: ["ada", "bob"] });
    const left = await Promise.all([
      ada.mutation(api.contention.goOffCall, { ward, name: "ada" }),
      bob.mutation(api.contention.goOffCall, { ward, name: "bob" }),
    ]);
    assert.deepStrictEqual([...left].sort(), [false, true]);
    assert.equal((await stage.http().query(api.contention.onCall, { ward })).length, 1);
  }
}

export async function phantom(stage) {
  const clients = several(stage, 10);
  for (let round = 0; round < 10; round += 1) {
    const name = `name ${round}`;
    const claimed = await Promise.all(
      clients.map((client, index) => client.mutation(api.contention.claim, { name, owner: `client ${index}` })),
    );
    assert.equal(claimed.filter(Boolean).length, 1);
    const owners = await stage.http().query(api.contention.owners, { name });
    assert.deepStrictEqual(owners, [`client ${claimed.indexOf(true)}`]);
  }
}

export async function uniqueIndex(stage) {
  const clients = several(stage, 10);
  const partyId = await clients[0].mutation(api.contention.invite, { name: "ada's" });
  for (let number = 0; number < 10; number += 1) {
    const outcomes = await Promise.allSettled(
      clients.map((client, index) =>
        client.mutation(api.contention.sit, { partyId, number, owner: `client ${index}` }),
      ),
    );
    const refused = outcomes.filter((outcome) => outcome.status === "rejected");
    assert.equal(refused.length, 9);
    const seat = outcomes.find((outcome) => outcome.status === "fulfilled").value;
    for (const { reason } of refused) {
      assert.match(reason.message, /UniqueViolation/);
      assert.ok(reason.message.includes(seat));
    }
  }
  assert.equal((await stage.http().query(api.contention.seated, { partyId })).length, 10);
  await clients[0].mutation(api.contention.callOff, { partyId });
  assert.deepStrictEqual(await stage.http().query(api.contention.seated, { partyId }), []);
}
