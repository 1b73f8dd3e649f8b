// The log under each side: what was asked, what was answered, and the events that came.

const LONGEST = 80

/** A list of entries, newest first. */
export class Wire {
  constructor(root) {
    this.list = root.querySelector('.wire-log')
    this.count = root.querySelector('.wire-count')
    this.template = document.querySelector('#entry')
    this.total = 0
  }

  request(method, path, sent, { status, body, ms }) {
    const ok = status >= 200 && status < 400
    this.#add(method, path, status ? String(status) : 'no answer', status ? `${duration(ms)}` : '', ok ? 'ok' : 'failed', { sent, answer: body })
  }

  received(event, args) {
    this.#add('event', [event, ...args.map(brief)].join(' '), '', 'received', 'event', args)
  }

  sent(event, args) {
    this.#add('emit', [event, ...args.map(brief)].join(' '), '', 'sent', 'event', args)
  }

  note(what) {
    this.#add('socket', what, '', '', 'event')
  }

  #add(kind, what, status, rest, className, detail) {
    const item = this.template.content.firstElementChild.cloneNode(true)
    item.className = className
    item.querySelector('.kind').textContent = kind
    item.querySelector('.what').textContent = what
    const result = item.querySelector('.result')
    const bold = document.createElement('b')
    bold.textContent = status
    result.append(bold, status && rest ? ` ${rest}` : rest)
    item.querySelector('pre').textContent = detail === undefined ? 'nothing more to show' : JSON.stringify(detail, null, 2)
    this.list.prepend(item)
    while (this.list.childElementCount > LONGEST) this.list.lastElementChild.remove()
    this.total += 1
    this.count.textContent = `(${this.total})`
  }
}

function duration(ms) {
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`
}

function brief(value) {
  if (value === null || typeof value !== 'object') return String(value)
  if (value.text !== undefined) return `#${value.id} ${value.author}: ${value.text}`
  return Object.values(value).join(' ')
}
