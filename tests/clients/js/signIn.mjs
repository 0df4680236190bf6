// Do users sign up, stay signed in and sign out with npm's client and the guide's `Session`?

import { ConvexError } from "convex/values";

import { api, assert, same, withDeadline } from "./stage.mjs";
import { Session } from "./session.mjs";

const { whoAmI, mine, write } = api.notes;

/** What a browser's `localStorage` does, and it tells of each refresh token. */
class Storage {
  constructor(onToken = () => {}) {
    this.items = new Map();
    this.onToken = onToken;
  }
  getItem = (name) => this.items.get(name) ?? null;
  removeItem = (name) => this.items.delete(name);
  setItem = (name, value) => {
    if (name === "refreshToken" && value !== this.items.get(name)) this.onToken(value);
    this.items.set(name, value);
  };
}

function open(stage, storage) {
  const client = stage.client();
  const states = [];
  const session = new Session(client, stage.url, { storage, onChange: (is) => states.push(is) });
  return { client, session, states, me: stage.watch(client, whoAmI) };
}

async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    assert(error instanceof ConvexError, error);
    return error.data;
  }
  return assert.fail("it was not refused");
}

/** An anonymous user gets an account, whose session goes on through refreshes and a restart, and ends. */
export async function lifetime(stage) {
  const tokens = [];
  let told = () => {};
  const storage = new Storage((token) => {
    tokens.push(token);
    told();
  });
  const rotations = (count) =>
    withDeadline(
      new Promise((resolve) => {
        told = () => tokens.length >= count && resolve();
        told();
      }),
      `${count} refresh tokens, so far ${tokens.length}`,
      20000,
    );
  const { client, session, me, states } = open(stage, storage);
  await me.value(null);
  await session.anonymously();
  const { value: guest } = await me.until((call) => call.value !== null);
  await client.mutation(write, { text: "as a guest" });
  await session.signUp("Ada", "correct horse");
  const notes = stage.watch(client, mine);
  await notes.value(["as a guest"]);
  assert.equal((await client.query(api.signIn.session, {})).name, "Ada");

  // Tokens of 15 s are fetched anew 10 s before they end.
  await rotations(tokens.length + 2);
  stage.say("refreshed");
  await stage.hear("restarted");
  await client.mutation(write, { text: "after a restart" });
  await notes.value(["as a guest", "after a restart"]);
  await rotations(tokens.length + 1);
  assert.deepStrictEqual([...new Set(me.values)], [null, guest]);
  assert.equal(new Set(tokens).size, tokens.length);
  assert(states.every(Boolean), states);

  const last = storage.getItem("refreshToken");
  await session.signOut();
  await me.value(null);
  await notes.value([]);
  assert.equal(states.at(-1), false);
  const { code } = await refusal(stage.http().action(api.signIn.refresh, { refreshToken: last }));
  assert.equal(code, "SessionEnded");
  await assert.rejects(client.mutation(write, { text: "as nobody" }), /sign in first/);

  assert.equal((await refusal(session.withPassword("ada", "wrong horse"))).code, "InvalidCredentials");
  await session.withPassword("ada", "correct horse");
  await me.value(guest);
}

/** Tabs that share a storage and begin at once stay signed in, all of them, until one signs out. */
export async function tabs(stage) {
  const storage = new Storage();
  const first = open(stage, storage);
  await first.session.signUp("bob", "correct horse");
  const { value: bob } = await first.me.until((call) => call.value !== null);
  const others = [1, 2, 3].map(() => open(stage, storage));
  for (const tab of others) await tab.me.until((call) => same(call.value, bob));
  const elsewhere = stage.watch(first.client, api.signIn.sessions);
  await elsewhere.until((call) => call.value?.length === 1);
  stage.say("open");
  await stage.hear("restarted");
  // All come back at once, with what they have.
  for (const tab of others) await tab.client.query(whoAmI, {}).then((id) => assert.equal(id, bob));
  await others[0].client.mutation(api.signIn.signOutEverywhere, {});
  await elsewhere.value([]);
}
