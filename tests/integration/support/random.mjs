/** Random numbers that can be had again: the seed is printed, BAKEND_SEED=<seed> repeats them. */

/** number: in [0, 1); below: a whole one in [0, n); between: a whole one in [a, b]. */
export function createRandom(t) {
  const seed = Number(process.env.BAKEND_SEED ?? Math.floor(Math.random() * 2 ** 32));
  t.diagnostic(`seed ${seed} (BAKEND_SEED=${seed} repeats it)`);
  let state = seed >>> 0;
  /* mulberry32: 32 bits of state are plenty to vary a test. */
  const number = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (n) => Math.floor(number() * n);
  return { seed, number, below, between: (a, b) => a + below(b - a + 1) };
}
