/**
 * Replays: of one delivery, of a range, of what has failed, of what was missed while a webhook was off; counted
 * before, cancelled, and gone on with after a kill. What is sent again has the same id and the same bytes.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readFeed } from './support/feed.mjs';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { startServer, temporaryFolder } from './support/program.mjs';
import { createCollection, createRecord, open } from './support/records.mjs';
import { eventually } from './support/smtp.mjs';
import { operatorToken } from './support/superuser.mjs';
import { ALLOW, createWebhook, listDeliveries, startReceiver, untilDelivered } from './support/webhooks.mjs';

const ARGS = [...ALLOW, '--webhooks-retry-schedule', '0s,1h'];
/** Fails a delivery for good. */
const ABORT = { status: 500, headers: { 'webhook-delivery': 'abort-message' } };

const collection = (name) => ({ name, ...open, fields: [{ name: 'title', type: 'text' }] });

/** One server for all: each check has a collection, a receiver and a webhook of its own. */
const checks = [];
const check = (name, body) => checks.push([name, body]);

const titles = (deliveries) => deliveries.map(({ body }) => body.data.title);
const numbered = (count, from = 0) => Array.from({ length: count }, (_, i) => `post ${i + from}`);

let worlds = 0;

async function world(t, api, { hook = {}, answer } = {}) {
  const posts = `posts${++worlds}`;
  await api.define(collection(posts));
  const receiver = await startReceiver(t, { answer });
  const webhook = await createWebhook(api.server, api.token, { url: receiver.url, types: [`${posts}.*`], ...hook });
  const create = async (count, from = 0) => {
    for (const title of numbered(count, from)) await api.create(posts, { title });
  };
  const replay = (body) => api.post(`/api/webhooks/${webhook.id}/replay`, body);
  const finished = (id, state = 'done') =>
    eventually(`the replay is ${state}`, async () => {
      const task = (await api.get(`/api/work/${id}`)).body;
      return task.state === state && task;
    });
  /** A webhook hears that it was enabled behind the answer to that. */
  const begin = async (body) => {
    const answer = await eventually('it is enabled', async () => {
      const answer = await replay(body);
      return answer.status !== 409 && answer;
    });
    assert.equal(answer.status, 202, answer.text);
    return answer.body.task;
  };
  const stats = async () => (await api.get(`/api/webhooks/${webhook.id}/stats`)).body;
  const rows = (options) => listDeliveries(api.server, api.token, webhook.id, options);
  const caughtUp = () => eventually('it stands at the end', async () => (await stats()).backlog === 0);
  const delivered = async (count) => {
    await untilDelivered(api.server, api.token, webhook.id, count);
    await caughtUp();
  };
  const replayed = async () => {
    const query = `&types=webhook.replayed&subject=webhooks/${webhook.id}`;
    return (await readFeed(api.server, api.token, { query })).events;
  };
  const asks = { replay, begin, finished, rows, stats, caughtUp, delivered, replayed };
  return { ...api, posts, receiver, webhook, create, ...asks };
}

check('a range is sent again as it was, after a count that does nothing', async (t, api) => {
  const { webhook, receiver, create, replay, begin, finished, delivered, rows, replayed } = await world(t, api);
  await create(5);
  await delivered(5);
  const first = [...receiver.deliveries].sort((a, b) => a.body.sequence - b.body.sequence);
  const after = first[0].body.cursor;
  const until = first[3].body.cursor;

  const dry = await replay({ after, until, dryRun: true });
  assert.equal(dry.status, 200, dry.text);
  assert.deepEqual(dry.body, { count: 3, isComplete: true, from: after, until });
  assert.equal(receiver.deliveries.length, 5);

  const task = await begin({ after, until });
  const { progressDone, progressTotal } = await finished(task);
  assert.deepEqual([progressDone, progressTotal], [3, 3]);
  const again = receiver.deliveries.slice(5);
  assert.deepEqual(again.map(({ id }) => id).sort(), first.slice(1, 4).map(({ id }) => id).sort());
  for (const { id, text, headers } of again) {
    const former = first.find((each) => each.id === id);
    assert.equal(text, former.text, 'the same bytes');
    assert.ok(headers['webhook-signature'].startsWith('v1,'));
  }
  const attempts = (await rows()).map(({ attemptCount }) => attemptCount);
  assert.deepEqual(attempts, [1, 2, 2, 2, 1]);
  const [event] = await replayed();
  assert.match(event.actor, /^_superusers\//);
  const counts = { sent: 3, delivered: 3, failed: 0 };
  assert.deepEqual(event.payload, { webhook: webhook.id, task, complete: true, ...counts });
});

check('what has failed is sent again, and nothing else', async (t, api) => {
  const { receiver, create, begin, finished, delivered, rows, replay, caughtUp } = await world(t, api, {
    answer: ({ body }) => (/[13]$/.test(body.data.title) ? ABORT : 200),
  });
  await create(5);
  await eventually('all have ended', async () => {
    const all = await rows();
    return all.length === 5 && all.every(({ state }) => state !== 'retrying');
  });
  await caughtUp();
  assert.equal((await rows({ filter: 'state = "failed"' })).length, 2);
  receiver.answer = () => 200;
  receiver.deliveries.length = 0;
  assert.equal((await replay({ state: 'failed', dryRun: true })).body.count, 2);
  await finished(await begin({ state: 'failed' }));
  assert.deepEqual(titles(receiver.deliveries).sort(), ['post 1', 'post 3']);
  await delivered(5);
  await finished(await begin({ after: 'start', types: ['*.deleted', 'users.*'] }));
  await finished(await begin({ state: 'failed' }));
  assert.equal(receiver.deliveries.length, 2, 'nothing more has failed, and nothing was deleted');
});

check('a webhook is never sent what it has not asked for', async (t, api) => {
  const { receiver, create, begin, finished, delivered, define, posts } = await world(t, api, {
    hook: { filter: 'payload.title != "post 1"' },
  });
  await define(collection(`other_${posts}`));
  await api.create(`other_${posts}`, { title: 'not asked for' });
  await create(3);
  await delivered(2);
  receiver.deliveries.length = 0;
  await finished(await begin({ after: 'start', types: ['*'] }));
  assert.deepEqual(titles(receiver.deliveries).sort(), ['post 0', 'post 2']);
});

check('what was missed while it was off is sent, once, in one chain of cursors', async (t, api) => {
  const { receiver, webhook, create, replay, begin, finished, delivered, patch, rows } = await world(t, api);
  const turn = async (enabled) => {
    const answer = await patch(`/api/webhooks/${webhook.id}`, { enabled });
    assert.equal(answer.status, 200, answer.text);
  };
  await create(2);
  await delivered(2);
  await turn(false);
  await create(3, 2);
  const off = await eventually('it is off', async () => {
    const answer = await replay({ missing: true });
    if (answer.status === 202) await finished(answer.body.task);
    return answer.status !== 202 && answer;
  });
  assertRefused(off, 409);
  assert.match(off.body.message, /enable it first/);
  await turn(true);
  await create(1, 5);
  await delivered(3);
  assert.equal((await replay({ missing: true, dryRun: true })).body.count, 3);
  await finished(await begin({ missing: true }));
  await delivered(6);
  const missed = receiver.deliveries.filter(({ body }) => /[234]$/.test(body.data.title));
  assert.deepEqual(titles(missed).sort(), numbered(3, 2));
  missed.sort((a, b) => a.body.sequence - b.body.sequence);
  const second = receiver.deliveries.find(({ body }) => body.data.title === 'post 1');
  assert.equal(missed[0].body.after, second.body.cursor, 'it follows what was sent before');
  assert.equal(missed[1].body.after, missed[0].body.cursor);
  assert.equal(missed[2].body.after, missed[1].body.cursor);
  assert.equal((await replay({ missing: true, dryRun: true })).body.count, 0, 'made up for');
  await finished(await begin({ missing: true }));
  assert.equal(receiver.deliveries.length, 6);
  assert.deepEqual((await rows()).map(({ attemptCount }) => attemptCount), [1, 1, 1, 1, 1, 1]);
});

check('a replay is cancelled, and what it leaves behind is gone', async (t, api) => {
  const { receiver, create, begin, finished, delivered, post, replayed } = await world(t, api, {
    hook: { maxInFlight: 1 },
  });
  await create(6);
  await delivered(6);
  receiver.answer = () => new Promise(() => {});
  const task = await begin({ after: 'start' });
  const second = await begin({ after: 'start' });
  await receiver.until('the replay has begun', (all) => all.length === 7);
  assert.equal((await post(`/api/work/${second}/cancel`)).status, 204);
  assert.equal((await post(`/api/work/${task}/cancel`)).status, 204);
  const ended = await finished(task, 'dead');
  assert.equal(ended.error, 'cancelled');
  await finished(second, 'dead');
  assert.equal(receiver.deliveries.length, 7, 'nothing more was sent');
  receiver.answer = () => 200;
  const told = await eventually('both are told', async () => {
    const events = await replayed();
    return events.length === 2 && events;
  });
  for (const { payload } of told) assert.equal(payload.complete, false);
  await finished(await begin({ after: 'start', until: receiver.deliveries[0].body.cursor }));
});

check('what comes by itself is not sent by a replay, too', async (t, api) => {
  const { receiver, create, replay, begin, finished, delivered } = await world(t, api, { hook: { maxInFlight: 1 } });
  await create(2);
  await delivered(2);
  let release;
  receiver.answer = () => new Promise((resolve) => (release ??= () => resolve(200)));
  await create(3, 2);
  await receiver.until('the first of them is on its way', (all) => all.length === 3);
  assert.equal((await replay({ after: 'start', missing: true, dryRun: true })).body.count, 0);
  assert.equal((await replay({ after: 'start', dryRun: true })).body.count, 2);
  await finished(await begin({ after: 'start', missing: true }));
  receiver.answer = () => 200;
  release();
  await delivered(5);
  assert.deepEqual(titles(receiver.deliveries), numbered(5));
});

check('what fails in a replay is tried again like any other, and counted', async (t, api) => {
  const { receiver, create, begin, finished, delivered, rows, replayed, post } = await world(t, api);
  await create(3);
  await delivered(3);
  receiver.answer = ({ body }) => (body.data.title === 'post 1' ? 503 : 200);
  await finished(await begin({ after: 'start' }));
  assert.deepEqual(
    (await rows()).map(({ state, attemptCount }) => [state, attemptCount]),
    [['delivered', 2], ['retrying', 2], ['delivered', 2]],
  );
  const [{ payload }] = await replayed();
  assert.deepEqual([payload.sent, payload.delivered, payload.failed], [3, 2, 1]);
  receiver.answer = () => 200;
  await finished(await begin({ after: 'start' }));
  const counts = (await rows()).map(({ attemptCount }) => attemptCount);
  assert.deepEqual(counts, [3, 2, 3], 'what waits is left to its attempts');
  const [waiting] = await rows({ filter: 'state = "retrying"' });
  assert.equal((await post(`/api/deliveries/${waiting.id}/replay`)).status, 202);
  await delivered(3);
});

check('an ordered webhook is sent one at a time, in order, and a subject that fails waits', async (t, api) => {
  const { posts, receiver, create, begin, finished, delivered, rows, patch } = await world(t, api, {
    hook: { ordered: true },
  });
  await create(12);
  const { id } = await api.create(posts, { title: 'first' });
  for (const title of ['second', 'third'])
    assert.equal((await patch(`/api/collections/${posts}/records/${id}`, { title })).status, 200);
  await delivered(15);
  receiver.deliveries.length = 0;
  receiver.mostInFlight = 0;
  await finished(await begin({ after: 'start' }));
  const order = receiver.deliveries.map(({ body }) => body.sequence);
  assert.equal(order.length, 15);
  assert.deepEqual(order, [...order].sort((a, b) => a - b));
  assert.equal(receiver.mostInFlight, 1);
  receiver.answer = ({ body }) => (body.data.title === 'first' ? 503 : 200);
  await finished(await begin({ after: 'start', types: [`${posts}.*`] }));
  const waiting = await rows({ filter: 'state = "retrying"' });
  assert.deepEqual(
    waiting.map(({ subject, attemptCount }) => [subject, attemptCount]),
    [[`${posts}/${id}`, 3], [`${posts}/${id}`, 2], [`${posts}/${id}`, 2]],
    'those behind the first one were not sent',
  );
  receiver.answer = () => 200;
  receiver.deliveries.length = 0;
  assert.equal((await api.post(`/api/deliveries/${waiting[0].id}/replay`)).status, 202);
  await delivered(15);
  assert.deepEqual(titles(receiver.deliveries), ['first', 'second', 'third']);
});

check('a replay ends when its webhook is switched off or deleted', async (t, api) => {
  const { receiver, webhook, create, begin, finished, delivered, patch, remove, get } = await world(t, api, {
    hook: { maxInFlight: 1 },
  });
  await create(4);
  await delivered(4);
  receiver.answer = () => new Promise(() => {});
  const task = await begin({ after: 'start' });
  await receiver.until('it has begun', (all) => all.length === 5);
  await patch(`/api/webhooks/${webhook.id}`, { enabled: false });
  const ended = await finished(task, 'dead');
  assert.match(ended.error, /switched off: enable it/);
  await patch(`/api/webhooks/${webhook.id}`, { enabled: true });
  const sent = receiver.deliveries.length;
  const running = await begin({ after: 'start' });
  const waiting = await begin({ after: 'start' });
  await receiver.until('another has begun', (all) => all.length > sent);
  assert.equal((await remove(`/api/webhooks/${webhook.id}`)).status, 204);
  await eventually('both are over', async () => {
    const states = await Promise.all([running, waiting].map(async (id) => (await get(`/api/work/${id}`)).body.state));
    return states.every((state) => state === undefined || state === 'dead');
  });
});

check('a replay rests while the breaker is open', async (t, api) => {
  const { receiver, webhook, create, begin, get, delivered, post, finished, stats } = await world(t, api);
  await create(1);
  await delivered(1);
  receiver.answer = () => 500;
  await create(12, 1);
  await eventually('the breaker is open', async () => (await stats()).breaker === 'open');
  receiver.deliveries.length = 0;
  const task = await begin({ after: 'start' });
  await eventually('it has been put off', async () => {
    const { state, due, created } = (await get(`/api/work/${task}`)).body;
    return state === 'waiting' && due > created;
  });
  assert.equal(receiver.deliveries.length, 0);
  if (process.env.BAKEND_LONG === '1') {
    receiver.answer = () => 200;
    assert.equal((await post(`/api/webhooks/${webhook.id}/test`)).body.ok, true);
    await finished(task);
  }
});

check('one delivery is sent again, whatever became of it; one that waits is tried now', async (t, api) => {
  const { receiver, create, delivered, rows, post } = await world(t, api, {
    answer: ({ body }) => (body.data.title === 'post 1' ? 503 : 200),
  });
  await create(2);
  await eventually('one of them waits', async () => (await rows({ filter: 'state = "retrying"' })).length === 1);
  const [first, second] = await eventually('both have a row', async () => {
    const all = await rows();
    return all.length === 2 && all;
  });
  receiver.answer = () => 200;
  const done = await post(`/api/deliveries/${first.id}/replay`);
  assert.equal(done.status, 202, done.text);
  assert.deepEqual(done.body, { delivery: first.id, webhook: first.webhook, state: 'retrying' });
  assert.equal((await post(`/api/deliveries/${second.id}/replay`)).status, 202);
  await eventually('both were sent twice', async () => (await rows()).every(({ attemptCount }) => attemptCount === 2));
  await delivered(2);
  for (const title of numbered(2)) {
    const both = receiver.deliveries.filter(({ body }) => body.data.title === title);
    assert.equal(both.length, 2);
    assert.deepEqual([both[0].id, both[0].text], [both[1].id, both[1].text], 'the same id and bytes');
  }
  assertRefused(await post('/api/deliveries/nothere00000000/replay'), 404);
});

check('what is wrong with a replay is named', async (t, api) => {
  const { webhook, replay, post } = await world(t, api);
  assertProblems(await replay({}), { after: 'validation_required' });
  assertProblems(await replay({ after: 'yesterday' }), { after: 'cursor_invalid' });
  assertProblems(await replay({ after: 'start', until: 7 }), { until: 'cursor_invalid' });
  assertProblems(await replay({ after: 'now', until: 'start' }), { until: 'validation_invalid_value' });
  assertProblems(await replay({ after: 'start', types: ['a b'] }), { types: 'validation_invalid_type' });
  assertProblems(await replay({ after: 'start', types: 'posts.*' }), { types: 'validation_invalid_value' });
  assertProblems(await replay({ state: 'retrying', after: 'start' }), { state: 'validation_invalid_value' });
  assertProblems(await replay({ state: 'failed', missing: true }), { state: 'validation_invalid_value' });
  assertProblems(await replay({ after: 'start', dryrun: true }), { dryrun: 'validation_unknown_name' });
  assertProblems(await replay({ after: 'start', missing: 'yes' }), { missing: 'validation_invalid_value' });
  assertRefused(await post('/api/webhooks/nothere00000000/replay', { after: 'start' }), 404);
  const ask = async (scopes) => {
    const key = (await post('/api/api-keys', { name: `key ${scopes}`, scopes })).body.key;
    return post(`/api/webhooks/${webhook.id}/replay`, { after: 'start', dryRun: true }, { token: key });
  };
  assertRefused(await ask(['webhooks:read', 'records:write']), 403);
  assert.equal((await ask(['webhooks:write'])).status, 200);
  assertRefused(await post(`/api/webhooks/${webhook.id}/replay`, { after: 'start' }, { tenant: 'left' }), 404);
  const times = { after: '2020-01-02T00:00:00Z', until: '2020-01-01T00:00:00Z' };
  assertProblems(await replay(times), { until: 'validation_invalid_value' });
  const time = await replay({ after: '2020-01-01T00:00:00Z', until: new Date().toISOString(), dryRun: true });
  assert.equal(time.status, 200, time.text);
  assert.equal(time.body.isComplete, true);
});

test('replays, with one server', async (t) => {
  const api = await operator(t, { args: ARGS });
  for (const [name, body] of checks) await t.test(name, (each) => body(each, api));
});

test('a replay goes on after a restart, and after a kill', async (t) => {
  const COUNT = 60;
  const folder = await temporaryFolder(t);
  let server = await startServer(t, { folder, args: ARGS });
  const token = await operatorToken(server);
  await createCollection(server, token, collection('posts'));
  const receiver = await startReceiver(t);
  const webhook = await createWebhook(server, token, { url: receiver.url, types: ['posts.*'], maxInFlight: 1 });
  for (const title of numbered(COUNT)) await createRecord(server, token, 'posts', { title });
  await untilDelivered(server, token, webhook.id, COUNT);
  await eventually('it stands at the end', async () => {
    const stats = await server.request('GET', `/api/webhooks/${webhook.id}/stats`, undefined, { token });
    return stats.body.backlog === 0;
  });
  const former = new Map(receiver.deliveries.map(({ id, text }) => [id, text]));

  /** Half of it is sent and recorded, what follows is not answered; then the server ends. */
  const interrupt = async (attempts, signal) => {
    receiver.deliveries.length = 0;
    let answered = 0;
    receiver.answer = () => (answered++ < COUNT / 2 ? 200 : new Promise(() => {}));
    const asked = await server.request('POST', `/api/webhooks/${webhook.id}/replay`, { after: 'start' }, { token });
    assert.equal(asked.status, 202, asked.text);
    await eventually('half of it is recorded', async () => {
      const rows = await listDeliveries(server, token, webhook.id);
      return rows.filter(({ attemptCount }) => attemptCount === attempts).length === COUNT / 2;
    });
    await receiver.until('the next one is on its way', (all) => all.length === COUNT / 2 + 1);
    await server.stop(signal);
    receiver.answer = () => 200;
    const sent = receiver.deliveries.length;
    server = await startServer(t, { folder, args: ARGS });
    await eventually('it has come to its end', async () => {
      const task = await server.request('GET', `/api/work/${asked.body.task}`, undefined, { token });
      return task.body.state === 'done';
    });
    for (const { id, text } of receiver.deliveries) assert.equal(text, former.get(id), 'the same bytes');
    assert.equal(new Set(receiver.deliveries.map(({ id }) => id)).size, COUNT, 'all of them');
    return receiver.deliveries.length - sent;
  };
  assert.equal(await interrupt(2, 'SIGTERM'), COUNT / 2, 'what was not answered, and what follows');
  const told = await readFeed(server, token, { query: '&types=webhook.replayed' });
  assert.equal(told.events[0].payload.sent, COUNT, 'counts go on, too');
  const again = await interrupt(3, 'SIGKILL');
  assert.ok(again >= COUNT / 2 && again <= COUNT, `${again} after the kill`);
});
