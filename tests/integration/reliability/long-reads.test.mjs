/**
 * Reads that take all the time that a read may have, many at once, of clients that wait for them
 * and of clients that have gone: whoever asks for little is answered before them.
 *
 * Nothing here depends on the speed of the machine: what is held against each other is how many of
 * the long ones are over when the short ones are.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { promise } from '../support/promise.mjs';
import { createCollection, createRecord, open, recordsPath } from '../support/records.mjs';
import { requestText, Wire } from '../support/wire.mjs';
import { comes } from './support/process.mjs';
import { startThings } from './support/things.mjs';

const LONG_READS = 30;
const SHORT_READS = 10;
const RECORDS = 200; /* their cube is more than is looked through in a read's time */

const isAnswered = (wire) => wire.pending.includes('\r\n\r\n');
const isOver = (wire) => wire.isEnded || isAnswered(wire);

/** A list over every three records together, of which there are none yet. */
function createLong(server, token) {
  return createCollection(server, token, {
    name: 'long',
    type: 'view',
    listRule: '',
    viewQuery:
      'SELECT a.id, a.title FROM things a, things b, things c ' +
      "WHERE a.title || b.title || c.title = 'there is none'",
  });
}

async function ask(port, { isLeft }) {
  const wire = await Wire.open(port, { allowHalfOpen: true });
  wire.write(requestText('GET', `${recordsPath('long')}?perPage=1`));
  if (isLeft) wire.end();
  return wire;
}

test('short reads are answered before long ones', async (t) => {
  const { server, token } = await startThings(t);
  await createLong(server, token);
  await createCollection(server, token, {
    name: 'notes',
    ...open,
    viewRule: '@collection.notes.title ?= title',
    fields: [{ name: 'title', type: 'text' }],
  });
  const note = await createRecord(server, token, 'notes', { title: 'short' });
  const make = () => createRecord(server, token, 'things', { title: 'x' });
  for (let i = 0; i < RECORDS; i += 20) await Promise.all(Array.from({ length: 20 }, make));
  const alone = await server.request('GET', `${recordsPath('long')}?perPage=1`);
  assert.match(alone.body.message, /took too long/, 'a long one takes all of its time');

  for (const [name, how] of [
    ['of clients that wait for them', { isLeft: false }],
    ['of clients that have closed their side', { isLeft: true }],
  ]) {
    await t.test(name, async (tt) => {
      const wires = await Promise.all(
        Array.from({ length: LONG_READS }, () => ask(server.port, how)),
      );
      const short = [recordsPath('notes', note.id), `${recordsPath('notes')}?filter=title="short"`];
      let slowest = 0;
      for (let i = 0; i < SHORT_READS; i++) {
        const began = performance.now();
        const { status } = await server.request('GET', short[i % short.length]);
        assert.equal(status, 200);
        slowest = Math.max(slowest, performance.now() - began);
      }
      /* Those of clients that may have gone are given up after a while, which is no answer. */
      const answered = wires.filter(isAnswered).length;
      assert.ok(answered < LONG_READS / 2, `${answered} of ${LONG_READS} long ones came first`);
      promise(
        tt,
        'long reads',
        `${LONG_READS} ${name}: ${SHORT_READS} short ones were answered when ${answered} were, ` +
          `the slowest after ${slowest.toFixed(0)} ms`,
      );
      /* Who waits is told in the end; who may have gone is not worked for for long. */
      assert.ok(await comes(() => wires.every(isOver), 60_000), 'all come to their end');
      if (!how.isLeft)
        for (const wire of wires) assert.match((await wire.answer()).text, /took too long/);
      wires.forEach((wire) => wire.destroy());
    });
  }
});
