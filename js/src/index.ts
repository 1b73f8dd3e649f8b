// What a program imports.

import { protocol } from "./codec.js";
import { PollingTransport } from "./polling.js";
import { io } from "./io.js";
import { Manager } from "./manager.js";
import { addSails, SailsSocket } from "./sails.js";
import { JWR } from "./requests.js";
import { Socket } from "./socket.js";
import { WebSocketTransport } from "./websocket.js";

addSails(io);

export { io, io as connect, io as default, JWR, Manager, protocol, SailsSocket, Socket };
// names of socket.io-client, for its option `transports`
export { PollingTransport as Fetch, PollingTransport as XHR, PollingTransport as NodeXHR };
export { WebSocketTransport as WebSocket, WebSocketTransport as NodeWebSocket };
