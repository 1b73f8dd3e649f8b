// How long to wait before the next attempt: longer each time, and never the same for all clients.

/**
 * Give the delay before an attempt (0 is the first), in milliseconds.
 *
 * It doubles from `delay` up to `max`, and `random` (0 to 1) spreads it by the part `jitter` of itself. socket.io-client clamps what it has
 * spread, so that from the fifth attempt on all clients of a server that was gone come back at the same moment; here it is clamped first.
 */
export function backoff(attempt: number, delay: number, max: number, jitter: number, random = Math.random()): number {
  const middle = Math.min(delay * 2 ** attempt, max);
  const least = middle * (1 - jitter);
  return Math.floor(least + (Math.min(middle * (1 + jitter), max) - least) * random);
}
