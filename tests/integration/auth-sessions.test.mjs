/** Sessions: a row for each sign-in, what ends them, and that an ended one is worthless at once. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import PocketBase from 'pocketbase';
import { preload } from './reliability/support/machine.mjs';
import { readFeed } from './support/feed.mjs';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { runWell, startServer, temporaryFolder } from './support/program.mjs';
import { Listener } from './support/realtime.mjs';
import { open, recordsPath } from './support/records.mjs';
import { operatorToken } from './support/superuser.mjs';
import { requestText, Wire } from './support/wire.mjs';

const password = 'secret-1234';
const both = (text) => ({ password: text, passwordConfirm: text });
const guest = { token: undefined };
const part = (token, index) => JSON.parse(Buffer.from(token.split('.')[index], 'base64url'));
const claimsOf = (token) => part(token, 1);
const sidOf = (token) => part(token, 0).sid;
const users = (action) => `/api/collections/users/${action}`;
/** Of fetch: Node 18 has another name for itself. */
const userAgent = process.versions.node.startsWith('18.') ? 'undici' : 'node';
const HOUR_S = 3600;
const YEAR_S = 365 * 24 * HOUR_S;

/** A server with a user Ann, and what most tests do with it. */
async function withAnn(t) {
  const api = await operator(t);
  const ann = await api.create('users', { email: 'ann@example.com', ...both(password) });
  const signIn = async (secret = password) => {
    const body = { identity: 'ann@example.com', password: secret };
    const answer = await api.post(users('auth-with-password'), body, guest);
    assert.equal(answer.status, 200, answer.text);
    return answer.body.token;
  };
  return {
    ...api,
    ann,
    signIn,
    /** A session without the time that a password takes. */
    impersonate: async (rest = {}) =>
      (await api.post(users(`impersonate/${ann.id}`), rest)).body.token,
    /** Whether the token is good: a guest sees nobody. */
    isGood: async (token) => (await api.get(recordsPath('users'), { token })).body.totalItems === 1,
    sessionsOf: async (token) => (await api.get('/api/sessions', { token })).body.items,
    events: async (type) =>
      (await readFeed(api.server, api.token)).events.filter((event) => event.type === type),
  };
}

test('a session', async (t) => {
  const api = await withAnn(t);
  const client = new PocketBase(api.server.url);
  client.autoCancellation(false);
  await client.collection('users').authWithPassword('ann@example.com', password);
  const sid = sidOf(client.authStore.token);

  await t.test('is a row that its owner sees, and no other', async () => {
    const { items } = await client.collection('_sessions').getList();
    assert.equal(items.length, 1);
    const [{ created, lastUsed, expires, ...rest }] = items;
    assert.deepEqual(rest, {
      collectionId: rest.collectionId,
      collectionName: '_sessions',
      id: sid,
      collectionRef: '_pb_users_auth_',
      recordRef: api.ann.id,
      method: 'password',
      remoteAddress: '127.0.0.1',
      userAgent,
      impersonator: '',
    });
    assert.equal(created, lastUsed);
    assert.equal(Date.parse(expires) / 1000, claimsOf(client.authStore.token).exp);
    assert.deepEqual(
      (await api.get(`/api/sessions/${sid}`, { token: client.authStore.token })).body,
      items[0],
    );
    assert.ok((await api.sessionsOf(api.token)).length >= 2, 'superusers see all');
    assertRefused(await api.get('/api/sessions', guest), 401);
    await api.create('users', { email: 'bob@example.com', ...both(password) });
    const bob = new PocketBase(api.server.url);
    await bob.collection('users').authWithPassword('bob@example.com', password);
    assert.equal((await bob.collection('_sessions').getList()).items.length, 1);
    const own = { token: bob.authStore.token };
    assertRefused(await api.get(`/api/sessions/${sid}`, own), 404);
    assertRefused(await api.remove(`/api/sessions/${sid}`, own), 404);
  });

  await t.test('is written here alone, and told of with auth.login', async () => {
    assertRefused(await api.post(recordsPath('_sessions'), {}), 400);
    assertRefused(await api.patch(recordsPath('_sessions', sid), { expires: '' }), 400);
    assertRefused(await api.remove(recordsPath('_sessions', sid)), 400);
    const logins = await api.events('auth.login');
    assert.equal(logins.find(({ payload }) => payload.session === sid).payload.method, 'password');
  });

  await t.test('goes on with a new token', async () => {
    const before = await client.collection('_sessions').getOne(sid);
    const renewed = await Promise.all(
      Array.from({ length: 100 }, () => client.collection('users').authRefresh()),
    );
    for (const { token } of renewed) assert.equal(sidOf(token), sid);
    const after = await client.collection('_sessions').getOne(sid);
    assert.ok(after.expires >= before.expires);
    assert.equal((await client.collection('_sessions').getList()).items.length, 1);
  });

  await t.test('of an impersonation says whose', async () => {
    const token = await api.impersonate({ duration: 100 });
    const { body } = await api.get(`/api/sessions/${sidOf(token)}`);
    assert.deepEqual([body.method, body.impersonator], [
      'impersonation',
      `_superusers/${claimsOf(api.token).id}`,
    ]);
    const printed = await runWell(
      ['superuser', 'token', 'operator@example.com', '--data', api.server.data],
    );
    const named = (await api.get(`/api/sessions/${sidOf(printed.trim())}`)).body;
    assert.equal(named.impersonator, 'system');
  });

  await t.test('is bounded: of too many the first one ends', async () => {
    const first = await api.impersonate();
    for (let i = 0; i < 10; i++)
      await Promise.all(Array.from({ length: 10 }, () => api.impersonate()));
    assert.equal(await api.isGood(first), false);
    assert.equal((await api.get(
      `/api/sessions?perPage=500&filter=(recordRef='${api.ann.id}')`)).body.totalItems, 100);
    const ended = await api.events('auth.session_revoked');
    assert.ok(ended.some(({ payload }) =>
      payload.session === sidOf(first) && payload.reason === 'limit'));
  });
});

test('who signs in while collections are changed all the time gets in', async (t) => {
  const api = await withAnn(t);
  let isOver = false;
  const change = (async () => {
    for (let i = 0; !isOver; i++) {
      await api.define({ name: `passing_${i}`, fields: [] });
      assert.equal((await api.remove(`/api/collections/passing_${i}`)).status, 204);
    }
  })();
  for (let i = 0; i < 8; i++) await api.signIn();
  isOver = true;
  await change;
});

test('a session ends', async (t) => {
  const api = await withAnn(t);

  await t.test('by signing out, this one or all', async () => {
    const [one, two, three] = [await api.signIn(), await api.impersonate(), await api.impersonate()];
    const logout = (token, body) => api.post(users('auth-logout'), body, { token });
    assert.ok((await api.isGood(one)) && (await api.isGood(two)));
    assert.equal((await logout(one)).status, 204);
    assert.deepEqual([await api.isGood(one), await api.isGood(two)], [false, true]);
    assertRefused(await api.post(users('auth-refresh'), {}, { token: one }), 401);
    assertRefused(await logout(one), 401);
    assertRefused(await logout(api.token), 403);
    assertProblems(await logout(two, { all: 1 }), { all: 'validation_invalid_type' });
    assert.equal((await logout(two, { all: true })).status, 204);
    assert.deepEqual([await api.isGood(two), await api.isGood(three)], [false, false]);

    const told = (await api.events('auth.logout')).map(({ payload, actor, subject }) => [
      payload.session, payload.remoteAddress, payload.userAgent, actor, subject,
    ]);
    const own = `users/${api.ann.id}`;
    assert.deepEqual(told, [one, two].map((token) =>
      [sidOf(token), '127.0.0.1', userAgent, own, own]));
    const [revoked] = await api.events('auth.session_revoked');
    assert.deepEqual([revoked.payload.session, revoked.payload.reason],
      [sidOf(three), 'logout']);
  });

  await t.test('before the next request is judged that was sent along', async () => {
    const token = await api.impersonate();
    assert.equal(await api.isGood(token), true, 'it is in the cache');
    const wire = await Wire.open(api.server.port);
    const headers = { Authorization: token };
    const ask = (method, path, body) => requestText(method, path, body, headers);
    const looks = Array(3).fill(ask('GET', '/api/sessions'));
    wire.write(Buffer.concat([ask('POST', users('auth-logout'), {}), ...looks]));
    const statuses = [];
    for (let i = 0; i < 4; i++) statuses.push((await wire.answer()).status);
    wire.destroy();
    assert.deepEqual(statuses, [204, 401, 401, 401]);
  });

  await t.test('when its owner or a superuser ends it', async () => {
    const [one, two, three] = [await api.impersonate(), await api.impersonate(), await api.impersonate()];
    const end = (token, by) => api.remove(`/api/sessions/${sidOf(token)}`, { token: by });
    assert.equal((await end(one, two)).status, 204);
    assert.equal(await api.isGood(one), false);
    assertRefused(await end(one, two), 404);
    assert.equal((await end(two, api.token)).status, 204);
    assert.equal(await api.isGood(two), false);
    const four = await api.impersonate();
    assert.equal((await api.remove('/api/sessions', { token: four })).status, 204);
    assert.deepEqual([await api.isGood(three), await api.isGood(four)], [false, true]);
    assertRefused(await api.remove('/api/sessions', guest), 401);
    assert.equal(await api.isGood(four), true, 'a superuser ends only their own that way');
    assert.equal((await api.get('/api/settings')).status, 200, 'and goes on');
  });

  await t.test('with a new password, whoever sets it, and with its record', async () => {
    const token = await api.signIn();
    const path = recordsPath('users', api.ann.id);
    const body = { oldPassword: password, ...both('another-1234') };
    assert.equal((await api.patch(path, body, { token })).status, 200);
    assert.equal(await api.isGood(token), false);
    assert.equal((await api.sessionsOf(api.token)).some(
      ({ recordRef }) => recordRef === api.ann.id), false);
    const again = await api.signIn('another-1234');
    assert.equal((await api.patch(path, { name: 'Ann' }, { token: again })).status, 200);
    assert.equal(await api.isGood(again), true, 'a name ends nothing');
    assert.equal((await api.remove(path)).status, 204);
    assert.equal(await api.isGood(again), false);
    const ended = await api.events('auth.session_revoked');
    const told = (sid) => ended.find(({ payload }) => payload.session === sid);
    assert.equal(told(sidOf(token)).payload.reason, 'password');
    assert.equal(told(sidOf(token)).payload.userAgent, userAgent);
    assert.equal(told(sidOf(again)).payload.reason, 'deleted');
    assert.equal(told(sidOf(again)).actor, `_superusers/${claimsOf(api.token).id}`);
  });

  await t.test('with all others of its collection, which is one event', async () => {
    const path = '/api/collections/members';
    const revoked = () => api.events('auth.sessions_revoked');
    const told = (reason) => [{ collection: 'members', reason, remoteAddress: '127.0.0.1', userAgent }];
    const { id } = await api.define({ name: 'members', type: 'auth', ...open });
    const members = [];
    for (const email of ['m1@example.com', 'm2@example.com'])
      members.push(await api.create('members', { email, ...both(password) }));
    const newSecret = () => ({ authToken: { secret: 'x'.repeat(40) + members.pop().id } });
    const lend = async () =>
      (await api.post(`${path}/impersonate/${members[0].id}`, {})).body.token;
    const isGood = async (token) => (await api.post(`${path}/auth-refresh`, {}, { token })).status === 200;
    const token = await lend();
    const listener = await Listener.connect(api.server, { token });
    await listener.subscribe({ types: ['members.*'] });
    assert.equal((await api.patch(path, { createRule: null })).status, 200);
    assert.deepEqual(await revoked(), [], 'not for any change');
    assert.equal(await isGood(token), true);
    assert.equal((await api.patch(path, newSecret())).status, 200);
    await api.patch(recordsPath('members', members[0].id), { emailVisibility: true });
    assert.equal(await isGood(token), false);
    assert.equal(await listener.closed, 4501);
    assert.deepEqual(listener.events, [], 'closed with the answer, before anything else happens');
    const [event, ...others] = await revoked();
    assert.deepEqual(others, []);
    assert.deepEqual([event.payload], told('secret'));
    assert.equal(event.subject, `_collections/${id}`);
    assert.equal(event.actor, `_superusers/${claimsOf(api.token).id}`);
    await lend();
    assert.equal((await api.remove(path)).status, 204);
    assert.deepEqual((await revoked()).slice(1).map(({ payload }) => payload), told('deleted'));
  });

  await t.test('when its time is over, and then its row goes', async () => {
    const bob = await api.create('users', { email: 'bob@example.com', ...both(password) });
    const { token } = (await api.post(users(`impersonate/${bob.id}`), { duration: 1 })).body;
    while (await api.isGood(token)) await sleep(100);
    const isThere = async () =>
      (await api.get(`/api/sessions/${sidOf(token)}`)).status === 200;
    assert.equal(await isThere(), true);
    while (await isThere()) {
      assert.equal((await api.post('/api/crons/auth-sweep')).status, 204);
      await sleep(100);
    }
    assert.equal((await api.get('/api/settings')).status, 200, 'those that live stay');
  });
});

test('accounts are told of, whatever door they come through', async (t) => {
  const api = await withAnn(t);
  const path = recordsPath('users', api.ann.id);
  await api.patch(path, { verified: true, email: 'ann2@example.com' });
  await api.patch(path, { verified: true, name: 'Ann' });
  const superuser = `_superusers/${claimsOf(api.token).id}`;
  for (const type of ['auth.register', 'auth.verified', 'auth.email_changed']) {
    const told = (await api.events(type)).filter(({ subject }) => subject === `users/${api.ann.id}`);
    assert.equal(told.length, 1, type);
    assert.equal(told[0].actor, superuser);
    assert.deepEqual(told[0].payload, {
      collection: 'users',
      id: api.ann.id,
      remoteAddress: '127.0.0.1',
      userAgent,
    });
  }
});

test('keys that sign', async (t) => {
  const api = await withAnn(t);
  const kid = (token) => part(token, 0).kid;
  const before = await api.impersonate();
  const other = (await api.post('/api/tenants', { name: 'other', superuser: { email: 'o@example.com', password } }));
  assert.equal(other.status, 200, other.text);

  await t.test('are rotated, and tokens of before go on', async () => {
    assertRefused(await api.post('/api/auth-keys/rotate', {}, guest), 401);
    assertRefused(await api.post('/api/auth-keys/rotate', {}, { token: before }), 403);
    assertProblems(await api.post('/api/auth-keys/rotate', { revoke: 1 }), {
      revoke: 'validation_invalid_type',
    });
    const { body } = await api.post('/api/auth-keys/rotate', {});
    assert.deepEqual(body, { number: 2, revoked: false });
    const after = await api.impersonate();
    assert.deepEqual([kid(before), kid(after)], ['default.1', 'default.2']);
    assert.ok((await api.isGood(before)) && (await api.isGood(after)));
    const renewed = await api.post(users('auth-refresh'), {}, { token: await api.signIn() });
    assert.equal(kid(renewed.body.token), 'default.2');
  });

  await t.test('each tenant has its own', async () => {
    const body = { identity: 'o@example.com', password };
    const path = '/api/collections/_superusers/auth-with-password';
    const { token } = (await api.post(path, body, { ...guest, tenant: 'other' })).body;
    assert.equal(kid(token), 'other.1');
    const moved = token.split('.');
    moved[0] = Buffer.from(JSON.stringify({ ...part(token, 0), kid: 'default.1' })).toString('base64url');
    assertRefused(await api.get('/api/settings', { token: moved.join('.') }), 401);
    moved[0] = Buffer.from(JSON.stringify({ ...part(token, 0), alg: 'none' })).toString('base64url');
    assertRefused(await api.get('/api/settings', { token: moved.join('.') }), 401);
  });

  await t.test('survive a restart, and one can refuse those of before', async () => {
    const token = await api.impersonate({ duration: 1000 });
    const printed = await runWell(['keys', 'rotate', '--revoke', '--data', api.server.data]);
    assert.equal(printed, 'tenant default signs with key 3\n');
    for (const dead of [before, token, api.token])
      assertRefused(await api.get('/api/sessions', { token: dead }), 401);
    await api.server.stop();
    const server = await startServer(t, { folder: api.server.folder });
    assertRefused(await server.request('GET', '/api/sessions', undefined, { token }), 401);
    const again = await operatorToken(server).catch((error) => error);
    assert.match(String(again), /ended with 1/, 'it is there already');
    const { events } = await readFeed(
      server,
      (await runWell(['superuser', 'token', 'operator@example.com', '--data', server.data])).trim(),
    );
    assert.deepEqual(
      events.filter(({ type }) => type === 'auth.keys_rotated').map(({ payload }) => payload),
      [{ number: 2, revoked: false }, { number: 3, revoked: true }],
    );
    const bulk = events.filter(({ type }) => type === 'auth.sessions_revoked');
    assert.deepEqual(
      bulk.map(({ payload: { collection, reason } }) => [collection, reason]).sort(),
      [['_superusers', 'keys'], ['users', 'keys']],
    );
  });
});

test('a clock that leaps makes no session immortal and ends none for good', async (t) => {
  const folder = await temporaryFolder(t);
  const clock = join(folder, 'clock');
  const setClock = async (seconds) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(seconds));
    await writeFile(clock, bytes, { flag: 'r+' }); // mapped: it must not be empty in between
  };
  await writeFile(clock, Buffer.alloc(8));
  const env = { ...(await preload(t, 'moved_clock')), BAKEND_TEST_CLOCK: clock };
  const server = await startServer(t, { folder, env });
  const own = await operatorToken(server);
  const isGood = async (token) =>
    (await server.request('GET', '/api/settings', undefined, { token })).status === 200;
  const make = async (duration) => {
    const path = `/api/collections/_superusers/impersonate/${claimsOf(own).id}`;
    const printed = ['superuser', 'token', 'operator@example.com', '--data', server.data];
    if (duration === undefined) return (await runWell(printed)).trim();
    return (await server.request('POST', path, { duration }, { token: own })).body.token;
  };
  const long = await make(20 * YEAR_S);
  for (const [leap, expected] of [[HOUR_S, [true, true]], [-HOUR_S, [true, true]],
    [10 * YEAR_S, [false, true]], [-10 * YEAR_S, [false, false]]]) {
    await setClock(leap);
    assert.deepEqual([await isGood(own), await isGood(long)], expected, `${leap} s`);
    await setClock(0);
    assert.deepEqual([await isGood(own), await isGood(long)], [true, true], `after ${leap} s`);
  }
  await setClock(10 * YEAR_S);
  const ahead = await make();
  assert.equal(await isGood(ahead), true);
  await setClock(0);
  assert.equal(await isGood(ahead), false, 'it would be good for ten years');
  await setClock(-10 * YEAR_S);
  const behind = await make();
  assert.equal(await isGood(behind), true);
  await setClock(0);
  assert.equal(await isGood(behind), false);
});

test('no impersonation survives whoever began it', async (t) => {
  const api = await withAnn(t);
  const eve = await api.create('_superusers', { email: 'eve@example.com', ...both(password) });
  const lend = async () => {
    const own = await api.post(`/api/collections/_superusers/impersonate/${eve.id}`, {});
    const body = { duration: YEAR_S };
    const lent = await api.post(users(`impersonate/${api.ann.id}`), body, { token: own.body.token });
    assert.equal(lent.status, 200, lent.text);
    return lent.body.token;
  };
  const other = await api.impersonate();
  const path = recordsPath('_superusers', eve.id);
  for (const end of [() => api.patch(path, both('another-1234')), () => api.remove(path)]) {
    const token = await lend();
    assert.equal(await api.isGood(token), true);
    const socket = await Listener.connect(api.server, { token });
    assert.ok((await end()).status < 300);
    assert.equal(await api.isGood(token), false);
    assert.equal(await socket.closed, 4501);
    const told = (await api.events('auth.session_revoked')).filter(
      ({ payload }) => payload.session === sidOf(token));
    assert.deepEqual(told.map(({ subject, payload }) => [subject, payload.reason]),
      [[`users/${api.ann.id}`, 'impersonator']]);
  }
  assert.equal(await api.isGood(other), true, 'those of others go on');
});
