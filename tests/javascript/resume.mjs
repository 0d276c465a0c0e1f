// Reads an answer in a conversation, loses the connection after every so many messages, and goes on where it was.
import { io } from "socket.io-client";

const { url, token, namespace, join, every } = JSON.parse(process.argv[2]);

let after; // the id of the last message
let text = "";
let received = 0;
let cuts = 0;

const socket = io(`${url}${namespace}`, {
  auth: { token },
  transports: ["websocket"],
  reconnectionDelay: 1,
  reconnectionDelayMax: 5,
  randomizationFactor: 0,
});
const enter = () => socket.emit(join.event, { ...join.data, after }, (answer) => {
  if (!answer.ok) throw new Error(JSON.stringify(answer));
});
socket.on("connect", enter);
socket.on("connect_error", (error) => {
  if (!socket.active) throw error;
});

let isCut = false;
socket.on("connect", () => { isCut = false; });
socket.onAny((name, message) => {
  if (isCut) return; // what a lost connection still brings
  const told = message.data ?? message;
  if (name === "message.superseded") text = "";
  if (name === "message.delta") {
    if (told.offset !== [...text].length) throw new Error(`${told.offset} is not ${[...text].length}`);
    text += told.text;
  }
  after = message.id;
  if (name === "ready") process.stderr.write("ready\n");
  process.stdout.write(`${JSON.stringify({ last: name, text, cuts })}\n`);
  if (name === join.last) {
    socket.disconnect();
    return;
  }
  received += 1;
  if (received % every === 0) {
    cuts += 1;
    isCut = true;
    socket.io.engine.close();
  }
});
