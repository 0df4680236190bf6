// Does an application that stores files through npm's client find them again?

import { createHash, randomBytes } from "node:crypto";

import { api, assert } from "./stage.mjs";

async function upload(client, body, headers = {}) {
  const url = await client.mutation(api.files.generateUploadUrl, {});
  return fetch(url, { method: "POST", body, headers });
}

export async function cycle(stage) {
  const client = stage.client();
  const bytes = randomBytes(300_000);
  const answer = await upload(client, new Blob([bytes], { type: "image/jpeg" }));
  assert.equal(answer.status, 200);
  const { storageId } = await answer.json();

  const watcher = stage.watch(client, api.files.getUrl, { id: storageId });
  const { value: url } = await watcher.first();
  assert.ok(url.startsWith(`${stage.url}/api/storage/`));
  assert.ok(!url.includes(storageId));

  const whole = await fetch(url);
  assert.equal(whole.status, 200);
  assert.equal(whole.headers.get("content-type"), "image/jpeg");
  assert.equal(whole.headers.get("content-length"), "300000");
  assert.deepStrictEqual(Buffer.from(await whole.arrayBuffer()), bytes);

  const part = await fetch(url, { headers: { Range: "bytes=100-199" } });
  assert.equal(part.status, 206);
  assert.equal(part.headers.get("content-range"), "bytes 100-199/300000");
  assert.deepStrictEqual(Buffer.from(await part.arrayBuffer()), bytes.subarray(100, 200));

  const row = await client.query(api.files.metadata, { id: storageId });
  const sha256 = createHash("sha256").update(bytes).digest("base64");
  const { _creationTime, ...known } = row;
  assert.deepStrictEqual(known, { _id: storageId, sha256, size: 300000, contentType: "image/jpeg" });

  await client.mutation(api.files.remove, { id: storageId });
  await watcher.value(null);
  assert.equal((await fetch(url)).status, 404);
  await assert.rejects(client.mutation(api.files.remove, { id: storageId }), /DocumentNotFound/);
}

export async function rolledBack(stage) {
  const client = stage.client();
  const { storageId } = await (await upload(client, "still here")).json();
  await assert.rejects(client.mutation(api.files.removeButFail, { id: storageId }));
  const url = await client.query(api.files.getUrl, { id: storageId });
  assert.equal(await (await fetch(url)).text(), "still here");
}

export async function refused(stage) {
  const client = stage.client();
  const wrong = Buffer.alloc(32).toString("base64");
  const answer = await upload(client, "data", { Digest: `sha-256=${wrong}` });
  assert.equal(answer.status, 400);
  assert.equal((await answer.json()).code, "DigestMismatch");

  const url = new URL(await client.mutation(api.files.generateUploadUrl, {}));
  const token = url.searchParams.get("token");
  url.searchParams.set("token", (token[0] === "A" ? "B" : "A") + token.slice(1));
  const forged = await fetch(url, { method: "POST", body: "data" });
  assert.equal(forged.status, 403);
  assert.equal((await forged.json()).code, "InvalidUploadToken");
}

export async function actions(stage) {
  const client = stage.client();
  const data = new Uint8Array([0, 1, 255]).buffer;
  const id = await client.action(api.files.store, { data, contentType: "x/y" });
  assert.deepStrictEqual(await client.action(api.files.load, { id }), { data, contentType: "x/y", size: 3 });
  await client.mutation(api.files.remove, { id });
  assert.equal(await client.action(api.files.load, { id }), null);
}
