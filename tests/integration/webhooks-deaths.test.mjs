/** The program dies at each step of a delivery, of another attempt and of a replay: nothing is lost. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startServer } from './support/program.mjs';
import { createCollection, createRecord, open } from './support/records.mjs';
import { operatorToken } from './support/superuser.mjs';
import { ALLOW, createWebhook, startReceiver, untilDelivered } from './support/webhooks.mjs';

const things = { name: 'things', ...open, fields: [{ name: 'title', type: 'text' }] };
const ARGS = [...ALLOW, '--webhooks-retry-schedule', '0s,100ms,200ms,400ms,800ms,1s,1s'];
const RECORDS = 20;

/** What the step is reached by, and at which passing it is the last one. */
const steps = [
  { step: 'webhooks.handed', at: 5 },
  { step: 'webhooks.before_sent', at: 5 },
  { step: 'webhooks.answered', at: 5 },
  { step: 'webhooks.before_recorded', at: 1 },
  { step: 'webhooks.recorded', at: 1 },
  { step: 'webhooks.retry_begun', at: 2, fails: true },
  { step: 'webhooks.retry_ended', at: 2, fails: true },
  { step: 'webhooks.replay_handed', at: 3, replays: true },
];

/** Creates until the server is dead, as it may be; the ids of those that were acknowledged. */
async function createAll(server, token) {
  const created = [];
  try {
    for (let number = 0; number < RECORDS; number++)
      created.push((await createRecord(server, token, 'things', { title: `${number}` })).id);
  } catch (error) {
    if (error.cause === undefined) throw error; /* it was answered, and wrongly */
  }
  return created;
}

const idsOf = (deliveries) => new Set(deliveries.map(({ body }) => body.data.id));

for (const { step, at, fails, replays } of steps)
  test(`killed at ${step}: nothing is lost, and what comes twice is the same`, async (t) => {
    const tried = new Set();
    const answer = ({ id }) => (fails && tried.size < 5 && !tried.has(id) ? (tried.add(id), 500) : 200);
    const receiver = await startReceiver(t, { answer });
    let server = await startServer(t, { args: ARGS, env: { BAKEND_FAILPOINT: `${step}:kill@${at}` } });
    const { folder } = server;
    const token = await operatorToken(server);
    await createCollection(server, token, things);
    const { id: webhook } = await createWebhook(server, token, { url: receiver.url, types: ['things.*'] });
    const created = await createAll(server, token);
    if (replays) {
      /* A replay goes as far as is recorded. */
      await untilDelivered(server, token, webhook, RECORDS);
      await server.request('POST', `/api/webhooks/${webhook}/replay`, { after: 'start' }, { token });
    }
    assert.equal((await server.killed()).signal, 'SIGKILL', 'the step was reached');

    server = await startServer(t, { folder, args: ARGS });
    const last = await createRecord(server, token, 'things', { title: 'last' });
    const wanted = [...created, last.id];
    await receiver.until('all of them', (deliveries) => wanted.every((id) => idsOf(deliveries).has(id)));
    if (replays)
      await receiver.until('all of them again', (deliveries) =>
        created.every((id) => deliveries.filter(({ body }) => body.data.id === id).length >= 2),
      );
    const bodies = new Map();
    for (const { id, text } of receiver.deliveries) {
      assert.equal(bodies.get(id) ?? text, text, 'the same bytes');
      bodies.set(id, text);
    }
  });
