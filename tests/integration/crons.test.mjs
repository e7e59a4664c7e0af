/** Schedules in the contract's shape, with the stock SDK. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import PocketBase from 'pocketbase';
import { assertRefused, operator } from './support/operator.mjs';
import { createCollection } from './support/records.mjs';

test('crons', async (t) => {
  const api = await operator(t);
  const client = new PocketBase(api.server.url);
  client.authStore.save(api.token, null);

  await t.test('are listed, with their expressions', async () => {
    const crons = await client.crons.getFullList();
    assert.ok(Array.isArray(crons));
    for (const { id, expression, kind, next } of crons) {
      assert.ok(id.length > 0 && kind.length > 0);
      assert.match(expression, /^(@\w+|\S+( \S+){4})$/);
      assert.match(next, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z$/);
    }
    const ids = crons.map(({ id }) => id);
    assert.deepEqual(ids, [...ids].sort());
    assert.ok(
      ids.every((id) => !id.startsWith('__pb')),
      'what is done otherwise is not pretended',
    );
    const picked = await client.crons.getFullList({ fields: 'id' });
    assert.deepEqual(
      picked,
      ids.map((id) => ({ id })),
    );
  });

  await t.test('run when they are asked to', async () => {
    for (const { id } of await client.crons.getFullList()) assert.ok(await client.crons.run(id));
  });

  await t.test('that are not there are not found', async () => {
    await assert.rejects(client.crons.run('__pbLogsCleanup__'), (error) => {
      assert.equal(error.status, 404);
      assert.equal(error.response.message, 'Missing or invalid cron job.');
      return true;
    });
  });

  await t.test('are for superusers', async () => {
    assertRefused(await api.server.request('GET', '/api/crons'), 401);
    assertRefused(await api.server.request('POST', '/api/crons/any'), 401);
    await createCollection(api.server, api.token, { name: 'people', type: 'auth' });
    const account = { email: 'a@example.com', password: 'correct horse', passwordConfirm: 'correct horse' };
    await api.post('/api/collections/people/records', account);
    const { body } = await api.server.request('POST', '/api/collections/people/auth-with-password', {
      identity: account.email,
      password: account.password,
    });
    assertRefused(await api.server.request('GET', '/api/crons', undefined, body), 403);
    assertRefused(await api.server.request('POST', '/api/crons/any', undefined, body), 403);
  });
});
