/**
 * A promise that was just held, with its figure, for the summary of `scripts/test --all`: one line
 * in the file that BAKEND_PROMISES names, and in the output of the test.
 */
import { appendFileSync } from 'node:fs';

/**
 * @param {import('node:test').TestContext} t
 * @param {string} name what is promised, as docs/reliability.md calls it: 'kill -9'
 * @param {string} figure what was measured: '200 rounds, 201,184 acknowledged, 0 lost'
 */
export function promise(t, name, figure) {
  t.diagnostic(`promise ${name}: ${figure}`);
  if (process.env.BAKEND_PROMISES) appendFileSync(process.env.BAKEND_PROMISES, `${name}: ${figure}\n`);
}
