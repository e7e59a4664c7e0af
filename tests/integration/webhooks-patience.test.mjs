/** What an endpoint has asked for, and what is known of its health, outlives the end of the program. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { operator } from './support/operator.mjs';
import { startServer, temporaryFolder } from './support/program.mjs';
import { createRecord, open } from './support/records.mjs';
import { eventually } from './support/smtp.mjs';
import { ALLOW, createWebhook, startReceiver, untilDelivered } from './support/webhooks.mjs';

const HOUR_MS = 60 * 60 * 1000;
/** What has failed is not tried again by itself; what is new would be sent at once. */
const ARGS = [...ALLOW, '--webhooks-retry-schedule', '0s,1h'];

async function world(t, answer) {
  const folder = await temporaryFolder(t);
  const { server, token, define } = await operator(t, { folder, args: ARGS });
  await define({ name: 'posts', ...open, fields: [{ name: 'title', type: 'text' }] });
  const [receiver, other] = [await startReceiver(t, { answer }), await startReceiver(t)];
  const { id } = await createWebhook(server, token, { url: receiver.url, types: ['posts.*'] });
  const witness = await createWebhook(server, token, { url: other.url, types: ['posts.*'] });
  return { folder, server, token, receiver, id, witness: witness.id };
}

const statsOf = async (server, token, id) => {
  const answer = await server.request('GET', `/api/webhooks/${id}/stats`, undefined, { token });
  assert.equal(answer.status, 200, answer.text);
  return answer.body;
};
const fromNow = (time) => Date.parse(time.replace(' ', 'T')) - Date.now();

async function killAndStart(t, { server, folder }) {
  await server.stop('SIGKILL');
  return startServer(t, { folder, args: ARGS });
}

/** Something new happened, and another endpoint has it. */
async function createAndWitness(server, { token, witness }, title, count) {
  await createRecord(server, token, 'posts', { title });
  await untilDelivered(server, token, witness, count);
}

test('an endpoint that said in an hour is not asked before, though the program was killed', async (t) => {
  const it = await world(t, () => ({ status: 503, headers: { 'retry-after': '3600' } }));
  await createRecord(it.server, it.token, 'posts', { title: 'before' });
  await untilDelivered(it.server, it.token, it.id, 1, 'retrying');
  const { pausedUntil, breaker } = await statsOf(it.server, it.token, it.id);
  assert.equal(breaker, 'closed');
  assert.ok(Math.abs(fromNow(pausedUntil) - HOUR_MS) < 120_000, pausedUntil);

  const again = await killAndStart(t, it);
  await createAndWitness(again, it, 'after', 2);
  const stats = await statsOf(again, it.token, it.id);
  assert.equal(it.receiver.deliveries.length, 1, 'nothing more was sent to it');
  assert.ok(Math.abs(Date.parse(stats.pausedUntil) - Date.parse(pausedUntil)) < 5000, stats.pausedUntil);
  assert.equal(stats.backlog, 1, 'the new one waits');

  it.receiver.answer = () => 200;
  const tested = await again.request('POST', `/api/webhooks/${it.id}/test`, undefined, { token: it.token });
  assert.equal(tested.body.ok, true, tested.text);
  await it.receiver.until('what waited', (all) => all.some(({ body }) => body.data?.title === 'after'));
  assert.equal((await statsOf(again, it.token, it.id)).pausedUntil, '');
});

test('a breaker that is open is open after a kill, and one that was closed is not', async (t) => {
  const it = await world(t, () => 500);
  for (let i = 0; i < 10; i++) await createRecord(it.server, it.token, 'posts', { title: `${i}` });
  const open = await eventually('it opens', async () => {
    const stats = await statsOf(it.server, it.token, it.id);
    return stats.breaker === 'open' && stats;
  });
  const probeMs = fromNow(open.nextProbe);
  assert.ok(probeMs > 0 && probeMs < 40_000, open.nextProbe);
  await untilDelivered(it.server, it.token, it.witness, 10);
  await eventually('all is recorded', async () => (await statsOf(it.server, it.token, it.id)).backlog === 0);
  const before = it.receiver.deliveries.length;

  const again = await killAndStart(t, it);
  await createAndWitness(again, it, 'after', 11);
  const stats = await statsOf(again, it.token, it.id);
  assert.deepEqual([stats.breaker, stats.backlog], ['open', 1]);
  assert.ok(Math.abs(Date.parse(stats.nextProbe) - Date.parse(open.nextProbe)) < 2000, stats.nextProbe);
  assert.equal(it.receiver.deliveries.length, before, 'nothing more was sent to it');

  it.receiver.answer = () => 200;
  await again.request('POST', `/api/webhooks/${it.id}/test`, undefined, { token: it.token });
  await it.receiver.until('what waited', (all) => all.some(({ body }) => body.data?.title === 'after'));
  await eventually('it is recorded', async () => (await statsOf(again, it.token, it.id)).backlog === 0);
  const last = await killAndStart(t, { ...it, server: again });
  const { breaker, nextProbe, failingSince } = await statsOf(last, it.token, it.id);
  assert.deepEqual([breaker, nextProbe, failingSince], ['closed', '', '']);
});
