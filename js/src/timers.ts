// Timers that may let Node.js end.

/** Call a function later; gives a function that prevents it. */
export function later(delay: number, act: () => void, unref?: boolean): () => void {
  const timer: any = setTimeout(act, delay);
  if (unref) timer.unref?.();
  return () => clearTimeout(timer);
}
