/** Backups: made, listed, fetched and removed over HTTP; made and restored by command. */
import assert from 'node:assert/strict';
import { readdir, readFile, readlink, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { run, runWell, startServer, temporaryFolder } from './support/program.mjs';
import { operatorToken, signIn } from './support/superuser.mjs';

const posts = {
  name: 'posts',
  type: 'base',
  listRule: '',
  viewRule: '',
  createRule: '',
  fields: [{ name: 'title', type: 'text' }],
};

/** A server with the collection posts and one record in it. */
async function serverWithPost(t, folder) {
  const server = await startServer(t, { folder });
  const token = await operatorToken(server);
  assert.equal((await server.request('POST', '/api/collections', posts, { token })).status, 200);
  assert.equal((await server.request('POST', '/posts', { title: 'first' })).status, 200);
  return { server, token };
}

const titles = async (server) =>
  (await server.request('GET', '/posts?sort=id')).body.items.map(({ title }) => title);

test('a backup is made, listed, fetched and removed', async (t) => {
  const { server, token } = await serverWithPost(t);
  const as = { token };
  assert.equal((await server.request('POST', '/api/backups', { name: 'one.zip' }, as)).status, 204);
  const { body: list } = await server.request('GET', '/api/backups', undefined, as);
  assert.deepEqual(
    list.map(({ key }) => key),
    ['one.zip'],
  );
  assert.ok(list[0].size > 0);
  assert.match(list[0].modified, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z$/);
  const answer = await fetch(`${server.url}/api/backups/one.zip`, {
    headers: { authorization: token },
  });
  const bytes = Buffer.from(await answer.arrayBuffer());
  assert.equal(answer.headers.get('content-type'), 'application/zip');
  assert.equal(bytes.subarray(0, 2).toString(), 'PK');
  assert.ok(bytes.equals(await readFile(join(server.data, 'tenants/default/backups/one.zip'))));
  assert.equal((await server.request('DELETE', '/api/backups/one.zip', undefined, as)).status, 204);
  assert.equal((await server.request('DELETE', '/api/backups/one.zip', undefined, as)).status, 400);
  assert.equal((await server.request('GET', '/api/backups/one.zip', undefined, as)).status, 404);
});

test('a backup is an event', async (t) => {
  const { server, token } = await serverWithPost(t);
  await server.request('POST', '/api/backups', { name: 'one.zip' }, { token });
  const { body } = await server.request('GET', '/api/events?types=backup.*', undefined, { token });
  assert.equal(body.events.length, 1);
  const [event] = body.events;
  assert.equal(event.type, 'backup.created');
  assert.equal(event.payload.key, 'one.zip');
  assert.equal(
    event.payload.size,
    (await stat(join(server.data, 'tenants/default/backups/one.zip'))).size,
  );
});

test('names are checked as the contract has them', async (t) => {
  const { server, token } = await serverWithPost(t);
  const make = (name) => server.request('POST', '/api/backups', { name }, { token });
  assert.equal((await make('Bad Name.zip')).body.data.name.code, 'validation_match_invalid');
  assert.equal((await make('../up.zip')).body.data.name.code, 'validation_match_invalid');
  assert.equal((await make('one.txt')).body.data.name.code, 'validation_match_invalid');
  assert.equal(
    (await make(`${'x'.repeat(150)}.zip`)).body.data.name.code,
    'validation_length_out_of_range',
  );
  assert.equal((await make('one.zip')).status, 204);
  assert.equal((await make('one.zip')).body.data.name.code, 'validation_backup_name_exists');
  assert.equal((await make('')).status, 204);
  assert.equal((await make('')).status, 204, 'also twice in a second');
  const { body } = await server.request('GET', '/api/backups', undefined, { token });
  assert.ok(body.some(({ key }) => /^bakend_backup_default_\d{17}\.zip$/.test(key)));
});

test('nobody but a superuser comes near backups', async (t) => {
  const { server, token } = await serverWithPost(t);
  await server.request('POST', '/api/backups', { name: 'one.zip' }, { token });
  for (const [method, path] of [
    ['GET', '/api/backups'],
    ['GET', '/api/backups/one.zip'],
    ['DELETE', '/api/backups/one.zip'],
    ['POST', '/api/backups'],
  ])
    assert.equal((await server.request(method, path)).status, 401, `${method} ${path}`);
  assert.equal(
    (await server.request('GET', '/api/backups/..%2Fdata.db', undefined, { token })).status,
    404,
  );
});

test('a backup brings the data back as it was, and the newer data is kept aside', async (t) => {
  const folder = await temporaryFolder(t);
  const { server, token } = await serverWithPost(t, folder);
  const head = (await server.request('GET', '/api/events?order=desc&limit=1', undefined, { token }))
    .body.head;
  const file = join(folder, 'one.zip');
  const made = JSON.parse(await runWell(['backup', file, '--data', server.data, '--json']));
  assert.equal(made.size, (await stat(file)).size);
  assert.equal((await server.request('POST', '/posts', { title: 'second' })).status, 200);
  await server.stop();

  const restored = JSON.parse(await runWell(['restore', file, '--data', server.data, '--json']));
  assert.ok((await readdir(restored.before)).includes('data.db'));
  const second = await startServer(t, { folder });
  assert.deepEqual(await titles(second), ['first']);
  const again = await signIn(second);
  const stale = await second.request('GET', `/api/events?after=${head}`, undefined, {
    token: again,
  });
  assert.equal(stale.status, 409, 'a cursor of the history before the restore is refused');
  assert.equal((await second.request('POST', '/posts', { title: 'third' })).status, 200);
});

test('backups made before a restore are still there after it', async (t) => {
  const folder = await temporaryFolder(t);
  const { server, token } = await serverWithPost(t, folder);
  await server.request('POST', '/api/backups', { name: 'one.zip' }, { token });
  await server.stop();
  const directory = join(server.data, 'tenants/default');
  await runWell(['restore', join(directory, 'backups/one.zip'), '--data', server.data]);
  assert.deepEqual(await readdir(join(directory, 'backups')), ['one.zip']);
  assert.deepEqual((await readdir(join(server.data, 'tenants'))).sort(), ['default']);
});

test('a stopped directory is backed up too, and nothing is overwritten', async (t) => {
  const folder = await temporaryFolder(t);
  const { server } = await serverWithPost(t, folder);
  await server.stop();
  const file = join(folder, 'one.zip');
  await runWell(['backup', file, '--data', server.data]);
  const twice = await run(['backup', file, '--data', server.data]);
  assert.equal(twice.code, 1);
  assert.match(twice.stderr, /exists already/);
});

test('what is no backup, or a damaged one, changes nothing', async (t) => {
  const folder = await temporaryFolder(t);
  const { server } = await serverWithPost(t, folder);
  const good = join(folder, 'good.zip');
  await runWell(['backup', good, '--data', server.data]);
  await server.stop();
  const before = await readFile(join(server.data, 'tenants/default/data.db'));
  const bytes = await readFile(good);

  await writeFile(join(folder, 'text.zip'), 'no zip at all');
  await writeFile(join(folder, 'short.zip'), bytes);
  await truncate(join(folder, 'short.zip'), Math.floor(bytes.length / 2));
  const flipped = Buffer.from(bytes);
  flipped[Math.floor(bytes.length / 2)] ^= 0xff;
  await writeFile(join(folder, 'flipped.zip'), flipped);
  for (const name of ['text.zip', 'short.zip', 'flipped.zip', 'missing.zip']) {
    const { code, stderr } = await run(['restore', join(folder, name), '--data', server.data]);
    assert.equal(code, 1, name);
    assert.match(stderr, new RegExp(name));
    assert.equal(/incomplete, its end is missing/.test(stderr), name === 'short.zip', stderr);
  }
  assert.ok(before.equals(await readFile(join(server.data, 'tenants/default/data.db'))));
  assert.deepEqual((await readdir(join(server.data, 'tenants'))).sort(), ['default']);
});

test('a backup goes into another tenant, or a new one, only when told so', async (t) => {
  const folder = await temporaryFolder(t);
  const { server, token } = await serverWithPost(t, folder);
  const file = join(folder, 'one.zip');
  await server.request('POST', '/api/tenants', { name: 'acme' }, { token });
  await runWell(['backup', file, '--data', server.data]);
  await server.stop();
  const restore = (...args) => run(['restore', file, '--data', server.data, ...args]);
  const other = await restore('--tenant', 'acme');
  assert.equal(other.code, 1);
  assert.match(other.stderr, /is a backup of the tenant default.*--from-tenant/);
  const missing = await restore('--tenant', 'copy');
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /there is no tenant copy.*--from-tenant/);
  assert.deepEqual((await readdir(join(server.data, 'tenants'))).sort(), ['acme', 'default']);
  for (const name of ['acme', 'copy'])
    assert.equal((await restore('--tenant', name, '--from-tenant', 'default')).code, 0);
  const second = await startServer(t, { folder });
  for (const tenant of ['acme', 'copy']) {
    const answer = await second.request('GET', '/posts', undefined, { tenant });
    assert.deepEqual(
      answer.body.items.map(({ title }) => title),
      ['first'],
    );
  }
});

test('a restore is an event, told once, in the history that it begins', async (t) => {
  const folder = await temporaryFolder(t);
  const { server } = await serverWithPost(t, folder);
  const file = join(folder, 'one.zip');
  await runWell(['backup', file, '--data', server.data]);
  await server.stop();
  await runWell(['restore', file, '--data', server.data]);
  for (let start = 0; start < 2; start++) {
    const next = await startServer(t, { folder });
    const token = await signIn(next);
    const { body } = await next.request('GET', '/api/events?types=backup.restored', undefined, {
      token,
    });
    assert.deepEqual(
      body.events.map(({ payload }) => payload),
      [{ key: 'one.zip' }],
    );
    await next.stop();
  }
});

test('a restore that is killed has happened or has not, and a start tidies up', async (t) => {
  const folder = await temporaryFolder(t);
  const { server } = await serverWithPost(t, folder);
  const file = join(folder, 'one.zip');
  await runWell(['backup', file, '--data', server.data]);
  await server.request('POST', '/posts', { title: 'second' });
  await server.stop();
  const expected = { before: ['first', 'second'], after: ['first'] };
  for (const place of ['before', 'after']) {
    const env = { BAKEND_FAILPOINT: `backups.${place}_exchange:kill` };
    const killed = await run(['restore', file, '--data', server.data], { env });
    assert.equal(killed.signal, 'SIGKILL');
    const next = await startServer(t, { folder });
    assert.deepEqual((await titles(next)).sort(), expected[place]);
    assert.deepEqual(await readdir(join(server.data, 'tenants')), ['default']);
    await next.stop();
  }
});

test('an interrupted restore is finished before the tenant is opened', async (t) => {
  const folder = await temporaryFolder(t);
  const { server } = await serverWithPost(t, folder);
  const file = join(folder, 'one.zip');
  await runWell(['backup', file, '--data', server.data]);
  await server.logged('ready');
  await server.stop();
  const directory = join(server.data, 'tenants/default');
  const env = { BAKEND_FAILPOINT: 'backups.after_exchange:kill' };
  assert.equal((await run(['restore', file, '--data', server.data], { env })).signal, 'SIGKILL');
  const next = await startServer(t, { folder });
  await next.logged('restore_finished');
  const open = await readdir(`/proc/${next.pid}/fd`);
  const files = await Promise.all(
    open.map((fd) => readlink(`/proc/${next.pid}/fd/${fd}`).catch(() => '')),
  );
  const ours = files.filter((path) => path.includes('/tenants/'));
  assert.ok(ours.includes(join(directory, 'data.db')));
  for (const path of ours) assert.doesNotMatch(path, /before-restore|deleted|restoring/);
});
