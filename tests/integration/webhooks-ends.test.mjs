/** What a kill, a stop and the end of a tenant leave of deliveries that are on their way. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startServer, temporaryFolder } from './support/program.mjs';
import { recordsPath } from './support/records.mjs';
import { eventually } from './support/smtp.mjs';
import { assertChain, assertSameBytes, create, posts, start, titles } from './support/webhook_posts.mjs';
import { ALLOW, listDeliveries, startReceiver } from './support/webhooks.mjs';

test('a kill in the middle of a stream loses nothing', async (t) => {
  const folder = await temporaryFolder(t);
  const receiver = await startReceiver(t);
  const { server, token, webhook } = await start(t, { folder });
  const { id } = await webhook({ url: receiver.url, types: ['posts.created'] });
  const acknowledged = [];
  const writing = Promise.all(
    Array.from({ length: 8 }, async (_, writer) => {
      for (let i = 0; i < 100; i++) {
        const answer = await server
          .request('POST', recordsPath('posts'), { title: `${writer} ${i}` })
          .catch(() => null);
        if (answer?.status !== 200) return;
        acknowledged.push(answer.body.id);
      }
    }),
  );
  await receiver.untilIds(60, 60_000);
  await server.stop('SIGKILL');
  await writing;
  const before = receiver.deliveries.length;

  /* Nobody asks for anything: the backlog goes on by itself. */
  const again = await startServer(t, { folder, args: ALLOW });
  const came = () => new Set(receiver.deliveries.map(({ body }) => body.data.id));
  const hasAll = (all) => acknowledged.every((record) => all.has(record));
  await receiver.until('all that was acknowledged', () => hasAll(came()), 60_000);
  assertChain(assertSameBytes(receiver.deliveries));
  const rows = await eventually('each is recorded', async () => {
    const all = await listDeliveries(again, token, id);
    return all.length >= came().size && all;
  });
  assert.equal(rows.length, came().size);
  assert.ok(receiver.deliveries.length - came().size <= 256, `${before} had come before`);
});

test('a stop in the middle of a backlog', async (t) => {
  const folder = await temporaryFolder(t);
  const receiver = await startReceiver(t);
  const { server, webhook } = await start(t, { folder });
  await webhook({ url: receiver.url, types: ['posts.created'], maxInFlight: 2 });
  const answers = [];
  receiver.answer = () => new Promise((resolve) => answers.push(() => resolve(200)));
  await create(server, titles(300));
  await receiver.until('two are on their way', () => answers.length === 2);
  await server.stop();
  receiver.answer = () => 200;
  await startServer(t, { folder, args: ALLOW });
  await receiver.untilIds(300, 60_000);
  assertChain(assertSameBytes(receiver.deliveries));
});

test('a tenant is deleted while its deliveries hang', async (t) => {
  const { server, post, remove, webhook } = await start(t);
  assert.equal((await post('/api/tenants', { name: 'beside' })).status, 200);
  assert.equal((await post('/api/collections', { type: 'base', ...posts }, { tenant: 'beside' })).status, 200);
  const receiver = await startReceiver(t, { answer: () => new Promise(() => {}) });
  await webhook({ url: receiver.url, types: ['posts.*'], timeoutMs: 30_000 }, { tenant: 'beside' });
  await create(server, titles(20), { tenant: 'beside' });
  await receiver.until('two, as nobody has answered yet', (all) => all.length === 2);
  assert.equal((await remove('/api/tenants/beside')).status, 204);
  await receiver.until('they are ended', () => receiver.inFlight === 0, 20_000);
  assert.equal(receiver.deliveries.length, 2);
});
