/** /api/settings: read, changed in part, judged, never telling a secret. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import PocketBase from 'pocketbase';
import { assertRefused, operator } from './support/operator.mjs';
import { startServer } from './support/program.mjs';
import { operatorToken } from './support/superuser.mjs';

/** As PocketBase has them from the start. */
const s3 = {
  enabled: false,
  bucket: '',
  region: '',
  endpoint: '',
  accessKey: '',
  forcePathStyle: false,
};
const initial = {
  superuserIPs: [],
  smtp: {
    enabled: false,
    port: 587,
    host: 'smtp.example.com',
    username: '',
    authMethod: '',
    tls: false,
    localName: '',
  },
  backups: { cron: '', cronMaxKeep: 3, s3 },
  s3,
  meta: {
    accentColor: '#1055c9',
    appName: 'Acme',
    appURL: 'http://localhost:8090',
    senderName: 'Support',
    senderAddress: 'support@example.com',
    hideControls: false,
  },
  rateLimits: {
    rules: [
      { label: '*:auth', audience: '', duration: 3, maxRequests: 2 },
      { label: '*:create', audience: '', duration: 5, maxRequests: 20 },
      { label: '/api/batch', audience: '', duration: 1, maxRequests: 3 },
      { label: '/api/', audience: '', duration: 10, maxRequests: 300 },
    ],
    excludedIPs: [],
    enabled: false,
  },
  trustedProxy: { headers: [], useLeftmostIP: false },
  batch: { enabled: false, maxRequests: 50, timeout: 3, maxBodySize: 0 },
  logs: { maxDays: 5, minLevel: 0, logIP: true, logAuthId: false },
};
const path = '/api/settings';
const updates = async (api) =>
  (await api.get('/api/events?types=settings.*&limit=1000')).body.events;

test('settings', async (t) => {
  const api = await operator(t);

  await t.test('are the contract’s from the start', async () => {
    assert.deepEqual((await api.get(path)).body, initial);
    assert.deepEqual((await api.get(`${path}?fields=meta.appName`)).body, {
      meta: { appName: 'Acme' },
    });
  });

  await t.test('are for superusers', async () => {
    assertRefused(await api.get(path, { token: undefined }), 401);
    assertRefused(await api.patch(path, {}, { token: undefined }), 401);
  });

  await t.test('change only where something is given', async () => {
    const answer = await api.patch(path, { meta: { appName: 'Kit' }, batch: { maxRequests: 7 } });
    assert.equal(answer.status, 200, answer.text);
    const expected = {
      ...initial,
      meta: { ...initial.meta, appName: 'Kit' },
      batch: { ...initial.batch, maxRequests: 7 },
    };
    assert.deepEqual(answer.body, expected);
    assert.deepEqual((await api.get(path)).body, expected);
    const [event] = (await updates(api)).slice(-1);
    assert.deepEqual(event.payload, expected);
    assert.equal(event.previous.meta.appName, 'Acme');
    assert.match(event.actor, /^_superusers\//);
  });

  await t.test('that stay as they are are no event', async () => {
    const before = (await updates(api)).length;
    assert.equal((await api.patch(path, {})).status, 200);
    assert.equal((await api.patch(path, { meta: { appName: 'Kit' }, unknown: 1 })).status, 200);
    assert.equal((await updates(api)).length, before);
  });

  await t.test('that are wrong are told by path, and nothing is stored', async () => {
    const answer = await api.patch(path, {
      meta: { appName: '', appURL: 'x' },
      logs: { maxDays: -5, logIP: false },
    });
    assert.equal(answer.status, 400);
    assert.equal(answer.body.message, 'An error occurred while saving the new settings.');
    assert.deepEqual(answer.body.data, {
      logs: {
        maxDays: {
          code: 'validation_min_greater_equal_than_required',
          message: 'Must be no less than 0.',
          params: { threshold: 0 },
        },
      },
      meta: {
        appName: { code: 'validation_required', message: 'Cannot be blank.' },
        appURL: { code: 'validation_is_url', message: 'Must be a valid URL.' },
      },
    });
    assert.equal((await api.get(path)).body.logs.logIP, true);
    const unreadable = await api.patch(path, { batch: { maxRequests: '5' } });
    assertRefused(unreadable, 400);
    assert.match(
      unreadable.body.message,
      /^An error occurred while loading the submitted data: \w+ has a value of the wrong type\.$/,
    );
  });

  await t.test('never show a secret, and keep one that is left out', async () => {
    const canary = 'canary-of-a-secret';
    const place = { endpoint: 'localhost:9000', bucket: 'b', region: 'r', accessKey: 'k' };
    const answers = [
      await api.patch(path, {
        smtp: { username: 'kit', password: `${canary}-1` },
        s3: { ...place, enabled: true, secret: `${canary}-2` },
        backups: { s3: { ...place, enabled: true, secret: `${canary}-3` } },
      }),
      await api.patch(path, { s3: { bucket: 'c' }, backups: { s3: { bucket: 'c' } } }),
      await api.get(path),
      await api.get(`${path}?fields=smtp.password,s3.secret,backups.s3.secret`),
      await api.get('/api/events?types=*,_*&limit=1000'),
      await api.get('/api/logs?perPage=500'),
    ];
    for (const answer of answers) {
      assert.equal(answer.status, 200, answer.text);
      assert.ok(!answer.text.includes(canary));
    }
    assert.equal('password' in answers[2].body.smtp, false);
    const emptied = await api.patch(path, { s3: { secret: '' } });
    assert.equal(emptied.body.data.s3.secret.code, 'validation_required');
  });

  await t.test('are all there when many change them at once', async () => {
    const changes = Array.from({ length: 20 }, (_, index) => ({
      rateLimits: { excludedIPs: [`10.0.0.${index}`] },
      ...(index % 2 ? { meta: { senderName: 'Odd' } } : { logs: { minLevel: 4 } }),
    }));
    for (const answer of await Promise.all(changes.map((change) => api.patch(path, change))))
      assert.equal(answer.status, 200);
    const { body } = await api.get(path);
    assert.equal(body.meta.senderName, 'Odd');
    assert.equal(body.logs.minLevel, 4);
  });

  await t.test('work with the SDK', async () => {
    const client = new PocketBase(api.server.url);
    client.authStore.save(api.token, null);
    assert.equal((await client.settings.getAll({ fields: 'meta' })).meta.appName, 'Kit');
    assert.equal((await client.settings.update({ meta: { appName: 'App' } })).meta.appName, 'App');
  });
});

test('settings are a tenant’s own and outlive the server', async (t) => {
  let server = await startServer(t);
  const token = await operatorToken(server);
  const made = await server.request('POST', '/api/tenants', { name: 'acme' }, { token });
  assert.equal(made.status, 200, made.text);
  const ask = (method, body, tenant) => server.request(method, path, body, { token, tenant });
  await ask('PATCH', { meta: { appName: 'Theirs' }, smtp: { username: 'them' } }, 'acme');
  assert.equal((await ask('GET')).body.meta.appName, 'Acme');
  await server.stop();
  server = await startServer(t, { folder: server.folder });
  assert.equal((await ask('GET', undefined, 'acme')).body.meta.appName, 'Theirs');
  assert.equal((await ask('GET', undefined, 'acme')).body.smtp.username, 'them');
});
