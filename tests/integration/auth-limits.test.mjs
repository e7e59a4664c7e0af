/**
 * How often somebody may ask (rateLimits of the settings), from where superusers may, and how often one may be
 * wrong about a password. Addresses are those that a trusted proxy names, so that one test has many.
 */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { test } from 'node:test';
import { readFeed } from './support/feed.mjs';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { runWell } from './support/program.mjs';
import { Listener } from './support/realtime.mjs';
import { open, recordsPath } from './support/records.mjs';
import { eventually } from './support/smtp.mjs';

const PASSWORD = 'secret-1234';
const PROXY = ['--trusted-proxies', '127.0.0.1/32'];
const posts = recordsPath('posts');
/** As a guest, or as token, from an address. */
const from = (address, options = {}) => ({ token: undefined, ...options, headers: { 'x-forwarded-for': address } });

/** The way back in: resolves with the status. */
const setAtSocket = (socketPath, settings) =>
  new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json' };
    request({ socketPath, method: 'PATCH', path: '/api/settings', headers }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode));
    })
      .on('error', reject)
      .end(JSON.stringify(settings));
  });

const limit = (api, rules, rest = {}) =>
  api.patch('/api/settings', {
    batch: { enabled: true, maxRequests: 50 },
    rateLimits: { enabled: true, excludedIPs: [], rules: rules.map((rule) => ({ audience: '', ...rule })), ...rest },
  });

function assertLimited(answer, secondsMax, why) {
  assertRefused(answer, 429);
  const seconds = Number(answer.headers.get('retry-after'));
  assert.equal(answer.body.message, why ? `${why}: try again in ${seconds} s.` : 'Too Many Requests.');
  assert.ok(seconds >= 1 && seconds <= secondsMax, `waits ${seconds} s`);
}

const statusesOf = (answers) => answers.map(({ status }) => status);

async function addUser(api, name) {
  const email = `${name}@example.com`;
  const user = await api.create('users', { email, password: PASSWORD, passwordConfirm: PASSWORD });
  return { email, ...user };
}

const signIn = (api, identity, password, options, collection = 'users') =>
  api.post(`/api/collections/${collection}/auth-with-password`, { identity, password }, options);

async function inTurn(count, ask) {
  const answers = [];
  for (let i = 0; i < count; i++) answers.push(await ask(i));
  return answers;
}

async function metric(api, name) {
  const { text } = await api.get('/metrics');
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)[1]);
}

test('rate limits of the settings', async (t) => {
  const api = await operator(t, { args: PROXY });
  const { id } = await api.define({ name: 'posts', ...open, fields: [{ name: 'title', type: 'text' }] });
  await api.define({ name: 'books', ...open, fields: [{ name: 'title', type: 'text' }] });
  const list = (options, collection = 'posts') => api.get(recordsPath(collection), options);

  await t.test('a client that asks too often is told when to come back, and nobody else is', async () => {
    await limit(api, [{ label: '*:list', duration: 60, maxRequests: 3 }]);
    const guest = from('192.0.2.1');
    assert.deepEqual(statusesOf(await inTurn(3, () => list(guest))), [200, 200, 200]);
    assertLimited(await list(guest), 60);
    for (const path of [posts.replace('posts', id), posts.replace('posts', 'p%6fsts'), `${posts}?page=2`])
      assertLimited(await api.get(path, guest), 60);
    for (const other of ['192.0.2.2', '2001:db8:0:1::1']) assert.equal((await list(from(other))).status, 200);
    assert.equal((await list(guest, 'books')).status, 200, 'each collection has its own');
    assert.equal((await api.post(posts, {}, guest)).status, 200, 'as has each action');
    assert.equal((await list(from('192.0.2.1', { token: api.token }))).status, 200, 'superusers have none');
    assert.equal((await list({ ...guest, tenant: 'left' })).status, 200, 'and other tenants their own');
    await runWell(['superuser', 'list', '--data', api.server.data]);
  });

  await t.test('addresses of one network of IPv6 are one client', async () => {
    await limit(api, [{ label: '*:list', duration: 60, maxRequests: 2 }]);
    const answers = await inTurn(3, (i) => list(from(`2001:db8::${i}:1`)));
    assert.deepEqual(statusesOf(answers), [200, 200, 429]);
    assert.equal((await list(from('2001:db8:0:1::1'))).status, 200);
  });

  await t.test('the narrowest rule counts, and changed settings begin anew', async () => {
    const rules = [
      { label: '/api/', duration: 60, maxRequests: 1 },
      { label: '*:list', duration: 60, maxRequests: 2 },
      { label: 'posts:list', duration: 60, maxRequests: 3 },
    ];
    const guest = from('192.0.2.3');
    const allowed = async (ask) => statusesOf(await inTurn(4, ask)).filter((status) => status === 200).length;
    await limit(api, rules);
    assert.equal(await allowed(() => list(guest)), 3);
    assert.equal(await allowed(() => list(guest, 'books')), 2);
    assert.equal(await allowed(() => api.get('/api/health', guest)), 1);
    assert.equal((await list(guest, 'nowhere')).status, 404, 'what is not there is not counted');
    await limit(api, rules.slice(0, 2));
    assert.equal(await allowed(() => list(guest)), 2);
    await limit(api, rules, { enabled: false });
    assert.equal(await allowed(() => list(guest)), 4);
  });

  await t.test('a rule is for its audience, and for nobody in excludedIPs', async () => {
    await addUser(api, 'ann');
    const { body } = await signIn(api, 'ann@example.com', PASSWORD, from('192.0.2.4'));
    await limit(api, [{ label: 'posts:list', audience: '@guest', duration: 60, maxRequests: 1 }], {
      excludedIPs: ['198.51.100.0/24'],
    });
    const asks = (options) => async () => statusesOf(await inTurn(2, () => list(options)));
    assert.deepEqual(await asks(from('192.0.2.4'))(), [200, 429]);
    assert.deepEqual(await asks(from('192.0.2.4', { token: body.token }))(), [200, 200]);
    assert.deepEqual(await asks(from('198.51.100.9'))(), [200, 200]);
  });

  await t.test('a window ends', async () => {
    await limit(api, [{ label: 'posts:list', duration: 1, maxRequests: 1 }]);
    const guest = from('192.0.2.5');
    assert.equal((await list(guest)).status, 200);
    let answer = await list(guest);
    assertLimited(answer, 1);
    while (answer.status === 429) answer = await list(guest);
    assert.equal(answer.status, 200);
  });

  await t.test('a batch is no way around them', async () => {
    await limit(api, [{ label: '*:create', duration: 60, maxRequests: 5 }]);
    const guest = from('192.0.2.6');
    const create = { method: 'POST', url: posts, body: { title: 'of a batch' } };
    const batch = (requests, options = guest) => api.post('/api/batch', { requests }, options);
    const refused = await batch(Array(8).fill(create));
    assert.equal(refused.status, 400);
    assert.equal(refused.body.message, 'Batch transaction failed.');
    const [index] = Object.keys(refused.body.data.requests);
    assert.equal(index, '5', 'the sixth');
    assert.deepEqual(refused.body.data.requests[index], {
      code: 'batch_request_failed',
      message: 'Batch request failed.',
      response: { data: {}, message: 'Too Many Requests.', status: 429 },
    });
    const { body } = await api.get(`${posts}?filter=${encodeURIComponent("title='of a batch'")}`);
    assert.equal(body.items.length, 0, 'nothing of it was done');
    assertLimited(await api.post(posts, {}, guest), 60);
    const { body: record } = await api.post(posts, { title: 'there' });
    const upserts = Array(8).fill({ method: 'PUT', url: posts, body: { id: record.id, title: 'again' } });
    assert.equal((await batch(upserts)).status, 200, 'an upsert of what is there is an update');
    const made = Array.from({ length: 6 }, (_, i) => ({ ...upserts[0], body: { id: `upsert00000000${i}` } }));
    assert.equal((await batch(made, from('192.0.2.7'))).status, 400, 'of what is not, a create');
    assert.equal((await batch(Array(8).fill(create), { token: api.token })).status, 200);
  });

  await t.test('signing in has labels of its own', async () => {
    await limit(api, [{ label: '*:auth', duration: 60, maxRequests: 2 }]);
    const guest = from('192.0.2.8');
    const answers = await inTurn(3, () => signIn(api, 'nobody@example.com', 'x', guest));
    assert.deepEqual(statusesOf(answers), [400, 400, 429]);
    assert.equal((await api.get('/api/collections/users/auth-methods', guest)).status, 200);
  });

  await t.test('a collection that gets another name keeps its rules', async () => {
    await limit(api, [
      { label: 'books:list', duration: 60, maxRequests: 1 },
      { label: '*:view', duration: 60, maxRequests: 1 },
    ]);
    const renamed = await api.patch('/api/collections/books', { name: 'novels' });
    assert.equal(renamed.status, 200, renamed.text);
    const rules = await eventually('the new label', async () => {
      const { rules: now } = (await api.get('/api/settings')).body.rateLimits;
      return now[0].label === 'books:list' ? null : now;
    });
    assert.deepEqual(rules, [
      { label: 'novels:list', audience: '', duration: 60, maxRequests: 1 },
      { label: '*:view', audience: '', duration: 60, maxRequests: 1 },
    ]);
    const answers = await inTurn(2, () => list(from('192.0.2.10'), 'novels'));
    assert.deepEqual(statusesOf(answers), [200, 429]);
  });

  await t.test('superusers may ask from superuserIPs alone, where there are any', async () => {
    const home = from('203.0.113.5', { token: api.token });
    const set = (superuserIPs, options) => api.patch('/api/settings', { superuserIPs }, options);
    const locked = await set(['192.0.2.0/24', '::1'], home);
    assertProblems(locked, { superuserIPs: 'validation_locks_out' });
    assert.match(locked.body.data.superuserIPs.message, /add your own address, 203\.0\.113\.5\./);
    assert.deepEqual((await api.get('/api/settings')).body.superuserIPs, []);
    assert.equal((await set(['203.0.113.0/24'], home)).status, 200);
    const stranger = await api.get('/api/settings', from('192.0.2.9', { token: api.token }));
    assertRefused(stranger, 403);
    assert.match(stranger.body.message, /superuserIPs/);
    assertRefused(await list(from('192.0.2.9', { token: api.token })), 403);
    assert.equal((await list(from('192.0.2.9'))).status, 200, 'guests may');
    await runWell(['superuser', 'list', '--data', api.server.data]);
    const { body } = await api.post('/api/api-keys', { name: 'far', scopes: ['records:read'] }, home);
    assertRefused(await list(from('192.0.2.9', { token: body.key })), 403);
    assert.equal((await list(from('203.0.113.5', { token: body.key }))).status, 200, 'keys may from there');
    for (const [address, isLetIn] of [['192.0.2.9', false], ['203.0.113.5', true]]) {
      const headers = { 'x-forwarded-for': address };
      const socket = await Listener.connect(api.server, { options: { headers } });
      for (const token of [api.token, body.key]) {
        const { ok, error } = await socket.ask({ op: 'auth', token });
        assert.deepEqual([ok, error?.code], isLetIn ? [true, undefined] : [false, 'forbidden']);
      }
      await socket.close();
    }
    const elsewhere = from('192.0.2.9', { token: api.token, tenant: 'left' });
    assertRefused(await api.get('/api/settings', elsewhere), 403);
    for (const list of [['192.0.2.77'], []])
      assert.equal(await setAtSocket(api.server.socketPath, { superuserIPs: list }), 200);
    assert.equal((await api.get('/api/settings', from('192.0.2.9', { token: api.token }))).status, 200);
  });
});

test('failed sign-ins', async (t) => {
  const limits = { '': 3, 'account-': 6, 'address-': 12 };
  const args = Object.entries(limits).flatMap(([name, max]) => [`--sign-in-failures-${name}max`, String(max)]);
  const api = await operator(t, { args: [...PROXY, ...args] });
  for (const name of ['ann', 'bob', 'eve', 'joe', 'kim']) await addUser(api, name);
  const wrong = (name, address) => signIn(api, `${name}@example.com`, 'canary-password', from(address));
  const right = (name, address, options) => signIn(api, `${name}@example.com`, PASSWORD, { ...from(address), ...options });

  await t.test('the next one waits, right or wrong, and an account that is not there answers the same', async () => {
    for (const name of ['ann', 'nobody']) {
      const answers = await inTurn(3, () => wrong(name, '192.0.2.1'));
      assert.deepEqual(statusesOf(answers), [400, 400, 400]);
      for (const { body } of answers) assert.equal(body.message, 'Failed to authenticate.');
      for (const ask of [wrong, right]) {
        const answer = await ask(name, '192.0.2.1');
        assertLimited(answer, 300, 'Too many failed attempts to sign in');
        assert.ok(Number(answer.headers.get('retry-after')) > 200);
      }
    }
    const shouted = await signIn(api, 'ANN@EXAMPLE.COM', 'x', from('192.0.2.1'));
    assert.equal(shouted.status, 429, 'whatever the case of its letters');
    assert.equal((await right('ann', '192.0.2.2')).status, 200, 'from elsewhere it may');
    assert.equal((await right('bob', '192.0.2.1')).status, 200, 'as may others from there');
    const neighbour = await signIn(api, 'ann@example.com', 'x', { ...from('192.0.2.1'), tenant: 'left' });
    assert.equal(neighbour.status, 400, 'and those of other tenants');
  });

  await t.test('guesses at once are no more than guesses in turn', async () => {
    const before = await metric(api, 'bakend_auth_attempts_failed_total');
    const answers = await Promise.all(Array.from({ length: 40 }, () => wrong('eve', '192.0.2.3')));
    const judged = answers.filter(({ status }) => status === 400);
    assert.equal(judged.length, 3);
    assert.equal(answers.filter(({ status }) => status === 429).length, 37);
    assert.equal((await metric(api, 'bakend_auth_attempts_failed_total')) - before, 3);
  });

  await t.test('those that were right do not count', async () => {
    assert.deepEqual(statusesOf(await inTurn(5, () => right('bob', '192.0.2.4'))), Array(5).fill(200));
    await wrong('bob', '192.0.2.4');
    assert.deepEqual(statusesOf(await inTurn(3, () => right('bob', '192.0.2.4'))), Array(3).fill(200));
  });

  await t.test('strangers lock nobody out who comes from where they have been before', async () => {
    assert.equal((await right('joe', '198.51.100.1')).status, 200);
    for (const address of ['203.0.113.1', '203.0.113.2']) await inTurn(3, () => wrong('joe', address));
    assert.equal((await right('joe', '203.0.113.3')).status, 429, 'six failures are those of the account');
    assert.equal((await right('joe', '198.51.100.1')).status, 200);
    assert.deepEqual(statusesOf(await inTurn(4, () => wrong('joe', '198.51.100.1'))), [400, 400, 400, 429]);
  });

  await t.test('an address that tries one account after the other waits too', async () => {
    const answers = await inTurn(13, (i) => wrong(`spray${i}`, '203.0.113.9'));
    assert.deepEqual(statusesOf(answers), [...Array(12).fill(400), 429]);
    assert.equal((await right('kim', '203.0.113.9')).status, 429);
    assert.equal((await right('kim', '203.0.113.10')).status, 200);
  });

  await t.test('each is an event, of many in a minute a few, and none holds what was typed', async () => {
    const failed = await metric(api, 'bakend_auth_attempts_failed_total');
    const unreported = await metric(api, 'bakend_auth_attempts_unreported_total');
    const told = failed - unreported - 1; // one was a neighbour's
    const events = await eventually('their events, for which no answer waits', async () => {
      const page = await readFeed(api.server, api.token, { query: '&types=auth.login_failed' });
      return page.events.length >= told && page.events;
    });
    assert.equal(events.length, told);
    assert.ok(unreported > 0);
    const [first] = events;
    assert.equal(first.actor, 'guest');
    assert.match(first.subject, /^users\/\w{15}$/);
    const { userAgent, ...rest } = first.payload;
    assert.ok(userAgent.length > 0);
    assert.deepEqual(rest, {
      collection: 'users',
      id: first.subject.slice('users/'.length),
      method: 'password',
      remoteAddress: '192.0.2.1',
      omitted: 0,
    });
    const unknown = events.find(({ payload }) => payload.id === undefined);
    assert.equal(unknown.subject ?? '', '', 'nobody that there is');
    assert.ok(events.some(({ payload }) => payload.omitted > 0), 'the next one says how many were left out');
    assert.ok(!JSON.stringify(events).includes('canary-password'));
    assert.ok(!JSON.stringify(events).includes('nobody@'), 'it may be a password in the wrong field');
    assert.ok(!api.server.log.join('\n').includes('canary-password'));
  });
});

test('guesses at one-time passwords and old passwords', async (t) => {
  const limits = { '': 3, 'account-': 6, 'address-': 40 };
  const args = Object.entries(limits).flatMap(([name, max]) => [`--sign-in-failures-${name}max`, String(max)]);
  const api = await operator(t, { args: [...PROXY, ...args] });
  const rules = { ...open, updateRule: 'id = @request.auth.id' };
  await api.define({ name: 'folk', type: 'auth', fields: [], otp: { enabled: true }, ...rules });
  const both = { password: PASSWORD, passwordConfirm: PASSWORD };
  const add = (name) => api.create('folk', { email: `${name}@example.com`, ...both });
  const act = (action, body, address) => api.post(`/api/collections/folk/${action}`, body, from(address));
  const ask = (email, address) => act('request-otp', { email }, address);

  await t.test('new codes bring no new guesses at an account, nor do addresses of one network of IPv6', async () => {
    await add('ann');
    for (const email of ['ann@example.com', 'nobody@example.com']) {
      const guess = async (address) => {
        const { body } = await ask(email, '198.51.100.1');
        return act('auth-with-otp', { otpId: body.otpId, password: 'no' }, address);
      };
      const near = await inTurn(4, (i) => guess(`2001:db8:0:1::${i}`));
      assert.deepEqual(statusesOf(near), [400, 400, 400, 429]);
      const far = await inTurn(4, (i) => guess(`192.0.2.${i}`));
      assert.deepEqual(statusesOf(far), [400, 400, 400, 429], 'six in all');
    }
  });

  await t.test('one address of mail is asked for so many times, whoever has it', async () => {
    await add('bob');
    for (const email of ['bob@example.com', 'nobody.else@example.com']) {
      const answers = await inTurn(13, (i) => ask(i % 2 ? email : email.toUpperCase(), `192.0.3.${i}`));
      assert.deepEqual(statusesOf(answers), [...Array(12).fill(200), 429]);
      assertLimited(answers[12], 300, 'Too many codes were asked for');
    }
  });

  await t.test('one address, and one network of IPv6, asks for so many', async () => {
    const near = await inTurn(41, (i) => ask(`near${i}@example.com`, `2001:db8:1:1::${i}`));
    assert.deepEqual(statusesOf(near), [...Array(40).fill(200), 429]);
    const wide = await inTurn(81, (i) => ask(`wide${i}@example.com`, `2001:db8:1:${i + 2}::1`));
    assert.deepEqual(statusesOf(wide), [...Array(80).fill(200), 429]);
    assert.equal((await ask('far@example.com', '2001:db8:2::1')).status, 200);
  });

  await t.test('wrong old passwords are failures, of which nothing is hashed for who may not update', async () => {
    const { id } = await add('joe');
    const { body } = await signIn(api, 'joe@example.com', PASSWORD, from('192.0.2.50'), 'folk');
    const change = (oldPassword, options, of = id) =>
      api.patch(`${recordsPath('folk')}/${of}`, { ...both, oldPassword }, { ...from('192.0.2.50'), ...options });
    const failed = () => metric(api, 'bakend_auth_attempts_failed_total');
    const before = await failed();
    for (const of of [id, 'nobody000000000']) assertRefused(await change('canary-password', {}, of), 404);
    assert.equal(await failed(), before, 'nobody has looked at it');
    const own = { token: body.token };
    const answers = await inTurn(4, () => change('canary-password', own));
    assert.deepEqual(statusesOf(answers), [400, 400, 400, 429]);
    assertLimited(answers[3], 300);
    assertLimited(await change(PASSWORD, own), 300);
    assert.equal(await failed(), before + 3);
    const { headers } = from('192.0.2.51');
    assert.equal((await change(PASSWORD, { ...own, headers })).status, 200, 'the right one from elsewhere');
  });
});

test('a tenant whose limit is reached', async (t) => {
  const args = ['--sign-in-failures-tenant-max', '12', '--sign-in-failures-address-max', '3'];
  const api = await operator(t, { args: [...PROXY, ...args] });
  await addUser(api, 'ann');
  const wrong = (i, address) => signIn(api, `spray${i}@example.com`, 'x', from(address));
  const reset = (address) => {
    const body = { token: 'x.y.z', password: PASSWORD, passwordConfirm: PASSWORD };
    return api.post('/api/collections/users/confirm-password-reset', body, from(address));
  };

  await t.test('one network of IPv6 does not reach it, nor do tokens of mails', async () => {
    const answers = await inTurn(12, (i) => wrong(i, `2001:db8:0:${i}::1`));
    assert.deepEqual(statusesOf(answers), [...Array(9).fill(400), ...Array(3).fill(429)]);
    const tokens = await inTurn(12, (i) => reset(`192.0.2.${i}`));
    assert.deepEqual(statusesOf(tokens), Array(12).fill(400));
    assert.equal((await wrong(0, '198.51.100.1')).status, 400);
  });

  await t.test('lets superusers and tokens of mails in', async () => {
    await inTurn(3, (i) => wrong(i, `198.51.100.${i + 2}`));
    assert.equal((await signIn(api, 'ann@example.com', PASSWORD, from('203.0.113.1'))).status, 429);
    const superuser = await signIn(api, 'nobody@example.com', 'x', from('203.0.113.1'), '_superusers');
    assert.equal(superuser.status, 400, 'it was judged');
    assert.equal((await reset('203.0.113.1')).status, 400);
    assert.deepEqual(statusesOf(await inTurn(3, () => reset('203.0.113.2'))), [400, 400, 400]);
    assert.equal((await reset('203.0.113.2')).status, 429, 'an address has its own');
  });
});
