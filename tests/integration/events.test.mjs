/**
 * The change feed: pages with an exact account, cursors that never jump silently, and what an event
 * holds.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { checkAccount, checkContiguous, readFeed } from './support/feed.mjs';
import { operator, titled, withHistory } from './support/history.mjs';
import { runWell, startServer, temporaryFolder } from './support/program.mjs';
import { listAll, open, recordsPath } from './support/records.mjs';
import { signIn } from './support/superuser.mjs';
import { requestText, Wire } from './support/wire.mjs';

const execute = promisify(execFile);
const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const EVENT_ID = /^evt_[0-9A-HJKMNP-TV-Z]{26}$/;

/** The parts of a cursor; build() makes one from them. */
function openCursor(text) {
  const raw = Buffer.from(text, 'base64url');
  return { epoch: raw.subarray(1, 9), sequence: raw.readBigUInt64BE(9) };
}
function buildCursor({ epoch, sequence }) {
  const raw = Buffer.alloc(20);
  raw[0] = 2;
  epoch.copy(raw, 1);
  raw.writeBigUInt64BE(BigInt(sequence), 9);
  const checked = raw.subarray(0, 17);
  const check = mix(checked);
  check.copy(raw, 17, 0, 3);
  return raw.toString('base64url');
}

/** FNV-1a, and its bits mixed once more. */
function mix(bytes) {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  hash = BigInt.asUintN(64, (hash ^ (hash >> 32n)) * 0xd6e8feb86659fd93n);
  const result = Buffer.alloc(8);
  result.writeBigUInt64LE(hash ^ (hash >> 32n));
  return result;
}

test('an event', async (t) => {
  const api = await operator(t);
  await api.define({
    name: 'posts',
    fields: [
      { name: 'title', type: 'text' },
      { name: 'n', type: 'number' },
    ],
  });
  const before = Date.now();
  const record = await api.create('posts', { title: 'Hello', n: 1 });
  await api.patch(recordsPath('posts', record.id), { title: 'Changed' });
  await api.remove(recordsPath('posts', record.id));
  const { events } = await readFeed(api.server, api.token, { query: '&types=posts.*' });
  const [created, updated, deleted] = events;

  await t.test('is one for each change, in their order', () => {
    assert.deepEqual(
      events.map(({ type }) => type),
      ['posts.created', 'posts.updated', 'posts.deleted'],
    );
    checkContiguous(events, created.sequence);
  });

  await t.test('says what, when, where, who, and of which record', () => {
    assert.deepEqual(Object.keys(created), [
      'id',
      'type',
      'timestamp',
      'source',
      'payload',
      'tenant',
      'subject',
      'sequence',
      'actor',
      'version',
    ]);
    assert.match(created.id, EVENT_ID);
    assert.match(created.timestamp, TIMESTAMP);
    assert.ok(
      Date.parse(created.timestamp) >= before - 1 && Date.parse(created.timestamp) <= Date.now(),
    );
    assert.equal(created.source, 'collections');
    assert.equal(created.tenant, 'default');
    assert.equal(created.subject, `posts/${record.id}`);
    assert.match(created.actor, /^_superusers\/[a-z0-9]{15}$/);
    assert.equal(created.version, 1);
  });

  await t.test('of a creation has the record', () => {
    assert.deepEqual(created.payload, { id: record.id, title: 'Hello', n: 1 });
    assert.equal('previous' in created, false);
  });

  await t.test(
    'of an update has the record as it is, and the former values of what changed',
    () => {
      assert.deepEqual(updated.payload, { id: record.id, title: 'Changed', n: 1 });
      assert.deepEqual(updated.previous, { title: 'Hello' });
    },
  );

  await t.test('of a deletion has the record as it was', () => {
    assert.deepEqual(deleted.payload, { id: record.id, title: 'Changed', n: 1 });
  });

  await t.test('of a guest says so', async () => {
    const { body } = await api.server.request('POST', '/posts', { title: 'by a guest' });
    const { body: page } = await api.events(`?subject=posts/${body.id}`);
    assert.equal(page.events[0].actor, 'guest');
  });

  await t.test('is found by its id, with the bytes that the page has', async () => {
    const one = await api.events(`/${created.id}`);
    assert.equal(one.status, 200);
    assert.deepEqual(one.body, created);
    const page = await api.events('?types=posts.created&limit=1');
    assert.ok(page.text.includes(one.text));
  });

  await t.test('that is not there is 404, whatever its id looks like', async () => {
    const other = created.id.slice(0, -1) + (created.id.endsWith('0') ? '1' : '0');
    for (const id of [
      other,
      'evt_',
      'evt_00000000000000000000000000',
      'nonsense',
      `${created.id}0`,
      'evt_7ZZZZZZZZZZZZZZZZZZZZZZZZZ',
    ])
      assert.equal((await api.events(`/${id}`)).status, 404, id);
  });

  await t.test('is not made by what was refused', async () => {
    const { body: head } = await api.events('?order=desc&limit=1');
    await api.server.request('POST', '/posts', { id: 'not an id' });
    await api.server.request(
      'PATCH',
      recordsPath('posts', 'nobody000000000'),
      {},
      { token: api.token },
    );
    assert.equal(
      (await api.events(`?after=${head.head}&types=*,_*`)).body.lastSequence,
      head.lastSequence,
    );
  });

  await t.test(
    'is made by a change of the schema, under a name that * does not match',
    async () => {
      const schema = await readFeed(api.server, api.token, { query: '&types=_collections.*' });
      assert.deepEqual(
        schema.events.map(({ type, payload }) => [type, payload.name]),
        [['_collections.created', 'posts']],
      );
      const { body } = await api.server.request('GET', '/api/collections/posts', undefined, {
        token: api.token,
      });
      await api.patch('/api/collections/posts', {
        fields: [...body.fields, { name: 'more', type: 'bool' }],
      });
      await api.remove('/api/collections/posts');
      const all = await readFeed(api.server, api.token, { query: '&types=_*' });
      assert.deepEqual(
        all.events.map(({ type }) => type).filter((type) => type.startsWith('_collections')),
        ['_collections.created', '_collections.updated', '_collections.deleted'],
      );
      for (const query of ['', '&types=*'])
        for (const { type } of (await readFeed(api.server, api.token, { query })).events)
          assert.ok(!type.startsWith('_'), `* does not match ${type}`);
    },
  );
});

test('pages', async (t) => {
  const api = await withHistory(t);
  const whole = await readFeed(api.server, api.token, { query: '&types=*,_*' });
  const { events } = whole;
  checkContiguous(events, 1);

  await t.test('of any limit make the same feed', async () => {
    for (const limit of [1, 3, 7, 1000])
      assert.deepEqual(
        await readFeed(api.server, api.token, { query: '&types=*,_*', limit }),
        whole,
      );
  });

  await t.test('of some types show these, and count the others', async () => {
    for (const [query, wanted] of [
      ['posts.created', ({ type }) => type === 'posts.created'],
      ['posts.*', ({ type }) => type.startsWith('posts.')],
      ['*.deleted', ({ type }) => type.endsWith('.deleted') && !type.startsWith('_')],
      [
        'people.created,posts.deleted',
        ({ type }) => ['people.created', 'posts.deleted'].includes(type),
      ],
      ['_*', ({ type }) => type.startsWith('_')],
      ['*', ({ type }) => !type.startsWith('_')],
      ['nothing.happened', () => false],
    ])
      for (const limit of [2, 1000])
        assert.deepEqual(
          (await readFeed(api.server, api.token, { query: `&types=${query}`, limit })).events,
          events.filter(wanted),
          query,
        );
  });

  await t.test('of one subject show its life', async () => {
    const { subject } = events.find(({ type }) => type === 'posts.deleted');
    const life = (await readFeed(api.server, api.token, { query: `&subject=${subject}` })).events;
    assert.deepEqual(
      life,
      events.filter((event) => event.subject === subject),
    );
    assert.equal(life.at(-1).type, 'posts.deleted');
  });

  await t.test('say where the feed begins and ends, and whether there is more', async () => {
    const { body } = await api.events('?limit=2&types=*,_*');
    assert.deepEqual([body.firstSequence, body.lastSequence, body.hasMore], [1, 2, true]);
    assert.equal(openCursor(body.head).sequence, BigInt(events.length));
    assert.equal(openCursor(body.oldest).sequence, 0n);
    assert.equal(openCursor(body.next).sequence, 2n);
    const atHead = (await api.events(`?after=${body.head}`)).body;
    checkAccount(atHead);
    assert.deepEqual(
      [atHead.events, atHead.hasMore, atHead.next],
      [[], false, body.head],
      'next is given there, too',
    );
  });

  await t.test('go on behind the head when something has happened', async () => {
    const {
      body: { head },
    } = await api.events('?after=now');
    const { id } = await api.create('posts', { title: 'later' });
    const { body } = await api.events(`?after=${head}`);
    assert.deepEqual(
      body.events.map(({ subject }) => subject),
      [`posts/${id}`],
    );
    await api.remove(recordsPath('posts', id));
  });

  await t.test('backwards begin at the newest, and end at the first', async () => {
    const now = (await readFeed(api.server, api.token, { query: '&types=*,_*' })).events;
    for (const limit of [1, 4, 1000]) {
      const seen = [];
      let page,
        after = '';
      do {
        page = (await api.events(`?order=desc&limit=${limit}&types=*,_*${after}`)).body;
        checkAccount(page);
        seen.push(...page.events);
        after = `&after=${page.next}`;
      } while (page.hasMore);
      assert.deepEqual(seen, [...now].reverse());
    }
  });

  await t.test('begin at a time', async () => {
    await sleep(30);
    const time = new Date().toISOString();
    await sleep(30);
    const { id } = await api.create('posts', { title: 'after that time' });
    const { body } = await api.events(`?after=${time}`);
    checkAccount(body);
    assert.deepEqual(
      body.events.map(({ subject }) => subject),
      [`posts/${id}`],
    );
    const first = (await api.events('?after=2000-01-01T00:00:00Z&types=*,_*')).body;
    assert.equal(first.firstSequence, 1);
    assert.deepEqual((await api.events('?after=2100-01-01T00:00:00Z')).body.events, []);
    const backwards = (await api.events(`?after=${time}&order=desc&limit=1&types=*,_*`)).body;
    assert.equal(
      backwards.lastSequence,
      body.firstSequence - 1,
      'backwards from a time are those before it',
    );
  });
});

/** Many clients change records of a collection at once, for a while. */
async function churn(api, collection, { clients, rounds }) {
  const write = async (wire, method, path, body) => {
    wire.write(requestText(method, path, body, { Authorization: api.token }));
    return wire.answer();
  };
  await Promise.all(
    Array.from({ length: clients }, async (_, client) => {
      const wire = await Wire.open(api.server.port);
      const own = [];
      for (let round = 0; round < rounds; round++) {
        const victim = own[(round * 7) % (own.length || 1)];
        if (round % 3 !== 2 || !victim) {
          const made = await write(wire, 'POST', recordsPath(collection), { title: `${client}` });
          own.push(made.json.id);
        } else if (round % 2) {
          await write(wire, 'PATCH', recordsPath(collection, victim), { title: `${round}` });
        } else {
          await write(wire, 'DELETE', recordsPath(collection, victim));
          own.splice(own.indexOf(victim), 1);
        }
      }
      wire.destroy();
    }),
  );
}

test('a copy made from the feed is exact, and undoing events by what was before leads back', async (t) => {
  const api = await operator(t);
  await api.define({
    name: 'posts',
    fields: [
      { name: 'title', type: 'text' },
      { name: 'updated', type: 'autodate', onCreate: true, onUpdate: true },
    ],
  });
  await churn(api, 'posts', { clients: 12, rounds: 40 });
  const { events } = await readFeed(api.server, api.token, { query: '&types=posts.*' });
  const copy = new Map(),
    kinds = new Set();
  for (const { type, payload } of events) {
    kinds.add(type);
    if (type === 'posts.deleted') copy.delete(payload.id);
    else copy.set(payload.id, payload);
  }
  assert.equal(kinds.size, 3, 'records were created, updated and deleted');
  const rows = await listAll(api.server, api.token, 'posts');
  const fieldsOf = ({ collectionId, collectionName, ...fields }) => fields;
  assert.deepEqual(new Map(rows.map((row) => [row.id, fieldsOf(row)])), new Map([...copy].sort()));
  for (const { type, payload, previous } of events.reverse()) {
    if (type === 'posts.deleted') copy.set(payload.id, payload);
    if (type === 'posts.updated') copy.set(payload.id, { ...payload, ...previous });
    if (type === 'posts.created') {
      assert.deepEqual(copy.get(payload.id), payload, 'as it was created');
      copy.delete(payload.id);
    }
  }
  assert.equal(copy.size, 0);
});

test('parameters that cannot be followed are refused by name', async (t) => {
  const api = await withHistory(t);
  for (const [query, field, code] of [
    ['?limit=0', 'limit', 'validation_out_of_range'],
    ['?limit=1001', 'limit', 'validation_out_of_range'],
    ['?limit=x', 'limit', 'validation_out_of_range'],
    ['?order=up', 'order', 'validation_invalid_order'],
    ['?types=nodot', 'types', 'validation_invalid_type'],
    ['?types=a..b', 'types', 'validation_invalid_type'],
    ['?types=posts.*,,', 'types', 'validation_invalid_type'],
    [`?types=${Array(101).fill('a.b')}`, 'types', 'validation_too_many'],
    [`?subject=${'x'.repeat(1025)}`, 'subject', 'validation_too_long'],
    ['?filter=1', 'filter', 'validation_invalid_filter'],
    ['?wait=61', 'wait', 'validation_out_of_range'],
    ['?type=posts.*', 'type', 'validation_unknown_name'],
    ['?after=', 'after', 'cursor_invalid'],
    ['?wait=5&order=desc', 'wait', 'validation_wait_backwards'],
  ]) {
    await t.test(query.slice(0, 30), async () => {
      const answer = await api.events(query);
      assert.equal(answer.status, 400, answer.text);
      assert.deepEqual(Object.keys(answer.body.data), [field]);
      assert.equal(answer.body.data[field].code, code);
    });
  }
});

test('a cursor', async (t) => {
  const api = await withHistory(t);
  const { body: page } = await api.events('?limit=5&types=*,_*');
  const parts = openCursor(page.next);

  const refused = async (cursor, status, code) => {
    for (const order of ['', '&order=desc']) {
      const answer = await api.events(`?after=${encodeURIComponent(cursor)}${order}`);
      assert.equal(answer.status, status, answer.text);
      const { code: found, message, params } = answer.body.data.after;
      assert.equal(found, code);
      assert.ok(message.length > 0);
      assert.equal(params.oldest, page.oldest, 'it says where to begin again');
    }
  };

  await t.test('is what the test takes it for', () => assert.equal(buildCursor(parts), page.next));

  await t.test('is good with any filter, limit and order', async () => {
    for (const query of ['&types=posts.*', '&limit=1', '&order=desc', '&subject=posts/x'])
      assert.equal((await api.events(`?after=${page.next}${query}`)).status, 200);
  });

  await t.test('that is none is cursor_invalid', async () => {
    for (const cursor of [
      'x',
      'END',
      'Start',
      '0',
      page.next.slice(1),
      `${page.next}A`,
      `B${page.next.slice(1)}`,
      'A'.repeat(27),
      '2026-13-01T00:00:00Z',
      '💥',
    ])
      await refused(cursor, 400, 'cursor_invalid');
  });

  await t.test('with a letter changed is cursor_invalid', async () => {
    for (let at = 0; at < page.next.length - 1; at++) {
      const letter = page.next[at] === 'A' ? 'B' : 'A';
      await refused(
        page.next.slice(0, at) + letter + page.next.slice(at + 1),
        400,
        'cursor_invalid',
      );
    }
  });

  await t.test('past the newest event is cursor_in_future', async () => {
    const { sequence } = openCursor(page.head);
    await refused(buildCursor({ ...parts, sequence: sequence + 1n }), 400, 'cursor_in_future');
    await refused(buildCursor({ ...parts, sequence: 2n ** 64n - 1n }), 400, 'cursor_in_future');
  });

  await t.test('of another history is cursor_epoch_changed', async () => {
    await refused(
      buildCursor({ ...parts, epoch: Buffer.alloc(8, 7) }),
      409,
      'cursor_epoch_changed',
    );
  });
});

test('after a restore the cursors of before are cursor_epoch_changed, and new ones go on', async (t) => {
  const folder = await temporaryFolder(t);
  const api = await withHistory(t, { folder });
  const { body: before } = await api.events('?limit=5');
  const file = join(folder, 'backup.zip');
  await runWell(['backup', file, '--data', api.server.data]);
  await api.server.stop();
  await runWell(['restore', file, '--data', api.server.data]);
  const server = await startServer(t, { folder });
  const token = await signIn(server);
  const answer = await server.request('GET', `/api/events?after=${before.next}`, undefined, {
    token,
  });
  assert.equal(answer.status, 409);
  assert.equal(answer.body.data.after.code, 'cursor_epoch_changed');
  const { events } = await readFeed(server, token, {
    after: answer.body.data.after.params.oldest,
    query: '&types=*,_*',
  });
  checkContiguous(events, 1);
});

/* What a pruning leaves, made on a stopped directory: the real one comes by once a minute. */
const PRUNE = `
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
upto = int(sys.argv[2])
database.execute('DELETE FROM _journal WHERE sequence <= ?', (upto,))
database.execute("UPDATE _meta SET value = ? WHERE name = 'journal_oldest'", (upto + 1,))
database.commit()
`;

async function checkPruned(server, token, { old, upto }) {
  const answer = await server.request('GET', `/api/events?after=${old}`, undefined, { token });
  assert.equal(answer.status, 410, answer.text);
  const { code, params } = answer.body.data.after;
  assert.equal(code, 'cursor_expired');
  assert.equal(openCursor(params.oldest).sequence, BigInt(upto));
  const { events, first } = await readFeed(server, token, {
    after: params.oldest,
    query: '&types=*,_*',
  });
  assert.equal(first, upto + 1);
  checkContiguous(events, upto + 1);
  const { body } = await server.request('GET', '/api/events?limit=1&types=*,_*', undefined, {
    token,
  });
  assert.equal(body.firstSequence, upto + 1, 'start is the oldest that is kept');
  assert.equal(body.oldest, params.oldest);
}

test('after pruning the cursors of what is gone are cursor_expired, and nothing else is', async (t) => {
  const folder = await temporaryFolder(t);
  const api = await withHistory(t, { folder });
  const { body: early } = await api.events('?limit=3&types=*,_*');
  const { body: later } = await api.events('?limit=8&types=*,_*');
  await api.server.stop();
  try {
    await execute('python3', ['-c', PRUNE, join(api.server.data, 'tenants/default/data.db'), '8']);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
    t.skip('needs python3');
    return;
  }
  const server = await startServer(t, { folder });
  await checkPruned(server, api.token, { old: early.next, upto: 8 });
  const answer = await server.request('GET', `/api/events?after=${later.next}`, undefined, {
    token: api.token,
  });
  assert.equal(answer.status, 200, 'right behind the last one that was pruned nothing is missing');
  const since = (time, accept) =>
    server.request('GET', `/api/events?after=${time}`, undefined, {
      token: api.token,
      headers: accept ? { accept } : {},
    });
  const old = await since('2001-01-01T00:00:00Z');
  assert.deepEqual([old.body.pruned, old.body.firstSequence], [true, 9], 'a time before them says so');
  const lines = await since('2001-01-01T00:00:00Z', 'application/x-ndjson');
  assert.equal(lines.headers.get('bakend-pruned'), 'true');
  const { body: latest } = await since(later.events.at(-1).timestamp);
  assert.ok(latest.firstSequence <= 9 || !('pruned' in latest));
  const fresh = await since('2101-01-01T00:00:00Z');
  assert.ok(!('pruned' in fresh.body), 'a time since then has nothing to say');
  const gone = await server.request('GET', `/api/events/${early.events[0].id}`, undefined, {
    token: api.token,
  });
  assert.equal(gone.status, 410, 'an event that was pruned is gone, not unknown');
});

test(
  'the server prunes by age',
  { skip: process.env.BAKEND_LONG === '1' ? false : 'BAKEND_LONG=1: it takes a minute' },
  async (t) => {
    const api = await withHistory(t, { args: ['--retention-max-age', '5s'] });
    const { body: early } = await api.events('?limit=3&types=*,_*');
    for (const until = Date.now() + 80_000; ;) {
      const { status } = await api.events(`?after=${early.next}`);
      if (status === 410) break;
      assert.ok(Date.now() < until, 'pruned by now');
      await sleep(1000);
    }
    const { body } = await api.events('?types=*,_*');
    await checkPruned(api.server, api.token, { old: early.next, upto: body.firstSequence - 1 });
  },
);

test('a reader of a rare type gets on through a long feed, page by page', async (t) => {
  const COUNT = 10_300,
    CONNECTIONS = 16;
  const api = await operator(t);
  await api.define(titled('many'));
  let left = COUNT;
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      const wire = await Wire.open(api.server.port);
      while (left-- > 0) {
        wire.write(requestText('POST', '/many', { title: 'x' }));
        assert.equal((await wire.answer()).status, 200);
      }
      wire.destroy();
    }),
  );
  await api.define(titled('rare'));
  const { id } = await api.create('rare', { title: 'at last' });
  const pages = [];
  let after = '';
  do {
    pages.push((await api.events(`?types=rare.*${after}`)).body);
    after = `&after=${pages.at(-1).next}`;
  } while (pages.at(-1).hasMore);
  assert.ok(pages.length >= 2);
  pages.forEach((page, index) => {
    checkAccount(page);
    assert.equal(page.firstSequence, index === 0 ? 1 : pages[index - 1].lastSequence + 1);
    const looked = page.lastSequence - page.firstSequence + 1;
    assert.ok(looked > 0 && looked <= 10_000, 'a page looks at 10,000 rows at most');
  });
  const shown = pages.flatMap(({ events }) => events);
  assert.deepEqual(
    shown.map(({ subject }) => subject),
    [`rare/${id}`],
  );
  const whole = await readFeed(api.server, api.token, { query: '&types=*,_*' });
  checkContiguous(whole.events, 1);
  assert.equal(whole.events.filter(({ type }) => type === 'many.created').length, COUNT);
});

test('an event too large leaves out its largest fields and names them', async (t) => {
  const api = await operator(t);
  await api.define({
    name: 'large',
    fields: [
      { name: 'title', type: 'text' },
      { name: 'small', type: 'json' },
      { name: 'body', type: 'json', maxSize: 900_000 },
    ],
  });
  const body = 'x'.repeat(400_000);
  const record = await api.create('large', { title: 'kept', small: [1], body });
  const { body: page } = await api.events('?types=large.*');
  assert.deepEqual(page.events[0].payload, { id: record.id, title: 'kept', small: [1] });
  assert.deepEqual(page.events[0].omitted, ['body']);
  const { body: stored } = await api.server.request('GET', recordsPath('large', record.id));
  assert.equal(stored.body, body, 'the record itself is whole');
});

test('guests and wrong tokens are refused', async (t) => {
  const api = await withHistory(t);
  const { body } = await api.events('?limit=1');
  for (const path of [
    '/api/events',
    `/api/events/${body.events[0].id}`,
    '/api/logs',
    '/api/logs/stats',
  ])
    for (const token of [undefined, 'nonsense', `${api.token}x`]) {
      const answer = await api.server.request('GET', path, undefined, { token });
      assert.equal(answer.status, 401, path);
      assert.deepEqual(answer.body.data, {});
    }
});
