/**
 * The corpus of hostile requests through nginx, which keeps a few connections to the server and
 * sends everybody's requests over them, and which passes on odd headers and unfinished bodies.
 * Whatever it makes of a request, the next client gets the answer to his own request, nothing that
 * was hidden in a body is done, and nothing is done more often than it was answered.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { promise } from '../support/promise.mjs';
import { Closed, requestText, Wire } from '../support/wire.mjs';
import { readCorpus } from './support/corpus.mjs';
import { hasNginx, startNginx } from './support/nginx.mjs';
import { startThings } from './support/things.mjs';

const PATIENCE_MS = 1000;

/** How many answers to POST with 200 came, until the connection ended or nothing came any more. */
async function countDone(wire) {
  let done = 0;
  for (;;) {
    try {
      const answer = await wire.answer({ timeoutMs: PATIENCE_MS });
      if (answer.status === 200 && answer.text.includes('"collectionName":"things"')) done++;
    } catch (error) {
      if (error instanceof Closed || /^(no answer in|not a status line)/.test(error.message))
        return done;
      throw error;
    }
  }
}

test('behind a proxy nobody gets an answer that is not his', async (t) => {
  if (!hasNginx()) {
    t.skip('nginx is not installed');
    return;
  }
  const things = await startThings(t);
  const port = await startNginx(t, things.server.port);
  const smuggler = async (entry) => {
    const wire = await Wire.open(port);
    wire.write(entry.data);
    /* The end of what is sent: nginx does not wait for a rest that does not come. */
    wire.end();
    const done = await countDone(wire);
    wire.destroy();
    return done;
  };
  let number = 0,
    done = 0;
  for (const entry of readCorpus()) {
    done += await smuggler(entry);
    for (let i = 0; i < 2; i++) {
      const title = `innocent ${++number}`;
      const wire = await Wire.open(port);
      wire.write(requestText('POST', '/things', { title }));
      const { status, json } = await wire.answer();
      assert.deepEqual([status, json.title], [200, title], `after ${entry.name}: ${entry.why}`);
      wire.destroy();
    }
  }
  const { visible = 0, smuggled = 0, ...others } = await things.count();
  assert.equal(Object.keys(others).length, number, 'each of the others once');
  assert.ok(Object.values(others).every((count) => count === 1));
  assert.equal(visible + smuggled, done, 'what was done was answered to who had sent it');
  promise(
    t,
    'hostile requests behind nginx',
    `${number} requests of others in between, each with its own answer; ` +
      `${done} of the corpus done and answered, 0 more than once`,
  );
});
