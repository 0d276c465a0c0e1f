// OpenAI's official client against /openai/v1: one answer whole, and one streamed.
import OpenAI from "openai";

const { url, token, model } = JSON.parse(process.argv[2]);
const client = new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: token, maxRetries: 0 });
const asked = { model, messages: [{ role: "user", content: "Say it." }] };

const models = [];
for await (const one of await client.models.list()) models.push(one.id);

const whole = await client.chat.completions.create(asked);

const pieces = [];
let usage = null;
let finish = null;
const stream = await client.chat.completions.create({
  ...asked,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  pieces.push(chunk.choices[0]?.delta?.content ?? "");
  finish = chunk.choices[0]?.finish_reason ?? finish;
  usage = chunk.usage ?? usage;
}

const refused = await new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: "rota_wrong", maxRetries: 0 }).models
  .list()
  .then(() => null, (error) => ({ status: error.status, name: error.constructor.name }));

process.stdout.write(JSON.stringify({
  models,
  whole: { text: whole.choices[0].message.content, finish: whole.choices[0].finish_reason, usage: whole.usage },
  streamed: { text: pieces.join(""), pieces: pieces.filter(Boolean).length, finish, usage },
  refused,
}));
