/**
 * Endpoints that fail, stall, ask for time, go away and come back: what failed is tried again until it is
 * delivered or nothing is left to try, it is said which, and nobody else has to wait. The tests mostly wait, so
 * they wait at the same time.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { operator } from './support/operator.mjs';
import { startServer, temporaryFolder } from './support/program.mjs';
import { open, recordsPath } from './support/records.mjs';
import { eventually } from './support/smtp.mjs';
import { ALLOW, createWebhook, listDeliveries, startReceiver, untilDelivered } from './support/webhooks.mjs';

const execute = promisify(execFile);
const PATIENCE_MS = 60_000;

/** Of a database that nobody has open: what pruning past --retention-max-bytes leaves. */
const PRUNE = `
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
upto = int(sys.argv[2])
database.execute('DELETE FROM _journal WHERE sequence <= ?', (upto,))
database.execute("UPDATE _meta SET value = ? WHERE name = 'journal_oldest'", (upto + 1,))
database.commit()
`;

/** Likewise: all but the newest event and the newest delivery are older by so many days. */
const AGE = `
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
days = int(sys.argv[2])
database.execute('UPDATE _journal SET timestamp = timestamp - ? '
                 'WHERE sequence < (SELECT max(sequence) FROM _journal)', (days * 86400000,))
database.execute("UPDATE _deliveries SET updated = strftime('%Y-%m-%d %H:%M:%fZ', updated, ?) "
                 'WHERE id < (SELECT max(id) FROM _deliveries)', (f'-{days} days',))
database.commit()
`;

/** A server with a schedule of its own. In an hour no test is still there: such a retry is asked for. */
const SOON = '0s,50ms,50ms,50ms';
const NOT_SOON = '0s,1h';

async function start(t, names, { schedule = NOT_SOON, args = [], folder } = {}) {
  const options = { folder, args: [...ALLOW, '--webhooks-retry-schedule', schedule, ...args] };
  const it = await operator(t, options);
  for (const name of names) await it.define({ name, ...open, fields: [{ name: 'title', type: 'text' }] });
  return { ...it, options };
}

/** What tests ask, each of events of a collection of its own. */
const withCollection = ({ server, token }, name) => surface(server, token, name);

function surface(server, token, name) {
  const ask = async (method, path, body, expected = 200) => {
    const answer = await server.request(method, path, body, { token });
    assert.equal(answer.status, expected, answer.text);
    return answer.body;
  };
  const list = async (path, filter) =>
    (await ask('GET', `${path}?perPage=1000&filter=${encodeURIComponent(filter)}`)).items;
  const it = {
    webhook: (body) => createWebhook(server, token, { types: [`${name}.*`], ...body }),
    view: (id) => ask('GET', `/api/webhooks/${id}`),
    breaker: async (id) => (await ask('GET', `/api/webhooks/${id}/stats`)).breaker,
    patch: (id, body) => ask('PATCH', `/api/webhooks/${id}`, body),
    remove: (id) => ask('DELETE', `/api/webhooks/${id}`, undefined, 204),
    create: (title) => ask('POST', recordsPath(name), { title }),
    retitle: (id, title) => ask('PATCH', recordsPath(name, id), { title }),
    rows: (id, more) => listDeliveries(server, token, id, more),
    until: (id, count, state) => untilDelivered(server, token, id, count, state),
    /** Events of a webhook. */
    told: async (id, type) =>
      (await ask('GET', `/api/events?types=${type}&subject=webhooks/${id}&limit=1000`)).events,
    untilTold: (id, type) => eventually(`${type} of ${id}`, async () => (await it.told(id, type))[0], PATIENCE_MS),
    tasks: (id) => list('/api/work', `lane = "webhooks/${id}"`),
    /** Those that wait until in an hour are due now. */
    hurry: async (id) => {
      for (const { id: task, state } of await it.tasks(id))
        if (state === 'waiting') await ask('POST', `/api/work/${task}/retry`, undefined, 204);
    },
  };
  return it;
}

const titlesOf = (deliveries) => deliveries.map(({ body }) => body.data.title);
const refuse = () => ({ status: 500, body: 'é'.repeat(5000) });
const never = () => new Promise(() => {});

describe('webhooks, when something is wrong', { concurrency: true }, () => {
  test('what fails is tried again, and how it went is told', { concurrency: true }, async (t) => {
    const names = ['repeated', 'exhausted', 'unwanted', 'nobody', 'asked_429', 'asked_503'];
    const it = await start(t, names, { schedule: SOON });
    await Promise.all([
      t.test('until it is delivered, with the same bytes', (t) => untilItIsDelivered(t, it)),
      t.test('until nothing is left to try', (t) => untilNothingIsLeft(t, it)),
      t.test('not again, when the endpoint says so', (t) => notAgain(t, it)),
      t.test('when nobody is there', (t) => whenNobodyIsThere(t, it)),
      t.test('no sooner than it asks for, in seconds', (t) => noSooner(t, it, 429)),
      t.test('no sooner than it asks for, in a date', (t) => noSooner(t, it, 503)),
    ]);
  });

  test('who fails is left alone', { concurrency: true }, async (t) => {
    const own = ['gone_410', 'gone_200', 'broken', 'aggregates', 'holes', 'timeouts', 'switched', 'deleted'];
    const it = await start(t, [...own, 'overtaken', 'crowded', 'moved']);
    await Promise.all([
      t.test('an endpoint that is gone, by 410', (t) => gone(t, it, { status: 410 })),
      t.test('an endpoint that is gone, by a header', (t) =>
        gone(t, it, { status: 200, headers: { 'webhook-delivery': 'disable' } }),
      ),
      t.test('an endpoint that fails gets all of it when it works', (t) => brokenAndMended(t, it)),
      t.test('an aggregate that fails holds up itself and no other', (t) => oneAggregate(t, it)),
      t.test('an endpoint that never answers delays nobody', (t) => blackHole(t, it)),
      t.test('five timeouts in a row are enough', (t) => fiveTimeouts(t, it)),
      t.test('one that is switched off rests', (t) => switchedOff(t, it)),
      t.test('one that is deleted leaves nothing that waits', (t) => deleted(t, it)),
      t.test('what has arrived by a replay has arrived', (t) => overtaken(t, it)),
      t.test('what a former address says is not of the present one', (t) => moved(t, it)),
      t.test('retries that hang have few of the places of work', (t) => crowded(t, it)),
    ]);
  });

  test('what waits outlives a kill, and an attempt that it interrupts costs none', killed);
  test('what was pruned while it waited is told', pruned);
  test('who fails for too long is disabled, also over a restart', disabled);
  test('old deliveries go, and what waits stays', old);
  test('a single probe is sent when it is time', { skip: long('half a minute') }, probed);
  test('what waits is not pruned by age', { skip: long('two minutes') }, pinned);
});

function long(time) {
  return process.env.BAKEND_LONG === '1' ? false : `BAKEND_LONG=1: it takes ${time}`;
}

async function untilItIsDelivered(t, on) {
  const it = withCollection(on, 'repeated');
  const receiver = await startReceiver(t);
  const { id } = await it.webhook({ url: receiver.url });
  receiver.answer = ({ id: event }) =>
    receiver.deliveries.filter((each) => each.id === event).length > 2 ? 200 : refuse();
  for (const title of ['a', 'b', 'c']) await it.create(title);
  for (const row of await it.until(id, 3)) {
    assert.deepEqual(
      row.attempts.map(({ status }) => status),
      [500, 500, 200],
    );
    assert.deepEqual([row.attemptCount, row.nextAttempt], [3, '']);
    for (const attempt of row.attempts.slice(0, 2)) {
      assert.equal(attempt.error, 'The endpoint answered 500.');
      assert.ok(Buffer.byteLength(attempt.answer) <= 4096 && attempt.answer.length > 2000);
      assert.ok(attempt.latencyMs >= 0 && !Number.isNaN(Date.parse(attempt.time)));
    }
    assert.equal(row.attempts[2].error, '');
    const sent = receiver.deliveries.filter((each) => each.id === row.event);
    assert.equal(sent.length, 3);
    for (const each of sent) assert.deepEqual(each.raw, sent[0].raw);
  }
  assert.deepEqual(await it.told(id, 'webhook.*'), []);
  assert.deepEqual(await it.tasks(id), [], 'no task is left');
}

async function untilNothingIsLeft(t, on) {
  const it = withCollection(on, 'exhausted');
  const receiver = await startReceiver(t, { answer: refuse });
  const { id } = await it.webhook({ url: receiver.url });
  await it.create('never');
  const [row] = await it.until(id, 1, 'failed');
  assert.deepEqual([row.attemptCount, row.attempts.length, row.nextAttempt], [4, 4, '']);
  const event = await it.untilTold(id, 'webhook.exhausted');
  const { attempts, status, error, delivery } = event.payload;
  assert.deepEqual([attempts, status, error, delivery], [4, 500, 'The endpoint answered 500.', row.id]);
  assert.ok(!JSON.stringify(event).includes('éé'), 'what an endpoint has answered is in no event');
  assert.equal(receiver.deliveries.length, 4);
  assert.equal((await it.told(id, 'webhook.*')).length, 1, 'an attempt is no event');
  assert.deepEqual(await it.tasks(id), [], 'the delivery is the dead letter');
}

async function notAgain(t, on) {
  const it = withCollection(on, 'unwanted');
  const answer = () => ({ status: 400, headers: { 'webhook-delivery': 'abort-message' } });
  const receiver = await startReceiver(t, { answer });
  const { id } = await it.webhook({ url: receiver.url });
  await it.create('unwanted');
  const [row] = await it.until(id, 1, 'failed');
  assert.equal(row.attemptCount, 1);
  assert.equal((await it.untilTold(id, 'webhook.exhausted')).payload.attempts, 1);
  assert.equal((await it.view(id)).enabled, true);
}

async function whenNobodyIsThere(t, on) {
  const it = withCollection(on, 'nobody');
  const receiver = await startReceiver(t);
  const { id } = await it.webhook({ url: receiver.url });
  await receiver.close();
  await it.create('nobody');
  const [row] = await it.until(id, 1, 'failed');
  for (const { status, error } of row.attempts) {
    assert.equal(status, 0);
    assert.match(error, /connect/i);
  }
  const { payload } = await it.untilTold(id, 'webhook.exhausted');
  assert.ok(!('status' in payload), 'no answer came');
}

/** 429 with seconds, 503 with a date. */
async function noSooner(t, on, status) {
  const it = withCollection(on, `asked_${status}`);
  const receiver = await startReceiver(t);
  const { id } = await it.webhook({ url: receiver.url });
  const times = [];
  let free;
  receiver.answer = () => {
    times.push(Date.now());
    if (times.length > 1) return 200;
    /* A date has no milliseconds: two seconds ahead, cut, are one at least. */
    free = status === 429 ? Date.now() + 1000 : Math.floor(Date.now() / 1000 + 2) * 1000;
    return { status, headers: { 'retry-after': status === 429 ? '1' : new Date(free).toUTCString() } };
  };
  await it.create('early');
  await eventually('it was noted', async () => (await it.rows(id))[0]);
  await it.create('another');
  await it.until(id, 2);
  assert.equal(times.length, 3);
  /* Two clocks with milliseconds. */
  for (const time of times.slice(1)) assert.ok(time >= free - 10, `${free - time} ms too early`);
  assert.deepEqual(await it.told(id, 'webhook.failing'), [], 'who asks for time is not broken');
}

async function gone(t, on, answer) {
  const it = withCollection(on, `gone_${answer.status}`);
  const receiver = await startReceiver(t, { answer: () => answer });
  const { id } = await it.webhook({ url: receiver.url });
  await it.create('first');
  assert.equal((await it.untilTold(id, 'webhook.disabled')).payload.reason, 'gone');
  const { enabled, disabledReason } = await it.view(id);
  assert.deepEqual([enabled, disabledReason], [false, 'gone']);
  await it.create('while it is off');
  receiver.answer = () => 200;
  await it.patch(id, { enabled: true });
  await it.create('afterwards');
  await it.hurry(id);
  const rows = await it.until(id, 2);
  assert.deepEqual(rows.map(({ attempts }) => attempts.length).sort(), [1, 2]);
  assert.deepEqual(titlesOf(receiver.deliveries).sort(), ['afterwards', 'first', 'first']);
  assert.equal((await it.told(id, 'webhook.disabled')).length, 1);
}

async function brokenAndMended(t, on) {
  const it = withCollection(on, 'broken');
  const [receiver, healthy] = [await startReceiver(t, { answer: refuse }), await startReceiver(t)];
  const { id } = await it.webhook({ url: receiver.url });
  const other = await it.webhook({ url: healthy.url });
  const begin = Date.now();
  for (let i = 0; i < 12; i++) await it.create(`broken ${i}`);
  const { payload } = await it.untilTold(id, 'webhook.failing');
  const { webhook, days, status, error, failingSince } = payload;
  assert.deepEqual([webhook, days, status, error], [id, 0, 500, 'The endpoint answered 500.']);
  assert.ok(!Number.isNaN(Date.parse(failingSince)));
  for (let i = 0; i < 40; i++) await it.create(`meanwhile ${i}`);
  await healthy.untilIds(52, PATIENCE_MS);
  await it.until(other.id, 52);
  const early = titlesOf(receiver.deliveries).filter((title) => title.startsWith('meanwhile')).length;
  const attempted = (await it.rows(id)).length;
  /* The first probe is not sent before 24 s have passed, and each of the others comes later than that. */
  const probes = Math.floor((Date.now() - begin) / 24_000);
  assert.ok(early <= probes, `${early} were sent to who was to be left alone`);
  assert.ok(attempted <= 12 + probes, 'what it was not sent stays in the journal');

  receiver.answer = () => 200;
  await it.patch(id, { url: `${receiver.url}/mended` });
  /* Well before a probe of its own would close it. */
  await eventually('it is whole', async () => (await it.breaker(id)) === 'closed', 15_000);
  await receiver.untilIds(52 - 12, PATIENCE_MS);
  await eventually('nothing but what waits is left', async () => (await it.rows(id)).length === 52, PATIENCE_MS);
  await it.hurry(id);
  await it.until(id, 52);
  const ended = new Set(receiver.deliveries.filter(({ path }) => path.endsWith('mended')).map(({ id: event }) => event));
  assert.equal(ended.size, 52, 'all of it came in the end');
  assert.equal((await it.told(id, 'webhook.failing')).length, 1);
}

async function oneAggregate(t, on) {
  const it = withCollection(on, 'aggregates');
  const receiver = await startReceiver(t);
  let isStuck = true;
  receiver.answer = ({ body }) => (isStuck && body.data.title.startsWith('stuck') ? 500 : 200);
  const { id } = await it.webhook({ url: receiver.url, ordered: true });
  const free = await it.create('free 0');
  const stuck = await it.create('stuck 0');
  await eventually('it is stuck', async () => (await it.rows(id, { filter: 'state = "retrying"' }))[0]);
  for (let i = 1; i < 5; i++) {
    await it.retitle(stuck.id, `stuck ${i}`);
    await it.retitle(free.id, `free ${i}`);
  }
  for (let i = 0; i < 30; i++) await it.create(`other ${i}`);
  const rows = await eventually('all are recorded', async () => {
    const all = await it.rows(id);
    return all.length === 40 && all;
  });
  for (const { subject, state, attemptCount } of rows)
    if (subject !== `aggregates/${stuck.id}`) assert.equal(state, 'delivered', 'nobody else is held up');
    else assert.ok(state === 'retrying' && attemptCount <= 1);
  const of = (who) => titlesOf(receiver.deliveries).filter((title) => title.startsWith(who));
  assert.deepEqual(of('stuck'), ['stuck 0'], 'nothing overtakes what fails');
  isStuck = false;
  await it.hurry(id);
  await it.until(id, 40);
  assert.deepEqual(of('stuck'), [0, 0, 1, 2, 3, 4].map((i) => `stuck ${i}`));
  assert.deepEqual(of('free'), [0, 1, 2, 3, 4].map((i) => `free ${i}`));
}

async function blackHole(t, on) {
  const it = withCollection(on, 'holes');
  const [hole, healthy] = [await startReceiver(t, { answer: never }), await startReceiver(t)];
  const { id } = await it.webhook({ url: hole.url, timeoutMs: 30_000 });
  const other = await it.webhook({ url: healthy.url });
  for (let i = 0; i < 100; i++) await it.create(`post ${i}`);
  await healthy.untilIds(100, PATIENCE_MS);
  await it.until(other.id, 100);
  assert.deepEqual(await it.rows(id), [], 'no attempt at the other has ended by then');
  assert.ok(hole.mostInFlight <= 8, 'no more at once than may be');
  await hole.close();
  await eventually('it is noted', async () => (await it.rows(id)).length > 0);
}

async function fiveTimeouts(t, on) {
  const it = withCollection(on, 'timeouts');
  const hole = await startReceiver(t, { answer: never });
  const { id } = await it.webhook({ url: hole.url, timeoutMs: 1000 });
  for (let i = 0; i < 8; i++) await it.create(`post ${i}`);
  const { payload } = await it.untilTold(id, 'webhook.failing');
  assert.equal(payload.error, 'No answer came within 1000 ms.');
  assert.ok(!('status' in payload));
  const rows = await eventually('five', async () => {
    const all = await it.rows(id);
    return all.length >= 5 && all;
  });
  for (const { attempts } of rows) assert.equal(attempts[0].error, 'No answer came within 1000 ms.');
}

async function switchedOff(t, on) {
  const it = withCollection(on, 'switched');
  const [receiver, beside] = [await startReceiver(t, { answer: refuse }), await startReceiver(t)];
  const { id } = await it.webhook({ url: receiver.url });
  await it.webhook({ url: beside.url });
  for (const title of ['a', 'b']) await it.create(title);
  await it.until(id, 2, 'retrying');
  receiver.answer = () => 200;
  await it.patch(id, { enabled: false });
  await it.hurry(id);
  await it.create('while it is off');
  await beside.untilIds(3);
  assert.ok((await it.rows(id)).every(({ state }) => state === 'retrying'));
  assert.equal(receiver.deliveries.length, 2, 'nothing is sent though it is due');
  await it.patch(id, { enabled: true });
  await it.create('c');
  await it.until(id, 3);
  const came = [...new Set(titlesOf(receiver.deliveries))].sort();
  assert.deepEqual(came, ['a', 'b', 'c'], 'what came while it was off is for a replay');
}

async function deleted(t, on) {
  const it = withCollection(on, 'deleted');
  const [receiver, other] = [await startReceiver(t, { answer: refuse }), await startReceiver(t, { answer: refuse })];
  const { id } = await it.webhook({ url: receiver.url });
  const kept = await it.webhook({ url: other.url });
  for (const title of ['a', 'b']) await it.create(title);
  await it.until(id, 2, 'retrying');
  await it.until(kept.id, 2, 'retrying');
  other.answer = receiver.answer = () => 200;
  await it.remove(id);
  await eventually('its tasks are gone', async () => (await it.tasks(id)).length === 0);
  await eventually('its deliveries are gone', async () => (await it.rows(id)).length === 0);
  await it.hurry(kept.id);
  await it.until(kept.id, 2);
  assert.equal(receiver.deliveries.length, 2, 'nothing was sent to who is gone');
}

async function overtaken(t, on) {
  const it = withCollection(on, 'overtaken');
  const abort = { status: 400, headers: { 'webhook-delivery': 'abort-message' } };
  const receiver = await startReceiver(t);
  const { id } = await it.webhook({ url: receiver.url });
  await it.create('well');
  await it.until(id, 1);
  receiver.answer = () => abort;
  await it.create('twice');
  const failed = () => it.rows(id, { filter: 'state = "failed"' });
  const { id: delivery } = await eventually('it has failed', async () => (await failed())[0]);
  const held = [];
  receiver.answer = () => new Promise((resolve) => held.push(resolve));
  const many = await on.post(`/api/webhooks/${id}/replay`, { after: 'start', state: 'failed' });
  assert.equal(many.status, 202, many.text);
  await eventually('the replay', () => held.length === 1);
  const one = await on.post(`/api/deliveries/${delivery}/replay`);
  assert.equal(one.status, 202, one.text);
  await eventually('the retry beside it', () => held.length === 2);
  held[0](200);
  await it.until(id, 2);
  held[1](abort);
  const row = await eventually('both are noted', async () => {
    const [found] = await it.rows(id, { filter: `id = "${delivery}"` });
    return found.attemptCount === 3 && found;
  });
  assert.equal(row.state, 'delivered');
  assert.equal((await it.told(id, 'webhook.exhausted')).length, 1, 'of the first attempt');
}

async function moved(t, on) {
  const it = withCollection(on, 'moved');
  const held = [];
  const former = await startReceiver(t, { answer: () => new Promise((resolve) => held.push(resolve)) });
  const present = await startReceiver(t);
  const { id } = await it.webhook({ url: former.url });
  await it.create('to the former one');
  await eventually('it came', () => held.length === 1);
  await it.patch(id, { url: present.url });
  await it.create('between');
  await present.untilIds(1);
  held[0]({ status: 410 });
  await eventually('it is noted', async () => (await it.rows(id, { filter: 'state = "retrying"' }))[0]);
  await it.create('afterwards');
  await present.untilIds(2);
  assert.equal((await it.view(id)).enabled, true);
  assert.deepEqual(await it.told(id, 'webhook.disabled'), []);
}

async function crowded(t, on) {
  const it = withCollection(on, 'crowded');
  const receiver = await startReceiver(t, { answer: refuse });
  const { id } = await it.webhook({ url: receiver.url, maxInFlight: 64, timeoutMs: 30_000 });
  for (let i = 0; i < 9; i++) await it.create(`post ${i}`);
  await it.until(id, 9, 'retrying');
  receiver.answer = never;
  await it.hurry(id);
  const states = await eventually('eight of nine run', async () => {
    const all = (await it.tasks(id)).map(({ state }) => state).sort();
    return all.filter((state) => state === 'running').length >= 8 && all;
  });
  assert.deepEqual(states, [...Array(8).fill('running'), 'waiting']);
}

async function killed(t) {
  const folder = await temporaryFolder(t);
  const first = await start(t, ['killed'], { folder, schedule: '0s,1h,1h' });
  const it = withCollection(first, 'killed');
  const receiver = await startReceiver(t);
  const { id } = await it.webhook({ url: receiver.url });
  await receiver.close();
  for (let i = 0; i < 5; i++) await it.create(`post ${i}`);
  await it.until(id, 5, 'retrying');
  await first.server.stop('SIGKILL');

  const hole = await startReceiver(t, { port: receiver.port, answer: never });
  const second = await startServer(t, first.options);
  await surface(second, first.token, 'killed').hurry(id);
  await hole.untilIds(1, PATIENCE_MS);
  await second.stop('SIGKILL');
  await hole.close();

  /* Of three attempts the second was interrupted, so there are two. */
  const back = await startReceiver(t, { port: receiver.port, answer: () => 500 });
  const third = surface(await startServer(t, first.options), first.token, 'killed');
  const rows = await eventually('each has been tried again', async () => {
    const all = await third.rows(id);
    return all.every(({ attemptCount }) => attemptCount === 2) && all;
  });
  assert.ok(rows.every(({ state }) => state === 'retrying'));
  back.answer = () => 200;
  await third.hurry(id);
  for (const { attempts } of await third.until(id, 5))
    assert.deepEqual(
      attempts.map(({ status }) => status),
      [0, 500, 200],
    );
  assert.deepEqual(await third.told(id, 'webhook.exhausted'), []);
}

async function pruned(t) {
  const folder = await temporaryFolder(t);
  const first = await start(t, ['pruned'], { folder });
  const it = withCollection(first, 'pruned');
  const receiver = await startReceiver(t, { answer: refuse });
  const { id } = await it.webhook({ url: receiver.url });
  await it.create('pruned');
  const [{ sequence }] = await it.until(id, 1, 'retrying');
  await first.server.stop();
  try {
    await execute('python3', ['-c', PRUNE, join(first.server.data, 'tenants/default/data.db'), String(sequence)]);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
    t.skip('needs python3');
    return;
  }
  const later = surface(await startServer(t, first.options), first.token, 'pruned');
  await later.hurry(id);
  const [row] = await later.until(id, 1, 'failed');
  assert.match(row.attempts.at(-1).error, /pruned/);
  assert.match((await later.untilTold(id, 'webhook.exhausted')).payload.error, /pruned/);
  assert.equal(receiver.deliveries.length, 1);
}

async function disabled(t) {
  const folder = await temporaryFolder(t);
  const first = await start(t, ['failing'], { folder, args: ['--webhooks-disable-after', '1s'] });
  const it = withCollection(first, 'failing');
  const receiver = await startReceiver(t, { answer: refuse });
  const { id } = await it.webhook({ url: receiver.url });
  await it.create('first');
  await it.until(id, 1, 'retrying');
  await first.server.stop();
  await new Promise((resolve) => setTimeout(resolve, 1100));

  const later = surface(await startServer(t, first.options), first.token, 'failing');
  await later.create('second');
  assert.equal((await later.untilTold(id, 'webhook.disabled')).payload.reason, 'failing');
  const off = await later.view(id);
  assert.deepEqual([off.enabled, off.disabledReason], [false, 'failing']);
  assert.equal(receiver.deliveries.length, 2, 'the first failure after the restart was enough');

  receiver.answer = () => 200;
  await later.patch(id, { enabled: true });
  await later.create('third');
  await receiver.until('it is sent to again', (all) => titlesOf(all).includes('third'));
  receiver.answer = refuse;
  const { id: record } = await later.create('fourth');
  await eventually('it fails again', async () =>
    (await later.rows(id)).some(({ subject, state }) => subject.endsWith(record) && state === 'retrying'),
  );
  assert.equal((await later.view(id)).enabled, true, 'behind a success the time begins anew');
}

async function probed(t) {
  const it = withCollection(await start(t, ['probed']), 'probed');
  const receiver = await startReceiver(t, { answer: refuse });
  const { id } = await it.webhook({ url: receiver.url });
  for (let i = 0; i < 12; i++) await it.create(`broken ${i}`);
  await it.untilTold(id, 'webhook.failing');
  for (let i = 0; i < 30; i++) await it.create(`meanwhile ${i}`);
  const { length } = receiver.deliveries;
  let answer;
  receiver.answer = () => new Promise((resolve) => (answer = resolve));
  await receiver.until('a probe', () => answer, 60_000);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  assert.equal(receiver.deliveries.length, length + 1, 'nothing is sent beside it');
  receiver.answer = () => 200;
  answer(200);
  await eventually('all of it', async () => (await it.rows(id)).length === 42, PATIENCE_MS);
  await it.hurry(id);
  await it.until(id, 42);
}

async function old(t) {
  const folder = await temporaryFolder(t);
  const first = await start(t, ['aged'], { folder });
  const it = withCollection(first, 'aged');
  const receiver = await startReceiver(t);
  const { id } = await it.webhook({ url: receiver.url });
  const answers = { good: 200, bad: { status: 400, headers: { 'webhook-delivery': 'abort-message' } }, later: 500 };
  receiver.answer = ({ body }) => answers[body.data.title];
  const states = async (of) => (await of.rows(id)).map(({ state }) => state).sort().join();
  for (const title of ['good', 'bad', 'later']) await it.create(title);
  await eventually('all three', async () => (await states(it)) === 'delivered,failed,retrying');
  await it.create('good');
  await eventually('the new one', async () => (await states(it)) === 'delivered,delivered,failed,retrying');
  await first.server.stop();
  const sweepAfter = async (days) => {
    await execute('python3', ['-c', AGE, join(first.server.data, 'tenants/default/data.db'), String(days)]);
    const server = await startServer(t, first.options);
    const answer = await server.request('POST', '/api/crons/webhooks-sweep', undefined, { token: first.token });
    assert.equal(answer.status, 204, answer.text);
    return { server, ...surface(server, first.token, 'aged') };
  };
  let later;
  try {
    later = await sweepAfter(8);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
    t.skip('needs python3');
    return;
  }
  await eventually('what was delivered is gone', async () => (await states(later)) === 'delivered,failed,retrying');
  assert.equal(titlesOf(receiver.deliveries).length, 4);
  await later.server.stop();
  const last = await sweepAfter(23);
  await eventually('what failed is gone, what waits is not', async () => (await states(last)) === 'delivered,retrying');
}

async function pinned(t) {
  const it = await start(t, ['pinned', 'others'], { args: ['--retention-max-age', '5s'] });
  const { webhook, create, until, hurry } = withCollection(it, 'pinned');
  const before = await withCollection(it, 'others').create('before');
  const receiver = await startReceiver(t, { answer: () => 500 });
  const { id } = await webhook({ url: receiver.url });
  await create('it waits');
  await until(id, 1, 'retrying');
  const isThere = async (subject) => {
    const answer = await it.get(`/api/events?subject=${subject}&after=start`);
    assert.equal(answer.status, 200, answer.text);
    return answer.body.events.length > 0;
  };
  const beforeIsGone = async () => !(await isThere(`others/${before.id}`));
  await eventually('what came before it is pruned', beforeIsGone, 150_000);
  receiver.answer = () => 200;
  await hurry(id);
  await until(id, 1);
}
