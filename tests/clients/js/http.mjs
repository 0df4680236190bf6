// Does npm's `ConvexHttpClient` get what it asks for?

import { ConvexHttpClient } from "convex/browser";

import { api, assert } from "./stage.mjs";

export async function calls(stage) {
  const client = stage.http();
  assert.equal(await client.mutation(api.counter.increment, { name: "calls", by: 2 }), 2);
  assert.equal(await client.query(api.counter.value, { name: "calls" }), 2);
  assert.equal(await client.action(api.tasks.addThroughAction, { listName: "calls", text: "milk" }), 1);
  await assert.rejects(client.query(api.counter.noSuchFunction, {}), /ould not find public function/);
  // Its mutations wait for one another in a queue of the client.
  const values = await Promise.all([1, 2, 3].map(() => client.mutation(api.counter.increment, { name: "calls" })));
  assert.deepStrictEqual(values, [3, 4, 5]);
}

export async function consistent(stage) {
  const reader = new ConvexHttpClient(stage.url, { logger: false });
  const writer = stage.http();
  await writer.mutation(api.counter.increment, { name: "a" });
  assert.equal(await reader.consistentQuery(api.counter.value, { name: "a" }), 1);
  await writer.mutation(api.counter.transfer, { source: "a", target: "b", amount: 1 });
  assert.equal(await reader.consistentQuery(api.counter.value, { name: "a" }), 1);
  assert.equal(await reader.consistentQuery(api.counter.value, { name: "b" }), 0);
  assert.equal(await reader.query(api.counter.value, { name: "b" }), 1);
  assert.equal(await stage.http().consistentQuery(api.counter.value, { name: "b" }), 1);
}

export async function defaultExport(stage) {
  const client = stage.client();
  for (const caller of [stage.http(), client]) {
    assert.equal(await caller.query(api.nested.deep.greet, { name: "ada" }), "hello ada");
    // Over the socket this reference is sent as `nested/deep:default`, over HTTP as `nested/deep`.
    assert.equal(await caller.query(api.nested.deep.default, {}), "the default export");
  }
}

export async function trailingSlash(stage) {
  const client = new ConvexHttpClient(`${stage.url}/`, { logger: false });
  assert.equal(await client.query(api.counter.value, { name: "c" }), 0);
}

/** Plain `fetch` of HTTP actions, below `/http` and on the site port. */
export async function actions(stage) {
  for (const base of [`${stage.url}/http`, stage.params.site]) {
    const told = async (path, options) => {
      const answer = await fetch(`${base}${path}`, options);
      return [answer.status, answer.headers.get("x-route"), await answer.text()];
    };
    assert.deepStrictEqual(await told("/pages/exact"), [200, "exact", "exact"]);
    assert.deepStrictEqual(await told("/pages/other"), [200, "prefix", "page"]);
    assert.deepStrictEqual(await told("/pages/exact", { method: "HEAD" }), [200, "exact", ""]);
    assert.deepStrictEqual(await told("/nowhere"), [404, null, "No HttpAction routed for /nowhere"]);
    // `fetch` itself takes the dots out of a path; what it lets through is refused.
    assert.deepStrictEqual(await told("/pages/../pages/exact"), [200, "exact", "exact"]);
    assert.equal((await told("/pages/%2e%2e%2fexact"))[0], 400);
    const posted = await told("/hooks/thing", { method: "POST", body: JSON.stringify({ sold: true }) });
    assert.deepStrictEqual(posted, [200, null, "{}"]);
    const [status, , text] = await told("/crash");
    assert.equal(status, 500);
    assert.equal(JSON.parse(text).code, "InternalServerError");
  }
}
