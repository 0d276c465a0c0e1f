// A client of Socket.IO that a test drives: commands come as lines of JSON, and what happens goes out the same way.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const { url, options } = JSON.parse(process.argv[2]);
const say = (name, data) => process.stdout.write(`${JSON.stringify([name, data])}\n`);

const socket = io(url, { reconnectionDelay: 50, reconnectionDelayMax: 200, ...options });
socket.io.on("open", () => {
  say("open", { transport: socket.io.engine.transport.name });
  socket.io.engine.once("upgrade", (transport) => say("upgrade", { transport: transport.name }));
});
socket.on("connect", () => say("connect"));
socket.on("connect_error", (error) => say("connect_error", { message: error.message, data: error.data }));
socket.on("disconnect", (reason) => say("disconnect", { reason, active: socket.active }));
socket.onAny((name, data) => say(`on:${name}`, data));

const commands = {
  emit: async ([name, data]) => say("ack", await socket.timeout(20000).emitWithAck(name, data)),
  tell: async ([name, data]) => socket.emit(name, data), // without an acknowledgement
};
for await (const line of createInterface({ input: process.stdin })) {
  const [command, given] = JSON.parse(line);
  await commands[command](given);
}
socket.disconnect();
