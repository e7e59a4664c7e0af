/**
 * The real program under valgrind's memcheck, through all that it serves: no invalid access, no use
 * of what was never written, and nothing lost when it ends.
 *
 * Only with BAKEND_LONG=1, where valgrind is installed, and with a build without sanitizers, which
 * do the same by other means and do not go together with it.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { binary } from '../support/program.mjs';
import { isSanitized } from './support/build.mjs';

const ERROR_CODE = 99;
const options = [
  `--error-exitcode=${ERROR_CODE}`,
  '--quiet',
  '--leak-check=full',
  '--errors-for-leak-kinds=definite',
  '--fair-sched=yes',
  '--num-callers=30',
];

function whyNot() {
  if (process.env.BAKEND_LONG !== '1') return 'only with BAKEND_LONG=1';
  if (spawnSync('valgrind', ['--version']).status !== 0) return 'valgrind is not installed';
  if (isSanitized()) return 'the program is built with a sanitizer';
  return false;
}

const skip = whyNot();
const folder = mkdtempSync(join(tmpdir(), 'bakend-valgrind-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** A program in the place of the real one, so that the helpers start each of its lives alike. */
function wrap() {
  const path = join(folder, 'bakend');
  const log = join(folder, 'log.%p');
  const command = ['valgrind', ...options, `--log-file=${log}`, binary].map((each) => `'${each}'`);
  writeFileSync(path, `#!/bin/sh\nexec ${command.join(' ')} "$@"\n`);
  chmodSync(path, 0o755);
  return path;
}

const complaints = () =>
  readdirSync(folder)
    .filter((name) => name.startsWith('log.'))
    .map((name) => readFileSync(join(folder, name), 'utf8'))
    .join('');

/** The helpers of the other tests, with the wrapped program: they read BAKEND when they load. */
async function loadHelpers() {
  process.env.BAKEND = wrap();
  const again = '?under=valgrind';
  const program = await import(`../support/program.mjs${again}`);
  return program;
}

/* --- what is done ----------------------------------------------------------------------------- */

const definition = {
  name: 'things',
  type: 'base',
  listRule: '',
  viewRule: '',
  createRule: '',
  updateRule: '',
  deleteRule: '',
  fields: [
    { name: 'title', type: 'text', required: true },
    { name: 'value', type: 'number' },
    { name: 'extra', type: 'json' },
  ],
};

async function signIn(program, server) {
  await program.runWell(['superuser', 'create', 'operator@example.com', '--data', server.data], {
    input: 'correct horse 1\n',
  });
  const answer = await server.request('POST', '/api/collections/_superusers/auth-with-password', {
    identity: 'operator@example.com',
    password: 'correct horse 1',
  });
  assert.equal(answer.status, 200, answer.text);
  return answer.body.token;
}

/** Asks and expects a status. */
const asker = (server, token) => async (status, method, path, body, more) => {
  const answer = await server.request(method, path, body, { token, ...more });
  assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`);
  return answer.body;
};

async function records(ask) {
  await ask(200, 'POST', '/api/collections', definition);
  for (let i = 0; i < 40; i++)
    await ask(200, 'POST', '/things', { title: `title ${i}`, value: i, extra: { list: [i] } });
  await ask(400, 'POST', '/things', { value: 'x' });
  await ask(400, 'POST', '/things', '{"title":');
  const first = await ask(200, 'GET', '/things?sort=value&perPage=20&fields=id,title');
  const next = await ask(200, 'GET', '/things?cursor=&perPage=15');
  await ask(200, 'GET', `/things?cursor=${next.nextCursor}&perPage=15`);
  const { id } = first.items[0];
  await ask(200, 'GET', `/things/${id}`);
  await ask(200, 'PATCH', `/things/${id}`, { value: 7 });
  await ask(204, 'DELETE', `/things/${id}`);
  await ask(404, 'GET', `/things/${id}`);
  const fields = [...definition.fields, { name: 'more', type: 'text' }];
  await ask(200, 'PATCH', '/api/collections/things', { fields });
  await ask(200, 'GET', '/api/openapi.json');
}

async function feed(ask) {
  const { next } = await ask(200, 'GET', '/api/events?after=start&limit=10');
  await ask(200, 'GET', `/api/events?after=${next}&types=things.*,*.deleted`);
  await ask(200, 'GET', '/api/events?order=desc&limit=5');
  await ask(400, 'GET', '/api/events?after=nonsense');
  const waiting = ask(200, 'GET', '/api/events?after=now&wait=30');
  await new Promise((resolve) => setTimeout(resolve, 300));
  await ask(200, 'POST', '/things', { title: 'awaited' });
  assert.equal((await waiting).events.length, 1);
  await ask(200, 'PUT', '/api/consumers/reader', { types: ['things.*'], after: 'start' });
  const page = await ask(200, 'POST', '/api/consumers/reader/poll', { limit: 5 });
  await ask(200, 'POST', '/api/consumers/reader/commit', { cursor: page.next });
}

async function realtime(server, token, ask) {
  const { Listener } = await import('../support/realtime.mjs');
  const listener = await Listener.connect(server, { token });
  await listener.subscribe({ types: ['things.*'], after: 'start' });
  const stream = await fetch(`${server.url}/api/realtime`);
  const reader = stream.body.getReader();
  const first = new TextDecoder().decode((await reader.read()).value);
  const [, clientId] = /^id:(\w+)/.exec(first);
  await ask(204, 'POST', '/api/realtime', { clientId, subscriptions: ['things/*'] });
  const events = await fetch(`${server.url}/api/events?after=start`, {
    headers: { accept: 'text/event-stream', authorization: token },
  });
  const before = listener.events.length;
  await ask(200, 'POST', '/things', { title: 'live' });
  for (let i = 0; i < 500 && listener.events.length === before; i++)
    await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(listener.events.length > before, 'an event came live');
  assert.match(new TextDecoder().decode((await reader.read()).value), /event:things/);
  await listener.close();
  await reader.cancel();
  return { events, left: await Listener.connect(server, { token }) };
}

/** All ways in that take no mail and no provider, and who comes in by a key. */
async function accounts(server, ask) {
  const login = { identity: 'ann@example.com', password: 'correct horse 2' };
  const both = { password: login.password, passwordConfirm: login.password };
  const users = '/api/collections/users';
  const { id } = await ask(200, 'POST', `${users}/records`, { email: login.identity, ...both });
  const { token } = await ask(200, 'POST', `${users}/auth-with-password`, login);
  await ask(400, 'POST', `${users}/auth-with-password`, { ...login, password: 'wrong' });
  const asAnn = asker(server, token);
  await asAnn(200, 'POST', `${users}/auth-refresh`);
  for (const spoilt of [`${token}x`, token.slice(0, -5), 'bk_default_x', 'a.b.c'])
    await asker(server, spoilt)(401, 'POST', `${users}/auth-refresh`);
  await ask(200, 'POST', `${users}/impersonate/${id}`, { duration: 60 });
  await ask(204, 'POST', `${users}/request-verification`, { email: login.identity });
  await ask(204, 'POST', `${users}/request-password-reset`, { email: login.identity });
  await ask(400, 'POST', `${users}/confirm-password-reset`, { token, ...both });
  const key = await ask(200, 'POST', '/api/api-keys', { name: 'one', scopes: ['records:read'] });
  await asker(server, key.key)(200, 'GET', '/things');
}

/** A delivery of each format arrives, one is tried again, a secret is rotated, all is sent again. */
async function webhooks(t, ask) {
  const { startReceiver } = await import('../support/webhooks.mjs');
  const receiver = await startReceiver(t);
  const refusing = await startReceiver(t, {
    answer: () => ({ status: 503, headers: { 'retry-after': '120' }, body: Buffer.from([0xff, 0]) }),
  });
  const common = { types: ['things.created'], filter: 'payload.title ~ "sent"', headers: { 'x-a': 'b' } };
  const made = [];
  for (const format of ['standard', 'cloudevents', 'cloudevents-binary'])
    made.push(await ask(200, 'POST', '/api/webhooks', { ...common, url: receiver.url, format, ed25519: true }));
  made.push(await ask(200, 'POST', '/api/webhooks', { ...common, url: refusing.url, ordered: true }));
  await ask(200, 'POST', '/things', { title: 'sent' });
  await receiver.until('three deliveries', (deliveries) => deliveries.length >= 3);
  await refusing.until('an attempt', (deliveries) => deliveries.length >= 1);
  const [{ id }] = made;
  await ask(200, 'POST', `/api/webhooks/${id}/test`);
  await ask(200, 'POST', `/api/webhooks/${id}/rotate`);
  await ask(202, 'POST', `/api/webhooks/${id}/replay`, { after: 'start' });
  await receiver.until('the same again', (deliveries) => deliveries.length >= 5);
  await ask(200, 'GET', `/api/webhooks/${id}/stats`);
  await ask(200, 'PATCH', `/api/webhooks/${id}`, { enabled: false });
  await ask(204, 'DELETE', `/api/webhooks/${made[1].id}`);
}

async function backup(program, server, ask) {
  await ask(204, 'POST', '/api/backups', { name: 'one.zip' });
  assert.equal((await ask(200, 'GET', '/api/backups')).length, 1);
  await ask(200, 'GET', '/api/backups/one.zip');
  await ask(200, 'POST', '/api/tenants', { name: 'acme' });
  await ask(200, 'POST', '/api/collections', definition, { tenant: 'acme' });
  await ask(204, 'DELETE', '/api/tenants/acme?confirm=acme');
  await program.runWell(['doctor', '--data', server.data]);
}

test('memcheck finds nothing in a life of the server', { skip, timeout: 600_000 }, async (t) => {
  const program = await loadHelpers();
  const data = await program.temporaryFolder(t);
  const args = ['--webhooks-allow', '127.0.0.1/32'];
  const server = await program.startServer(t, { folder: data, args });
  const token = await signIn(program, server);
  const ask = asker(server, token);
  await records(ask);
  await feed(ask);
  const open = await realtime(server, token, ask);
  await accounts(server, ask);
  await webhooks(t, ask);
  await backup(program, server, ask);
  await server.stop().catch((error) => assert.fail(`${error.message}\n${complaints()}`));
  assert.equal(await open.left.closed, 4000);
  const again = await program.startServer(t, { folder: data, args });
  await again.stop().catch((error) => assert.fail(`${error.message}\n${complaints()}`));
  assert.equal(complaints(), '');
  const { promise } = await import('../support/promise.mjs');
  promise(t, 'memcheck', 'two lives of the server and its commands, 0 errors, 0 definite leaks');
});
