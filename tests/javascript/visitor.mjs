// The page of docs/visitors.md: it sends a message and shows the answer while it is said.
import { readFileSync } from "node:fs";

const { url, key, docs, text } = JSON.parse(process.argv[2]);
const code = readFileSync(docs, "utf8").match(/```js\n(.*?)```/s)[1];
const { chat } = await import(`data:text/javascript,${encodeURIComponent(code)}`);

const shown = [];
const store = {};
let over;
const isOver = new Promise((done) => (over = done));
const send = await chat({
  url,
  key,
  store,
  show: (task, said) => {
    shown.push([task, said]);
    if (said === text) over();
  },
});
const sent = await send("Is there yoga?");
await isOver;
const refused = await send("x".repeat(10_000)).catch((error) => error.message);
process.stdout.write(`${JSON.stringify({ shown, task: sent.answer.task_id, store, refused })}\n`);
process.exit(0);
