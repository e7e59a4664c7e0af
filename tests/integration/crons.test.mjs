/** Schedules in the contract's shape, with the stock SDK. */
import assert from 'node:assert/strict';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import PocketBase from 'pocketbase';
import { assertRefused, operator } from './support/operator.mjs';
import { createCollection } from './support/records.mjs';
import { eventually } from './support/smtp.mjs';

const DAY_MS = 24 * 3600_000;

test('crons', async (t) => {
  const api = await operator(t);
  const client = new PocketBase(api.server.url);
  client.authStore.save(api.token, null);

  await t.test('are listed, with their expressions', async () => {
    const crons = await client.crons.getFullList();
    const tidy = crons.find(({ id }) => id === 'mail-files');
    assert.deepEqual([tidy.expression, tidy.kind], ['30 3 * * *', 'mail-files']);
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

  await t.test('of mails in files: the old ones go, in every tenant', async () => {
    const idAt = (ms) => `${(ms - Date.UTC(2020, 0, 1)).toString(36).padStart(8, '0')}abcdefg.eml`;
    const [old, young] = [idAt(Date.now() - 31 * DAY_MS), idAt(Date.now() - 29 * DAY_MS)];
    const folders = [join(api.server.data, 'mail'), join(api.server.data, 'tenants', 'left', 'mail')];
    for (const folder of folders) {
      await mkdir(folder, { recursive: true });
      for (const name of [old, young, 'notes.txt']) await writeFile(join(folder, name), 'x');
    }
    assert.ok(await client.crons.run('mail-files'));
    for (const folder of folders)
      await eventually(`${folder} is tidy`, async () => !(await readdir(folder)).includes(old));
    for (const folder of folders)
      assert.deepEqual((await readdir(folder)).sort(), [young, 'notes.txt'].sort());
  });

  await t.test('of the whole machine are the default tenant\'s alone', async () => {
    const elsewhere = { token: api.token, tenant: 'left' };
    const { body } = await api.server.request('GET', '/api/crons', undefined, elsewhere);
    assert.deepEqual(body, []);
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
