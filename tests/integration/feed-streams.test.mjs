/**
 * The change feed as it is followed: pages that wait, streams of server-sent events, lines and
 * CloudEvents; by the clients that users have and by bytes on a socket.
 */
import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import Ajv from 'ajv';
import { HTTP, CloudEvent } from 'cloudevents';
import { EventSource } from 'eventsource';
import { checkAccount, checkContiguous, readFeed } from './support/feed.mjs';
import { operator, titled } from './support/history.mjs';
import { canary } from './support/neighbours.mjs';
import { startServer } from './support/program.mjs';
import { createRecord, recordsPath } from './support/records.mjs';
import { createSuperuser, signIn } from './support/superuser.mjs';
import { requestText, Wire } from './support/wire.mjs';

const HEARTBEAT_MS = 16_000;

/** Waits until it holds, and fails when it never does. */
async function until(condition, what, timeoutMs = 20_000) {
  for (const end = Date.now() + timeoutMs; !(await condition()); await sleep(20))
    assert.ok(Date.now() < end, `not in time: ${what}`);
}

async function withPosts(t, options) {
  const api = await operator(t, options);
  await api.define(titled('posts'));
  await api.define(titled('people'));
  return api;
}

async function metric(api, name) {
  const { text } = await api.server.request('GET', '/metrics', undefined, { token: api.token });
  return Number(new RegExp(`^bakend_changefeed_${name} (\\S+)$`, 'm').exec(text)[1]);
}

const now = async (api) => (await api.events('?after=now')).body.next;

/** A stream of server-sent events, taken apart by hand. */
class Stream {
  frames = [];
  text = '';
  isEnded = false;

  constructor(api, query = '', headers = {}) {
    const all = { accept: 'text/event-stream', authorization: api.token, ...headers };
    this.begun = new Promise((resolve, reject) => {
      const url = `${api.server.url}/api/events${query}`;
      this.request = http.get(url, { headers: all, agent: false });
      this.request.on('error', (error) => {
        this.isEnded = true;
        reject(error);
      });
      this.request.on('response', (answer) => {
        this.answer = answer;
        answer.setEncoding('utf8').on('data', (text) => this.#take(text));
        answer.on('error', () => {}).on('close', () => (this.isEnded = true));
        resolve(answer);
      });
    });
  }

  #take(text) {
    assert.ok(!text.includes(canary), "a stream shows a neighbour's data");
    const parts = (this.text + text).split('\n\n');
    this.text = parts.pop();
    for (const part of parts) {
      const frame = {};
      for (const line of part.split('\n')) {
        const [, name, value] = /^(\w*): (.*)$/.exec(line);
        frame[name || 'comment'] = value;
      }
      this.frames.push(frame);
    }
  }

  /** Of the messages that an EventSource would dispatch. */
  get events() {
    return this.frames.filter(({ data }) => data !== undefined).map(({ data }) => JSON.parse(data));
  }
  get lastId() {
    return this.frames.findLast(({ id }) => id !== undefined)?.id;
  }
  has(count) {
    return until(() => this.events.length >= count, `${count} events, but ${this.events.length}`);
  }
  close() {
    this.request.on('error', () => {});
    this.request.destroy();
  }
}

async function openStream(t, api, query, headers) {
  const stream = new Stream(api, query, headers);
  t.after(() => stream.close());
  const answer = await stream.begun;
  assert.equal(answer.statusCode, 200);
  return stream;
}

/* --- pages that wait -------------------------------------------------------------------------- */

test('a page that waits', async (t) => {
  const api = await withPosts(t);

  await t.test('is answered by the first event that matches, soon', async () => {
    const times = [];
    for (let i = 0; i < 50; i++) {
      const after = await now(api);
      const page = api.events(`?types=posts.*&wait=30&after=${after}`);
      await until(async () => (await metric(api, 'waiting')) === 1, 'it waits');
      await api.create('people', { title: 'not asked for' });
      const start = performance.now();
      await api.create('posts', { title: `post ${i}` });
      const { status, body } = await page;
      times.push(performance.now() - start);
      assert.equal(status, 200);
      assert.deepEqual(
        body.events.map(({ payload }) => payload.title),
        [`post ${i}`],
      );
      checkAccount(body);
      assert.equal(body.skipped, 1, 'what it waited over is counted');
    }
    times.sort((a, b) => a - b);
    const [median, late] = [times[25], times[48]].map((time) => time.toFixed(1));
    t.diagnostic(`from the write's begin to the page: median ${median} ms, p98 ${late} ms`);
    assert.ok(times[25] < 250, `a wait's end took ${times[25]} ms`);
  });

  await t.test('comes empty when its time is over, and moves on', async () => {
    const after = await now(api);
    const page = api.events(`?types=nothing.*&wait=1&after=${after}`);
    await until(async () => (await metric(api, 'waiting')) === 1, 'it waits');
    for (let i = 0; i < 3; i++) await api.create('posts', { title: 'skipped' });
    const { body } = await page;
    checkAccount(body);
    assert.deepEqual(body.events, []);
    assert.equal(body.skipped, 3);
    assert.equal(body.hasMore, false);
    assert.equal(body.next, await now(api));
    assert.equal(await metric(api, 'waiting'), 0);
  });

  await t.test('does not wait when there is something, or nothing to wait for', async () => {
    const start = Date.now();
    for (const query of ['?wait=60', '?types=posts.created&wait=60&limit=1', '?after=now&wait=0'])
      assert.equal((await api.events(query)).status, 200);
    assert.ok(Date.now() - start < 5_000);
  });

  await t.test('waits for events of the house, for one subject, and from a time on', async () => {
    const post = await api.create('posts', { title: 'before' });
    const after = await now(api);
    const pages = [
      api.events(`?types=_*&wait=30&after=${after}`),
      api.events(`?subject=posts/${post.id}&wait=30&after=${after}`),
      api.events(`?types=posts.updated&wait=30&after=${new Date(Date.now() + 1).toISOString()}`),
    ];
    await until(async () => (await metric(api, 'waiting')) === 3, 'they wait');
    await api.create('posts', { title: 'another' });
    await api.patch(recordsPath('posts', post.id), { title: 'after' });
    await api.define(titled('notes'));
    const [house, subject, time] = (await Promise.all(pages)).map(({ body }) => body);
    assert.match(house.events[0].type, /^_/);
    for (const { events } of [subject, time])
      assert.deepEqual(
        events.map(({ type, payload }) => [type, payload.title]),
        [['posts.updated', 'after']],
      );
  });

  await t.test('is given up by a client that goes away', async () => {
    const aborted = new AbortController();
    const page = fetch(`${api.server.url}/api/events?types=nothing.*&after=now&wait=60`, {
      headers: { authorization: api.token },
      signal: aborted.signal,
    });
    page.catch(() => {});
    await until(async () => (await metric(api, 'waiting')) === 1, 'it waits');
    aborted.abort();
    await until(async () => (await metric(api, 'waiting')) === 0, 'nobody waits');
  });

  await t.test('waits in every form', async () => {
    for (const [accept, empty] of [
      ['application/x-ndjson', ''],
      ['application/cloudevents-batch+json', '[]'],
    ]) {
      const headers = { accept };
      const ask = (query) =>
        api.server.request('GET', `/api/events${query}`, undefined, { token: api.token, headers });
      const late = await ask('?types=nothing.*&after=now&wait=1');
      assert.equal(late.text, empty);
      assert.equal(late.headers.get('bakend-next'), await now(api));
      const page = ask('?types=posts.*&after=now&wait=30');
      await until(async () => (await metric(api, 'waiting')) === 1, 'it waits');
      await api.create('posts', { title: accept });
      assert.ok((await page).text.includes(accept));
    }
  });
});

test('a thousand pages that wait are answered by one event', async (t) => {
  const count = 1000;
  const api = await withPosts(t);
  const after = await now(api);
  const wires = await Promise.all(Array.from({ length: count }, () => Wire.open(api.server.port)));
  t.after(() => wires.forEach((wire) => wire.destroy()));
  const path = `/api/events?types=posts.*&wait=60&after=${after}`;
  for (const wire of wires)
    wire.write(requestText('GET', path, undefined, { Authorization: api.token }));
  await until(async () => (await metric(api, 'waiting')) === count, 'all wait', 60_000);
  const start = performance.now();
  await api.create('posts', { title: 'for all' });
  const answers = await Promise.all(wires.map((wire) => wire.answer()));
  t.diagnostic(`all were answered after ${(performance.now() - start).toFixed(0)} ms`);
  for (const { status, json } of answers) {
    assert.equal(status, 200);
    assert.deepEqual(
      json.events.map(({ payload }) => payload.title),
      ['for all'],
    );
    checkAccount(json);
  }
  assert.equal(new Set(answers.map(({ json }) => json.next)).size, 1);
  assert.equal(await metric(api, 'waiting'), 0);
});

/* --- streams ---------------------------------------------------------------------------------- */

test('a stream', async (t) => {
  const api = await withPosts(t);
  for (let i = 0; i < 5; i++) await api.create('posts', { title: `post ${i}` });

  await t.test('begins with where it stands, catches up, and is live', async (t) => {
    const stream = await openStream(t, api, '?types=posts.*', { 'accept-encoding': 'gzip' });
    assert.equal(stream.answer.headers['content-type'], 'text/event-stream');
    assert.equal(stream.answer.headers['content-encoding'], undefined);
    await stream.has(5);
    const first = stream.frames[0];
    assert.deepEqual(Object.keys(first), ['retry', 'id']);
    assert.equal(first.id, (await api.events('?limit=1')).body.oldest);
    await api.create('people', { title: 'not asked for' });
    await api.create('posts', { title: 'post 5' });
    await stream.has(6);
    assert.deepEqual(
      stream.events.map(({ payload }) => payload.title),
      [0, 1, 2, 3, 4, 5].map((i) => `post ${i}`),
    );
    assert.equal(stream.lastId, await now(api));
    const { body } = await api.events('?types=posts.*');
    assert.deepEqual(stream.events, body.events, 'the events are those of the pages');
  });

  await t.test('has an id with each event, from which anybody goes on', async (t) => {
    const whole = await openStream(t, api, '?types=posts.*');
    await whole.has(6);
    const { id } = whole.frames.filter(({ data }) => data)[2];
    const page = await api.events(`?types=posts.*&after=${id}`);
    assert.deepEqual(page.body.events, whole.events.slice(3));
    const rest = await openStream(t, api, `?types=posts.*&after=${id}`);
    await rest.has(3);
    assert.deepEqual(rest.events, whole.events.slice(3));
  });

  await t.test('goes on behind Last-Event-ID, whatever after says', async (t) => {
    const after = await now(api);
    const stream = await openStream(t, api, '?after=start', { 'last-event-id': after });
    await api.create('posts', { title: 'next' });
    await stream.has(1);
    assert.deepEqual(
      stream.events.map(({ payload }) => payload.title),
      ['next'],
    );
  });

  await t.test('refuses in the ordinary way what is wrong before it begins', async () => {
    const headers = { accept: 'text/event-stream' };
    for (const [query, status, field, code] of [
      ['?after=nonsense', 400, 'after', 'cursor_invalid'],
      ['?types=nodot', 400, 'types', 'validation_invalid_type'],
      ['?order=desc', 400, 'order', 'validation_not_for_streams'],
      ['?limit=5', 400, 'limit', 'validation_not_for_streams'],
      ['?wait=5', 400, 'wait', 'validation_not_for_streams'],
      ['?filter=1', 400, 'filter', 'validation_invalid_filter'],
    ]) {
      const answer = await api.server.request('GET', `/api/events${query}`, undefined, {
        token: api.token,
        headers,
      });
      assert.equal(answer.status, status, query);
      assert.equal(answer.body.data[field].code, code);
    }
    const other = await api.server.request('GET', '/api/events', undefined, {
      token: api.token,
      headers: { ...headers, 'last-event-id': 'AAAA' },
    });
    assert.equal(other.body.data.after.code, 'cursor_invalid');
    const guest = await api.server.request('GET', '/api/events', undefined, { headers });
    assert.equal(guest.status, 401);
    assert.equal(await metric(api, 'streams'), 0);
  });

  await t.test('is there for HEAD, without events', async () => {
    const answer = await api.server.request('HEAD', '/api/events', undefined, {
      token: api.token,
      headers: { accept: 'text/event-stream' },
    });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('content-type'), 'text/event-stream');
  });

  await t.test('moves on with heartbeats when nothing matches', async (t) => {
    const stream = await openStream(t, api, '?types=nothing.*');
    await until(() => stream.frames.length > 0, 'it begins');
    await sleep(500);
    await api.create('posts', { title: 'not asked for' });
    const isThere = () => stream.frames.some(({ comment }) => comment === 'heartbeat');
    await until(isThere, 'a heartbeat', HEARTBEAT_MS + 4_000);
    assert.equal(stream.lastId, await now(api));
    assert.deepEqual(stream.events, []);
  });

  await t.test('is counted, and not any more when its client has gone', async (t) => {
    const streams = await Promise.all([1, 2, 3].map(() => openStream(t, api)));
    assert.equal(await metric(api, 'streams'), 3);
    streams.forEach((stream) => stream.close());
    await until(async () => (await metric(api, 'streams')) === 0, 'none is open');
    assert.equal(await metric(api, 'waiting'), 0);
  });
});

test('a stop of the server ends streams with their place, and waits with an empty page', async (t) => {
  const api = await withPosts(t);
  const stream = await openStream(t, api, '?types=nothing.*');
  const page = api.events('?types=nothing.*&after=now&wait=60');
  await until(async () => (await metric(api, 'waiting')) === 2, 'both wait');
  await api.create('posts', { title: 'not asked for' });
  const head = await now(api);
  const start = Date.now();
  await api.server.stop();
  assert.ok(Date.now() - start < 5_000, 'nobody waits for those who wait');
  const { status, body } = await page;
  assert.equal(status, 200);
  assert.deepEqual([body.events, body.next], [[], head]);
  await until(() => stream.isEnded, 'the stream ends');
  assert.ok(stream.answer.complete, 'it ends well');
  assert.equal(stream.lastId, head);
});

test('a token that is over ends streams and waits, with a reason', async (t) => {
  const api = await withPosts(t);
  const two = { email: 'two@example.com', password: 'correct horse 2' };
  await createSuperuser(api.server, two);
  const gone = { ...api, token: await signIn(api.server, two) };
  const superusers = '/api/collections/_superusers';
  const list = await api.server.request('GET', `${superusers}/records`, undefined, {
    token: api.token,
  });
  const { id } = list.body.items.find(({ email }) => email === two.email);
  const other = list.body.items.find(({ email }) => email !== two.email);
  const granted = await api.server.request(
    'POST',
    `${superusers}/impersonate/${other.id}`,
    { duration: 10 },
    { token: api.token },
  );
  assert.equal(granted.status, 200, granted.text);
  const short = { ...api, token: granted.body.token };
  const busy = await openStream(t, gone, '?types=posts.*&after=now');
  const idle = await openStream(t, gone, '?types=nothing.*');
  const expiring = await openStream(t, short, '?types=nothing.*');
  const healthy = await openStream(t, api, '?types=posts.*&after=now');
  const poll = (token, wait, types = 'posts.*') => {
    const path = `/api/events?types=${types}&after=now&wait=${wait}`;
    return api.server.request('GET', path, undefined, { token });
  };
  const consumer = (token, body) =>
    api.server.request('POST', '/api/consumers/work/poll', body, { token });
  const definition = { types: ['posts.*'] };
  await api.server.request('PUT', '/api/consumers/work', definition, { token: api.token });
  const polls = [poll(gone.token, 30), consumer(gone.token, { wait: 30 })];
  const expired = poll(short.token, 14, 'nothing.*');
  await until(async () => (await metric(api, 'waiting')) >= 6, 'all wait');

  const removed = await api.remove(`${superusers}/records/${id}`);
  assert.equal(removed.status, 204, removed.text);
  await api.create('posts', { title: 'behind it' });

  await until(() => busy.isEnded, 'the stream ends at the next event');
  await until(() => healthy.frames.some(({ data }) => data), 'another token is not concerned');
  const checkReason = (stream) => {
    const last = stream.frames.at(-1);
    assert.equal(last.event, 'error');
    const reason = JSON.parse(last.data);
    assert.equal(reason.status, 401);
    assert.match(reason.message, /^The token is not valid any more/);
    assert.ok(!stream.frames.some(({ data }) => data?.includes('behind it')), 'nothing is shown');
    assert.ok(stream.answer.complete, 'it ends well');
  };
  checkReason(busy);
  for (const answer of await Promise.all(polls)) {
    assert.equal(answer.status, 401, answer.text);
    assert.match(answer.body.message, /^The token is not valid any more/);
  }
  const handed = await consumer(api.token, {});
  assert.equal(handed.body.events.length, 1, 'nobody has a lease on what was not handed out');
  await until(() => idle.isEnded, 'one that is idle ends at its heartbeat', HEARTBEAT_MS + 5_000);
  checkReason(idle);
  assert.equal((await expired).status, 401, 'one that waited for longer than its token');
  await until(() => expiring.isEnded, 'so does one that expired', 2 * HEARTBEAT_MS);
  checkReason(expiring);
  assert.equal(healthy.isEnded, false);
  healthy.close();
});

/** False when fetch took a connection that it had kept from before the kill, on the same port. */
async function isAnswered(server) {
  try {
    return (await server.request('GET', '/api/health')).status === 200;
  } catch {
    return false;
  }
}

test('an EventSource that comes back after kill -9 misses nothing and gets nothing twice', async (t) => {
  let api = await withPosts(t);
  const { folder, port } = api.server;
  const got = [];
  let opened = 0;
  const source = new EventSource(`${api.server.url}/api/events?types=posts.created`, {
    fetch: (url, init) =>
      fetch(url, { ...init, headers: { ...init.headers, authorization: api.token } }),
  });
  t.after(() => source.close());
  source.onopen = () => opened++;
  source.onmessage = ({ data, lastEventId }) => got.push({ ...JSON.parse(data), lastEventId });
  await until(() => opened === 1, 'it opens');
  let written = 0;
  for (let round = 1; round <= 3; round++) {
    for (let i = 0; i < 20; i++) await api.create('posts', { title: String(written++) });
    /* Some of what is acknowledged may be on its way to the client. */
    api.server.signal('SIGKILL');
    await api.server.ended;
    const server = await startServer(t, { folder, args: ['--listen', `127.0.0.1:${port}`] });
    await until(() => isAnswered(server), 'it answers');
    api = { ...api, server, token: await signIn(server) };
    await createRecord(server, api.token, 'posts', { title: String(written++) });
    await until(() => opened === round + 1, 'it comes back');
  }
  await until(() => got.length >= written, `${written} events, but ${got.length}`);
  await sleep(300);
  assert.deepEqual(
    got.map(({ payload }) => payload.title),
    Array.from({ length: written }, (_, i) => String(i)),
  );
  const { events } = await readFeed(api.server, api.token, { query: '&types=posts.created' });
  assert.deepEqual(
    got.map(({ id }) => id),
    events.map(({ id }) => id),
  );
});

test('who does not read costs a page, and gets all when it does', async (t) => {
  const count = 800;
  const api = await withPosts(t);
  await api.define({ name: 'blobs', fields: [{ name: 'text', type: 'text', max: 20_000 }] });
  const text = 'x'.repeat(20_000);
  const after = await now(api);
  for (let i = 0; i < count; i += 50)
    await Promise.all(Array.from({ length: 50 }, () => api.create('blobs', { text })));
  const stream = await openStream(t, api, `?after=${after}`);
  stream.answer.pause();
  await sleep(1500);
  const streamed = await metric(api, 'streamed_events_total');
  t.diagnostic(`${streamed} of ${count} events were read for it`);
  /* The rest of 16 MB stays where it is; sockets hold some megabytes of the system's. */
  assert.ok(streamed < count * 0.75, `${streamed} events were read ahead`);
  await api.create('posts', { title: 'the last' });
  stream.answer.resume();
  await stream.has(count + 1);
  checkContiguous(stream.events, stream.events[0].sequence);
  assert.equal(stream.events.at(-1).payload.title, 'the last');
});

async function createRecordOf(api, tenant, record) {
  const options = { token: api.token, tenant };
  const answer = await api.server.request('POST', recordsPath('posts'), record, options);
  assert.equal(answer.status, 200, answer.text);
}

test('a stream of one tenant shows nothing of others', async (t) => {
  const api = await withPosts(t);
  const stream = await openStream(t, api, '?types=*,_*');
  const page = api.events('?types=posts.*&after=now&wait=2');
  for (let i = 0; i < 10; i++)
    await createRecordOf(api, 'left', { title: `${canary} ${i}` });
  assert.deepEqual((await page).body.events, []);
  await api.create('posts', { title: 'own' });
  await until(() => stream.events.some(({ payload }) => payload.title === 'own'), 'its own');
  for (const { tenant } of stream.events) assert.equal(tenant, 'default');
});

/* --- lines and CloudEvents -------------------------------------------------------------------- */

const numbers = {
  'bakend-first-sequence': 'firstSequence',
  'bakend-last-sequence': 'lastSequence',
  'bakend-skipped': 'skipped',
};

/** The account that a page has in its headers. */
function accountOf({ headers }) {
  const account = {
    next: headers.get('bakend-next'),
    hasMore: headers.get('bakend-has-more') === 'true',
    head: headers.get('bakend-head'),
    oldest: headers.get('bakend-oldest'),
  };
  for (const [header, name] of Object.entries(numbers)) account[name] = Number(headers.get(header));
  return account;
}

test('lines and CloudEvents are the pages in other forms', async (t) => {
  const api = await withPosts(t);
  const posts = [];
  for (let i = 0; i < 12; i++)
    posts.push(await api.create('posts', { title: `\u{1F600} "${i}"\n` }));
  await api.patch(recordsPath('posts', posts[0].id), { title: 'changed' });
  await api.remove(recordsPath('posts', posts[1].id));
  const ask = (accept, query) =>
    api.server.request('GET', `/api/events${query}`, undefined, {
      token: api.token,
      headers: { accept },
    });

  for (const query of [
    '?limit=5',
    '?types=posts.*',
    '?order=desc&limit=4',
    '?types=nothing.*',
    '?types=*,_*',
  ])
    await t.test(`of ${query}`, async () => {
      const { events, ...account } = (await api.events(query)).body;
      const lines = await ask('application/x-ndjson', query);
      assert.equal(lines.headers.get('content-type'), 'application/x-ndjson');
      assert.deepEqual(lines.text.split('\n').slice(0, -1).map(JSON.parse), events);
      assert.deepEqual(accountOf(lines), account);
      const batch = await ask('application/cloudevents-batch+json', query);
      assert.deepEqual(accountOf(batch), account);
      const cloudevents = JSON.parse(batch.text);
      assert.deepEqual(
        cloudevents.map((each) => [
          each.id,
          each.type,
          each.time,
          each.subject,
          each.data,
          Number(each.sequence),
        ]),
        events.map((each) => [
          each.id,
          each.type,
          each.timestamp,
          each.subject,
          each.payload,
          each.sequence,
        ]),
      );
    });

  await t.test('and refuse the same', async () => {
    for (const accept of ['application/x-ndjson', 'application/cloudevents-batch+json']) {
      const answer = await ask(accept, '?after=nonsense');
      assert.equal(answer.status, 400);
      assert.equal(answer.body.data.after.code, 'cursor_invalid');
    }
  });

  await t.test('CloudEvents are what the specification says', async () => {
    const answer = await ask('application/cloudevents-batch+json', '?types=*,_*');
    const batch = JSON.parse(answer.text);
    const validate = new Ajv({ strict: false }).compile(cloudEventSchema);
    for (const event of batch) {
      assert.ok(validate(event), JSON.stringify([validate.errors, event]));
      assert.match(event.sequence, /^\d{20}$/);
      assert.match(event.source, /^\/tenants\/default\/[a-z]+$/);
    }
    const read = HTTP.toEvent({
      headers: { 'content-type': answer.headers.get('content-type') },
      body: answer.text,
    });
    assert.equal(read.length, batch.length);
    for (const event of read) {
      assert.ok(event instanceof CloudEvent);
      assert.ok(event.validate());
    }
    const deleted = batch.find(({ type }) => type === 'posts.deleted');
    assert.equal(deleted.subject, `posts/${posts[1].id}`);
    assert.match(deleted.actor, /^_superusers\//);
  });
});

/**
 * formats/cloudevents.json of the specification 1.0.2, and what it says of the names and types of
 * extensions.
 */
const cloudEventSchema = {
  type: 'object',
  required: ['id', 'source', 'specversion', 'type'],
  properties: {
    id: { type: 'string', minLength: 1 },
    source: { type: 'string', minLength: 1 },
    specversion: { const: '1.0' },
    type: { type: 'string', minLength: 1 },
    datacontenttype: { const: 'application/json' },
    subject: { type: 'string', minLength: 1 },
    time: { type: 'string', pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$' },
    data: {},
  },
  propertyNames: { pattern: '^[a-z0-9]{1,20}$' },
  additionalProperties: {
    anyOf: [
      { type: 'string', minLength: 1 },
      { type: 'boolean' },
      { type: 'integer', minimum: -2147483648, maximum: 2147483647 },
    ],
  },
};

test('what is not served is 406, and who takes anything gets JSON', async (t) => {
  const api = await withPosts(t);
  const ask = (accept) =>
    api.server.request('GET', '/api/events', undefined, { token: api.token, headers: { accept } });
  for (const accept of ['text/html', 'application/xml', 'application/json;q=0'])
    assert.equal((await ask(accept)).status, 406, accept);
  for (const accept of ['*/*', 'text/html, */*;q=0.8', 'application/*'])
    assert.equal((await ask(accept)).headers.get('content-type'), 'application/json', accept);
});

test('a tenant has a thousand streams, and one more is told to come back', async (t) => {
  const api = await withPosts(t);
  const wires = await Promise.all(Array.from({ length: 1001 }, () => Wire.open(api.server.port)));
  t.after(() => wires.forEach((wire) => wire.destroy()));
  const headers = { Authorization: api.token, Accept: 'text/event-stream' };
  const refused = wires.pop();
  for (const wire of wires)
    wire.write(requestText('GET', '/api/events?after=now', undefined, headers));
  await until(async () => (await metric(api, 'waiting')) === 1000, 'all are open', 60_000);
  refused.write(requestText('GET', '/api/events?after=now', undefined, headers));
  const answer = await refused.answer();
  assert.equal(answer.status, 503);
  assert.ok(Number(answer.headers['retry-after']) > 0);
  await api.create('posts', { title: 'for all' });
  await until(() => wires.every(({ pending }) => pending.includes('for all')), 'all have it');
});
