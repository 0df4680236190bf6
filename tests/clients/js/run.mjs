// Which case runs? `node run.mjs TOPIC CASE URL PARAMS`: exit code 0 if its own assertions held.

import process from "node:process";

import { Stage } from "./stage.mjs";

const [topic, name, url, params] = process.argv.slice(2);
const cases = await import(`./${topic}.mjs`);
const stage = new Stage(url, JSON.parse(params));
try {
  await cases[name](stage);
  await stage.close();
  process.exit(0);
} catch (error) {
  console.error(error);
  process.exit(1);
}
