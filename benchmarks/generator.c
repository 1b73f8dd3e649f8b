// Load for Socket.IO servers (Socket.IO protocol 5 on Engine.IO 4): one thread, one epoll, loopback only.
//
//   generator --port PORT --pids PID[,PID…] --load LOAD [--connections N] [--in-flight N] [--bytes N] [--tls] [--deflate]
//
// LOAD is echo, binary, request, broadcast, rooms, polling, http or idle. All connections are made first; one line of JSON says what that
// cost the server. Then each line "WARM MEASURE" (seconds) on stdin is a turn of load, answered by one line of JSON with the server's CPU
// time per unit of work. Between turns nothing is sent but pongs. The end of stdin ends it.
//
// Every reply is compared with what it must be, and at the end of each turn none may be missing. The first wrong one ends the run with
// {"error": …} and exit status 1: a figure for wrong replies would be worth nothing.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif
#ifdef WITH_DEFLATE
#include <zlib.h>
#endif

enum load { ECHO, BINARY, REQUEST, BROADCAST, ROOMS, POLLING, HTTP, IDLE, LOADS };
static const char *const load_names[LOADS] = {"echo", "binary", "request", "broadcast", "rooms", "polling", "http", "idle"};

enum state { CONNECTING, SECURING, UPGRADING, OPENING, ATTACHING, JOINING, READY };

enum {
  SLOTS = 64,               // messages remembered per connection, or broadcasts; more than may be in flight
  FIRST_ID = 1000,          // ack ids always have four digits, so that a message is a template with a number in it
  LAST_ID = 9999,
  SEQUENCE_DIGITS = 6,      // a broadcast's payload begins with its number …
  SEQUENCES = 1000000,
  ROOM_DIGITS = 4,          // … and in rooms with the room's
  ROOM_MEMBERS = 10,
  BUFFER = 1 << 20,
  SAMPLES = 1 << 16,        // latencies kept of one turn
  CONNECT_WINDOW = 256,     // connects in progress at most
  PATIENCE_S = 15,          // without any progress
};

typedef struct connection {
  int fd, index;
  enum state state;
  char *rest;               // input that is not a whole frame or response yet
  int rest_length;
  int id;                   // the last one used
  uint16_t pending[SLOTS];  // ids without a reply, by id modulo SLOTS
  uint64_t sent_at[SLOTS];
  int awaited_attachment;   // the id whose ack was there and whose binary part comes next
  int joined;               // rooms
  uint32_t next_sequence;   // of the broadcast that must come next
  struct connection *post;  // polling: GETs go over this connection, POSTs over that one
  struct connection *get;
  bool posting, replied, owes_pong;
  char sid[64];
#ifdef WITH_TLS
  SSL *ssl;
#endif
#ifdef WITH_DEFLATE
  z_stream *inflater;
#endif
} connection;

typedef struct {
  uint32_t sequence;
  uint32_t members;         // one bit for each that has got it
  uint64_t sent_at;
} room;

static enum load load = ECHO;
static int port, connection_count = 100, in_flight = 1, payload_bytes = 32;
static bool use_tls, use_deflate;
static int pids[64], pid_count;

static connection *connections;
static room *rooms;
static int epoll_fd, ready_count;
static bool sending, measuring, stdin_ready;
static uint64_t units, outstanding;  // replies of this turn; messages without all their replies
static uint32_t broadcast_sequence, broadcast_received[SLOTS];
static uint64_t broadcast_sent_at[SLOTS];

// ---- failing

static void fail(const char *format, ...) {
  char text[600];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  for (char *c = text; *c; c++)
    if (*c < ' ' || *c == '"' || *c == '\\' || *c == 127) *c = *c == '"' ? '\'' : ' ';
  printf("{\"error\": \"%s\"}\n", text);
  fflush(stdout);
  _exit(1);
}

static void wrong(const char *what, const char *text, int length) {
  fail("%s, got %d bytes: %.*s", what, length, length > 200 ? 200 : length, text);
}

// ---- clocks, and what the server uses

static uint64_t clock_of(clockid_t clock) {
  struct timespec t;
  return clock_gettime(clock, &t) ? 0 : t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t now(void) { return clock_of(CLOCK_MONOTONIC); }

static uint64_t server_cpu(void) {  // nanoseconds of all threads of all its processes
  uint64_t sum = 0;
  for (int i = 0; i < pid_count; i++) {
    clockid_t clock;
    if (clock_getcpuclockid(pids[i], &clock)) fail("the server's process %d has ended", pids[i]);
    sum += clock_of(clock);
  }
  return sum;
}

static long server_memory(void) {  // resident KiB
  long sum = 0;
  for (int i = 0; i < pid_count; i++) {
    char path[64];
    long size, resident;
    snprintf(path, sizeof path, "/proc/%d/statm", pids[i]);
    FILE *file = fopen(path, "r");
    if (file && fscanf(file, "%ld %ld", &size, &resident) == 2) sum += resident * (sysconf(_SC_PAGESIZE) / 1024);
    if (file) fclose(file);
  }
  return sum;
}

static uint32_t latencies[SAMPLES];  // microseconds × 10
static uint64_t latency_count;

static uint32_t dice(void) {
  static uint32_t state = 2463534242u;
  state ^= state << 13;
  state ^= state >> 17;
  return state ^= state << 5;
}

static void count_unit(void) { units += measuring; }

static void record_latency(uint64_t sent_at, uint64_t time) {
  if (!measuring) return;
  uint64_t place = latency_count++;
  if (place >= SAMPLES) place = dice() % latency_count;  // every one has the same chance to be kept
  if (place < SAMPLES) latencies[place] = (time - sent_at) / 100;
}

static int by_value(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static double latency_at(double share) {
  uint64_t kept = latency_count < SAMPLES ? latency_count : SAMPLES;
  return kept ? latencies[(uint64_t)(share * (kept - 1))] / 10.0 : 0;
}

// ---- bytes in and out

#ifdef WITH_TLS
static SSL_CTX *tls_context;

static bool tls_would_block(connection *c, int result, const char *what) {
  int error = SSL_get_error(c->ssl, result);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return true;
  fail("TLS: %s: %s", what, ERR_peek_error() ? ERR_error_string(ERR_get_error(), NULL) : "connection closed");
  return false;
}
#endif

static void send_bytes(connection *c, const void *bytes, int length) {
  ssize_t sent;
#ifdef WITH_TLS
  if (c->ssl) {
    int result = SSL_write(c->ssl, bytes, length);
    if (result <= 0) tls_would_block(c, result, "write");
    sent = result;
  } else
#endif
    sent = send(c->fd, bytes, length, MSG_NOSIGNAL);
  if (sent != length) fail("the server reads no more: sent %zd of %d bytes: %s", sent, length, sent < 0 ? strerror(errno) : "buffer full");
}

static int receive_bytes(connection *c, char *bytes, int size) {  // -1: nothing more for now
#ifdef WITH_TLS
  if (c->ssl) {
    int result = SSL_read(c->ssl, bytes, size);
    if (result > 0) return result;
    tls_would_block(c, result, "read");
    return -1;
  }
#endif
  ssize_t got = recv(c->fd, bytes, size, 0);
  if (got < 0 && errno == EAGAIN) return -1;
  if (got < 0) fail("connection lost: %s", strerror(errno));
  if (!got) fail("the server closed a connection");
  return got;
}

// ---- messages

static uint8_t mask[4];  // "a server MUST close the connection upon receiving a frame that is not masked" (RFC 6455, 5.1)

static int frame_header(uint8_t *out, int opcode, int length) {
  int n = 2;
  out[0] = 0x80 | opcode;
  if (length < 126) {
    out[1] = 0x80 | length;
  } else if (length < 65536) {
    out[1] = 0x80 | 126;
    out[n++] = length >> 8;
    out[n++] = length;
  } else {
    out[1] = 0x80 | 127;
    for (int shift = 56; shift >= 0; shift -= 8) out[n++] = (uint64_t)length >> shift;
  }
  memcpy(out + n, mask, 4);
  return n + 4;
}

static int make_frame(uint8_t *out, int opcode, const char *payload, int length) {
  int n = frame_header(out, opcode, length);
  for (int i = 0; i < length; i++) out[n + i] = payload[i] ^ mask[i & 3];
  return n + length;
}

static void send_text(connection *c, const char *text) {
  uint8_t frame[200];
  send_bytes(c, frame, make_frame(frame, 1, text, strlen(text)));
}

// What is sent and what must come back, with places for numbers. Places count from the start of the text.
static uint8_t *request;      // as it goes to the wire
static int request_length, request_payload;
static int id_places[2], id_place_count;
static int sequence_place, room_places[2];
static char *expected;        // the reply's text, with zeros for its numbers
static int expected_length, expected_number;
static char *attachment;      // what a binary echo brings back
static const char common_headers[] =
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n"
    "Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nAccept-Language: en-US,en;q=0.9\r\n";

static void put_number(uint8_t *message, int place, int digits, uint32_t number) {
  for (int i = place + digits - 1; i >= place; i--, number /= 10) message[request_payload + i] = ('0' + number % 10) ^ mask[i & 3];
}

static int get_number(const char *text, int digits) {  // -1: not a number
  int number = 0;
  for (int i = 0; i < digits; i++) {
    if (text[i] < '0' || text[i] > '9') return -1;
    number = number * 10 + text[i] - '0';
  }
  return number;
}

static bool starts_with(const char *text, int length, const char *prefix) {
  int n = strlen(prefix);
  return length >= n && !memcmp(text, prefix, n);
}

static bool is_expected(const char *text, int length, int digits) {  // in all but the number
  int after = expected_number + digits;
  return length == expected_length && !memcmp(text, expected, expected_number) && !memcmp(text + after, expected + after, length - after);
}

static char *make_filler(int length) {  // letters and blanks that compress about as well as text does
  char *text = calloc(1, length + 1);
  for (int i = 0; i < length; i++) text[i] = i % 7 == 6 ? ' ' : "etaoinsrhld"[dice() % 11];
  return text;
}

static void make_messages(void) {
  char *filler = make_filler(payload_bytes), *text;
  int length;
  request = malloc(2 * payload_bytes + 1024);
  id_places[0] = expected_number = 2;
  id_place_count = 1;
  if (load == HTTP) {
    memset(mask, 0, sizeof mask);
    length = asprintf(&text, "GET /hello/0000 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\n", port, common_headers);
    id_places[0] = strlen("GET /hello/");
    expected_length = asprintf(&expected, "{\"hello\":\"0000\"}");
    expected_number = strlen("{\"hello\":\"");
    memcpy(request, text, request_length = length);
    free(text);
    return;
  }
  if (load == REQUEST) {
    length = asprintf(&text, "420000[\"get\",{\"url\":\"/hello/0000\"}]");
    id_places[id_place_count++] = strlen("420000[\"get\",{\"url\":\"/hello/");
  } else if (load == BINARY) {
    attachment = filler;
    length = asprintf(&text, "451-0000[\"echo\",{\"_placeholder\":true,\"num\":0}]");
    expected_length = asprintf(&expected, "461-0000[{\"_placeholder\":true,\"num\":0}]");
    id_places[0] = expected_number = 4;
  } else if (load == BROADCAST) {
    length = asprintf(&text, "42[\"broadcast\",\"%s\"]", filler);
    expected_length = asprintf(&expected, "42[\"msg\",\"%s\"]", filler);
  } else if (load == ROOMS) {
    length = asprintf(&text, "42[\"room\",\"r0000\",\"%s\"]", filler);
    room_places[1] = strlen("42[\"room\",\"r");
    expected_length = asprintf(&expected, "42[\"msg\",\"%s\"]", filler);
  } else {
    length = asprintf(&text, "420000[\"echo\",\"%s\"]", filler);
    expected_length = asprintf(&expected, "430000[\"%s\"]", filler);
  }
  if (load == BROADCAST || load == ROOMS) {
    sequence_place = length - payload_bytes - 2;
    room_places[0] = sequence_place + SEQUENCE_DIGITS;
    expected_number = expected_length - payload_bytes - 2;
  }
  if (load == POLLING) memset(mask, 0, sizeof mask);
  request_length = load == POLLING ? length : make_frame(request, 1, text, length);
  if (load == POLLING) memcpy(request, text, length);
  request_payload = request_length - length;
  if (attachment) request_length += make_frame(request + request_length, 2, attachment, payload_bytes);
  free(text);
}

// ---- sending load

static int take_id(connection *c, uint64_t time) {
  do c->id = c->id >= LAST_ID || c->id < FIRST_ID ? FIRST_ID : c->id + 1;
  while (c->pending[c->id % SLOTS]);  // handlers may finish in any order
  c->pending[c->id % SLOTS] = c->id;
  c->sent_at[c->id % SLOTS] = time;
  outstanding++;
  return c->id;
}

static void finish_id(connection *c, int id, uint64_t time) {
  c->pending[id % SLOTS] = 0;
  outstanding--;
  count_unit();
  record_latency(c->sent_at[id % SLOTS], time);
}

static void send_requests(connection *c, int count, uint64_t time) {  // in one send(): they were answered in one read
  static uint8_t output[BUFFER];
  int n = 0;
  if (!sending) return;
  for (int i = 0; i < count; i++) {
    if (n + request_length > BUFFER) fail("--in-flight × --bytes is more than %d", BUFFER);
    memcpy(output + n, request, request_length);
    int id = take_id(c, time);
    for (int k = 0; k < id_place_count; k++) put_number(output + n, id_places[k], 4, id);
    n += request_length;
  }
  send_bytes(c, output, n);
}

static void send_broadcast(uint64_t time) {
  if (!sending) return;
  put_number(request, sequence_place, SEQUENCE_DIGITS, broadcast_sequence);
  broadcast_sent_at[broadcast_sequence % SLOTS] = time;
  broadcast_received[broadcast_sequence % SLOTS] = 0;
  broadcast_sequence = (broadcast_sequence + 1) % SEQUENCES;
  outstanding++;
  send_bytes(&connections[0], request, request_length);
}

static void send_to_room(int number, uint64_t time) {
  room *r = &rooms[number];
  if (!sending) return;
  r->sequence = (r->sequence + 1) % SEQUENCES;
  r->members = 0;
  r->sent_at = time;
  put_number(request, sequence_place, SEQUENCE_DIGITS, r->sequence);
  put_number(request, room_places[0], ROOM_DIGITS, number);
  put_number(request, room_places[1], ROOM_DIGITS, number);
  outstanding++;
  send_bytes(&connections[number], request, request_length);
}

static void send_http(connection *c, const char *method, const char *body, int length) {
  char text[1024 + length];
  int n = snprintf(text, 1024, "%s /socket.io/?EIO=4&transport=polling%s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s", method,
                   c->get->sid[0] ? "&sid=" : "", c->get->sid, port, common_headers);
  if (body) n += snprintf(text + n, 1024 - n, "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: %d\r\n", length);
  n += snprintf(text + n, 1024 - n, "\r\n");
  memcpy(text + n, body, length);
  send_bytes(c, text, n + length);
}

static void post(connection *client, const char *body, int length) {
  client->posting = true;
  send_http(client->post, "POST", body, length);
}

static void post_echo(connection *client, uint64_t time) {
  if (!sending) return;
  put_number(request, id_places[0], 4, take_id(client, time));
  client->replied = false;
  post(client, (char *)request, request_length);
}

static void start_load(void) {
  uint64_t time = now();
  switch (load) {
    case IDLE: return;
    case BROADCAST:
      for (int i = 0; i < in_flight; i++) send_broadcast(time);
      return;
    case ROOMS:
      for (int i = 0; i < in_flight; i++) send_to_room(i, time);
      return;
    case POLLING:
      for (int i = 0; i < connection_count; i++) post_echo(&connections[i], time);
      return;
    default:
      for (int i = 0; i < connection_count; i++) send_requests(&connections[i], in_flight, time);
  }
}

// ---- replies

static int replies;  // to requests, in the input that is looked at

static void take_reply(connection *c, int id, const char *text, int length, uint64_t time) {
  if (id < FIRST_ID || c->pending[id % SLOTS] != id) wrong("a reply that nobody waits for", text, length);
  finish_id(c, id, time);
  replies++;
}

static void on_echo(connection *c, const char *text, int length, uint64_t time) {
  if (!is_expected(text, length, 4)) wrong("a wrong echo", text, length);
  int id = get_number(text + expected_number, 4);
  if (load == BINARY) c->awaited_attachment = id;
  else take_reply(c, id, text, length, time);
}

static void on_attachment(connection *c, const char *bytes, int length, uint64_t time) {
  if (!c->awaited_attachment || length != payload_bytes || memcmp(bytes, attachment, length)) wrong("a wrong attachment", bytes, length);
  take_reply(c, c->awaited_attachment, bytes, length, time);
  c->awaited_attachment = 0;
}

static void on_answer(connection *c, const char *text, int length, uint64_t time) {  // to a socket request
  int id = starts_with(text, length, "43") && length > 8 ? get_number(text + 2, 4) : -1;
  char body[32];
  int n = snprintf(body, sizeof body, "{\"hello\":\"%04d\"}", id);
  if (id < 0 || !memmem(text, length, body, n) || !memmem(text, length, "\"statusCode\":200", 16)) wrong("a wrong answer", text, length);
  take_reply(c, id, text, length, time);
}

static void on_broadcast(connection *c, const char *text, int length, uint64_t time) {
  if (!is_expected(text, length, SEQUENCE_DIGITS)) wrong("a wrong broadcast", text, length);
  if (get_number(text + expected_number, SEQUENCE_DIGITS) != (int)c->next_sequence)
    wrong("a broadcast lost, doubled or out of order", text, length);
  int slot = c->next_sequence % SLOTS;
  c->next_sequence = (c->next_sequence + 1) % SEQUENCES;
  count_unit();
  if (++broadcast_received[slot] < (uint32_t)connection_count) return;
  outstanding--;
  record_latency(broadcast_sent_at[slot], time);
  send_broadcast(time);
}

static void on_room(connection *c, const char *text, int length, uint64_t time) {
  if (!is_expected(text, length, SEQUENCE_DIGITS + ROOM_DIGITS)) wrong("a wrong room message", text, length);
  int number = get_number(text + expected_number + SEQUENCE_DIGITS, ROOM_DIGITS);
  if (number < 0 || number >= connection_count) wrong("a message of no room", text, length);
  room *r = &rooms[number];
  int member = (number - c->index + connection_count) % connection_count;  // connection c is in the rooms c … c + 9
  if (member >= ROOM_MEMBERS) wrong("a message of a room that was not joined", text, length);
  if (get_number(text + expected_number, SEQUENCE_DIGITS) != (int)r->sequence || r->members >> member & 1)
    wrong("a room message doubled or late", text, length);
  r->members |= 1u << member;
  count_unit();
  if (r->members != (1u << ROOM_MEMBERS) - 1) return;
  outstanding--;
  record_latency(r->sent_at, time);
  send_to_room((number + in_flight) % connection_count, time);
}

// ---- WebSocket

static void become_ready(connection *c) {
  c->state = READY;
  ready_count++;
}

static void join_rooms(connection *c) {
  c->state = JOINING;
  for (int i = 0; i < ROOM_MEMBERS; i++) {
    char text[64];
    snprintf(text, sizeof text, "42%d[\"join\",\"r%04d\"]", i, (c->index + i) % connection_count);
    send_text(c, text);
  }
}

static void on_text(connection *c, const char *text, int length, uint64_t time) {
  if (length == 1 && text[0] == '2') {
    send_text(c, "3");
  } else if (c->state == OPENING) {
    if (!starts_with(text, length, "0{\"")) wrong("no Engine.IO handshake", text, length);
    c->state = ATTACHING;
    send_text(c, "40");
  } else if (c->state == ATTACHING) {
    if (!starts_with(text, length, "40{\"sid\":\"")) wrong("no Socket.IO handshake", text, length);
    if (load == ROOMS) join_rooms(c);
    else become_ready(c);
  } else if (c->state == JOINING) {
    if (!starts_with(text, length, "43")) wrong("no ack of a join", text, length);
    if (++c->joined == ROOM_MEMBERS) become_ready(c);
  } else if (load == ECHO || load == BINARY) {
    on_echo(c, text, length, time);
  } else if (load == REQUEST) {
    on_answer(c, text, length, time);
  } else if (load == BROADCAST) {
    on_broadcast(c, text, length, time);
  } else if (load == ROOMS) {
    on_room(c, text, length, time);
  } else {
    wrong("an unasked message", text, length);
  }
}

static void send_upgrade(connection *c) {
  char text[1024];
  int n = snprintf(text, sizeof text,
                   "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s"
                   "Connection: Upgrade\r\nUpgrade: websocket\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n"
                   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
                   port, common_headers, use_deflate ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" : "");
  c->state = UPGRADING;
  send_bytes(c, text, n);
}

static int parse_upgrade(connection *c, char *text, int length) {  // gives the bytes used, 0 if it is not complete
  char *end = memmem(text, length, "\r\n\r\n", 4);
  if (!end) return 0;
  *end = 0;
  // the answer to the key above, from RFC 6455, 1.3
  if (!starts_with(text, length, "HTTP/1.1 101 ") || !strstr(text, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) wrong("no WebSocket", text, end - text);
  if (use_deflate != !!strcasestr(text, "permessage-deflate")) wrong("another choice of compression than asked for", text, end - text);
  c->state = OPENING;
  return end - text + 4;
}

#ifdef WITH_DEFLATE
static int inflate_message(connection *c, char *bytes, int length, char **out) {
  static char output[BUFFER];
  static uint8_t tail[4] = {0, 0, 0xff, 0xff};  // "Append 4 octets of 0x00 0x00 0xff 0xff to the tail end" (RFC 7692, 7.2.2)
  if (!c->inflater) {
    c->inflater = calloc(1, sizeof *c->inflater);
    if (inflateInit2(c->inflater, -15) != Z_OK) fail("zlib: inflateInit2");
  }
  c->inflater->next_out = (Bytef *)output;
  c->inflater->avail_out = BUFFER;
  for (int part = 0; part < 2; part++) {
    c->inflater->next_in = part ? tail : (Bytef *)bytes;
    c->inflater->avail_in = part ? 4 : length;
    int result = inflate(c->inflater, Z_SYNC_FLUSH);
    if (result != Z_OK && result != Z_BUF_ERROR) fail("a compressed message cannot be read: zlib says %d", result);
  }
  *out = output;
  return BUFFER - c->inflater->avail_out;
}
#endif

static int parse_frame(connection *c, char *bytes, int length, uint64_t time) {
  const uint8_t *f = (uint8_t *)bytes;
  if (length < 2) return 0;
  int header = 2, extended = f[1] == 127 ? 8 : f[1] == 126 ? 2 : 0;
  if (f[1] & 0x80) wrong("a masked frame", bytes, length);
  if (length < header + extended) return 0;
  uint64_t size = extended ? 0 : f[1];
  while (extended--) size = size << 8 | f[header++];
  if ((uint64_t)(length - header) < size) return 0;
  char *payload = bytes + header;
  int n = size;
#ifdef WITH_DEFLATE
  if (use_deflate && f[0] & 0x40) {
    n = inflate_message(c, payload, n, &payload);
  } else
#endif
    if (f[0] & 0x70) wrong("a frame with reserved bits", bytes, length);
  if ((f[0] & 0x8f) == 0x81) {
    on_text(c, payload, n, time);
  } else if ((f[0] & 0x8f) == 0x82) {
    on_attachment(c, payload, n, time);
  } else if (f[0] == 0x89 && n < 126) {
    uint8_t pong[140];
    send_bytes(c, pong, make_frame(pong, 10, payload, n));
  } else {
    wrong("a close or a frame that nobody expects", bytes, length);
  }
  return header + size;
}

// ---- HTTP: plain requests, and long-polling with one connection for GETs and one for POSTs

static void on_open_packet(connection *client, const char *body, int length) {
  const char *sid = memmem(body, length, "\"sid\":\"", 7);
  const char *end = sid ? memchr(sid + 7, '"', body + length - sid - 7) : NULL;
  if (!starts_with(body, length, "0{\"") || !end || end - sid - 7 >= (int)sizeof client->sid) wrong("no Engine.IO handshake", body, length);
  memcpy(client->sid, sid + 7, end - sid - 7);
  client->state = ATTACHING;
  post(client, "40", 2);
}

static void on_polled_packet(connection *client, const char *packet, int length, uint64_t time) {
  if (length == 1 && packet[0] == '2') {
    client->owes_pong = true;
  } else if (length == 1 && packet[0] == '6') {
    return;
  } else if (client->state == ATTACHING) {
    if (!starts_with(packet, length, "40{\"sid\":\"")) wrong("no Socket.IO handshake", packet, length);
    become_ready(client);
  } else {
    on_echo(client, packet, length, time);
    client->replied = true;
  }
}

static void on_polled(connection *c, const char *body, int length, uint64_t time) {
  connection *client = c->get;
  if (c == client->post) {
    client->posting = false;
  } else {
    if (client->state == OPENING) on_open_packet(client, body, length);
    else
      for (int start = 0, end; start < length; start = end + 1) {
        const char *separator = memchr(body + start, 0x1e, length - start);
        end = separator ? separator - body : length;
        on_polled_packet(client, body + start, end - start, time);
      }
    send_http(client, "GET", NULL, 0);
  }
  if (client->posting || client->state != READY) return;
  if (client->owes_pong) {
    client->owes_pong = false;
    post(client, "3", 1);
  } else if (client->replied) {
    post_echo(client, time);
  }
}

static void on_response(connection *c, const char *body, int length, uint64_t time) {
  if (load == POLLING) {
    on_polled(c, body, length, time);
    return;
  }
  if (!is_expected(body, length, 4)) wrong("a wrong response", body, length);
  take_reply(c, get_number(body + expected_number, 4), body, length, time);
}

static int join_chunks(const char *text, int length, char *body, int *body_length) {  // gives the bytes used, 0 if it is not complete
  *body_length = 0;
  for (int at = 0;;) {
    char *line_end = memmem(text + at, length - at, "\r\n", 2);
    if (!line_end) return 0;
    long size = strtol(text + at, NULL, 16);
    int start = line_end - text + 2;
    if (size < 0 || size > BUFFER || length < start + size + 2) return 0;
    memcpy(body + *body_length, text + start, size);
    *body_length += size;
    at = start + size + 2;
    if (!size) return at;
  }
}

static int parse_response(connection *c, char *text, int length, uint64_t time) {
  static char joined[BUFFER];
  char *end = memmem(text, length, "\r\n\r\n", 4);
  if (!end) return 0;
  char *body = end + 4;
  int header = body - text, body_length, used;
  if (!starts_with(text, length, "HTTP/1.1 200 ")) wrong("an HTTP response but not 200", text, length);
  *end = 0;
  char *field = strcasestr(text, "\ncontent-length:");
  bool chunked = strcasestr(text, "\ntransfer-encoding: chunked");
  *end = '\r';
  if (chunked) {
    if (!(used = join_chunks(body, length - header, joined, &body_length))) return 0;
    body = joined;
  } else {
    if (!field) wrong("an HTTP response without a length", text, length);
    used = body_length = atoi(field + strlen("\ncontent-length:"));
    if (length - header < used) return 0;
  }
  on_response(c, body, body_length, time);
  return header + used;
}

// ---- connections

static void on_input(connection *c, char *text, int length) {
  uint64_t time = now();
  int used = 0;
  replies = 0;
  while (used < length) {
    int n = load == HTTP || load == POLLING ? parse_response(c, text + used, length - used, time)
            : c->state == UPGRADING         ? parse_upgrade(c, text + used, length - used)
                                            : parse_frame(c, text + used, length - used, time);
    if (!n) break;
    used += n;
  }
  c->rest_length = length - used;
  if (c->rest_length) {
    c->rest = realloc(c->rest, c->rest_length);
    memcpy(c->rest, text + used, c->rest_length);
  } else if (c->rest) {
    free(c->rest);
    c->rest = NULL;
  }
  if (replies && load != POLLING) send_requests(c, replies, time);
}

static void on_readable(connection *c) {
  static char input[BUFFER + 1];
  for (;;) {
    int kept = c->rest_length, space = BUFFER - kept;
    if (kept) memcpy(input, c->rest, kept);
    int got = receive_bytes(c, input + kept, space);
    if (got < 0) return;
    input[kept + got] = 0;
    on_input(c, input, kept + got);
    // What came meanwhile is told by epoll, except what TLS has already taken from the socket.
    if (!use_tls && got < space) return;
  }
}

static void watch(connection *c, int operation, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  epoll_ctl(epoll_fd, operation, c->fd, &event);
}

static void start_connection(connection *c) {
  int one = 1;
  struct linger reset = {1, 0};  // thousands of connections in TIME-WAIT would be in the way of the next ones
  struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (c->fd < 0) fail("socket: %s", strerror(errno));
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  if (connect(c->fd, (void *)&server, sizeof server) && errno != EINPROGRESS) fail("connect: %s", strerror(errno));
  watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void on_open(connection *c) {  // the way to the server is there, with TLS if wanted
  if (load == HTTP) {
    become_ready(c);
  } else if (load == POLLING) {
    c->state = OPENING;
    if (c == c->get) send_http(c, "GET", NULL, 0);
  } else {
    send_upgrade(c);
  }
}

static void on_connected(connection *c) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error) fail("connect: %s", strerror(error));
  watch(c, EPOLL_CTL_MOD, EPOLLIN);
#ifdef WITH_TLS
  if (use_tls) {
    c->ssl = SSL_new(tls_context);
    SSL_set_fd(c->ssl, c->fd);
    c->state = SECURING;
    int result = SSL_connect(c->ssl);
    if (result != 1) tls_would_block(c, result, "handshake");
    return;
  }
#endif
  on_open(c);
}

static void on_event(connection *c) {
  if (c->state == CONNECTING) {
    on_connected(c);
    return;
  }
#ifdef WITH_TLS
  if (c->state == SECURING) {
    int result = SSL_connect(c->ssl);
    if (result == 1) on_open(c);
    else tls_would_block(c, result, "handshake");
    return;
  }
#endif
  on_readable(c);
}

static void wait_for_events(int milliseconds) {
  static struct epoll_event events[1024];
  int n = epoll_wait(epoll_fd, events, 1024, milliseconds);
  for (int i = 0; i < n; i++) {
    if (events[i].data.ptr) on_event(events[i].data.ptr);
    else stdin_ready = true;
  }
}

static void run_for(double seconds) {
  for (uint64_t end = now() + (uint64_t)(seconds * 1e9); now() < end;) wait_for_events(1);
}

// ---- the run

static void make_connections(void) {
  connections = calloc(load == POLLING ? 2 * connection_count : connection_count, sizeof *connections);
  rooms = calloc(connection_count, sizeof *rooms);
  for (int i = 0; i < connection_count; i++) {
    connection *c = &connections[i];
    c->index = i;
    if (load != POLLING) continue;
    c->get = c;
    c->post = &connections[connection_count + i];
    *c->post = (connection){.index = i, .get = c};
  }
}

static void connect_all(void) {
  long memory = server_memory();
  uint64_t begin = now(), cpu = server_cpu(), progress = begin;
  for (int started = 0, seen = 0; ready_count < connection_count;) {
    for (; started < connection_count && started - ready_count < CONNECT_WINDOW; started++) {
      if (load == POLLING) start_connection(connections[started].post);
      start_connection(&connections[started]);
    }
    wait_for_events(10);
    if (ready_count != seen) {
      seen = ready_count;
      progress = now();
    } else if (now() - progress > PATIENCE_S * 1000000000ull) {
      fail("%d of %d connections are made, and nothing has come for %d s", ready_count, connection_count, PATIENCE_S);
    }
  }
  double seconds = (now() - begin) / 1e9;
  cpu = server_cpu() - cpu;
  if (load == IDLE) run_for(1);  // what was used for connecting may be given back
  printf("{\"units\": %d, \"seconds\": %.4f, \"cpu_us\": %.4f, \"per_s\": %.1f, \"kib\": %.4f}\n", connection_count, seconds,
         cpu / 1e3 / connection_count, connection_count / seconds, (double)(server_memory() - memory) / connection_count);
  fflush(stdout);
}

static void drain(void) {
  sending = false;
  uint64_t left = outstanding, progress = now();
  while (outstanding) {
    wait_for_events(1);
    if (outstanding != left) {
      left = outstanding;
      progress = now();
    } else if (now() - progress > PATIENCE_S * 1000000000ull) {
      fail("%lu replies are missing", outstanding);
    }
  }
}

static void load_for(double seconds) {
  sending = true;
  start_load();
  run_for(seconds);
  drain();
}

// From the first message to the last reply: some servers work in bursts, and a window cut out of them would count the work of one
// burst and the replies of another.
static void take_turn(double warm, double measured) {
  if (warm > 0) load_for(warm);
  units = latency_count = 0;
  measuring = true;
  uint64_t begin = now(), cpu = server_cpu(), own = clock_of(CLOCK_PROCESS_CPUTIME_ID);
  load_for(measured);
  double seconds = (now() - begin) / 1e9;
  cpu = server_cpu() - cpu;
  own = clock_of(CLOCK_PROCESS_CPUTIME_ID) - own;
  measuring = false;
  qsort(latencies, latency_count < SAMPLES ? latency_count : SAMPLES, sizeof *latencies, by_value);
  printf("{\"units\": %lu, \"seconds\": %.4f, \"cpu_us\": %.4f, \"per_s\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, ", units, seconds,
         units ? cpu / 1e3 / units : 0, units / seconds, latency_at(.5), latency_at(.99));
  printf("\"server_share\": %.3f, \"generator_share\": %.3f}\n", cpu / 1e9 / seconds, own / 1e9 / seconds);
  fflush(stdout);
}

static bool read_command(double *warm, double *measured) {
  char line[100];
  while (!stdin_ready) wait_for_events(1000);
  stdin_ready = false;
  return fgets(line, sizeof line, stdin) && sscanf(line, "%lf %lf", warm, measured) == 2;
}

static void read_options(int count, char **words) {
  for (int i = 1; i < count; i++) {
    const char *option = words[i];
    if (!strcmp(option, "--tls")) {
      use_tls = true;
      continue;
    }
    if (!strcmp(option, "--deflate")) {
      use_deflate = true;
      continue;
    }
    char *value = ++i < count ? words[i] : "";
    if (!strcmp(option, "--port")) port = atoi(value);
    else if (!strcmp(option, "--connections")) connection_count = atoi(value);
    else if (!strcmp(option, "--in-flight")) in_flight = atoi(value);
    else if (!strcmp(option, "--bytes")) payload_bytes = atoi(value);
    else if (!strcmp(option, "--pids")) {
      for (char *pid = strtok(value, ","); pid && pid_count < 64; pid = strtok(NULL, ",")) pids[pid_count++] = atoi(pid);
    } else if (!strcmp(option, "--load")) {
      for (load = 0; load < LOADS && strcmp(value, load_names[load]);) load++;
      if (load == LOADS) fail("no such load: %s", value);
    } else {
      fail("no such option: %s", option);
    }
  }
  if (port < 1 || !pid_count) fail("--port and --pids must be given");
  if (connection_count < 1) fail("--connections must be at least 1");
  if (in_flight < 1 || (load != ROOMS && in_flight > SLOTS / 2)) fail("--in-flight must be from 1 to %d", SLOTS / 2);
  if (load == ROOMS && (connection_count < ROOM_MEMBERS || connection_count > 9999 || in_flight > connection_count || connection_count % in_flight))
    fail("rooms needs from 10 to 9,999 connections, and --in-flight must divide them");
  if (payload_bytes < 16 || payload_bytes > BUFFER / 64) fail("--bytes must be from 16 to %d", BUFFER / 64);
}

int main(int count, char **words) {
  memcpy(mask, "\x5b\xc3\x17\xe9", 4);  // not zero: that would spare a server the work
  read_options(count, words);
  make_messages();
  make_connections();
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
#ifdef WITH_TLS
  if (use_tls) tls_context = SSL_CTX_new(TLS_client_method());
#else
  if (use_tls) fail("this generator was built without OpenSSL");
#endif
#ifndef WITH_DEFLATE
  if (use_deflate) fail("this generator was built without zlib");
#endif
  connect_all();
  setvbuf(stdin, NULL, _IONBF, 0);  // so that epoll knows of every line
  struct epoll_event event = {.events = EPOLLIN};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event);
  for (double warm, measured; read_command(&warm, &measured);) take_turn(warm, measured);
  return 0;
}
