// Code that must, and code that must not, pass the type check; nobody runs it.

import { io, Socket, type ManagerOptions, type SocketOptions, Manager } from "../../src/mizzen/static/mizzen.mjs";
interface L { a: (n: number, s: string) => void; withAck: (d: string, cb: (x: number) => void) => void }
interface E { hello: () => void; ask: (q: string, cb: (answer: number) => void) => void }
const socket: Socket<L, E> = io();
socket.on("a", (n, s) => { n.toFixed(); s.trim(); });
socket.on("connect", () => {}); socket.on("disconnect", (reason, details) => { const r: "io server disconnect" | string = reason; });
socket.emit("ask", "x", (answer) => answer.toFixed());
socket.timeout(5).emit("ask", "x", (err, answer) => answer.toFixed());
const n: number = await socket.emitWithAck("ask", "q");
const m: number = await socket.timeout(3).emitWithAck("ask", "q");
// @ts-expect-error
socket.emit("nope");
// @ts-expect-error
socket.emit("ask", 1, () => {});
socket.io.on("reconnect_attempt", (n) => n.toFixed());
socket.io.engine.once("upgrade", (t) => t.name);
const any = io("http://x", { auth: { token: 1 }, transports: ["websocket"], reconnectionDelay: 1 });
any.emit("whatever", 1, 2);
const { body, statusCode } = await io.socket.get("/x");
io.socket.post("/x", { a: 1 }, (body, jwr) => jwr.statusCode.toFixed());
io.socket.get("/x", (body) => {});
io.socket.get("/x", { a: 1 }, { timeout: 5, headers: () => ({ a: "1" }) }, (b, j) => {});
const r: Response = await io.socket.fetch("/x", { method: "POST" });
io.sails.url = "http://x"; io.sails.connect("http://y", { reconnection: true }).on("x", (a: number) => {});
// @ts-expect-error
io("x", { reconnetion: true });
const o: Partial<ManagerOptions & SocketOptions> = { retries: 1, timeout: false };
new Manager("http://x", o).reconnectionDelay(5).timeout();
socket.offAny(); socket.volatile.emit("hello");
