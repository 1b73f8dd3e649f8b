// The page: two panes over two links, and the rooms above them.

import { HttpLink, SocketLink } from './links.js'
import { Pane, explain } from './pane.js'

const rooms = document.querySelector('#rooms')
const form = document.querySelector('#new-room')
const problem = document.querySelector('#room-error')
const announced = new Set()

function announce({ id, author, text }) {
  if (announced.has(id)) return // both panes hear it; a screen reader should once
  announced.add(id)
  document.querySelector('#announce').textContent = `${author}: ${text}`
}

function current() {
  return decodeURIComponent(location.hash.slice(1)) || 'lobby'
}

function showRoom(panes) {
  const room = current()
  for (const button of rooms.querySelectorAll('button')) button.setAttribute('aria-current', String(button.value === room))
  for (const pane of panes) pane.show(room)
}

function putRoom(name) {
  const buttons = [...rooms.querySelectorAll('button')]
  if (buttons.some((button) => button.value === name)) return
  const item = document.createElement('li')
  const button = document.createElement('button')
  button.type = 'button'
  button.value = name
  button.textContent = name
  button.setAttribute('aria-current', String(name === current()))
  button.addEventListener('click', () => (location.hash = name))
  item.append(button)
  rooms.insertBefore(item, buttons.find((other) => other.value > name)?.parentElement ?? null)
}

async function loadRooms(pane) {
  const { status, body } = await pane.request('GET', '/rooms')
  if (status === 200) for (const { name } of body) putRoom(name)
}

async function openRoom(pane) {
  const { status, body } = await pane.request('POST', '/rooms', { name: form.elements.name.value })
  problem.textContent = status === 201 ? '' : explain(status, body)
  if (status !== 201) {
    form.elements.name.setAttribute('aria-invalid', 'true')
    form.elements.name.focus()
    return
  }
  form.elements.name.removeAttribute('aria-invalid')
  form.reset()
  putRoom(body.name)
  location.hash = body.name
}

function start() {
  const http = new HttpLink(io())
  const left = new Pane(http, { key: 'http', author: 'Ada', announce })
  const right = new Pane(new SocketLink(io.socket), { key: 'socket', author: 'Grace', announce })
  const panes = [left, right]
  document.querySelector('#panes').append(...panes.map((pane) => pane.root))
  http.on('connect', () => loadRooms(left))
  http.on('room', ({ name }) => putRoom(name))
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    openRoom(left)
  })
  addEventListener('hashchange', () => showRoom(panes))
  showRoom(panes)
}

start()
