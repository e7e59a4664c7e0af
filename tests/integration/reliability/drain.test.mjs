/**
 * SIGTERM in the middle of everything: creates on kept connections, requests that have just been
 * sent, half a body, long polls, event streams, WebSockets and a backup. What was sent before the
 * signal is answered, and done as it was answered; kept connections are told to close; who listens
 * is told to come back; the end comes before the drain timeout. A second SIGTERM ends it at once.
 *
 * BAKEND_LONG=1: 100 rounds instead of 5, on one data directory.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { readFeed } from '../support/feed.mjs';
import { startServer, temporaryFolder } from '../support/program.mjs';
import { promise } from '../support/promise.mjs';
import { Listener } from '../support/realtime.mjs';
import { createRandom } from '../support/random.mjs';
import { createCollection, listAll, open, recordsPath } from '../support/records.mjs';
import { operatorToken, signIn } from '../support/superuser.mjs';
import { Closed, requestText, Wire } from '../support/wire.mjs';

const ROUNDS = process.env.BAKEND_LONG === '1' ? 100 : 5;
const CREATORS = 16;
const SUDDEN = 32;
const SOCKETS = 60;
const WAITING = 4;
const DRAIN_TIMEOUT_MS = 20_000;
const AT_ONCE_MS = 10_000;
const args = ['--drain-timeout', `${DRAIN_TIMEOUT_MS}ms`];
const COLLECTION = 'things';
const definition = { name: COLLECTION, ...open, fields: [{ name: 'title', type: 'text' }] };

/** One life of the server under load; what became of each create. */
class Round {
  outcomes = [];
  isSignalled = false;

  constructor(server, token, number) {
    Object.assign(this, { server, token, number });
  }

  #title() {
    return `round ${this.number} create ${this.outcomes.length}`;
  }

  #send(wire) {
    const outcome = { title: this.#title(), isBefore: !this.isSignalled, status: 0 };
    this.outcomes.push(outcome);
    wire.write(requestText('POST', recordsPath(COLLECTION), { title: outcome.title }));
    return outcome;
  }

  /** The answer to what was sent; false when there is to be none on this connection any more. */
  async #take(wire, outcome) {
    try {
      const { status, headers } = await wire.answer();
      outcome.status = status;
      return headers.connection !== 'close';
    } catch (error) {
      if (!(error instanceof Closed)) throw error;
      return false;
    }
  }

  /** Keeps one connection busy until it is closed. */
  async create() {
    const wire = await Wire.open(this.server.port);
    while (await this.#take(wire, this.#send(wire))) continue;
    assert.ok(this.isSignalled, 'no connection is closed before the signal');
    assert.ok(await wire.ends(), 'who says close closes');
    wire.destroy();
  }

  /** Connections that idle, to be used just before the signal. */
  async prepareSudden() {
    this.sudden = await Promise.all(
      Array.from({ length: SUDDEN }, async (_, index) => {
        const wire = await Wire.open(this.server.port);
        if (index % 2 === 0) await this.#take(wire, this.#send(wire));
        return wire;
      }),
    );
  }

  /** What lies in the socket, unread, when the signal comes: first use and second use. */
  sendSudden() {
    return this.sudden.map(async (wire) => {
      await this.#take(wire, this.#send(wire));
      assert.ok(await wire.ends(), 'a connection that is done with is ended');
      wire.destroy();
    });
  }

  async halfBody() {
    const wire = await Wire.open(this.server.port);
    const text = requestText('POST', recordsPath(COLLECTION), { title: this.#title() });
    const outcome = { title: this.#title(), isBefore: true, status: 0 };
    this.outcomes.push(outcome);
    wire.write(text.subarray(0, text.length - 5));
    return async () => {
      wire.write(text.subarray(text.length - 5));
      assert.equal(await this.#take(wire, outcome), false, 'an answer while draining says close');
    };
  }

  /** A long poll for what never comes: it gets an empty page. */
  async poll() {
    const { server, token } = this;
    const path = '/api/events?after=now&types=nothing.here&wait=60';
    const answer = await server.request('GET', path, undefined, { token });
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual(answer.body.events, []);
  }

  /** A stream that must end as streams do, not by a reset. */
  async stream(path) {
    const headers = { accept: 'text/event-stream', authorization: this.token };
    const answer = await fetch(this.server.url + path, { headers });
    assert.equal(answer.status, 200);
    return answer.text();
  }

  async backup() {
    const name = `round-${this.number}.zip`;
    const answer = await this.server.request('POST', '/api/backups', { name }, this);
    assert.equal(answer.status, 204, answer.text);
  }
}

/** When each of them was told to go, after the signal. */
async function listen(round) {
  const listeners = await Promise.all(
    Array.from({ length: SOCKETS }, () => Listener.connect(round.server, { token: round.token })),
  );
  await Promise.all(
    listeners.map((each) => each.subscribe({ types: [`${COLLECTION}.*`], after: 'now' })),
  );
  return listeners.map(async (each) => {
    assert.equal(await each.closed, 4000);
    assert.equal(each.reason, 'server_stopping');
    return performance.now() - round.signalledAt;
  });
}

async function play(round, random) {
  const { server } = round;
  const listeners = Promise.all(await listen(round));
  await round.prepareSudden();
  const finishBody = await round.halfBody();
  const work = Array.from({ length: CREATORS }, () => round.create());
  for (let i = 0; i < WAITING; i++)
    work.push(round.poll(), round.stream('/api/events'), round.stream('/api/realtime'));
  await sleep(random.between(100, 400));
  const backup = round.backup();
  await sleep(random.between(0, 20));
  const sudden = Promise.all(round.sendSudden());
  round.isSignalled = true;
  round.signalledAt = performance.now();
  server.signal('SIGTERM');
  await sleep(50);
  await finishBody();
  await Promise.all([sudden, ...work, backup]);
  const told = await listeners;
  assert.equal((await server.ended).code, 0, server.log.join('\n'));
  round.endedMs = performance.now() - round.signalledAt;
  round.spreadMs = Math.max(...told) - Math.min(...told);
}

/** What was acknowledged is there once, with one event; what was refused is not. */
async function check(round, server, token, feedBefore) {
  const query = `&types=${COLLECTION}.created`;
  const feed = await readFeed(server, token, { after: feedBefore, query });
  const rows = await listAll(server, token, COLLECTION, { query: '&fields=id,title' });
  const count = (titles) => {
    const counts = new Map();
    for (const title of titles) counts.set(title, (counts.get(title) ?? 0) + 1);
    return counts;
  };
  const events = count(feed.events.map(({ payload }) => payload.title));
  const there = count(rows.map(({ title }) => title));
  for (const { title, isBefore, status } of round.outcomes) {
    if (isBefore) assert.equal(status, 200, `${title} was sent before the signal`);
    assert.ok(status === 200 || status === 0, `${title}: ${status}`);
    if (status === 200) assert.equal(there.get(title), 1, `${title} was acknowledged`);
    assert.equal(there.get(title) ?? 0, events.get(title) ?? 0, `${title}: a row is an event`);
  }
  const { body } = await server.request('GET', '/api/backups', undefined, { token });
  assert.ok(body.some(({ key }) => key === `round-${round.number}.zip`), 'the backup is there');
  return feed.next;
}

test('SIGTERM in the middle of everything: what was sent is answered, and all is told to close', async (t) => {
  const random = createRandom(t);
  const folder = await temporaryFolder(t);
  let server = await startServer(t, { folder, args });
  let token = await operatorToken(server);
  await createCollection(server, token, definition);
  let feed = 'start';
  const sums = { before: 0, after: 0, late: 0, endedMs: 0, spreadMs: 0 };
  for (let number = 0; number < ROUNDS; number++) {
    const round = new Round(server, token, number);
    await play(round, random);
    server = await startServer(t, { folder, args });
    token = await signIn(server);
    feed = await check(round, server, token, feed);
    await server.request('DELETE', `/api/backups/round-${number}.zip`, undefined, { token });
    assert.ok(round.endedMs < DRAIN_TIMEOUT_MS, `ended after ${round.endedMs} ms`);
    sums.before += round.outcomes.filter(({ isBefore }) => isBefore).length;
    sums.after += round.outcomes.filter(({ isBefore }) => !isBefore).length;
    sums.late += round.outcomes.filter(({ status }) => status === 0).length;
    sums.endedMs = Math.max(sums.endedMs, round.endedMs);
    sums.spreadMs = Math.max(sums.spreadMs, round.spreadMs);
  }
  /* 60 connections, 2 ms each, in ticks of 20 ms: a busy machine may put some of them together. */
  assert.ok(sums.spreadMs >= 40, `spread over ${sums.spreadMs} ms`);
  promise(
    t,
    'graceful drain',
    `${ROUNDS} rounds, ${sums.before} requests sent before the signal, 0 failed; ` +
      `${sums.late} of ${sums.after} sent after it met a closed connection; ` +
      `ended in at most ${Math.round(sums.endedMs)} ms, ` +
      `WebSockets told over ${Math.round(sums.spreadMs)} ms`,
  );
});

test('a second SIGTERM under load ends it at once, and nothing acknowledged is lost', async (t) => {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, { folder, args: ['--drain-timeout', '10m'] });
  const token = await operatorToken(server);
  await createCollection(server, token, definition);
  const round = new Round(server, token, 0);
  await round.halfBody();
  const work = Array.from({ length: CREATORS }, () => round.create());
  await sleep(300);
  round.isSignalled = true;
  server.signal('SIGTERM');
  await Promise.all(work);
  await sleep(200);
  assert.ok(server.isRunning, 'it waits for the body');
  const signalledAt = performance.now();
  server.signal('SIGTERM');
  assert.equal((await server.ended).code, 0);
  /* The body would be waited for until its own time is up, which is far longer. */
  const endedMs = performance.now() - signalledAt;
  assert.ok(endedMs < AT_ONCE_MS, `ended ${endedMs} ms after the second signal`);
  const again = await startServer(t, { folder });
  const rows = await listAll(again, await signIn(again), COLLECTION);
  const titles = new Set(rows.map(({ title }) => title));
  const acknowledged = round.outcomes.filter(({ status }) => status === 200);
  assert.ok(acknowledged.length > CREATORS);
  for (const { title } of acknowledged) assert.ok(titles.has(title), `${title} is there`);
});
