// One side of the board. It is the same for both links: that is the point.

import { Wire } from './wire.js'

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' })
let number = 0

/** The notes of one room, over one link. */
export class Pane {
  constructor(link, { key, author, announce }) {
    this.link = link
    this.announce = announce
    this.room = null
    this.messages = new Map() // id → {message, item}
    this.held = null // events that come while the list is being loaded
    this.typists = new Map() // author → timer
    this.typed = 0 // when this side last told that it writes

    this.root = document.querySelector('#pane').content.firstElementChild.cloneNode(true)
    this.root.classList.add(key)
    this.root.id = key
    this.notes = this.root.querySelector('.notes')
    this.composer = this.root.querySelector('.composer')
    this.problem = this.composer.querySelector('.problem')
    this.wire = new Wire(this.root)
    this.#name(key, author)
    this.composer.addEventListener('submit', (event) => this.#post(event))
    this.composer.text.addEventListener('input', () => this.#typing())
    this.#listen()
  }

  /** Make a request, and log it. */
  async request(method, path, body) {
    const answer = await this.link.request(method, path, body)
    this.wire.request(method, path, body, answer)
    return answer
  }

  /** Show a room: follow its events and load its messages. Also after a reconnection: the server forgot this socket. */
  async show(room) {
    const other = room !== this.room
    this.room = room
    this.root.querySelector('.snippet code').textContent = this.link.snippet(room)
    if (other) this.#clear()
    if (!this.link.connected) return
    const held = (this.held = [])
    if (this.link.watch) {
      const found = await this.link.watch(room).catch(() => false) // no answer: the connection went, and connect calls again
      this.wire.sent('watch', [room, found])
    }
    const { status, body } = await this.request('GET', `/rooms/${room}/messages`)
    if (held !== this.held) return // another room was chosen, or the connection came again
    this.held = null
    this.#fail(status, body)
    if (status !== 200) return
    this.#clear()
    for (const message of body) this.#put(message)
    for (const apply of held) apply()
    this.#empty()
    this.notes.scrollTop = this.notes.scrollHeight
  }

  // --- what comes ---

  #listen() {
    const { link, wire } = this
    link.on('connect', () => {
      this.#state('Live', true)
      wire.note('connected')
      if (this.room) this.show(this.room)
    })
    link.on('disconnect', (reason) => {
      this.#state('Reconnecting…', false)
      wire.note(`disconnected: ${reason}`)
    })
    if (link.connected) this.#state('Live', true)
    this.#event('message', (message) => {
      const fresh = !this.messages.has(message.id)
      const low = this.notes.scrollHeight - this.notes.scrollTop - this.notes.clientHeight < 60
      const item = this.#put(message)
      this.#stopTyping(message.author)
      if (fresh) item.classList.add('fresh')
      if (low) this.notes.scrollTop = this.notes.scrollHeight
      this.announce(message)
    })
    this.#event('updated', (message) => this.#put(message))
    this.#event('removed', ({ id }) => this.#remove(id))
    this.#event('presence', ({ present }) => {
      this.root.querySelector('.present').textContent = `${present} here`
    })
    this.#event('typing', ({ author }) => {
      clearTimeout(this.typists.get(author))
      this.typists.set(author, setTimeout(() => this.#stopTyping(author), 2500))
      this.#showTyping()
    })
    this.link.on('room', (...args) => wire.received('room', args))
  }

  #event(name, apply) {
    this.link.on(name, (value) => {
      this.wire.received(name, [value])
      if (value.room !== this.room) return
      const now = name === 'presence' || name === 'typing'
      if (this.held && !now) this.held.push(() => apply(value))
      else apply(value)
    })
  }

  // --- what goes ---

  async #post(event) {
    event.preventDefault()
    const { author, text } = this.composer
    const sent = text.value
    const { status, body } = await this.request('POST', `/rooms/${this.room}/messages`, { author: author.value, text: sent })
    if (status !== 201) return this.#fail(status, body)
    this.#fail(status)
    if (text.value === sent) text.value = ''
    this.typed = 0
    text.focus()
    this.#put(body)
    this.notes.scrollTop = this.notes.scrollHeight
  }

  async #change(id, change, item) {
    const { status, body } = await this.request('PATCH', `/rooms/${this.room}/messages/${id}`, change)
    if (status === 200) {
      this.#fail(status)
      this.#put(body)
      return true
    }
    const where = item.querySelector('.editor .problem') ?? this.problem
    where.textContent = explain(status, body)
    this.#fill(item, this.messages.get(id).message)
    return false
  }

  async #delete(id) {
    const { status, body } = await this.request('DELETE', `/rooms/${this.room}/messages/${id}`)
    this.#fail(status, body)
    if (status === 204 || status === 404) {
      this.#remove(id)
      this.notes.focus({ preventScroll: true })
    }
  }

  #typing() {
    const author = this.composer.author.value.trim()
    const now = Date.now()
    if (!this.link.connected || !author || now - this.typed < 1500) return
    this.typed = now
    this.link.emit('typing', { room: this.room, author })
    this.wire.sent('typing', [{ room: this.room, author }])
  }

  // --- what is seen ---

  #name(key, author) {
    const id = `pane-${(number += 1)}`
    this.root.querySelector('.badge').textContent = this.link.label
    this.root.querySelector('.way').textContent = this.link.way
    this.root.querySelector('h2').id = id
    this.root.setAttribute('aria-labelledby', id)
    this.notes.setAttribute('aria-label', `Notes, over ${this.link.label}`)
    this.root.querySelector('.wire-log').setAttribute('aria-label', `On the wire, over ${this.link.label}`)
    this.problem.id = `${id}-problem`
    for (const name of ['author', 'text']) {
      const input = this.composer[name]
      input.id = `${id}-${name}`
      input.setAttribute('aria-describedby', this.problem.id)
      input.closest('.field').querySelector('label').htmlFor = input.id
    }
    this.composer.author.value = localStorage.getItem(`author-${key}`) ?? author
    this.composer.author.addEventListener('change', () => localStorage.setItem(`author-${key}`, this.composer.author.value))
  }

  #state(text, live) {
    this.root.classList.toggle('live', live)
    this.root.querySelector('.state-text').textContent = text
    if (!live) this.root.querySelector('.present').textContent = ''
  }

  #fail(status, body) {
    const wrong = status === 422 && Array.isArray(body?.detail) ? body.detail.map(({ loc }) => loc.at(-1)) : []
    this.problem.textContent = status >= 200 && status < 300 ? '' : explain(status, body)
    for (const name of ['author', 'text']) {
      if (wrong.includes(name)) this.composer[name].setAttribute('aria-invalid', 'true')
      else this.composer[name].removeAttribute('aria-invalid')
    }
    if (wrong.length) this.composer[wrong[0]]?.focus()
  }

  #put(message) {
    let item = this.messages.get(message.id)?.item
    if (!item) {
      item = this.#item(message.id)
      const next = [...this.notes.children].find((other) => Number(other.dataset.id) > message.id)
      this.notes.insertBefore(item, next ?? null)
    }
    this.messages.set(message.id, { message, item })
    this.#fill(item, message)
    this.#empty()
    return item
  }

  #item(id) {
    const item = document.querySelector('#note').content.firstElementChild.cloneNode(true)
    item.dataset.id = id
    item.querySelector('.done input').addEventListener('change', (event) => this.#change(id, { done: event.target.checked }, item))
    item.querySelector('.edit').addEventListener('click', () => this.#edit(id, item))
    item.querySelector('.delete').addEventListener('click', () => this.#delete(id))
    return item
  }

  #fill(item, { author, text, done, edited, created }) {
    item.classList.toggle('is-done', done)
    item.classList.toggle('was-edited', edited)
    const avatar = item.querySelector('.avatar')
    avatar.textContent = [...author][0].toUpperCase()
    avatar.style.setProperty('--hue', [...author].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7))
    item.querySelector('.author').textContent = author
    item.querySelector('.text').textContent = text
    const time = item.querySelector('time')
    time.dateTime = created
    time.textContent = clock.format(new Date(created))
    const box = item.querySelector('.done input')
    box.checked = done
    const about = `the note of ${author}: ${text.slice(0, 40)}`
    box.setAttribute('aria-label', `Done, ${about}`)
    item.querySelector('.edit').setAttribute('aria-label', `Edit ${about}`)
    item.querySelector('.delete').setAttribute('aria-label', `Delete ${about}`)
  }

  #edit(id, item) {
    if (item.querySelector('.editor')) return
    const text = item.querySelector('.text')
    const editor = document.querySelector('#editor').content.firstElementChild.cloneNode(true)
    const close = () => {
      editor.remove()
      text.hidden = false
      item.querySelector('.edit').focus()
    }
    text.hidden = true
    text.after(editor)
    editor.text.value = this.messages.get(id).message.text
    editor.text.select()
    editor.text.focus()
    editor.addEventListener('submit', async (event) => {
      event.preventDefault()
      if (await this.#change(id, { text: editor.text.value }, item)) close()
    })
    editor.querySelector('.cancel').addEventListener('click', close)
    editor.addEventListener('keydown', (event) => event.key === 'Escape' && close())
  }

  #remove(id) {
    this.messages.get(id)?.item.remove()
    this.messages.delete(id)
    this.#empty()
  }

  #clear() {
    for (const timer of this.typists.values()) clearTimeout(timer)
    this.typists.clear()
    this.#showTyping()
    this.messages.clear()
    this.notes.replaceChildren()
  }

  #empty() {
    const line = this.notes.querySelector('.empty')
    if (this.messages.size) return line?.remove()
    if (line) return
    const item = document.createElement('li')
    item.className = 'empty'
    item.textContent = 'Nothing here yet. Write the first note.'
    this.notes.append(item)
  }

  #stopTyping(author) {
    clearTimeout(this.typists.get(author))
    if (this.typists.delete(author)) this.#showTyping()
  }

  #showTyping() {
    const names = [...this.typists.keys()]
    const text = names.length ? `${names.join(', ')} ${names.length > 1 ? 'are' : 'is'} writing…` : ''
    this.root.querySelector('.typing').textContent = text
  }
}

/** Say what went wrong, from an answer of the server: FastAPI's 422, another error, or none. */
export function explain(status, body) {
  if (status === 0) return 'The server does not answer. Try again when the state says “Live”.'
  const detail = body?.detail
  if (typeof detail === 'string') return detail
  if (!Array.isArray(detail)) return `The server answered ${status}.`
  return detail.map(({ loc, msg }) => `${loc.length > 1 ? `${loc.at(-1)}: ` : ''}${msg.replace(/^Value error, /, '')}`).join(' · ')
}
