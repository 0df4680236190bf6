// Do large results and idle hours leave npm's client undisturbed?

import WebSocket from "ws";

import { api, assert } from "./stage.mjs";

const MEGABYTE = 1_000_000;

class PlainSocket extends WebSocket {
  constructor(url) {
    super(url, { perMessageDeflate: false });
  }
}

async function twelve(client) {
  const texts = await client.query(api.big.text, { megabytes: 12 });
  assert.equal(texts.length, 12);
  texts.forEach((text, index) => assert.ok(text === String(index % 10).repeat(MEGABYTE)));
  assert.equal(await client.mutation(api.counter.increment, { name: "c" }), 1);
  assert.equal(client.connectionState().connectionCount, 1);
}

export async function twelveMegabytes(stage) {
  await twelve(stage.client());
}

export async function withoutCompression(stage) {
  await twelve(stage.client({ webSocketConstructor: PlainSocket }));
}

/** The client offers compression, as it does of itself; the server may take it up. */
export async function compression(stage) {
  const sockets = [];
  class Socket extends WebSocket {
    constructor(url) {
      super(url);
      sockets.push(this);
    }
  }
  await twelve(stage.client({ webSocketConstructor: Socket }));
  assert.equal(sockets[0].extensions.includes("permessage-deflate"), stage.params.agreed);
}

/** The result of one query grows past the size of a chunk while it is watched. */
export async function growing(stage) {
  const client = stage.client();
  const value = "é".repeat(400_000);
  const live = stage.watch(client, api.tasks.texts, { listName: "home" });
  await live.value([]);
  for (let count = 1; count <= 8; count += 1) {
    await client.mutation(api.tasks.add, { listName: "home", text: value });
  }
  await live.until((call) => call.value?.length === 8);
  assert.ok(live.latest.value.every((text) => text === value));
}

export async function idle(stage) {
  const client = stage.client();
  const live = stage.watch(client, api.counter.value, { name: "npm" });
  await live.value(0);
  stage.say("idle");
  await stage.hear("go on", 180_000);
  await live.value(1);
  assert.equal(await client.mutation(api.counter.increment, { name: "npm" }), 2);
  await live.value(2);
  assert.equal(client.connectionState().connectionCount, 1);
}
