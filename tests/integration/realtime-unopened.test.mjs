/** Signing in over a WebSocket to a tenant that nobody has used since the start. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startServer, temporaryFolder } from './support/program.mjs';
import { Listener } from './support/realtime.mjs';
import { createSuperuser, operatorToken, signIn } from './support/superuser.mjs';

const definition = { name: 'posts', type: 'base', fields: [{ name: 'title', type: 'text' }] };

test('what is asked while the tenant opens waits for it, in order', async (t) => {
  const folder = await temporaryFolder(t);
  const before = await startServer(t, { folder });
  const operator = await operatorToken(before);
  await before.request('POST', '/api/tenants', { name: 'acme' }, { token: operator });
  await createSuperuser(before, { tenant: 'acme' });
  const token = await signIn(before, { tenant: 'acme' });
  const own = { token, tenant: 'acme' };
  assert.equal((await before.request('POST', '/api/collections', definition, own)).status, 200);
  assert.equal((await before.request('POST', '/posts', { title: 'first' }, own)).status, 200);
  await before.stop();

  const server = await startServer(t, { folder });
  const listener = await Listener.connect(server);
  const answers = await Promise.all([
    listener.ask({ op: 'auth', token }),
    listener.ask({ op: 'ping' }),
    listener.ask({ op: 'subscribe', types: ['posts.*'], after: 'start' }),
  ]);
  assert.deepEqual(
    answers.map(({ ok, op }) => ok ?? op),
    [true, 'pong', true],
  );
  assert.deepEqual(
    listener.messages.slice(0, 3).map(({ id }) => id),
    [1, 2, 3],
    'the answers come in the order of the questions',
  );
  const [{ event }] = await listener.until(1);
  assert.equal(event.payload.title, 'first');
  await listener.close();
});
