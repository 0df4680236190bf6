// What does npm's client see of a job, whatever becomes of the process that runs it?

import { api } from "./stage.mjs";

/** Says every state of the newest job; whoever has seen enough ends this process. */
export async function follow(stage) {
  const client = stage.client();
  client.onUpdate(api.work.newest, {}, (newest) => stage.say("newest", { newest }));
  await stage.hear("enough");
}
