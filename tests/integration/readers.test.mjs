/**
 * Readers of every kind beside random writes, random stops and a server that is killed: each sees
 * every event that it asked for, in order, exactly once (a named consumer: at least once), whatever
 * happened on the way.
 *
 * BAKEND_LONG=1: for minutes instead of seconds.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { addNeighbours } from './support/neighbours.mjs';
import { checkContiguous, readFeed } from './support/feed.mjs';
import { startServer, temporaryFolder } from './support/program.mjs';
import { createRandom } from './support/random.mjs';
import { ConsumerReader, PageReader, SocketReader, StreamReader } from './support/readers.mjs';
import { createCollection, open, recordsPath } from './support/records.mjs';
import { operatorToken } from './support/superuser.mjs';

const STEPS = process.env.BAKEND_LONG === '1' ? 600 : 60;
const STEP_MS = 50;
const CATCH_UP_MS = 20_000;
const RESTART_MS = 8_000;
const KINDS = ['posts.*', 'people.created,posts.deleted', '*'];

const matches = (types, type) =>
  types.split(',').some((pattern) => pattern === '*' || pattern === type ||
    (pattern.endsWith('.*') && type.startsWith(pattern.slice(0, -1)))) && !type.startsWith('_');

/** Writes until it is told to stop; what fails because the server is away is not missed. */
class Writer {
  ids = [];
  isRunning = true;

  constructor(home, token, random) {
    Object.assign(this, { home, token, random });
    this.done = this.#write();
  }

  async #write() {
    while (this.isRunning) {
      try {
        await this.#one();
      } catch {
        await sleep(10);
      }
      await sleep(this.random.below(8));
    }
  }

  async #one() {
    const { server } = this.home;
    const collection = this.random.below(2) === 0 ? 'posts' : 'people';
    const as = { token: this.token };
    const kind = this.random.below(4);
    if (kind === 0 && this.ids.length > 0) {
      const [name, id] = this.ids.splice(this.random.below(this.ids.length), 1)[0];
      await server.request('DELETE', recordsPath(name, id), undefined, as);
    } else if (kind === 1 && this.ids.length > 0) {
      const [name, id] = this.ids[this.random.below(this.ids.length)];
      await server.request('PATCH', recordsPath(name, id), { title: `t${this.random.below(1e6)}` }, as);
    } else {
      const answer = await server.request('POST', recordsPath(collection), { title: 'new' }, as);
      if (answer.status === 200) this.ids.push([collection, answer.body.id]);
    }
  }

  async stop() {
    this.isRunning = false;
    await this.done;
  }
}

/** Holds what a reader has seen against what happened. */
function check(name, reader, events) {
  const wanted = events.filter(({ type }) => matches(reader.types, type)).map(({ id }) => id);
  let seen = reader.seen.map(({ id }) => id);
  if (reader.isAtLeastOnce) seen = [...new Set(seen)];
  assert.deepEqual(seen, wanted, `${name} of ${reader.types}`);
}

async function caughtUp(reader, events) {
  const last = events.filter(({ type }) => matches(reader.types, type)).at(-1);
  for (let waited = 0; waited < CATCH_UP_MS; waited += 20) {
    if (!last || reader.seen.some(({ id }) => id === last.id)) return;
    /* Node 18's fetch may wait for ever at a server that was killed: begin anew, behind the last. */
    if (waited === RESTART_MS) {
      await reader.stop();
      reader.start();
    }
    await sleep(20);
  }
}

test('readers of every kind see every event once and in order through stops and kills', async (t) => {
  const random = createRandom(t);
  const folder = await temporaryFolder(t);
  const home = { server: await startServer(t, { folder }) };
  const token = await operatorToken(home.server);
  await addNeighbours(home.server, token);
  for (const name of ['posts', 'people'])
    await createCollection(home.server, token, { name, ...open, fields: [{ name: 'title', type: 'text' }] });

  const readers = new Map();
  for (const [index, types] of KINDS.entries()) {
    readers.set(`pages ${index}`, new PageReader(home, token, types));
    readers.set(`long polls ${index}`, new PageReader(home, token, types, 2));
    readers.set(`stream ${index}`, new StreamReader(home, token, types));
    readers.set(`socket ${index}`, new SocketReader(home, token, types));
    const consumer = new ConsumerReader(home, token, types, `consumer-${index}`);
    await consumer.create();
    readers.set(`consumer ${index}`, consumer);
  }
  for (const reader of readers.values()) reader.start();
  const writers = [1, 2, 3].map(() => new Writer(home, token, random));

  const names = [...readers.keys()];
  let kills = 0;
  for (let step = 0; step < STEPS; step++) {
    await sleep(STEP_MS);
    if (step % 20 === 19) {
      kills++;
      await home.server.stop('SIGKILL');
      home.server = await startServer(t, { folder });
    } else {
      const reader = readers.get(names[random.below(names.length)]);
      if (reader.isRunning) await reader.stop();
      else reader.start();
    }
  }
  for (const writer of writers) await writer.stop();
  const { events } = await readFeed(home.server, token, { query: '&types=*,_*' });
  checkContiguous(events, 1);
  for (const reader of readers.values()) if (!reader.isRunning) reader.start();
  await Promise.all([...readers.values()].map((reader) => caughtUp(reader, events)));
  for (const reader of readers.values()) await reader.stop();
  for (const [name, reader] of readers) check(name, reader, events);
  t.diagnostic(`${events.length} events, ${readers.size} readers, ${kills} kills`);
});
