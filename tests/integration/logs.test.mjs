/** What is logged, and what never is. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { readFeed } from './support/feed.mjs';
import { withHistory } from './support/history.mjs';
import { startServer } from './support/program.mjs';
import { recordsPath } from './support/records.mjs';
import { createSuperuser, password, signIn } from './support/superuser.mjs';

const execute = promisify(execFile);
const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** The lines of standard error with this name. */
const linesOf = (server, name) =>
  server.log
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
    .filter(({ event }) => event === name);

async function eventually(check, timeoutMs = 5000) {
  for (const until = Date.now() + timeoutMs; ;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > until) throw error;
    }
    await sleep(50);
  }
}

test('each event is one line of the log', async (t) => {
  const api = await withHistory(t);
  const { events } = await readFeed(api.server, api.token, { query: '&types=*,_*' });
  await eventually(() => {
    const lines = linesOf(api.server, 'event').filter(
      ({ sequence, tenant }) => sequence > 0 && tenant === 'default',
    );
    assert.deepEqual(
      lines.map(({ type, id, sequence, subject, actor, tenant, source }) => ({
        type,
        id,
        sequence,
        subject,
        actor,
        tenant,
        source,
      })),
      events.map(({ type, id, sequence, subject, actor, tenant, source }) => ({
        type,
        id,
        sequence,
        subject,
        actor,
        tenant,
        source,
      })),
    );
    for (const { time, level, payload } of lines) {
      assert.match(time, TIMESTAMP);
      assert.equal(level, 'info');
      assert.equal(payload, undefined, 'a payload may hold anything');
    }
  });
});

test('/api/logs', async (t) => {
  const api = await withHistory(t);
  await api.server.request('GET', '/nothing?token=secret-in-a-query&x=1', undefined, {
    headers: { 'user-agent': 'tester', referer: 'http://r.example/?password=secret-in-a-referer' },
  });
  const logs = (query = '') =>
    api.server.request('GET', `/api/logs${query}`, undefined, { token: api.token });
  const find = async (message) =>
    eventually(async () => {
      const { body } = await logs('?perPage=500&sort=-@rowid');
      const found = body.items.find((item) => item.message.startsWith(message));
      assert.ok(found, `a row ${message}`);
      return found;
    });

  await t.test('has a row for a request, in the shape of PocketBase', async () => {
    const row = await find('GET /nothing');
    assert.deepEqual(Object.keys(row).sort(), ['created', 'data', 'id', 'level', 'message']);
    assert.match(row.id, /^[a-z0-9]{15}$/);
    assert.match(row.created, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.equal(row.level, 8);
    const { data } = row;
    assert.deepEqual(
      [data.type, data.status, data.method, data.auth, data.userAgent, data.userIP, data.remoteIP],
      ['request', 404, 'GET', '', 'tester', '127.0.0.1', '127.0.0.1'],
    );
    assert.equal(typeof data.execTime, 'number');
    assert.equal(typeof data.error, 'string');
  });

  await t.test('shows no value that may be a secret', async () => {
    const row = await find('GET /nothing');
    assert.ok(!JSON.stringify(row).includes('secret-in'), JSON.stringify(row));
    assert.match(row.data.url, /x=1/);
  });

  await t.test('has a row for an event', async () => {
    const row = await find('posts.created');
    assert.equal(row.level, 0);
    assert.equal(row.data.type, 'event');
    assert.equal(row.data.source, 'collections');
  });

  await t.test('is a list: pages, sorting, one row by id, and figures by hour', async () => {
    const { body } = await logs('?perPage=3&sort=created');
    assert.equal(body.items.length, 3);
    assert.equal(body.totalPages, Math.ceil(body.totalItems / 3));
    const one = await logs(`/${body.items[0].id}`);
    assert.deepEqual(one.body, body.items[0]);
    assert.equal((await logs('/nobody000000000')).status, 404);
    const { body: stats } = await logs('/stats');
    assert.ok(stats.length >= 1);
    assert.match(stats[0].date, /^\d{4}-\d\d-\d\d \d\d:00:00\.000Z$/);
    assert.ok(stats[0].total > 0);
  });

  await t.test('does not fill itself with requests for logs', async () => {
    const { body } = await logs('?perPage=500');
    assert.ok(!body.items.some(({ message }) => message.includes('/api/logs')));
  });
});

test('no secret comes into an event, a log or the database in plain', async (t) => {
  const server = await startServer(t);
  const secrets = {
    first: 'canary one 4e8b2f',
    second: 'canary two 77ac01',
    wrong: 'canary three 9d',
  };
  await createSuperuser(server, { password: secrets.first });
  const token = await signIn(server, { password: secrets.first });
  const wrong = await server.request('POST', '/api/collections/_superusers/auth-with-password', {
    identity: 'operator@example.com',
    password: secrets.wrong,
  });
  assert.equal(wrong.status, 400);
  const { body: list } = await server.request('GET', recordsPath('_superusers'), undefined, {
    token,
  });
  const changed = await server.request(
    'PATCH',
    recordsPath('_superusers', list.items[0].id),
    { password: secrets.second, passwordConfirm: secrets.second },
    { token },
  );
  assert.equal(changed.status, 200, changed.text);
  const refused = await server.request(
    'POST',
    recordsPath('_superusers'),
    { email: 'x@example.com', password: secrets.wrong, passwordConfirm: `${secrets.wrong}!` },
    { token: await signIn(server, { password: secrets.second }) },
  );
  assert.equal(refused.status, 400);

  await t.test('the answers about a superuser do not have them', () => {
    for (const { text } of [{ text: JSON.stringify(list) }, changed, wrong, refused]) {
      assert.ok(!text.includes('canary'), text);
      assert.ok(!/"(password|tokenKey)":"/.test(text), text);
    }
  });

  await t.test('the new password ends the old token', async () => {
    assert.equal((await server.request('GET', '/api/events', undefined, { token })).status, 401);
  });

  const fresh = await signIn(server, { password: secrets.second });
  const answer = await server.request('GET', '/api/events?types=*,_*&limit=1000', undefined, {
    token: fresh,
  });

  await t.test('the feed has the changes of the superuser and the logins, without secrets', () => {
    const types = answer.body.events.map(({ type }) => type);
    for (const type of ['_superusers.created', '_superusers.updated', 'auth.login'])
      assert.ok(types.includes(type), type);
    assert.ok(!answer.text.includes('canary'));
    assert.ok(!/"(password|tokenKey|token)":/.test(answer.text), answer.text);
    assert.ok(!answer.text.includes('$argon2'));
    for (const secret of [token, fresh])
      assert.ok(!answer.text.includes(secret.split('.')[2]), 'no signature of a token');
  });

  await t.test('nor do /api/logs and standard error', async () => {
    const { text } = await eventually(async () => {
      const logs = await server.request('GET', '/api/logs?perPage=1000', undefined, {
        token: fresh,
      });
      assert.ok(logs.text.includes('auth-with-password'), 'the logins are in the logs');
      return logs;
    });
    for (const where of [text, server.log.join('\n')]) {
      assert.ok(!where.includes('canary') && !where.includes('$argon2'));
      for (const secret of [token, fresh]) assert.ok(!where.includes(secret.split('.')[2]));
    }
  });

  await t.test('and no file of the directory has a password', async () => {
    await server.stop();
    const { stdout } = await execute('grep', ['-rlaF', 'canary', server.data]).catch(
      ({ code, stdout: out }) => {
        assert.equal(code, 1, 'grep has looked');
        return { stdout: out };
      },
    );
    assert.equal(stdout, '');
    assert.ok(!server.log.join('\n').includes(password));
  });
});
