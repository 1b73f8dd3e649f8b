// The two ways to the server. Both have the same face:
//   request(method, path, body) → {status, body, ms}    on(event, fn)    emit(event, ...args)    watch(room)    connected

/** HTTP for every request; a Socket.IO connection only listens. */
export class HttpLink {
  constructor(socket) {
    this.socket = socket
    this.label = 'HTTP'
    this.way = 'fetch()'
  }

  get connected() {
    return this.socket.connected
  }

  snippet(room) {
    return `await fetch("/rooms/${room}/messages", { method: "POST", … })`
  }

  async request(method, path, body) {
    const init = { method, headers: { accept: 'application/json' } }
    if (body !== undefined) {
      init.headers['content-type'] = 'application/json'
      init.body = JSON.stringify(body)
    }
    const start = performance.now()
    try {
      const response = await fetch(path, init)
      const text = await response.text()
      return { status: response.status, body: parse(text), ms: performance.now() - start }
    } catch {
      return { status: 0, body: undefined, ms: performance.now() - start } // fetch rejects only when no answer came
    }
  }

  on(event, fn) {
    this.socket.on(event, fn)
  }

  emit(event, ...args) {
    this.socket.volatile.emit(event, ...args)
  }

  /** HTTP cannot join a room, so the listening socket asks by an event. */
  watch(room) {
    return this.socket.timeout(5000).emitWithAck('watch', room)
  }
}

/** The socket for everything: a GET of a room's messages joins the room. */
export class SocketLink {
  constructor(socket) {
    this.socket = socket
    this.label = 'Socket'
    this.way = 'io.socket'
  }

  get connected() {
    return this.socket.isConnected()
  }

  snippet(room) {
    return `io.socket.post("/rooms/${room}/messages", { author, text })`
  }

  async request(method, path, body) {
    // a request made offline waits for the connection; here it fails at once, as fetch does
    if (!this.connected) return { status: 0, body: undefined, ms: 0 }
    const start = performance.now()
    try {
      const { statusCode, body: answer } = await this.socket.request({ method, url: path, data: body })
      return { status: statusCode, body: answer, ms: performance.now() - start }
    } catch {
      return { status: 0, body: undefined, ms: performance.now() - start } // the connection was lost meanwhile
    }
  }

  on(event, fn) {
    this.socket.on(event, fn)
  }

  emit(event, ...args) {
    this.socket.emit(event, ...args)
  }
}

function parse(text) {
  try {
    return JSON.parse(text)
  } catch {
    return text || undefined
  }
}
