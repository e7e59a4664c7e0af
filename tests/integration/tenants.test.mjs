/** Tenants: made, separated, removed; and what a crash in the middle leaves. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { access, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { runWell, startServer, temporaryFolder } from './support/program.mjs';
import { operatorToken, signIn } from './support/superuser.mjs';

const exists = (path) =>
  access(path).then(
    () => true,
    () => false,
  );
const superuser = { email: 'root@acme.example', password: 'battery staple 2' };

const createTenant = (server, token, body) =>
  server.request('POST', '/api/tenants', body, { token });

test('a tenant is made with its superuser, who reaches only that tenant', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  const made = await createTenant(server, token, { name: 'acme', superuser });
  assert.equal(made.status, 200, made.text);
  assert.equal(made.body.name, 'acme');
  assert.ok(!made.text.includes(superuser.password));
  assert.ok(await exists(join(server.data, 'tenants/acme/data.db')));
  const theirs = await signIn(server, { tenant: 'acme', ...superuser });
  assert.equal(
    (await server.request('GET', '/api/collections', undefined, { token: theirs })).status,
    200,
  );
  assert.equal(
    (await server.request('GET', '/api/tenants', undefined, { token: theirs })).status,
    403,
  );
  assert.equal(
    (
      await server.request('GET', '/api/collections', undefined, {
        token: theirs,
        tenant: 'default',
      })
    ).status,
    401,
  );
});

test('tenants are listed, and found by id and by name', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  const { body: made } = await createTenant(server, token, {
    name: 'acme',
    description: 'the first',
  });
  const list = await server.request('GET', '/api/tenants', undefined, { token });
  assert.deepEqual(
    list.body.items.map(({ name }) => name),
    ['acme'],
  );
  for (const key of ['acme', made.id]) {
    const found = await server.request('GET', `/api/tenants/${key}`, undefined, { token });
    assert.equal(found.status, 200);
    assert.equal(found.body.description, 'the first');
  }
  assert.equal(
    (await server.request('GET', '/api/tenants/nope', undefined, { token })).status,
    404,
  );
});

test('data of one tenant is not seen in another', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  await createTenant(server, token, { name: 'acme' });
  const posts = {
    name: 'posts',
    type: 'base',
    listRule: '',
    fields: [{ name: 'title', type: 'text' }],
  };
  const inAcme = { token, tenant: 'acme' };
  assert.equal((await server.request('POST', '/api/collections', posts, inAcme)).status, 200);
  assert.equal((await server.request('POST', '/posts', { title: 'ours' }, inAcme)).status, 200);
  assert.equal(
    (await server.request('GET', '/posts', undefined, { tenant: 'acme' })).body.totalItems,
    1,
  );
  assert.equal((await server.request('GET', '/posts')).status, 404);
});

test('wrong names are refused by field', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  for (const name of ['', 'A', '-a', 'a b', 'a/b', '..', 'x'.repeat(64), 'default']) {
    const answer = await createTenant(server, token, { name });
    assert.equal(answer.status, 400, name);
    assert.ok(answer.body.data.name.code, name);
  }
  await createTenant(server, token, { name: 'acme' });
  const twice = await createTenant(server, token, { name: 'acme' });
  assert.equal(twice.body.data.name.code, 'validation_not_unique');
});

test('a superuser that is refused leaves no tenant behind', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  const answer = await createTenant(server, token, {
    name: 'acme',
    superuser: { email: 'nope', password: 'x' },
  });
  assert.equal(answer.status, 400, answer.text);
  assert.ok(answer.body.data.superuser.password.code);
  assert.ok(!(await exists(join(server.data, 'tenants/acme'))));
  assert.equal(
    (await server.request('GET', '/api/tenants', undefined, { token })).body.totalItems,
    0,
  );
  assert.equal((await createTenant(server, token, { name: 'acme', superuser })).status, 200);
});

test('only operators may', async (t) => {
  const server = await startServer(t);
  assert.equal((await createTenant(server, undefined, { name: 'acme' })).status, 401);
  const token = await operatorToken(server);
  await createTenant(server, token, { name: 'acme', superuser });
  const theirs = await signIn(server, { tenant: 'acme', ...superuser });
  for (const [method, path, body] of [
    ['POST', '/api/tenants', { name: 'b' }],
    ['DELETE', '/api/tenants/acme'],
  ])
    assert.equal((await server.request(method, path, body, { token: theirs })).status, 403);
});

test('a deleted tenant is gone with its data, and its name is free again', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  await createTenant(server, token, { name: 'acme', superuser });
  assert.equal(
    (await server.request('DELETE', '/api/tenants/acme', undefined, { token })).status,
    204,
  );
  assert.ok(!(await exists(join(server.data, 'tenants/acme'))));
  assert.equal(
    (await server.request('DELETE', '/api/tenants/acme', undefined, { token })).status,
    404,
  );
  assert.equal(
    (await server.request('DELETE', '/api/tenants/default', undefined, { token })).status,
    400,
  );
  const events = await server.request('GET', '/api/events?types=_tenants.*', undefined, { token });
  assert.deepEqual(
    events.body.events.map(({ type }) => type),
    ['_tenants.created', '_tenants.deleted'],
  );
  assert.equal((await createTenant(server, token, { name: 'acme' })).status, 200);
});

test('a deletion that names the tenant it deletes does not wait for itself', async (t) => {
  const server = await startServer(t, { args: ['--tenant-domain', 'example.com'] });
  const token = await operatorToken(server);
  for (const options of [{ tenant: 'acme' }, { headers: { host: 'acme.example.com' } }, {}]) {
    await createTenant(server, token, { name: 'acme', superuser });
    await signIn(server, { tenant: 'acme', ...superuser });
    const gone = await server.request('DELETE', '/api/tenants/acme', undefined, {
      token,
      ...options,
    });
    assert.equal(gone.status, 204, gone.text);
    assert.ok(!(await exists(join(server.data, 'tenants/acme'))));
  }
  const start = Date.now();
  await server.stop();
  assert.ok(Date.now() - start < 5000, 'the end waits for nothing');
});

test('records of _tenants are written by the tenants routes alone', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  const { body: made } = await createTenant(server, token, { name: 'acme', superuser });
  const records = '/api/collections/_tenants/records';
  for (const [method, path, body] of [
    ['POST', records, { name: 'other' }],
    ['POST', records, { name: 'default' }],
    ['PATCH', `${records}/${made.id}`, { name: 'renamed' }],
    ['DELETE', `${records}/${made.id}`],
  ]) {
    const refused = await server.request(method, path, body, { token });
    assert.ok([400, 403].includes(refused.status), `${method} ${refused.status} ${refused.text}`);
  }
  const list = await server.request('GET', records, undefined, { token });
  assert.deepEqual(
    list.body.items.map(({ name }) => name),
    ['acme'],
  );
  const { body } = await server.request('GET', '/api/events?types=_tenants.*', undefined, { token });
  assert.match(body.events[0].actor, /^_superusers\//, 'the event names who asked');
});

test('a start tells unfinished directories from tenants that lost their record', async (t) => {
  const folder = await temporaryFolder(t);
  const first = await startServer(t, { folder });
  const token = await operatorToken(first);
  for (const name of ['kept', 'lost', 'half'])
    await createTenant(first, token, { name, superuser });
  await first.stop();
  const tenants = join(first.data, 'tenants');
  await writeFile(join(tenants, 'kept/unfinished'), '');
  await mkdir(join(tenants, 'empty'), { mode: 0o700 });
  const second = await startServer(t, { folder });
  const again = await signIn(second);
  assert.ok(!(await exists(join(tenants, 'empty'))));
  assert.ok(await exists(join(tenants, 'kept/data.db')));
  assert.ok(!(await exists(join(tenants, 'kept/unfinished'))));
  await second.request('DELETE', '/api/tenants/half', undefined, { token: again });
  await second.stop();
  await rm(join(tenants, 'lost'), { recursive: true });
  const third = await startServer(t, { folder });
  assert.equal((await third.logged('tenant_directory_missing')).tenant, 'lost');
});

test('a tenant whose record a restored default does not know is kept and gets one', async (t) => {
  const folder = await temporaryFolder(t);
  const first = await startServer(t, { folder });
  const token = await operatorToken(first);
  await first.stop();
  const backup = join(folder, 'before.zip');
  await runWell(['backup', backup, '--data', first.data]);
  const second = await startServer(t, { folder });
  await createTenant(second, token, { name: 'acme', superuser });
  await second.stop();
  await runWell(['restore', backup, '--data', first.data]);
  const third = await startServer(t, { folder });
  const again = await signIn(third);
  const list = await third.request('GET', '/api/tenants', undefined, { token: again });
  assert.deepEqual(
    list.body.items.map(({ name }) => name),
    ['acme'],
  );
  await signIn(third, { tenant: 'acme', ...superuser });
});

test('a description changes, a name does not', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  await createTenant(server, token, { name: 'acme' });
  const change = (body) => server.request('PATCH', '/api/tenants/acme', body, { token });
  assert.equal((await change({ name: 'other' })).body.data.name.code, 'validation_not_changeable');
  const changed = await change({ name: 'acme', description: 'new' });
  assert.equal(changed.status, 200);
  assert.equal(changed.body.description, 'new');
});

test('a creation that is killed in the middle leaves nothing behind', async (t) => {
  const folder = await temporaryFolder(t);
  const env = { BAKEND_FAILPOINT: 'tenants.before_record:kill' };
  const first = await startServer(t, { folder, env });
  const token = await operatorToken(first);
  first.expectKill();
  await assert.rejects(createTenant(first, token, { name: 'acme', superuser }));
  await first.ended;
  assert.ok(await exists(join(first.data, 'tenants/acme/data.db')));
  const second = await startServer(t, { folder });
  const again = await signIn(second);
  assert.ok(!(await exists(join(first.data, 'tenants/acme'))));
  assert.equal((await createTenant(second, again, { name: 'acme', superuser })).status, 200);
});

test('a deletion that is killed in the middle is finished by the next start', async (t) => {
  const folder = await temporaryFolder(t);
  const env = { BAKEND_FAILPOINT: 'tenants.before_removal:kill' };
  const first = await startServer(t, { folder, env });
  const token = await operatorToken(first);
  await createTenant(first, token, { name: 'acme', superuser });
  first.expectKill();
  await assert.rejects(first.request('DELETE', '/api/tenants/acme', undefined, { token }));
  await first.ended;
  assert.ok(await exists(join(first.data, 'tenants/acme')));
  const second = await startServer(t, { folder });
  const again = await signIn(second);
  assert.ok(!(await exists(join(first.data, 'tenants/acme'))));
  const list = await second.request('GET', '/api/tenants', undefined, { token: again });
  assert.equal(list.body.totalItems, 0);
});

test('ten thousand tenants do not keep the program from starting', async (t) => {
  const folder = await temporaryFolder(t);
  const first = await startServer(t, { folder });
  const token = await operatorToken(first);
  await first.stop();
  const script = `
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
rows = (("t%014d" % i, "t%d" % i) for i in range(10000))
database.executemany("INSERT INTO _tenants (id, name) VALUES (?, ?)", rows)
database.commit()
`;
  const file = join(folder, 'data/tenants/default/data.db');
  await promisify(execFile)('python3', ['-c', script, file]);
  const server = await startServer(t, { folder });
  const found = await server.request('GET', '/api/tenants/t9999', undefined, { token });
  assert.equal(found.status, 200, found.text);
  await server.logged('tenant_directory_missing', '"t9999"');
});
