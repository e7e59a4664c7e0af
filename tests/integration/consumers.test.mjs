/**
 * Named consumers: pages under leases, at least once, a position that a crash does not move, and
 * answers that say what to do when it cannot be followed.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkAccount } from './support/feed.mjs';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { runWell, startServer, temporaryFolder } from './support/program.mjs';
import { createRandom } from './support/random.mjs';
import { createCollection, createRecord, open, recordsPath } from './support/records.mjs';
import { operatorToken, signIn } from './support/superuser.mjs';

const posts = { name: 'posts', ...open, fields: [{ name: 'title', type: 'text' }] };

function consumersOf(server, token) {
  const ask = (method, path, body, options) =>
    server.request(method, `/api/consumers${path}`, body, { token, ...options });
  return {
    ask,
    put: (name, body = {}) => ask('PUT', `/${name}`, body),
    get: (name) => ask('GET', `/${name}`),
    poll: (name, body = {}) => ask('POST', `/${name}/poll`, body),
    commit: (name, body) => ask('POST', `/${name}/commit`, body),
    seek: (name, after) => ask('POST', `/${name}/seek`, { after }),
    remove: (name) => ask('DELETE', `/${name}`),
  };
}

async function well(answer) {
  const { status, body, text } = await answer;
  assert.equal(status, 200, text);
  return body;
}

async function problem(answer, status, field, code) {
  const { status: found, body, text } = await answer;
  assert.equal(found, status, text);
  assert.equal(body.data[field]?.code, code, text);
  assert.match(body.data[field].message, /^\S.*\.$/s, 'a sentence');
  return body.data[field].params;
}

const titles = (page) => page.events.map(({ payload }) => payload.title);
const sequenceOf = (cursor) => Number(Buffer.from(cursor, 'base64url').readBigUInt64BE(9));

/** A cursor of another history. */
async function cursorOfAnotherTenant(server, token) {
  const { body } = await server.request('GET', '/api/events', undefined, { token, tenant: 'left' });
  return body.head;
}

async function setUp(t) {
  const api = await operator(t);
  await api.define(posts);
  const write = async (...names) => {
    for (const title of names) await api.create('posts', { title });
  };
  return { ...api, getPath: api.get, write, ...consumersOf(api.server, api.token) };
}

test('a consumer', async (t) => {
  const api = await setUp(t);

  await t.test('is made, shown, listed and removed', async () => {
    const made = await well(api.put('first', { types: ['posts.*'], subject: 'posts/abc' }));
    assert.equal(made.name, 'first');
    assert.deepEqual(made.types, ['posts.*']);
    assert.equal(made.subject, 'posts/abc');
    assert.equal(made.state, 'ready');
    assert.equal(made.lag, 0);
    assert.equal(made.leased, false);
    assert.equal(made.leaseUntil, '');
    assert.match(made.created, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.deepEqual(await well(api.get('first')), made);
    await well(api.put('another'));
    const list = await well(api.ask('GET', ''));
    assert.deepEqual(
      list.items.map(({ name, types }) => ({ name, types })),
      [
        { name: 'another', types: ['*'] },
        { name: 'first', types: ['posts.*'] },
      ],
    );
    assert.deepEqual(
      { page: list.page, perPage: list.perPage, all: list.totalItems, pages: list.totalPages },
      { page: 1, perPage: 30, all: 2, pages: 1 },
    );
    const second = await well(api.ask('GET', '?page=2&perPage=1'));
    assert.deepEqual(
      second.items.map(({ name }) => name),
      ['first'],
    );
    assert.equal((await api.remove('another')).status, 204);
    assertRefused(await api.get('another'), 404);
    assertRefused(await api.remove('another'), 404);
    assertRefused(await api.poll('another'), 404);
  });

  await t.test('is a record of _consumers, that only its verbs change', async () => {
    const path = recordsPath('_consumers');
    const { items } = await well(api.getPath(path));
    assert.deepEqual(
      items.map(({ name }) => name),
      ['first'],
    );
    const refused = await api.server.request(
      'PATCH',
      `${path}/${items[0].id}`,
      { name: 'x' },
      { token: api.token },
    );
    assert.equal(refused.status, 400);
    assert.match(refused.body.message, /\/api\/consumers/);
  });

  await t.test('makes no events of its own', async () => {
    const { body } = await api.server.request('GET', '/api/events?types=*,_*', undefined, {
      token: api.token,
    });
    assert.equal(
      body.events.some(({ subject }) => subject?.startsWith('_consumers')),
      false,
    );
  });

  await t.test('that is defined wrongly is refused, field by field', async () => {
    const message = 'The consumer cannot be defined like this.';
    assertProblems(
      await api.put('wrong', { types: ['posts..x'], subject: 'posts', filter: 'a = 1' }),
      {
        types: 'validation_invalid_type',
        subject: 'validation_invalid_subject',
        filter: 'validation_invalid_filter',
      },
      message,
    );
    assertProblems(await api.put('wrong', { types: 'posts.*' }), {
      types: 'validation_invalid_type',
    });
    assertProblems(await api.put('wrong', { subject: ['posts/abc'], after: 5 }), {
      subject: 'validation_invalid_type',
      after: 'validation_invalid_type',
    });
    assertProblems(await api.put('wrong', { tyes: ['posts.*'] }), { tyes: 'validation_unknown_name' });
    assertProblems(await api.put('-x', {}), { name: 'validation_invalid_format' });
    assertProblems(await api.put('x'.repeat(101), {}), { name: 'validation_invalid_format' });
    await problem(api.put('wrong', { after: 'nonsense' }), 400, 'after', 'cursor_invalid');
    assertRefused(await api.get('wrong'), 404);
  });

  await t.test('begins now unless it is told otherwise, and keeps its place', async () => {
    await api.write('old');
    const now = await well(api.put('place', { types: ['posts.*'] }));
    assert.equal(now.lag, 0);
    assert.deepEqual((await well(api.poll('place'))).events, []);
    await well(api.put('place', { types: ['posts.*'], after: 'start' }));
    assert.deepEqual(titles(await well(api.poll('place'))), ['old']);
    const page = await well(api.put('place', { types: ['posts.created'] }));
    assert.deepEqual(page.types, ['posts.created']);
    assert.equal(page.leased, true, 'a lease outlives a new definition');
  });

  await t.test('is a superuser’s', async () => {
    for (const [method, path] of [
      ['GET', ''],
      ['GET', '/first'],
      ['PUT', '/first'],
      ['DELETE', '/first'],
      ['POST', '/first/poll'],
      ['POST', '/first/commit'],
      ['POST', '/first/seek'],
    ])
      assertRefused(await api.ask(method, path, undefined, { token: '' }), 401);
  });

  await t.test('is its tenant’s', async () => {
    assertRefused(await api.ask('GET', '/first', undefined, { tenant: 'left' }), 404);
  });
});

test('a poll', async (t) => {
  const api = await setUp(t);
  await well(api.put('work', { types: ['posts.*'] }));

  await t.test('answers a page like one of the feed, and a lease', async () => {
    await api.write('one', 'two', 'three');
    const page = await well(api.poll('work', { limit: 2 }));
    checkAccount(page);
    assert.deepEqual(titles(page), ['one', 'two']);
    assert.equal(page.hasMore, true);
    assert.match(page.lease, /^[a-z0-9]{20}$/);
    const rest = Date.parse(page.leaseUntil) - Date.now();
    assert.ok(rest > 25_000 && rest <= 30_000, `30 seconds, not ${rest}`);
    const shown = await well(api.get('work'));
    assert.equal(shown.state, 'leased');
    assert.equal(shown.leaseUntil, page.leaseUntil);
    assert.equal(shown.lag, 3);
    assert.ok(shown.oldestAgeMs >= 0 && shown.oldestAgeMs < 60_000);

    const until = await problem(api.poll('work'), 409, 'lease', 'consumer_leased');
    assert.deepEqual(until, { leaseUntil: page.leaseUntil });
    const { headers } = await api.poll('work');
    assert.ok(Number(headers.get('retry-after')) > 20);

    const after = await well(api.commit('work', { cursor: page.next, lease: page.lease }));
    assert.equal(after.cursor, page.next);
    assert.equal(after.leased, false);
    assert.equal(after.lag, 1);
    assert.deepEqual(titles(await well(api.poll('work', { leaseMs: 100 }))), ['three']);
  });

  await t.test('is given again what a lease was not committed for', async () => {
    await sleep(150);
    const again = await well(api.poll('work', { leaseMs: 200 }));
    assert.deepEqual(titles(again), ['three']);
    const waited = await well(api.poll('work', { wait: 5, leaseMs: 60_000 }));
    assert.deepEqual(titles(waited), ['three'], 'who waits gets it when the lease is over');
    assert.notEqual(waited.lease, again.lease);
    await problem(
      api.commit('work', { cursor: again.next, lease: again.lease }),
      409,
      'lease',
      'consumer_lease_lost',
    );
    const { cursor } = await well(api.commit('work', { cursor: waited.next }));
    assert.equal(cursor, waited.next);
  });

  await t.test('without events takes no lease', async () => {
    const page = await well(api.poll('work'));
    checkAccount(page);
    assert.deepEqual(page.events, []);
    assert.equal(page.lease, '');
    assert.equal(page.leaseUntil, '');
    assert.deepEqual((await well(api.poll('work'))).events, []);
  });

  await t.test('waits for an event, and for one that it asked for', async () => {
    const started = Date.now();
    const waiting = api.poll('work', { wait: 20, leaseMs: 60_000 });
    await sleep(100);
    await api.define({ name: 'other', fields: [] });
    await sleep(100);
    await api.write('four');
    const page = await well(waiting);
    checkAccount(page);
    assert.deepEqual(titles(page), ['four']);
    assert.ok(Date.now() - started < 10_000);
    const second = api.poll('work', { wait: 20 });
    await sleep(50);
    await well(api.commit('work', { cursor: page.next, lease: page.lease }));
    await api.write('five');
    const next = await well(second);
    assert.deepEqual(titles(next), ['five'], 'the end of a lease lets the next one wait on');
    await well(api.commit('work', { cursor: next.next }));
    const empty = await well(api.poll('work', { wait: 1 }));
    assert.deepEqual(empty.events, []);
  });

  await t.test('of many gives each event to one', async () => {
    const all = Array.from({ length: 60 }, (_, n) => `n${n}`);
    const seen = [];
    const worker = async () => {
      while (seen.length < all.length) {
        const answer = await api.poll('work', { wait: 1, limit: 3, leaseMs: 60_000 });
        if (answer.status === 409) continue;
        const page = await well(answer);
        seen.push(...titles(page));
        if (page.lease) await well(api.commit('work', { cursor: page.next, lease: page.lease }));
      }
    };
    const workers = Array.from({ length: 5 }, worker);
    await api.write(...all);
    await Promise.all(workers);
    assert.deepEqual(seen, all, 'each once, in order, while nobody fails');
  });

  await t.test('that its client gave up gives nothing away', async () => {
    await api.write('kept');
    await sleep(50);
    await well(api.seek('work', 'now'));
    const controllers = Array.from({ length: 5 }, () => new AbortController());
    const given = controllers.map(({ signal }) =>
      fetch(`${api.server.url}/api/consumers/work/poll`, {
        method: 'POST',
        signal,
        headers: { authorization: api.token, 'content-type': 'application/json' },
        body: JSON.stringify({ wait: 30, leaseMs: 60_000 }),
      }).catch((error) => error),
    );
    await sleep(200);
    for (const controller of controllers) controller.abort();
    await Promise.all(given);
    await sleep(100);
    await api.write('for the next');
    assert.deepEqual(titles(await well(api.poll('work', { wait: 5, leaseMs: 100 }))), [
      'for the next',
    ]);
    await sleep(150);
  });

  await t.test('that is wrong is refused, field by field', async () => {
    assertProblems(
      await api.poll('work', { limit: 1001, wait: 61, leaseMs: 1 }),
      {
        limit: 'validation_out_of_range',
        wait: 'validation_out_of_range',
        leaseMs: 'validation_out_of_range',
      },
      'The consumer cannot be polled like this.',
    );
    assertProblems(await api.poll('work', { limt: 5 }), { limt: 'validation_unknown_name' });
    assertProblems(await api.poll('work', { limit: '5' }), { limit: 'validation_out_of_range' });
  });

  await t.test('that waits is told when its consumer is removed', async () => {
    await well(api.put('short', { types: ['nothing.*'] }));
    const waiting = api.poll('short', { wait: 30 });
    await sleep(100);
    await api.remove('short');
    assertRefused(await waiting, 404);
  });
});

test('a commit', async (t) => {
  const api = await setUp(t);
  await well(api.put('work', { types: ['posts.*'] }));
  await api.write('a', 'b', 'c', 'd');
  const page = await well(api.poll('work', { leaseMs: 60_000 }));
  const cursors = [];
  for (let after = page.oldest, hasMore = true; hasMore;) {
    const { body } = await api.server.request(
      'GET',
      `/api/events?types=posts.created&limit=1&after=${after}`,
      undefined,
      { token: api.token },
    );
    if (body.events.length) cursors.push(body.next);
    ({ next: after, hasMore } = body);
  }

  await t.test('of part of a page leaves the rest under the lease', async () => {
    const part = await well(api.commit('work', { cursor: cursors[1], lease: page.lease }));
    assert.equal(part.cursor, cursors[1]);
    assert.equal(part.lag, 2);
    assert.equal(part.leased, true);
    await problem(api.poll('work'), 409, 'lease', 'consumer_leased');
  });

  await t.test('goes forward only', async () => {
    const back = await well(api.commit('work', { cursor: cursors[0], lease: page.lease }));
    assert.equal(back.cursor, cursors[1]);
  });

  await t.test('of the whole ends the lease, and may be sent again', async () => {
    for (let i = 0; i < 2; i++) {
      const done = await well(api.commit('work', { cursor: page.next, lease: page.lease }));
      assert.equal(done.cursor, page.next);
      assert.equal(done.leased, false);
    }
  });

  await t.test('of what was not handed out is refused', async () => {
    await api.write('e');
    const { body } = await api.server.request('GET', '/api/events?after=now', undefined, {
      token: api.token,
    });
    await problem(
      api.commit('work', { cursor: body.head, lease: page.lease }),
      400,
      'cursor',
      'cursor_not_handed_out',
    );
    await problem(api.commit('work', { cursor: body.head }), 400, 'cursor', 'cursor_not_handed_out');
  });

  await t.test('with a wrong lease or cursor is refused', async () => {
    const given = await well(api.poll('work', { leaseMs: 60_000 }));
    const lease = 'x'.repeat(20);
    assertProblems(await api.commit('work', { cursor: 5, lease: 5 }), {
      cursor: 'validation_invalid_type',
      lease: 'validation_invalid_type',
    });
    await problem(
      api.commit('work', { cursor: given.next, lease }),
      409,
      'lease',
      'consumer_lease_lost',
    );
    await problem(api.commit('work', { cursor: 'x' }), 400, 'cursor', 'cursor_invalid');
    await problem(api.commit('work', {}), 400, 'cursor', 'validation_required');
    const foreign = await cursorOfAnotherTenant(api.server, api.token);
    await problem(api.commit('work', { cursor: foreign }), 409, 'cursor', 'cursor_epoch_changed');
    await well(api.commit('work', { cursor: given.next, lease: given.lease }));
  });

  await t.test('after its lease is over is good until the events are handed out again', async () => {
    await api.write('f');
    const late = await well(api.poll('work', { leaseMs: 100 }));
    await sleep(200);
    assert.equal((await well(api.get('work'))).leased, false);
    const done = await well(api.commit('work', { cursor: late.next, lease: late.lease }));
    assert.equal(done.cursor, late.next);
    assert.deepEqual((await well(api.poll('work'))).events, []);
  });

  await t.test('that comes late, at the same time as a poll, is not handed out again', async () => {
    for (let round = 0; round < 10; round++) {
      await api.write('g', 'h');
      const late = await well(api.poll('work', { leaseMs: 100 }));
      await sleep(150);
      const [done, page] = await Promise.all([
        api.commit('work', { cursor: late.next, lease: late.lease }),
        well(api.poll('work', { leaseMs: 60_000 })),
      ]);
      checkAccount(page);
      if (done.status === 200) {
        assert.deepEqual(titles(page), [], 'what was committed is done');
      } else {
        await problem(done, 409, 'lease', 'consumer_lease_lost');
        await well(api.commit('work', { cursor: page.next, lease: page.lease }));
      }
      assert.equal((await well(api.get('work'))).leased, false);
    }
  });
});

test('a seek', async (t) => {
  const api = await setUp(t);
  await well(api.put('work', { types: ['posts.*'] }));
  await api.write('a', 'b');
  await sleep(20);
  const between = new Date().toISOString();
  await sleep(20);
  await api.write('c');
  const head = (
    await api.server.request('GET', '/api/events?after=now', undefined, { token: api.token })
  ).body.head;

  const after = async (place) => {
    const sought = await well(api.seek('work', place));
    assert.equal(sought.leased, false, 'it ends the lease');
    return titles(await well(api.poll('work')));
  };

  await t.test('goes to a cursor, a word or a time', async () => {
    assert.deepEqual(await after('start'), ['a', 'b', 'c']);
    assert.deepEqual(await after(between), ['c']);
    assert.deepEqual(await after('now'), []);
    assert.deepEqual(await after(head), []);
    assert.deepEqual(await after('2001-01-01T00:00:00Z'), ['a', 'b', 'c']);
    assert.deepEqual(await after('2101-01-01T00:00:00Z'), []);
  });

  await t.test('takes the lease from who has it', async () => {
    await well(api.seek('work', 'start'));
    const page = await well(api.poll('work', { leaseMs: 60_000 }));
    const waiting = api.poll('work', { wait: 20 });
    await sleep(50);
    await well(api.seek('work', 'start'));
    assert.deepEqual(titles(await well(waiting)), ['a', 'b', 'c']);
    await problem(
      api.commit('work', { cursor: page.next, lease: page.lease }),
      409,
      'lease',
      'consumer_lease_lost',
    );
  });

  await t.test('is seen by a poll that has looked at the head, with an account', async () => {
    await well(api.seek('work', 'now'));
    const waiting = api.poll('work', { wait: 20 });
    await sleep(200);
    await well(api.seek('work', 'start'));
    const page = await well(waiting);
    assert.deepEqual(titles(page), ['a', 'b', 'c']);
    checkAccount(page);
    await well(api.commit('work', { cursor: page.next, lease: page.lease }));
  });

  await t.test('to what is none is refused', async () => {
    await problem(api.seek('work', 5), 400, 'after', 'validation_invalid_type');
    await problem(api.seek('work', 'yesterday'), 400, 'after', 'cursor_invalid');
    await problem(api.seek('work', undefined), 400, 'after', 'validation_required');
    const foreign = await cursorOfAnotherTenant(api.server, api.token);
    await problem(api.seek('work', foreign), 409, 'after', 'cursor_epoch_changed');
  });
});

test('a consumer begins at a time', async (t) => {
  const api = await setUp(t);
  await api.write('a', 'b');
  await sleep(20);
  const between = new Date().toISOString();
  await sleep(20);
  await api.write('c');
  const made = await well(api.put('between', { types: ['posts.*'], after: between }));
  assert.equal(made.state, 'ready');
  assert.deepEqual(titles(await well(api.poll('between'))), ['c']);
  await well(api.put('early', { types: ['posts.*'], after: '2001-01-01T00:00:00Z' }));
  assert.deepEqual(titles(await well(api.poll('early'))), ['a', 'b', 'c']);
  await well(api.put('late', { types: ['posts.*'], after: '2101-01-01T00:00:00Z' }));
  assert.deepEqual(titles(await well(api.poll('late'))), []);
  /* Defined anew, with a time: from there. */
  await well(api.put('late', { types: ['posts.*'], after: between }));
  assert.deepEqual(titles(await well(api.poll('late'))), ['c']);
  await problem(api.put('wrong', { after: 'yesterday' }), 400, 'after', 'cursor_invalid');
  const wrong = api.put('wrong', { types: 'x', after: between });
  await problem(wrong, 400, 'types', 'validation_invalid_type');
  assert.equal((await api.get('wrong')).status, 404);
});

test('two hundred consumers are listed with the age of what is behind each', async (t) => {
  const api = await setUp(t);
  const names = Array.from({ length: 200 }, (_, i) => `c${String(i).padStart(3, '0')}`);
  const make = (name) => well(api.put(name, { types: ['posts.*'] }));
  for (let i = 0; i < 200; i += 20) await Promise.all(names.slice(i, i + 20).map(make));
  await well(api.seek('c007', 'start'));
  await api.write('a');
  await sleep(50);
  await well(api.put('done', { types: ['posts.*'] }));
  const { body } = await api.ask('GET', '?perPage=200');
  assert.deepEqual(
    body.items.map(({ name }) => name),
    names,
  );
  assert.deepEqual([body.totalItems, body.totalPages, body.page, body.perPage], [201, 2, 1, 200]);
  for (const { name, lag, oldestAgeMs } of body.items) {
    assert.ok(lag >= 1 && oldestAgeMs >= 50, `${name}: ${lag}, ${oldestAgeMs}`);
    const one = await well(api.get(name));
    assert.ok(one.oldestAgeMs >= oldestAgeMs);
  }
  const ages = body.items.map(({ oldestAgeMs }) => oldestAgeMs);
  assert.equal(Math.max(...ages), ages[7], 'the one from the start has the oldest');
  const last = await api.ask('GET', '?perPage=200&page=2');
  assert.deepEqual(
    last.body.items.map(({ name, lag, oldestAgeMs }) => [name, lag, oldestAgeMs]),
    [['done', 0, 0]],
  );
});

test('events that nobody asked for move the position along', async (t) => {
  const api = await setUp(t);
  await well(api.put('rare', { types: ['people.*'] }));
  await api.write(...Array.from({ length: 30 }, (_, n) => `n${n}`));
  assert.equal((await well(api.get('rare'))).lag, 30, 'nobody has looked yet');
  const page = await well(api.poll('rare'));
  assert.equal(page.skipped, 30);
  const { lag, cursor } = await well(api.get('rare'));
  assert.equal(lag, 0);
  assert.equal(cursor, page.next);
  await api.write('more', 'still more');
  await sleep(50);
  assert.equal((await well(api.get('rare'))).lag, 0, 'it has seen all that it asked for');
  await api.define({ name: 'people', ...open, fields: [{ name: 'title', type: 'text' }] });
  await api.create('people', { title: 'Ann' });
  await sleep(50);
  assert.equal((await well(api.get('rare'))).lag, 1);
  assert.deepEqual(titles(await well(api.poll('rare'))), ['Ann']);
});

test('metrics tell the lag of those that are behind', async (t) => {
  const api = await setUp(t);
  await well(api.put('work', { types: ['posts.*'] }));
  await api.write('a', 'b');
  const { text } = await api.getPath('/metrics');
  assert.match(text, /^bakend_consumers 1$/m);
  assert.match(text, /^bakend_consumers_lost\{reason="pruned"\} 0$/m);
  assert.match(text, /^bakend_consumers_lost\{reason="epoch_changed"\} 0$/m);
  assert.match(text, /^bakend_consumer_lag\{tenant="default",consumer="work"\} 2$/m);
});

test('a consumer and its lease outlive kill -9', async (t) => {
  const folder = await temporaryFolder(t);
  let server = await startServer(t, { folder });
  let token = await operatorToken(server);
  await createCollection(server, token, posts);
  await well(consumersOf(server, token).put('work', { types: ['posts.*'] }));
  const restart = async () => {
    await server.stop('SIGKILL');
    server = await startServer(t, { folder });
    token = await signIn(server);
    return consumersOf(server, token);
  };
  for (let i = 0; i < 5; i++) await createRecord(server, token, 'posts', { title: `${i}` });
  const page = await well(consumersOf(server, token).poll('work', { limit: 2, leaseMs: 60_000 }));
  let api = await restart();
  const until = await problem(api.poll('work'), 409, 'lease', 'consumer_leased');
  assert.equal(until.leaseUntil, page.leaseUntil, 'nobody else gets the page meanwhile');
  await well(api.commit('work', { cursor: page.next, lease: page.lease }));
  api = await restart();
  const { cursor, leased, types } = await well(api.get('work'));
  assert.deepEqual({ cursor, leased, types }, { cursor: page.next, leased: false, types: ['posts.*'] });
  const short = await well(api.poll('work', { leaseMs: 100 }));
  assert.deepEqual(titles(short), ['2', '3', '4']);
  await sleep(100);
  api = await restart();
  const again = await well(api.poll('work'));
  assert.deepEqual(titles(again), ['2', '3', '4']);
  await well(api.commit('work', { cursor: again.next, lease: again.lease }));
  api = await restart();
  assert.equal((await well(api.get('work'))).cursor, again.next);
  assert.ok(sequenceOf(again.next) > sequenceOf(page.next));
});

test('a stop answers who waits', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  const api = consumersOf(server, token);
  await well(api.put('work'));
  await createCollection(server, token, posts);
  await well(api.put('leased', { types: ['posts.*'] }));
  await createRecord(server, token, 'posts', { title: 'a' });
  const handed = await well(api.poll('leased', { leaseMs: 60_000 }));
  await well(api.seek('work', 'now'));
  const waiting = api.poll('work', { wait: 60 });
  const behind = api.poll('leased', { wait: 60 });
  await sleep(100);
  const started = Date.now();
  server.signal('SIGTERM');
  const page = await well(waiting);
  assert.deepEqual(page.events, []);
  /* Who waits behind another's lease did nothing wrong. */
  const empty = await well(behind);
  checkAccount(empty);
  assert.deepEqual([empty.events, empty.lease, empty.leaseUntil, empty.hasMore], [[], '', '', true]);
  assert.equal(sequenceOf(empty.next) + 1, handed.firstSequence);
  assert.equal((await server.ended).code, 0);
  assert.ok(Date.now() - started < 5000);
});

test('after a restore its position is of another history, until it is sought', async (t) => {
  const folder = await temporaryFolder(t);
  let server = await startServer(t, { folder });
  let token = await operatorToken(server);
  await createCollection(server, token, posts);
  await well(consumersOf(server, token).put('work', { types: ['posts.*'] }));
  await createRecord(server, token, 'posts', { title: 'before' });
  const { status, text } = await server.request('POST', '/api/backups', { name: 'a.zip' }, { token });
  assert.equal(status, 204, text);
  const archive = join(server.data, 'tenants/default/backups/a.zip');
  await server.stop();
  await runWell(['restore', archive, '--data', server.data], { cwd: folder });
  server = await startServer(t, { folder });
  token = await signIn(server);
  const api = consumersOf(server, token);
  assert.equal((await well(api.get('work'))).state, 'epochChanged');
  const metrics = await server.request('GET', '/metrics', undefined, { token });
  assert.match(metrics.text, /^bakend_consumers_lost\{reason="pruned"\} 0$/m);
  assert.match(metrics.text, /^bakend_consumers_lost\{reason="epoch_changed"\} 1$/m);
  for (let i = 0; i < 2; i++)
    await problem(api.poll('work', { wait: 5 }), 409, 'after', 'cursor_epoch_changed');
  await well(api.seek('work', 'start'));
  assert.deepEqual(titles(await well(api.poll('work'))), ['before']);
});

test('a worker that is handed events misses none, whatever is killed', async (t) => {
  const random = createRandom(t);
  const folder = await temporaryFolder(t);
  let server = await startServer(t, { folder });
  const address = new URL(server.url).host;
  const token = await operatorToken(server);
  await createCollection(server, token, posts);
  const api = {
    ...consumersOf({ request: (...args) => server.request(...args) }, token),
  };
  await well(api.put('work', { types: ['posts.*'] }));
  const done = [];
  const control = { isOver: false };
  const create = async () => {
    while (!control.isOver)
      await createRecord(server, token, 'posts', { title: 'x' }).catch(() => sleep(20));
  };
  const work = async () => {
    const body = { wait: 1, limit: 10, leaseMs: 200 };
    while (!control.isOver) {
      const answer = await api.poll('work', body).catch(() => null);
      if (answer?.status !== 200) {
        await sleep(20);
        continue;
      }
      const { events, next, lease } = answer.body;
      if (random.below(5) === 0) continue; /* this one died before it did anything */
      done.push(...events.map(({ sequence }) => sequence));
      if (random.below(5) === 0) continue; /* and this one before it could commit */
      if (lease) await api.commit('work', { cursor: next, lease }).catch(() => null);
    }
  };
  const all = [create(), create(), work(), work()];
  for (let i = 0; i < 6; i++) {
    await sleep(random.between(200, 600));
    await server.stop('SIGKILL');
    server = await startServer(t, { folder, args: ['--listen', address] });
  }
  await sleep(300);
  control.isOver = true;
  await Promise.all(all);
  for (let isEmpty = false; !isEmpty;) {
    const { events, next, lease } = await well(api.poll('work', { limit: 1000, wait: 2 }));
    done.push(...events.map(({ sequence }) => sequence));
    isEmpty = events.length === 0;
    if (lease) await well(api.commit('work', { cursor: next, lease }));
  }
  const wanted = [];
  for (let after = 'start', hasMore = true; hasMore;) {
    const page = await well(
      server.request('GET', `/api/events?types=posts.*&limit=1000&after=${after}`, undefined, {
        token,
      }),
    );
    wanted.push(...page.events.map(({ sequence }) => sequence));
    ({ next: after, hasMore } = page);
  }
  assert.deepEqual([...new Set(done)].sort((a, b) => a - b), wanted);
  t.diagnostic(`${wanted.length} events, handed out ${done.length} times`);
});

test('verbs at random, all at once, leave it in order', async (t) => {
  const random = createRandom(t);
  const api = await setUp(t);
  const names = ['a', 'b', 'c'];
  const one = (list) => list[random.below(list.length)];
  let last = { next: 'start', lease: '' };
  const verbs = [
    (name) => api.put(name, { types: [one(['posts.*', 'people.*', '*'])] }),
    (name) => api.put(name, { after: one(['start', 'now']) }),
    (name) => api.remove(name),
    (name) => api.seek(name, one(['start', 'now', '2020-01-01T00:00:00Z'])),
    (name) => api.commit(name, { cursor: last.next }),
    (name) => api.commit(name, { cursor: last.next, lease: last.lease }),
    (name) => api.get(name),
    () => api.ask('GET', ''),
    () => api.write('x'),
    ...Array.from({ length: 8 }, () => async (name) => {
      const answer = await api.poll(name, { wait: random.below(2), limit: 5, leaseMs: 100 });
      if (answer.status === 200) last = answer.body;
      return answer;
    }),
  ];
  const client = async () => {
    for (let i = 0; i < 80; i++) {
      const answer = await one(verbs)(one(names));
      if (answer)
        assert.ok([200, 204, 400, 404, 409].includes(answer.status), `${answer.status} ${answer.text}`);
    }
  };
  await Promise.all(Array.from({ length: 16 }, client));
  for (const name of names) {
    await well(api.put(name, { types: ['posts.*'], after: 'start' }));
    assert.ok((await well(api.poll(name))).events.length > 0);
  }
});
