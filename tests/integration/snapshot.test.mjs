/**
 * The snapshot of a collection: a stream of records between two cursors, which the feed of what lies
 * between them makes exact, whatever is written meanwhile; and a stream that did not reach its end
 * says so.
 */
import assert from 'node:assert/strict';
import { get as httpGet } from 'node:http';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { addNeighbours } from './support/neighbours.mjs';
import { assertRefused, operator } from './support/operator.mjs';
import { startServer } from './support/program.mjs';
import { createRandom } from './support/random.mjs';
import { createCollection, listAll, open, recordsPath } from './support/records.mjs';
import { operatorToken } from './support/superuser.mjs';

const snapshotPath = (collection) => `/api/collections/${collection}/snapshot`;

const posts = {
  name: 'posts',
  ...open,
  fields: [
    { name: 'title', type: 'text' },
    { name: 'n', type: 'number' },
  ],
};

const linesOf = (text) =>
  text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));

/** A whole snapshot: {from, records, to}. */
async function take(api, collection, options) {
  const answer = await api.get(snapshotPath(collection), options);
  assert.equal(answer.status, 200, answer.text);
  assert.equal(answer.headers.get('content-type'), 'application/x-ndjson');
  assert.ok(answer.text.endsWith('\n'), 'each line is whole');
  const lines = linesOf(answer.text);
  const [{ from }, { done, to }] = [lines[0], lines.at(-1)];
  assert.equal(done, true, `the last line: ${JSON.stringify(lines.at(-1))}`);
  assert.deepEqual(Object.keys(lines[0]), ['from']);
  return { from, to, records: lines.slice(1, -1) };
}

async function fill(api, collection, count, make = (n) => ({ title: `title ${n}`, n })) {
  let next = 0;
  const worker = async () => {
    while (next < count) await api.create(collection, make(next++));
  };
  await Promise.all(Array.from({ length: 32 }, worker));
}

/** A snapshot whose client reads nothing until it is told to. */
function beginSlowly(server, token, collection) {
  return new Promise((resolve, reject) => {
    const request = httpGet(server.url + snapshotPath(collection), {
      headers: token ? { authorization: token } : {},
    });
    request.on('error', reject);
    request.on('response', (response) => {
      response.pause();
      const rest = async () => {
        let text = '';
        for await (const piece of response.setEncoding('utf8')) text += piece;
        return text;
      };
      resolve({ request, rest });
    });
  });
}

const sequenceOf = (cursor) => Number(Buffer.from(cursor, 'base64url').readBigUInt64BE(9));

/** Applies events as a copy does: upserts and deletes. */
function apply(copy, events) {
  for (const { type, payload } of events)
    if (type.endsWith('.deleted')) copy.delete(payload.id);
    else copy.set(payload.id, payload);
}

const plain = ({ collectionId, collectionName, ...record }) => record;
const sorted = (copy) => [...copy.values()].sort((a, b) => (a.id < b.id ? -1 : 1));

async function eventsUpTo(api, collection, from, to) {
  const events = [];
  for (let after = from, last = sequenceOf(from); last < sequenceOf(to);) {
    const { body } = await api.get(`/api/events?types=${collection}.*&limit=1000&after=${after}`);
    events.push(...body.events.filter(({ sequence }) => sequence <= sequenceOf(to)));
    after = body.next;
    last = body.lastSequence;
  }
  return events;
}

test('a snapshot', async (t) => {
  const api = await operator(t);
  await api.define(posts);

  await t.test('of nothing is two cursors', async () => {
    const { from, to, records } = await take(api, 'posts');
    assert.deepEqual(records, []);
    assert.equal(from, to);
  });

  await t.test('has each record once, as the list shows it, in the order of ids', async () => {
    await fill(api, 'posts', 1203);
    const { from, to, records } = await take(api, 'posts');
    const listed = await listAll(api.server, api.token, 'posts');
    assert.deepEqual(records, listed.sort((a, b) => (a.id < b.id ? -1 : 1)));
    const { body } = await api.get('/api/events?after=now');
    assert.equal(from, body.head);
    assert.equal(to, body.head);
  });

  await t.test('is found by the name and the id of its collection', async () => {
    const { body } = await api.get('/api/collections/posts');
    const { records } = await take(api, body.id);
    assert.equal(records.length, 1203);
  });

  await t.test('of a guest is judged by the list rule', async () => {
    const { records } = await take(api, 'posts', { token: '' });
    assert.equal(records.length, 1203);
    await api.define({ name: 'secrets', fields: [{ name: 'title', type: 'text' }] });
    assertRefused(await api.get(snapshotPath('secrets'), { token: '' }), 403);
  });

  await t.test('shows hidden fields to superusers only, and secrets to nobody', async () => {
    await api.define({
      name: 'people',
      ...open,
      fields: [
        { name: 'name', type: 'text' },
        { name: 'grade', type: 'number', hidden: true },
      ],
    });
    await api.create('people', { name: 'Ann', grade: 7 });
    const [all] = (await take(api, 'people')).records;
    const [some] = (await take(api, 'people', { token: '' })).records;
    assert.equal(all.grade, 7);
    assert.equal('grade' in some, false);
    const { records } = await take(api, '_superusers');
    assert.equal(records.length, 1);
    assert.equal('password' in records[0] || 'tokenKey' in records[0], false);
  });

  await t.test('works for system collections, for superusers', async () => {
    const { records } = await take(api, '_tenants');
    assert.deepEqual(records.map(({ name }) => name).sort(), ['left', 'right']);
    assertRefused(await api.get(snapshotPath('_tenants'), { token: '' }), 403);
  });

  await t.test('of what is not there is 404, with a filter 400', async () => {
    assertRefused(await api.get(snapshotPath('nothing')), 404);
    const answer = await api.get(`${snapshotPath('posts')}?filter=n%3E1`);
    assert.equal(answer.status, 400);
    assert.ok(answer.body.data.filter);
  });

  await t.test('asked for with HEAD has no body', async () => {
    const answer = await api.server.request('HEAD', snapshotPath('posts'), undefined, {
      token: api.token,
    });
    assert.equal(answer.status, 200);
    assert.equal(answer.text, '');
  });
});

test('a snapshot whose end cannot be read at first has every record', async (t) => {
  const api = await operator(t, { env: { BAKEND_FAILPOINT: 'collections.snapshot_end:error@1' } });
  await api.define(posts);
  await fill(api, 'posts', 20);
  const { records } = await take(api, 'posts');
  assert.equal(records.length, 20);
});

test('a snapshot under writes is exact once the feed between its cursors was applied', async (t) => {
  const api = await operator(t);
  const random = createRandom(t);
  await api.define(posts);
  await fill(api, 'posts', 2000);
  const ids = (await take(api, 'posts')).records.map(({ id }) => id);
  let isOver = false;
  const write = async () => {
    while (!isOver) {
      const id = ids[random.below(ids.length)];
      const kind = random.below(3);
      if (kind === 0) ids.push((await api.create('posts', { title: 'new' })).id);
      else if (kind === 1) await api.patch(recordsPath('posts', id), { n: random.below(1e6) });
      else await api.remove(recordsPath('posts', id));
    }
  };
  const writers = Array.from({ length: 8 }, write);
  let moved = 0;
  for (let round = 0; round < 8; round++) {
    const { from, to, records } = await take(api, 'posts');
    const copy = new Map(records.map((record) => [record.id, plain(record)]));
    apply(copy, await eventsUpTo(api, 'posts', from, to));
    const truth = new Map();
    apply(truth, await eventsUpTo(api, 'posts', (await api.get('/api/events')).body.oldest, to));
    assert.deepEqual(sorted(copy), sorted(truth), `round ${round}`);
    moved += sequenceOf(to) - sequenceOf(from);
  }
  isOver = true;
  await Promise.all(writers);
  t.diagnostic(`${moved} events came while the snapshots were taken`);
  assert.ok(moved > 0, 'something was written meanwhile');
});

test('a snapshot that cannot be finished', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  const as = { token };
  const big = 'x'.repeat(20_000);
  const api = {
    create: (collection, record) =>
      server.request('POST', recordsPath(collection), record, as).then(({ body }) => body),
  };
  for (const name of ['changed', 'deleted', 'left', 'stopped', 'other']) {
    await createCollection(server, token, {
      name,
      ...open,
      fields: [{ name: 'text', type: 'text', max: 100_000 }],
    });
    if (name !== 'other') await fill(api, name, 600, () => ({ text: big }));
  }

  const endsWith = (text, status, code) => {
    const lines = linesOf(text);
    assert.ok(lines.length < 602, 'it did not run to its end');
    assert.ok(lines[0].from);
    assert.deepEqual(Object.keys(lines.at(-1)), ['error']);
    assert.equal(lines.at(-1).error.status, status);
    assert.equal(lines.at(-1).error.code, code);
    assert.match(lines.at(-1).error.message, /^\S.*\.$/, 'a sentence');
  };

  await t.test('since its collection was changed ends with an error', async () => {
    const slow = await beginSlowly(server, token, 'changed');
    const answer = await server.request('PATCH', '/api/collections/changed', { name: 'new' }, as);
    assert.equal(answer.status, 200);
    endsWith(await slow.rest(), 409, 'collection_changed');
  });

  await t.test('since its collection was deleted ends with an error', async () => {
    const slow = await beginSlowly(server, token, 'deleted');
    const answer = await server.request('DELETE', '/api/collections/deleted', undefined, as);
    assert.equal(answer.status, 204);
    endsWith(await slow.rest(), 409, 'collection_changed');
  });

  await t.test('goes on when another collection is changed', async () => {
    const slow = await beginSlowly(server, token, 'left');
    await server.request('PATCH', '/api/collections/other', { name: 'another' }, as);
    const lines = linesOf(await slow.rest());
    assert.equal(lines.length, 602);
    assert.equal(lines.at(-1).done, true);
  });

  await t.test('since its client went away leaves nothing behind', async () => {
    for (let i = 0; i < 100; i++) {
      const slow = await beginSlowly(server, token, 'left');
      slow.request.destroy();
    }
    for (let waited = 0; ; waited += 20) {
      const answer = await server.request('HEAD', snapshotPath('left'), undefined, as);
      if (answer.status === 200) break;
      assert.ok(waited < 5000, 'those that were left still count');
      await sleep(20);
    }
  });

  await t.test('since its clients read slowly takes nothing from other tenants', async () => {
    await addNeighbours(server, token);
    const slow = [];
    let answer;
    do {
      slow.push(await beginSlowly(server, token, 'left'));
      answer = await server.request('HEAD', snapshotPath('left'), undefined, as);
    } while (answer.status === 200 && slow.length < 100);
    assert.equal(answer.status, 503);
    assert.ok(Number(answer.headers.get('retry-after')) > 0);
    const neighbour = await server.request('GET', snapshotPath('posts'), undefined, {
      ...as,
      tenant: 'left',
    });
    assert.equal(neighbour.status, 200, neighbour.text);
    for (const { request } of slow) request.destroy();
  });

  await t.test('since the server stops ends with an error', async () => {
    const slow = await beginSlowly(server, token, 'stopped');
    server.signal('SIGTERM');
    endsWith(await slow.rest(), 503, 'closing');
    assert.equal((await server.ended).code, 0);
  });
});
