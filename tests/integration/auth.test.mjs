/** Auth collections: made, signed in to, and closed again, as the stock client does it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import PocketBase, { ClientResponseError } from 'pocketbase';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { startServer } from './support/program.mjs';
import { open, recordsPath } from './support/records.mjs';

const password = 'secret-1234';
const both = (text) => ({ password: text, passwordConfirm: text });
const route = (collection, action) => `/api/collections/${collection}/${action}`;
const guest = { token: undefined };
const claimsOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));

/** A collection whose people sign in by email or nick. */
const people = (name, rest = {}) => ({
  name,
  type: 'auth',
  ...open,
  fields: [
    { name: 'nick', type: 'text' },
    { name: 'secret', type: 'text', hidden: true },
  ],
  indexes: [`CREATE UNIQUE INDEX idx_nick_${name} ON ${name} (nick COLLATE NOCASE)`],
  passwordAuth: { enabled: true, identityFields: ['email', 'nick'] },
  ...rest,
});

const login = (api, collection, body, query = '') =>
  api.post(`${route(collection, 'auth-with-password')}${query}`, body, guest);

test('the collections of signing in', async (t) => {
  const api = await operator(t);

  await t.test('users is there from the start, as PocketBase makes it', async () => {
    const { body } = await api.get('/api/collections/users');
    assert.equal(body.id, '_pb_users_auth_');
    assert.equal(body.system, false);
    assert.deepEqual(
      body.fields.map(({ name, id }) => [name, id]),
      [
        ['id', 'text3208210256'],
        ['password', 'password901924565'],
        ['tokenKey', 'text2504183744'],
        ['email', 'email3885137012'],
        ['emailVisibility', 'bool1547992806'],
        ['verified', 'bool256245529'],
        ['name', 'text1579384326'],
        ['avatar', 'file376926767'],
        ['created', 'autodate2990389176'],
        ['updated', 'autodate3332085495'],
      ],
    );
    assert.deepEqual(body.indexes, [
      'CREATE UNIQUE INDEX `idx_tokenKey__pb_users_auth_` ON `users` (`tokenKey`)',
      "CREATE UNIQUE INDEX `idx_email__pb_users_auth_` ON `users` (`email`) WHERE `email` != ''",
    ]);
    const own = 'id = @request.auth.id';
    assert.deepEqual(
      [body.listRule, body.viewRule, body.createRule, body.updateRule, body.deleteRule],
      [own, own, '', own, own],
    );
    assert.deepEqual(body.oauth2, {
      providers: [],
      mappedFields: { id: '', name: 'name', username: '', avatarURL: 'avatar' },
      enabled: false,
    });
  });

  await t.test('what belongs to signing in is there too', async () => {
    const ids = {
      _superusers: 'pbc_3142635823',
      _externalAuths: 'pbc_2281828961',
      _mfas: 'pbc_2279338944',
      _otps: 'pbc_1638494021',
      _authOrigins: 'pbc_4275539003',
    };
    const { items } = (await api.get('/api/collections?perPage=500')).body;
    for (const [name, id] of Object.entries(ids)) {
      const found = items.find((collection) => collection.name === name);
      assert.equal(found?.id, id, name);
      assert.equal(found.system, true);
      assertRefused(await api.remove(`/api/collections/${name}`), 400);
    }
    const { body } = await api.get(recordsPath('_authOrigins'), guest);
    assert.deepEqual(body.items, []);
    assertRefused(await api.post(recordsPath('_otps'), {}, guest), 403);
  });

  await t.test('a deleted users stays deleted', async () => {
    assert.equal((await api.remove('/api/collections/users')).status, 204);
    await api.server.stop();
    const server = await startServer(t, { folder: api.server.folder });
    const ask = (name) =>
      server.request('GET', `/api/collections/${name}`, undefined, { token: api.token });
    assertRefused(await ask('users'), 404);
    assert.equal((await ask('_superusers')).status, 200);
  });
});

test('signing in by password', async (t) => {
  const api = await operator(t);
  const authToken = { secret: 'canary-of-a-secret-of-tokens-0123456789', duration: 432000 };
  await api.define(people('members', { authToken }));
  const ann = await api.create('members', {
    email: 'ann@example.com',
    nick: 'Ann',
    secret: 'canary-of-a-hidden-field',
    tokenKey: 'canary-of-a-token-key-0123456789',
    ...both(password),
  });
  const bob = { email: 'bob@example.com', nick: 'ann@example.com', ...both('other-12') };
  await api.create('members', bob);

  await t.test('answers the record as its owner sees it, and a token', async () => {
    const { status, body } = await login(api, 'members', { identity: 'ann@example.com', password });
    assert.equal(status, 200);
    assert.deepEqual(Object.keys(body).sort(), ['record', 'token']);
    assert.deepEqual(body.record, {
      collectionId: ann.collectionId,
      collectionName: 'members',
      email: 'ann@example.com',
      emailVisibility: false,
      id: ann.id,
      nick: 'Ann',
      verified: false,
    });
    const claims = claimsOf(body.token);
    assert.ok(Math.abs(claims.exp - Date.now() / 1000 - 432000) < 60, 'for five days');
    assert.deepEqual(
      [claims.collectionId, claims.id, claims.type, claims.refreshable],
      [ann.collectionId, ann.id, 'auth', true],
    );
  });

  await t.test('takes every identity field, email first', async () => {
    const idOf = async (body) => (await login(api, 'members', body)).body.record?.id;
    assert.equal(await idOf({ identity: 'Ann', password }), ann.id);
    assert.equal(await idOf({ identity: 'ANN', password }), ann.id, 'the index ignores case');
    assert.equal(await idOf({ identity: 'ann@example.com', password }), ann.id);
    assert.notEqual(
      await idOf({ identity: 'ann@example.com', password: 'other-12', identityField: 'nick' }),
      undefined,
    );
    for (const body of [
      { identity: 'ANN@EXAMPLE.COM', password },
      { identity: 'ann@example.com', password: 'other-12' },
      { identity: ann.id, password },
      { identity: 'ann%', password },
      { identity: ' Ann ', password },
      { identity: 'Ann', password: `${password} ` },
      { identity: 'nobody@example.com', password },
    ]) {
      const answer = await login(api, 'members', body);
      assertRefused(answer, 400);
      assert.equal(answer.body.message, 'Failed to authenticate.');
    }
  });

  await t.test('says what is wrong with the form', async () => {
    assertProblems(await login(api, 'members', {}), {
      identity: 'validation_required',
      password: 'validation_required',
    });
    assertProblems(await login(api, 'members', { identity: 'a', password: 'x'.repeat(256) }), {
      password: 'validation_length_out_of_range',
    });
    assertProblems(
      await login(api, 'members', { identity: 'Ann', password, identityField: 'secret' }),
      { identityField: 'validation_in_invalid' },
    );
    const answer = await login(api, 'members', { identity: 1, password: 2 });
    assertRefused(answer, 400);
    assert.equal(answer.body.message, 'An error occurred while loading the submitted data.');
    await api.define({ name: 'plain', ...open, fields: [] });
    for (const [collection, what] of Object.entries({ plain: 'auth ', nowhere: '' })) {
      const missing = await login(api, collection, { identity: 'a', password: 'b' });
      assertRefused(missing, 404);
      assert.equal(missing.body.message, `Missing or invalid ${what}collection context.`);
    }
  });

  await t.test('is an event without a secret', async () => {
    await login(api, 'members', { identity: 'Ann', password });
    const feed = await api.get('/api/events?types=*,_*&limit=1000');
    const event = feed.body.events.filter(({ type }) => type === 'auth.login').at(-1);
    assert.equal(event.subject, `members/${ann.id}`);
    assert.equal(event.actor, `members/${ann.id}`);
    assert.equal(event.payload.method, 'password');
    const { body } = await login(api, 'members', { identity: 'Ann', password });
    const logs = await api.get('/api/logs?perPage=500');
    for (const text of [feed.text, logs.text])
      for (const secret of [password, body.token, 'argon2', 'canary-of'])
        assert.ok(!text.includes(secret), secret);
  });

  await t.test('expand and fields apply to the answer', async () => {
    const { body } = await login(
      api,
      'members',
      { identity: 'Ann', password },
      '?fields=record.email,record.secret',
    );
    assert.deepEqual(body, { record: { email: 'ann@example.com' } });
  });

  await t.test('can be switched off', async () => {
    await api.patch('/api/collections/members', { passwordAuth: { enabled: false } });
    const answer = await login(api, 'members', { identity: 'Ann', password });
    assertRefused(answer, 403);
    assert.equal(
      answer.body.message,
      'The collection is not configured to allow password authentication.',
    );
  });
});

test('the auth rule', async (t) => {
  const api = await operator(t);
  await api.define(people('crew', { authRule: 'verified = true' }));
  const ann = await api.create('crew', { email: 'a@example.com', nick: 'Ann', ...both(password) });
  const body = { identity: 'Ann', password };

  await t.test('lets in those that it holds for', async () => {
    const answer = await login(api, 'crew', body);
    assertRefused(answer, 403);
    assert.equal(
      answer.body.message,
      "The request doesn't satisfy the collection requirements to authenticate.",
    );
    await api.patch(recordsPath('crew', ann.id), { verified: true });
    assert.equal((await login(api, 'crew', body)).status, 200);
  });

  await t.test('is asked again when a token is renewed', async () => {
    const { token } = (await login(api, 'crew', body)).body;
    assert.equal((await api.post(route('crew', 'auth-refresh'), {}, { token })).status, 200);
    await api.patch(recordsPath('crew', ann.id), { verified: false });
    assertRefused(await api.post(route('crew', 'auth-refresh'), {}, { token }), 403);
    await api.patch(recordsPath('crew', ann.id), { verified: true });
  });

  await t.test('that changes ends all sessions', async () => {
    const { token } = (await login(api, 'crew', body)).body;
    const refresh = () => api.post(route('crew', 'auth-refresh'), {}, { token });
    assert.equal((await refresh()).status, 200);
    await api.patch('/api/collections/crew', { listRule: '' });
    assert.equal((await refresh()).status, 200, 'other rules end none');
    await api.patch('/api/collections/crew', { authRule: '' });
    assertRefused(await refresh(), 401);
  });

  await t.test('that is null lets nobody in but whom a superuser brings', async () => {
    await api.patch('/api/collections/crew', { authRule: null });
    assertRefused(await login(api, 'crew', body), 403);
    assert.equal((await api.post(route('crew', `impersonate/${ann.id}`), {})).status, 200);
  });

  await t.test('a password alone is not enough where a second factor is asked for', async () => {
    await api.patch('/api/collections/crew', {
      authRule: '',
      otp: { enabled: true },
      mfa: { enabled: true },
    });
    const { status, body: answer } = await login(api, 'crew', body);
    assert.equal(status, 401);
    assert.deepEqual(Object.keys(answer), ['mfaId']);
  });
});

test('tokens', async (t) => {
  const api = await operator(t);
  await api.define(people('members'));
  await api.define(people('others'));
  const given = { email: 'ann@example.com', nick: 'Ann', ...both(password) };
  const ann = await api.create('members', given);
  const signIn = async (secret = password) =>
    (await login(api, 'members', { identity: 'Ann', password: secret })).body.token;
  const refresh = (token, collection = 'members') =>
    api.post(route(collection, 'auth-refresh'), {}, { token });

  await t.test('are renewed for their own collection', async () => {
    const token = await signIn();
    const { status, body } = await refresh(token);
    assert.equal(status, 200);
    assert.equal(body.record.email, 'ann@example.com');
    assert.equal(claimsOf(body.token).refreshable, true);
    assert.equal((await refresh(token)).status, 200, 'the old one goes on');
    assert.equal((await refresh(token, 'others')).status, 403);
    assert.equal((await refresh(api.token)).status, 403);
    const none = await api.post(route('members', 'auth-refresh'), {}, guest);
    assertRefused(none, 401);
    assert.equal(none.body.message, 'The request requires valid record authorization token.');
  });

  await t.test('of an impersonation come back as they are', async () => {
    const { body } = await api.post(route('members', `impersonate/${ann.id}`), { duration: 120 });
    assert.equal(body.record.email, 'ann@example.com');
    assert.ok(Math.abs(claimsOf(body.token).exp - Date.now() / 1000 - 120) < 30);
    assert.equal(claimsOf(body.token).refreshable, false);
    assert.equal((await refresh(body.token)).body.token, body.token);
    assertProblems(await api.post(route('members', `impersonate/${ann.id}`), { duration: -1 }), {
      duration: 'validation_min_greater_equal_than_required',
    });
    assertRefused(await api.post(route('members', 'impersonate/nobody'), {}), 404);
    const { token } = body;
    assertRefused(await api.post(route('members', `impersonate/${ann.id}`), {}, { token }), 403);
  });

  await t.test('die with what they are signed with', async () => {
    const dies = async (what, change) => {
      const token = await signIn();
      assert.equal((await refresh(token)).status, 200);
      const answer = await change();
      assert.equal(answer.status, 200, `${what}: ${answer.text}`);
      assertRefused(await refresh(token), 401);
    };
    await dies('secret', () =>
      api.patch('/api/collections/members', {
        authToken: { secret: 'x'.repeat(40), duration: 99 },
      }),
    );
    assert.ok(Math.abs(claimsOf(await signIn()).exp - Date.now() / 1000 - 99) < 30);
    await dies('email', () =>
      api.patch(recordsPath('members', ann.id), { email: 'ann2@example.com' }),
    );
    await dies('password', () => api.patch(recordsPath('members', ann.id), both('other-secret')));
    assertRefused(await login(api, 'members', { identity: 'Ann', password }), 400);
  });

  await t.test('of one auth collection open no other', async () => {
    const token = await signIn('other-secret');
    const rule = '@request.auth.collectionName = "others"';
    await api.define({ name: 'room', ...open, listRule: rule, fields: [] });
    await api.create('room', {});
    assert.deepEqual((await api.get(recordsPath('room'), { token })).body.items, []);
  });
});

test('a password that nobody signs in with is seen to be there, and no more', async (t) => {
  const api = await operator(t);
  const fields = [
    { name: 'door', type: 'password', pattern: '^[a-z-]+$', min: 4 },
    { name: 'safe', type: 'password', hidden: true },
  ];
  await api.define({ name: 'houses', ...open, fields });
  const canary = 'canary-of-a-door';
  const made = await api.create('houses', { door: canary, safe: canary });
  assert.deepEqual([made.door, made.safe], ['', '']);
  const seen = (await api.get(recordsPath('houses', made.id), guest)).body;
  assert.equal(seen.door, '');
  assert.equal('safe' in seen, false);
  for (const path of ['/api/events?types=*,_*&limit=1000', '/api/logs?perPage=500']) {
    const { text } = await api.get(path);
    assert.ok(!text.includes(canary) && !text.includes('argon2'), path);
  }
  const wrong = await api.post(recordsPath('houses'), { door: 'NO WAY' });
  assertProblems(wrong, { door: 'validation_invalid_format' });
  const bad = { name: 'huts', fields: [{ name: 'door', type: 'password', pattern: '[', cost: 3 }] };
  const { data } = (await api.post('/api/collections', bad)).body;
  const door = Object.values(data.fields)[0];
  assert.equal(door.cost.code, 'validation_min_greater_equal_than_required');
  assert.equal(door.pattern.code, 'validation_invalid_regex');
});

test('a new password ends what was begun with the old one', async (t) => {
  const api = await operator(t);
  const people = [];
  for (const name of ['ann', 'bob'])
    people.push(await api.create('users', { email: `${name}@example.com`, ...both(password) }));
  const [ann, bob] = people;
  for (const { collectionId, id } of people) {
    const of = { collectionRef: collectionId, recordRef: id };
    await api.create('_mfas', { ...of, method: 'password' });
    await api.create('_otps', { ...of, ...both('12345678') });
    await api.create('_authOrigins', { ...of, fingerprint: 'a device' });
  }
  const left = async ({ id }) => {
    const counts = [];
    for (const name of ['_mfas', '_otps', '_authOrigins']) {
      const { body } = await api.get(recordsPath(name));
      counts.push(body.items.filter(({ recordRef }) => recordRef === id).length);
    }
    return counts;
  };
  const path = recordsPath('users', ann.id);
  await api.patch(path, { name: 'Ann' });
  assert.deepEqual(await left(ann), [1, 1, 1]);
  await api.patch(path, { email: 'other@example.com' });
  assert.deepEqual(await left(ann), [1, 0, 1], 'the token key is another one');
  await api.patch(path, both('another-one-12'));
  assert.deepEqual(await left(ann), [0, 0, 0]);
  assert.deepEqual(await left(bob), [1, 1, 1]);
});

test('auth-methods', async (t) => {
  const api = await operator(t);
  await api.define(people('members'));
  const methods = () => api.get(route('members', 'auth-methods'), guest);
  const off = { enabled: false, duration: 0 };
  const none = { providers: [], enabled: false };

  assert.deepEqual((await methods()).body, {
    password: { identityFields: ['email', 'nick'], enabled: true },
    oauth2: none,
    mfa: off,
    otp: off,
    authProviders: null,
    usernamePassword: false,
    emailPassword: true,
  });
  await api.patch('/api/collections/members', {
    passwordAuth: { enabled: false },
    otp: { enabled: true, duration: 99, length: 5 },
  });
  const picked = await api.get(`${route('members', 'auth-methods')}?fields=password,otp`, guest);
  assert.deepEqual(picked.body, {
    password: { identityFields: [], enabled: false },
    otp: { enabled: true, duration: 99 },
  });
});

test('auth-methods of OAuth2', async (t) => {
  const api = await operator(t);
  const id = { clientId: 'a b', clientSecret: 'canary-of-a-client-secret' };
  const url = 'https://login.example.com/?x=1';
  const providers = [
    { name: 'github', ...id },
    { name: 'linear', ...id, displayName: 'Lines' },
    { name: 'apple', ...id, pkce: false },
    { name: 'oidc', ...id, authURL: url, tokenURL: url, userInfoURL: url },
  ];
  await api.define(people('members', { oauth2: { enabled: true, providers } }));
  const answer = await api.get(route('members', 'auth-methods'), guest);
  assert.ok(!answer.text.includes('canary'));
  const [github, linear, apple, oidc] = answer.body.oauth2.providers;
  assert.deepEqual(answer.body.authProviders, [github, linear, apple, oidc]);

  const { createHash } = await import('node:crypto');
  const challenge = createHash('sha256').update(github.codeVerifier).digest('base64url');
  assert.equal(github.codeVerifier.length, 43);
  assert.deepEqual(github, {
    name: 'github',
    displayName: 'GitHub',
    logo: '',
    state: github.state,
    authURL:
      `https://github.com/login/oauth/authorize?client_id=a+b&code_challenge=${challenge}` +
      '&code_challenge_method=S256&response_type=code&scope=read%3Auser+user%3Aemail' +
      `&state=${github.state}&redirect_uri=`,
    authUrl: github.authURL,
    codeVerifier: github.codeVerifier,
    codeChallenge: challenge,
    codeChallengeMethod: 'S256',
  });
  assert.equal(linear.displayName, 'Lines');
  assert.equal(linear.codeChallengeMethod, '');
  assert.ok(!linear.authURL.includes('code_challenge'));
  assert.match(apple.authURL, /&response_mode=form_post&response_type=code&scope=name\+email&/);
  assert.ok(oidc.authURL.startsWith(`${url}&client_id=a+b&`), oidc.authURL);
  const again = await api.get(route('members', 'auth-methods'), guest);
  assert.notEqual(again.body.oauth2.providers[0].state, github.state);
});

test('the SDK registers, signs in and renews', async (t) => {
  const api = await operator(t);
  const client = new PocketBase(api.server.url);
  client.autoCancellation(false);
  const users = client.collection('users');

  const made = await users.create({ email: 'ann@example.com', name: 'Ann', ...both(password) });
  assert.equal('email' in made, false, 'a guest does not get the address back');
  const { record, token } = await users.authWithPassword('ann@example.com', password);
  assert.equal(record.id, made.id);
  assert.equal(record.email, 'ann@example.com');
  assert.ok(client.authStore.isValid && !client.authStore.isSuperuser);
  assert.equal((await users.getList()).totalItems, 1, 'oneself');
  assert.equal((await users.authRefresh()).record.id, made.id);
  const methods = await users.listAuthMethods();
  assert.equal(methods.password.enabled, true);

  const admin = new PocketBase(api.server.url);
  admin.authStore.save(api.token, null);
  const as = await admin.collection('users').impersonate(made.id, 300);
  assert.equal(as.authStore.record.id, made.id);
  assert.notEqual(as.authStore.token, token);

  const wrong = await users
    .authWithPassword('ann@example.com', 'nope-nope')
    .catch((error) => error);
  assert.ok(wrong instanceof ClientResponseError);
  assert.equal(wrong.status, 400);
});
