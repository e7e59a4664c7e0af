/**
 * Durable work as operators see it, driven by mails: looking, retrying, cancelling, dropping, lanes, what ends
 * dead, and that a death at any step loses nothing (BAKEND_LONG=1: at all of them).
 */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { readFeed } from './support/feed.mjs';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { run, runWell, startServer, temporaryFolder } from './support/program.mjs';
import { createCollection, createRecord, open } from './support/records.mjs';
import { operatorToken } from './support/superuser.mjs';

const LANE = 'mail';
const letter = { to: 'someone@example.com', subject: 'letter', text: 'Hello' };
const STEPS = ['work.added', 'work.claimed', 'work.recorded'];
const OTHER_STEPS = ['work.moved', 'work.handler', 'work.answered', 'work.after_record'];
const FAILPOINTS = process.env.BAKEND_LONG === '1' ? [...STEPS, ...OTHER_STEPS] : STEPS;

async function until(condition, what, timeoutMs = 15_000) {
  for (const end = Date.now() + timeoutMs; ; await sleep(25)) {
    const found = await condition();
    if (found) return found;
    assert.ok(Date.now() < end, `not in time: ${what}`);
  }
}

function workOf(server, token) {
  const ask = (method, path, body, options) =>
    server.request(method, path, body, { token, ...options });
  const well = async (answer, status = 200) => {
    const { status: found, body, text } = await answer;
    assert.equal(found, status, text);
    return body;
  };
  return {
    ask,
    well,
    tasks: async (filter = '') =>
      (await well(ask('GET', `/api/work?perPage=1000&sort=id&filter=${encodeURIComponent(filter)}`)))
        .items,
    task: (id) => well(ask('GET', `/api/work/${id}`)),
    lanes: async () => (await well(ask('GET', '/api/work/lanes'))).items,
    act: (id, verb, status = 204) => well(ask('POST', `/api/work/${id}/${verb}`), status),
    drop: (id, status = 204) => well(ask('DELETE', `/api/work/${id}`), status),
    pause: (lane = LANE) => well(ask('POST', '/api/work/lanes/pause', { lane }), 204),
    resume: (lane = LANE) => well(ask('POST', '/api/work/lanes/resume', { lane }), 204),
    /** Tasks are seen in the list a moment after they were added. */
    async waitFor(filter, count) {
      return until(async () => {
        const tasks = await this.tasks(filter);
        return tasks.length === count && tasks;
      }, `${count} tasks of ${filter || 'any kind'}`);
    },
    /** Resolves with the task's id. */
    mail: async (subject, more = {}) =>
      (await well(ask('POST', '/api/mail', { ...letter, subject, ...more }), 202)).id,
  };
}

/** Each file's name is the id of a task. */
async function delivered(server) {
  const files = await readdir(join(server.data, 'mail')).catch(() => []);
  return new Set(files.filter((file) => file.endsWith('.eml')).map((file) => file.slice(0, -4)));
}

const metric = (text, name) =>
  Number(new RegExp(`^${name.replace(/[{}]/g, '\\$&')} (\\S+)$`, 'm').exec(text)?.[1] ?? NaN);

test('tasks', async (t) => {
  const api = await operator(t);
  const work = workOf(api.server, api.token);
  await work.pause();
  const ids = [];
  for (let i = 0; i < 5; i++) ids.push(await work.mail(`letter ${i}`));
  await work.waitFor('state = "waiting"', 5);

  await t.test('are listed, filtered and sorted as records are', async () => {
    const tasks = await work.tasks('state = "waiting" && kind = "mail"');
    assert.deepEqual(
      tasks.map(({ id }) => id),
      ids,
    );
    for (const task of tasks) {
      assert.equal(task.collectionName, '_work');
      assert.equal(task.lane, LANE);
      assert.equal(task.attempts, 0);
      assert.match(task.due, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z$/);
    }
    const page = await work.well(work.ask('GET', '/api/work?perPage=2&page=2&sort=-id&fields=id'));
    assert.deepEqual(page.items, [{ id: ids[2] }, { id: ids[1] }]);
    assert.equal(page.totalItems, 5);
    assert.equal((await work.task(ids[0])).id, ids[0]);
    assertRefused(await work.ask('GET', '/api/work/000000000000000'), 404);
    assert.deepEqual(await work.tasks('attempts > 0'), []);
  });

  await t.test('are seen by superusers of their tenant alone', async () => {
    assertRefused(await api.server.request('GET', '/api/work'), 401);
    assertRefused(await api.server.request('GET', `/api/work/${ids[0]}`), 401);
    assertRefused(await api.server.request('POST', `/api/work/${ids[0]}/cancel`), 401);
    assertRefused(await api.server.request('DELETE', `/api/work/${ids[0]}`), 401);
    const other = await work.well(work.ask('GET', '/api/work', undefined, { tenant: 'left' }));
    assert.deepEqual(other.items, []);
    const elsewhere = { tenant: 'left' };
    assertRefused(await work.ask('DELETE', `/api/work/${ids[0]}`, undefined, elsewhere), 404);
    assert.equal((await work.task(ids[0])).state, 'waiting');
  });

  await t.test('are changed through their own routes alone', async () => {
    const record = `/api/collections/_work/records/${ids[0]}`;
    assertRefused(await api.patch(record, { state: 'dead' }), 400);
    assertRefused(await api.remove(record), 400);
    assertRefused(await api.post('/api/collections/_work/records', { kind: 'mail' }), 400);
    assert.equal((await work.task(ids[0])).state, 'waiting');
  });

  await t.test('are cancelled, retried and dropped', async () => {
    await work.act(ids[0], 'cancel');
    assert.equal((await work.task(ids[0])).state, 'dead');
    const again = await work.act(ids[0], 'cancel', 409);
    assert.match(again.message, /nothing to cancel/);
    await work.act(ids[0], 'retry');
    assert.equal((await work.task(ids[0])).state, 'waiting');
    await work.drop(ids[1]);
    await work.drop(ids[1], 404);
    assert.equal((await work.tasks()).length, 4);
  });

  await t.test('tell who did that', async () => {
    const types = ['paused', 'cancelled', 'retried', 'dropped'].map((what) => `job.${what}`);
    const { events } = await readFeed(api.server, api.token, { query: `&types=${types}` });
    assert.deepEqual(
      events.map(({ type, subject }) => [type, subject]),
      [
        ['job.paused', `lane/${LANE}`],
        ['job.cancelled', `_work/${ids[0]}`],
        ['job.retried', `_work/${ids[0]}`],
        ['job.dropped', `_work/${ids[1]}`],
      ],
    );
    assert.deepEqual(
      events.map(({ payload }) => payload),
      [{ lane: LANE }, { task: ids[0] }, { task: ids[0] }, { task: ids[1] }],
    );
    const { body } = await api.get('/api/collections/_superusers/records?fields=id');
    for (const { actor } of events) assert.equal(actor, `_superusers/${body.items[0].id}`);
  });

  await t.test('that end dead tell so in an event, once', async () => {
    const dead = await work.mail('late', { expires: '2020-01-01 00:00:00Z' });
    await work.resume();
    await work.waitFor('state = "dead"', 1);
    const { events } = await readFeed(api.server, api.token, { query: '&types=job.failed' });
    assert.deepEqual(
      events.map(({ subject }) => subject),
      [`_work/${ids[0]}`, `_work/${dead}`],
    );
    const { payload, source, type } = events[1];
    assert.deepEqual([source, type], ['jobs', 'job.failed']);
    const { error, ...rest } = payload;
    assert.deepEqual(rest, { task: dead, kind: 'mail', lane: LANE, attempts: 1, cause: '' });
    assert.match(error, /expired/);
    assert.equal(events[0].payload.attempts, 0, 'it was cancelled before its first attempt');
    assert.equal((await work.task(dead)).error, error);
  });

  await t.test('that are done are gone, and each is done', async () => {
    const wanted = [ids[0], ids[2], ids[3], ids[4]];
    await work.waitFor('state != "dead"', 0);
    assert.deepEqual([...(await delivered(api.server))].sort(), wanted.sort());
    assertRefused(await work.ask('GET', `/api/work/${ids[2]}`), 404);
  });
});

test('dead letters are retried and dropped in bulk, and nothing else is', async (t) => {
  const api = await operator(t);
  const work = workOf(api.server, api.token);
  const late = { expires: '2020-01-01 00:00:00Z' };
  for (let i = 0; i < 6; i++) await work.mail(`late ${i}`, late);
  await work.waitFor('state = "dead"', 6);
  await work.pause();
  await work.mail('it waits');
  await work.waitFor('state = "waiting"', 1);
  const [first] = await work.tasks('state = "dead"');
  const bulk = (verb, filter) => work.well(work.ask('POST', `/api/work/${verb}`, { filter }));
  assert.deepEqual(await bulk('drop', `id = "${first.id}"`), { count: 1, skipped: 0, hasMore: false });
  assert.deepEqual(await bulk('drop', 'id = "x"'), { count: 0, skipped: 0, hasMore: false });
  assert.deepEqual(await bulk('retry', 'error ~ "expired"'), { count: 5, skipped: 0, hasMore: false });
  assert.equal((await work.tasks('state = "waiting" && attempts = 0')).length, 6);
  assertProblems(await work.ask('POST', '/api/work/drop', {}), { filter: 'validation_required' });
  assertProblems(await work.ask('POST', '/api/work/drop', { filter: '', until: 'soon' }), {
    until: 'validation_invalid_date',
  });
  const before = { filter: '', until: '2020-01-01 00:00:00Z' };
  const none = await work.well(work.ask('POST', '/api/work/retry', before));
  assert.deepEqual(none, { count: 0, skipped: 0, hasMore: false });
  assertProblems(await work.ask('POST', '/api/work/drop', { filter: 'id = "x") || (id != "x"' }), {
    filter: 'validation_invalid_filter',
  });
  await work.resume();
  await work.waitFor('state = "dead"', 5);
  assert.deepEqual(await bulk('drop', ''), { count: 5, skipped: 0, hasMore: false });
  await work.waitFor('', 0);
});

test('a lane that is cleared loses what waits in it, and nothing else', async (t) => {
  const folder = await temporaryFolder(t);
  let server = await startServer(t, { folder });
  const token = await operatorToken(server);
  let work = workOf(server, token);
  const clear = (lane) => work.ask('POST', '/api/work/lanes/clear', { lane });
  await work.pause();
  await Promise.all(Array.from({ length: 300 }, (_, i) => work.mail(`letter ${i}`)));
  await work.well(clear(LANE), 204);
  const left = await work.mail('it came after');
  await server.stop('SIGKILL');
  server = await startServer(t, { folder });
  work = workOf(server, token);
  await work.waitFor('state = "waiting"', 1);
  assert.equal((await work.tasks())[0].id, left);
  await work.resume();
  await until(async () => (await delivered(server)).has(left), 'the lane goes on');
  assert.equal((await delivered(server)).size, 1);
  const { events } = await readFeed(server, token, { query: '&types=job.*' });
  assert.deepEqual(
    events.map(({ type, subject, payload }) => [type, subject, payload]),
    ['job.paused', 'job.cleared', 'job.resumed'].map((type) => [type, `lane/${LANE}`, { lane: LANE }]),
  );
  assertProblems(await clear('nothing'), { lane: 'validation_unknown_name' });
  assertRefused(await server.request('POST', '/api/work/lanes/clear', { lane: LANE }), 401);
});

test('a paused lane stays paused over a restart, and goes on when it is resumed', async (t) => {
  const folder = await temporaryFolder(t);
  let server = await startServer(t, { folder });
  const token = await operatorToken(server);
  let work = workOf(server, token);
  await work.pause();
  const ids = [];
  for (let i = 0; i < 3; i++) ids.push(await work.mail(`letter ${i}`));
  await server.stop();
  server = await startServer(t, { folder });
  work = workOf(server, token);
  const [lane] = await until(async () => {
    const lanes = await work.lanes();
    return lanes[0]?.waiting === 3 && lanes;
  }, 'the lane is known again');
  const { due, ...rest } = lane;
  assert.deepEqual(rest, {
    lane: LANE,
    kind: 'mail',
    state: 'paused',
    running: 0,
    waiting: 3,
    hasMore: false,
  });
  assert.match(due, /^\d{4}-/);
  await sleep(300);
  assert.equal((await work.tasks()).length, 3, 'none was begun');
  const { text } = await server.request('GET', '/metrics', undefined, { token });
  assert.equal(metric(text, 'bakend_work_lanes{kind="mail",state="paused"}'), 1);
  assert.equal(metric(text, 'bakend_work_attempts_total{kind="mail"}'), 0);
  await work.resume();
  await until(async () => (await delivered(server)).size === 3, 'they are delivered');
  await work.waitFor('', 0);
  assert.deepEqual([...(await delivered(server))].sort(), ids.sort());
  await until(async () => {
    const { text } = await server.request('GET', '/metrics', undefined, { token });
    return (
      metric(text, 'bakend_work_done_total{kind="mail"}') === 3 &&
      metric(text, 'bakend_work_running{kind="mail"}') === 0
    );
  }, 'they are counted as done');
  assertProblems(await work.ask('POST', '/api/work/lanes/pause', { lane: 'nothing' }), {
    lane: 'validation_unknown_name',
  });
});

test('a death at any step of a task loses none that was acknowledged', async (t) => {
  for (const name of FAILPOINTS) {
    await t.test(`at ${name}`, async (t) => {
      const folder = await temporaryFolder(t);
      let server = await startServer(t, { folder, env: { BAKEND_FAILPOINT: `${name}:kill@4` } });
      const token = await operatorToken(server);
      const acknowledged = [];
      for (let i = 0; i < 200 && server.isRunning; i++) {
        const answer = await workOf(server, token)
          .ask('POST', '/api/mail', { ...letter, subject: `letter ${i}` })
          .catch(() => null); // it died
        if (answer === null) break;
        assert.equal(answer.status, 202, answer.text);
        acknowledged.push(answer.body.id);
        await sleep(5);
      }
      assert.equal((await server.killed()).signal, 'SIGKILL', 'the failpoint was reached');
      server = await startServer(t, { folder });
      const work = workOf(server, token);
      const missing = async () => {
        const done = await delivered(server);
        return acknowledged.filter((id) => !done.has(id));
      };
      await until(async () => (await missing()).length === 0, 'what was acknowledged is done');
      await work.waitFor('', 0);
      const done = await delivered(server);
      assert.ok(done.size <= acknowledged.length + 1, 'and at most the one on its way beside them');
      const { events } = await readFeed(server, token, { query: '&types=mail.*,job.*' });
      assert.ok(
        events.every(({ type }) => type === 'mail.sent'),
        'none has failed',
      );
      const sent = new Set(events.map(({ payload }) => payload.task));
      assert.equal(events.length, done.size, 'an end is recorded once, with its event');
      assert.equal(sent.size, done.size);
    });
  }
});

test('on the command line', async (t) => {
  const api = await operator(t);
  const work = workOf(api.server, api.token);
  const data = ['--data', api.server.data];
  const say = async (...words) => (await runWell(['work', ...words, ...data])).trimEnd();
  const late = { expires: '2020-01-01 00:00:00Z' };
  await say('pause', LANE);
  const id = await work.mail('late', late);
  await work.mail('late too', late);
  await work.waitFor('state = "waiting"', 2);
  assert.match(
    await say('lanes'),
    /^LANE {2}STATE {3}RUNNING {2}WAITING {2}DUE\nmail {2}paused {2}0 {8}2 {8}\d{4}-\S+ \S+$/,
  );
  const [heading, row] = (await say('list', '--filter', `id = "${id}"`)).split('\n');
  assert.match(heading, /^ID {15}STATE {4}LANE {2}ATTEMPTS {2}DUE {23}ERROR$/);
  assert.match(row, new RegExp(`^${id} {2}waiting {2}mail {2}0 {9}\\S+ \\S+ {2}-$`));
  await say('cancel', id);
  await say('retry', id);
  await say('resume', LANE);
  await work.waitFor('state = "dead"', 2);
  assert.equal((await say('list')).split('\n').length, 3);
  assert.equal((await say('list', '--dead')).split('\n').length, 3);
  assert.match(await say('list', '--dead', '--filter', `id = "${id}"`), /^ID .*\n\S+ {2}dead {3}mail/);
  for (const words of [['list'], ['list', '--dead'], ['retry'], ['drop']]) {
    const { code, stderr } = await run(['work', ...words, '--filter', 'kind = = 1', ...data]);
    assert.equal(code, 1);
    assert.match(stderr, /at 8: /, `${words}: of what was typed`);
  }
  const both = await run(['work', 'drop', '--filter', 'id = "x") || (id != "x"', ...data]);
  assert.equal(both.code, 1, 'a filter is one by itself');
  assert.equal(await say('list', '--dead', '--filter', 'kind = "other"'), '');
  assert.equal(await say('retry', '--filter', ''), '2');
  await work.waitFor('state = "dead" && attempts = 1', 2);
  await say('drop', id);
  assert.equal(await say('drop', '--filter', 'kind = "mail"'), '1');
  assert.equal((await work.tasks()).length, 0);
  assert.deepEqual(JSON.parse(await say('list', '--json')).items, []);
  const wrong = await run(['work', 'drop', id, ...data]);
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /There is no such task/);
  assert.equal((await run(['work', 'drop', ...data])).code, 2);
  assert.equal((await run(['work', 'frobnicate', ...data])).code, 2);
  await say('pause', LANE);
  for (let i = 0; i < 3; i++) await work.mail(`letter ${i}`, late);
  await say('clear', LANE);
  await work.waitFor('', 0);
  for (let i = 0; i < 2; i++) await work.mail(`letter ${i}`, late);
  await say('pause', 'mail/empty');
  await work.waitFor('', 2);
  const waiting = await say('lanes');
  await api.server.stop();
  assert.equal(await say('lanes'), waiting, 'a stopped directory says the same');
});

test('what a mail says is in no answer that is not for superusers, and in no event', async (t) => {
  const api = await operator(t);
  const work = workOf(api.server, api.token);
  const canary = 'canary-of-a-payload';
  await work.pause();
  const id = await work.mail('secret', { text: canary });
  await work.waitFor('state = "waiting"', 1);
  await createCollection(api.server, api.token, {
    name: 'books',
    ...open,
    fields: [{ name: 'task', type: 'text' }],
  });
  await createRecord(api.server, api.token, 'books', { task: id });
  const answers = [
    api.get('/api/work'),
    api.get(`/api/work/${id}`),
    api.get('/api/work?fields=*,payload'),
    api.get('/api/collections/_work/snapshot'),
    api.get('/api/events?types=*,_*'),
    api.post('/api/collections', {
      name: 'peep',
      type: 'view',
      viewQuery: 'SELECT id, payload FROM _work_secrets',
    }),
    api.server.request('GET', '/api/work'),
    api.server.request('GET', '/api/collections/_work/records'),
  ];
  for (const answer of await Promise.all(answers))
    assert.ok(!answer.text.includes(canary), answer.text);
  assert.equal((await work.tasks(`payload ~ "${canary}"`)).length, 0);
  await work.act(id, 'cancel');
  const { events } = await readFeed(api.server, api.token, { query: '&types=*,_*' });
  assert.ok(!JSON.stringify(events).includes(canary));
});
