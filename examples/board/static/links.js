// The two ways to the server. Both have the same face:
//   request(method, path, body) → {status, body, ms}    on(event, fn)    emit(event, ...args)    watch(room)    connected

/** HTTP for every request; a connection of socket.io-client 4 only listens. */
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

/** sails.io.js for everything: a GET of a room's messages joins the room. */
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

  request(method, path, body) {
    // sails.io.js keeps requests made offline and sends them later; here a request fails at once, as fetch does
    if (!this.connected) return Promise.resolve({ status: 0, body: undefined, ms: 0 })
    const start = performance.now()
    return new Promise((resolve) => {
      this.socket.request({ method: method.toLowerCase(), url: path, data: body }, (_, jwr) => {
        resolve({ status: jwr.statusCode, body: jwr.body, ms: performance.now() - start })
      })
    })
  }

  on(event, fn) {
    this.socket.on(event, fn)
  }

  emit(event, ...args) {
    this.socket._raw.emit(event, ...args) // sails.io.js has no emit: this is the socket of socket.io-client under it
  }
}

function parse(text) {
  try {
    return JSON.parse(text)
  } catch {
    return text || undefined
  }
}
