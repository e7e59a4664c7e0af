/**
 * The documented receiver, run as it is documented: the webhook is off for a while, deliveries run out of
 * attempts, the receiver is killed again and again, everything is replayed; each event is applied once, in order.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { copyFile, readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readFeed } from './support/feed.mjs';
import { operator } from './support/operator.mjs';
import { temporaryFolder } from './support/program.mjs';
import { createRandom } from './support/random.mjs';
import { open } from './support/records.mjs';
import { eventually } from './support/smtp.mjs';
import { ALLOW, createWebhook, listDeliveries, sparePort } from './support/webhooks.mjs';

const example = fileURLToPath(new URL('../../docs/examples/webhook-receiver.mjs', import.meta.url));
const packages = fileURLToPath(new URL('./node_modules', import.meta.url));
const KILLS = process.env.BAKEND_LONG === '1' ? 40 : 4;

/** The example with its package beside it, as `npm install` leaves it. */
async function install(t) {
  const folder = await temporaryFolder(t);
  await copyFile(example, join(folder, 'webhook-receiver.mjs'));
  await symlink(packages, join(folder, 'node_modules'));
  return folder;
}

/** Running; stop() kills it. */
async function startReceiver(t, { folder, server, key, secret, port }) {
  const path = join(folder, 'state.json');
  const child = spawn(process.execPath, ['webhook-receiver.mjs', server.url, 'posts.*', `${port}`, path], {
    cwd: folder,
    env: { ...process.env, WEBHOOK_SECRET: secret, BAKEND_KEY: key },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const receiver = { output: '' };
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => (receiver.output += text));
  const ended = new Promise((resolve) => child.on('close', resolve));
  receiver.stop = () => {
    child.kill('SIGKILL');
    return ended;
  };
  receiver.state = async () => JSON.parse(await readFile(path, 'utf8'));
  t.after(receiver.stop);
  await eventually('the receiver listens', () => {
    assert.equal(child.exitCode, null, receiver.output);
    return receiver.output.includes('listening on');
  });
  return receiver;
}

/** A delivery by hand; resolves with the status of its answer. */
async function deliver({ port, secret }, event) {
  const body = JSON.stringify(event);
  const time = Math.floor(Date.now() / 1000);
  const mac = createHmac('sha256', Buffer.from(secret.slice('whsec_'.length), 'base64'));
  const headers = {
    'content-type': 'application/json',
    'webhook-id': event.id,
    'webhook-timestamp': `${time}`,
    'webhook-signature': `v1,${mac.update(`${event.id}.${time}.${body}`).digest('base64')}`,
  };
  const answer = await fetch(`http://127.0.0.1:${port}/hook`, { method: 'POST', headers, body });
  return answer.status;
}

test('a receiver that heals its gaps applies each event once, in order', async (t) => {
  const random = createRandom(t);
  const api = await operator(t, { args: [...ALLOW, '--webhooks-retry-schedule', '0s'] });
  const { server, token } = api;
  await api.define({ name: 'posts', ...open, fields: [{ name: 'title', type: 'text' }] });
  const made = await api.post('/api/api-keys', { name: 'receiver', scopes: ['events:read'] });
  assert.equal(made.status, 200, made.text);
  const options = { folder: await install(t), server, key: made.body.key, port: await sparePort() };
  const webhook = await createWebhook(server, token, {
    url: `http://127.0.0.1:${options.port}/hook`,
    types: ['posts.*'],
  });
  options.secret = webhook.secret;
  let receiver = await startReceiver(t, options);

  let count = 0;
  const write = async (more) => {
    for (let i = 0; i < more; i++) await api.create('posts', { title: `post ${count++}` });
  };
  const turn = async (enabled) => {
    const answer = await api.patch(`/api/webhooks/${webhook.id}`, { enabled });
    assert.equal(answer.status, 200, answer.text);
  };
  /** What it has is what the feed has. */
  const settled = (what) =>
    eventually(what, async () => {
      const { applied } = await receiver.state();
      return applied.length >= count && applied;
    });
  const compare = async (applied) => {
    const { events } = await readFeed(server, token, { query: '&types=posts.*' });
    assert.deepEqual(
      applied.map(({ id }) => id),
      events.map(({ id }) => id),
      receiver.output,
    );
  };

  /** Who is switched on is not held to have failed: what fails while it is dead would open its breaker. */
  const startAfresh = async () => {
    await turn(false);
    await turn(true);
  };
  const says = (pattern) => eventually(`${pattern}`, () => pattern.test(receiver.output));

  await write(3);
  await compare(await settled('what was delivered is applied'));

  await turn(false);
  await write(3);
  await turn(true);
  assert.equal((await receiver.state()).applied.length, 3, 'nobody has told it');
  await write(1);
  await compare(await settled('the next delivery shows the gap'));
  await says(/^healed: evt_/m);

  await receiver.stop();
  await write(3);
  await eventually('three deliveries have failed for good', async () => {
    const rows = await listDeliveries(server, token, webhook.id, { filter: 'state = "failed"' });
    return rows.length === 3;
  });
  receiver = await startReceiver(t, options);
  await compare(await settled('it has fetched what it missed'));

  for (let i = 0; i < KILLS; i++) {
    await startAfresh();
    const before = (await receiver.state()).applied.length;
    const written = write(random.between(4, 10));
    await eventually('it has got some of them', async () => (await receiver.state()).applied.length > before);
    await receiver.stop();
    await written;
    receiver = await startReceiver(t, options);
    await settled('it has caught up');
  }
  await compare((await receiver.state()).applied);

  await startAfresh();
  /* It hears that it was enabled behind the answer to that. */
  const asked = await eventually('a replay has begun', async () => {
    const answer = await api.post(`/api/webhooks/${webhook.id}/replay`, { after: 'start' });
    return answer.status === 202 && answer;
  });
  await eventually('the replay is done', async () => {
    const task = await api.get(`/api/work/${asked.body.task}`);
    return task.body.state === 'done';
  });
  await says(/^known: evt_/m);
  await compare((await receiver.state()).applied);

  /* As after the server was restored: numbers begin anew, cursors are of another history. */
  const strange = { id: 'evt_strange', type: 'posts.created', sequence: 1, cursor: 'c', after: 'b', data: {} };
  assert.equal(await deliver(options, strange), 204);
  await says(/^healed: evt_strange/m);
  assert.equal(await deliver({ ...options, secret: `whsec_${'A'.repeat(43)}=` }, strange), 400);
});
