// OpenAI's official client against /openai/v1/responses: whole, streamed and cut, in the background, with a tool of ours.
import OpenAI from "openai";

const { url, token, model } = JSON.parse(process.argv[2]);
const client = new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: token, maxRetries: 0 });

const whole = await client.responses.create({ model, input: "Say it." });

// The stream is left after three pieces, and read on from the last event.
const types = [];
const numbers = [];
let text = "";
let id = null;
let last = -1;
const take = (event) => {
  types.push(event.type);
  numbers.push(event.sequence_number);
  last = event.sequence_number;
  if (event.type === "response.created") id = event.response.id;
  if (event.type === "response.output_text.delta") text += event.delta;
};
let pieces = 0;
const asked = { model, input: "Again.", previous_response_id: whole.id, background: true, stream: true };
for await (const event of await client.responses.create(asked)) {
  take(event);
  if (event.type === "response.output_text.delta" && ++pieces === 3) break;
}
for await (const event of await client.responses.retrieve(id, { stream: true, starting_after: last })) take(event);
const stored = await client.responses.retrieve(id);

// A tool of the client: the answer waits for its result.
const tools = [{ type: "function", name: "get_weather", parameters: { type: "object", properties: {} }, strict: false }];
const calling = await client.responses.create({ model, input: "Umbrella?", tools });
const call = calling.output.find((item) => item.type === "function_call");
const answered = await client.responses.create({
  model,
  tools,
  previous_response_id: calling.id,
  input: [{ type: "function_call_output", call_id: call.call_id, output: "dry" }],
});

const items = [];
for await (const item of await client.responses.inputItems.list(id)) items.push(item.content[0].text);

process.stdout.write(JSON.stringify({
  whole: { text: whole.output_text, status: whole.status },
  streamed: { text, types, numbers },
  stored: { text: stored.output_text, previous: stored.previous_response_id === whole.id },
  call: { name: call.name, arguments: call.arguments },
  answered: answered.output_text,
  items,
}));
