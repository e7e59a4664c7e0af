/**
 * Signing in by accounts elsewhere: with a certified provider and the stock client, by a code and by the
 * popup's way over realtime; then with providers that say what they should not.
 */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { EventSource } from 'eventsource';
import PocketBase, { BaseAuthStore } from 'pocketbase';
import { readFeed } from './support/feed.mjs';
import { follow, idToken, startProvider, startStage } from './support/oauth2.mjs';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { recordsPath } from './support/records.mjs';

globalThis.EventSource ??= EventSource;

const allow = ['--oauth2-allow', '127.0.0.0/8'];
const route = '/api/collections/users/auth-with-oauth2';
const both = (text) => ({ password: text, passwordConfirm: text });
const ann = { sub: 'ann-1', email: 'ann@example.com', email_verified: true, name: 'Ann Lee' };
const clientOf = (server) => new PocketBase(server.url, new BaseAuthStore());

/** Signing in by OAuth2 is switched on for users. */
async function configure(api, providers, rest = {}) {
  const answer = await api.patch('/api/collections/users', {
    oauth2: { enabled: true, providers, mappedFields: { name: 'name', ...rest.mappedFields } },
    ...rest.options,
  });
  assert.equal(answer.status, 200, answer.text);
}

const recordsOf = async (api, collection = 'users') =>
  (await api.get(`${recordsPath(collection)}?sort=created`)).body.items;

test('a certified provider', async (t) => {
  const api = await operator(t, { args: [...allow, '--trusted-proxies', '127.0.0.1'] });
  const { server } = api;
  const redirectURL = `${server.url}/api/oauth2-redirect`;
  const provider = await startProvider(t, { redirectURL });
  const inBody = await startProvider(t, { redirectURL, method: 'client_secret_post' });
  await configure(api, [
    { name: 'oidc', ...provider.config, userInfoURL: provider.userInfoURL },
    { name: 'oidc2', ...provider.config, extra: { issuers: [provider.issuer] } },
    { name: 'oidc3', ...inBody.config, userInfoURL: inBody.userInfoURL, displayName: 'Own' },
  ]);

  /** As an app does it that has no popup. */
  async function signIn(client, name, own = provider) {
    const { oauth2 } = await client.collection('users').listAuthMethods();
    const { authURL, state, codeVerifier } = oauth2.providers.find((each) => each.name === name);
    const end = await follow(authURL + encodeURIComponent(redirectURL), redirectURL);
    assert.equal(end.searchParams.get('state'), state);
    const code = end.searchParams.get('code');
    assert.ok(code, `a code is in ${end}, from ${own.issuer}`);
    const args = [name, code, codeVerifier, redirectURL];
    return { args, answer: await client.collection('users').authWithOAuth2Code(...args) };
  }

  await t.test('somebody new gets a record, and finds it again', async () => {
    provider.people.current = { ...ann, preferred_username: 'ann', picture: 'https://x.org/a.png' };
    const client = clientOf(server);
    const { answer } = await signIn(client, 'oidc');
    assert.equal(client.authStore.record.email, 'ann@example.com');
    assert.equal(answer.record.name, 'Ann Lee');
    assert.equal(answer.record.verified, true);
    const { accessToken, refreshToken, expiry, rawUser, ...meta } = answer.meta;
    assert.deepEqual(meta, {
      id: 'ann-1',
      name: 'Ann Lee',
      username: 'ann',
      email: 'ann@example.com',
      avatarURL: 'https://x.org/a.png',
      avatarUrl: 'https://x.org/a.png',
      isNew: true,
    });
    assert.equal(rawUser.sub, 'ann-1');
    assert.ok(accessToken.length > 20);
    assert.equal(refreshToken, '');
    assert.match(expiry, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z$/);
    const again = await signIn(clientOf(server), 'oidc');
    assert.equal(again.answer.meta.isNew, false);
    assert.equal(again.answer.record.id, answer.record.id);
    const links = await client.collection('users').listExternalAuths(answer.record.id);
    assert.deepEqual(
      links.map(({ collectionRef, recordRef, provider: name, providerId }) => [
        collectionRef,
        recordRef,
        name,
        providerId,
      ]),
      [['_pb_users_auth_', answer.record.id, 'oidc', 'ann-1']],
    );
    await client.collection('users').unlinkExternalAuth(answer.record.id, 'oidc');
    assert.deepEqual(await client.collection('users').listExternalAuths(answer.record.id), []);
  });

  await t.test('an id_token says it too, and a verified address finds its record', async () => {
    const { answer } = await signIn(clientOf(server), 'oidc2');
    assert.equal(answer.meta.isNew, false);
    assert.equal(answer.record.email, 'ann@example.com');
    assert.equal(answer.meta.rawUser.iss, provider.issuer);
    assert.equal((await recordsOf(api)).length, 1);
  });

  await t.test('where the secret goes is found out', async () => {
    inBody.people.current = { sub: 'bob', email: 'bob@example.com', email_verified: true };
    const { answer } = await signIn(clientOf(server), 'oidc3', inBody);
    assert.equal(answer.record.email, 'bob@example.com');
  });

  await t.test('a code is good once, and with its verifier only', async () => {
    const client = clientOf(server);
    const { args } = await signIn(client, 'oidc');
    await assert.rejects(
      client.collection('users').authWithOAuth2Code(...args),
      ({ status, message }) => status === 400 && message === 'Failed to fetch OAuth2 token.',
    );
    const { oauth2 } = await client.collection('users').listAuthMethods();
    const [{ authURL }] = oauth2.providers;
    const end = await follow(authURL + encodeURIComponent(redirectURL), redirectURL);
    const code = end.searchParams.get('code');
    await assert.rejects(
      client.collection('users').authWithOAuth2Code('oidc', code, 'x'.repeat(43), redirectURL),
      ({ status }) => status === 400,
    );
  });

  await t.test('the popup tells the page that waits, once', async () => {
    provider.people.current = { sub: 'cy', email: 'cy@example.com', email_verified: true };
    const client = clientOf(server);
    const stranger = clientOf(server);
    const overheard = [];
    await stranger.realtime.subscribe('@oauth2', (message) => overheard.push(message));
    let end, answer, elsewhere;
    const { record, meta } = await client.collection('users').authWithOAuth2({
      provider: 'oidc',
      createData: { emailVisibility: true },
      async urlCallback(url) {
        end = await follow(url, redirectURL);
        const headers = { 'x-forwarded-for': '203.0.113.9' };
        elsewhere = await fetch(end, { redirect: 'manual', headers });
        answer = await fetch(end, { redirect: 'manual' });
      },
    });
    assert.equal(record.email, 'cy@example.com');
    assert.equal(record.emailVisibility, true);
    assert.equal(meta.isNew, true);
    assert.equal(elsewhere.headers.get('location'), '../_/#/auth/oauth2-redirect-failure');
    assert.equal(answer.status, 307);
    assert.equal(answer.headers.get('location'), '../_/#/auth/oauth2-redirect-success');
    const again = await fetch(end, { redirect: 'manual' });
    assert.equal(again.headers.get('location'), '../_/#/auth/oauth2-redirect-failure');
    assert.deepEqual(overheard, []);
    await stranger.realtime.unsubscribe();
    const page = await fetch(new URL(answer.headers.get('location'), end));
    assert.equal(page.status, 200);
    assert.match(page.headers.get('content-security-policy'), /^default-src 'none'/);
    assert.match(await page.text(), /id="\/auth\/oauth2-redirect-success">Auth completed\./);
  });

  await t.test('a redirect that nobody waits for, or with an error, fails', async () => {
    const failure = '../_/#/auth/oauth2-redirect-failure';
    for (const query of ['', '?state=nope&code=x', '?code=x']) {
      const answer = await fetch(redirectURL + query, { redirect: 'manual' });
      assert.equal(answer.status, 307);
      assert.equal(answer.headers.get('location'), failure);
      assert.equal(answer.headers.get('content-type'), null, 'there is nothing to read');
    }
    const form = await fetch(redirectURL, {
      method: 'POST',
      redirect: 'manual',
      body: new URLSearchParams({ state: 'nope', code: 'x' }),
    });
    assert.equal(form.status, 303);
    assert.equal(form.headers.get('location'), failure);
    await assert.rejects(
      clientOf(server)
        .collection('users')
        .authWithOAuth2({
          provider: 'oidc',
          async urlCallback(url) {
            const state = new URL(url).searchParams.get('state');
            const query = new URLSearchParams({ state, error: 'access_denied' });
            const answer = await fetch(`${redirectURL}?${query}`, { redirect: 'manual' });
            assert.equal(answer.headers.get('location'), failure);
          },
        }),
      ({ originalError }) => /access_denied/.test(originalError.message),
    );
  });
});

/** users, whose providers are played by a stage. */
async function withStage(t, names, { args = [], options, extra = {} } = {}) {
  const api = await operator(t, { args: [...allow, ...args] });
  const stage = await startStage(t);
  const settings = names.map((name) => ({ name, ...stage.config, ...extra[name] }));
  await configure(api, settings, { options });
  let count = 0;
  const signIn = async (provider, play, body = {}, as = {}) => {
    const code = body.code ?? `code-${++count}`;
    stage.play(code, play);
    const all = { provider, code, codeVerifier: 'v', redirectURL: 'http://127.0.0.1/', ...body };
    return api.server.request('POST', route, all, as);
  };
  return { ...api, stage, signIn };
}

/** What an authenticator app shows now. */
function codeOf(secret) {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  const bits = [...secret].map((c) => letters.indexOf(c).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const mac = createHmac('sha1', key).update(step).digest();
  const number = mac.readUInt32BE(mac[19] & 15) & 0x7fffffff;
  return String(number % 1_000_000).padStart(6, '0');
}

const soon = () => Math.floor(Date.now() / 1000) + 600;
const google = (rest) => ({
  user: { sub: 'g', email: 'g@example.com', email_verified: true, ...rest },
});

test('presets read the answers of their providers', async (t) => {
  const names = ['google', 'github', 'gitlab', 'microsoft', 'apple', 'discord', 'linear'];
  const api = await withStage(t, names);
  const apple = { iss: 'https://appleid.apple.com', aud: 'the-client', exp: soon(), sub: 'app' };
  const cases = [
    ['google', google({ name: 'Gus' }), { id: 'g', name: 'Gus', email: 'g@example.com' }],
    [
      'github',
      {
        user: {
          id: 583231,
          login: 'octo',
          name: 'Octo Cat',
          email: 'public@example.com',
          avatar_url: 'https://x.org/o',
        },
        emails: [
          { email: 'old@example.com', verified: true, primary: false },
          { email: 'octo@example.com', verified: true, primary: true },
        ],
      },
      {
        id: '583231',
        username: 'octo',
        name: 'Octo Cat',
        email: 'octo@example.com',
        avatarURL: 'https://x.org/o',
      },
    ],
    [
      'gitlab',
      {
        user: {
          id: 7,
          username: 'lab',
          name: 'Lab',
          email: 'lab@example.com',
          confirmed_at: '2020-01-02T03:04:05.678Z',
        },
      },
      { id: '7', username: 'lab', email: 'lab@example.com' },
    ],
    [
      'microsoft',
      { user: { id: 'ms-1', displayName: 'Mia', mail: 'mia@example.com' } },
      { id: 'ms-1', name: 'Mia', email: 'mia@example.com' },
    ],
    [
      'apple',
      {
        token: {
          id_token: idToken({ ...apple, email: 'app@example.com', email_verified: 'true' }),
        },
      },
      { id: 'app', email: 'app@example.com' },
    ],
    [
      'discord',
      {
        user: {
          id: '80',
          username: 'dis',
          global_name: null,
          discriminator: '1337',
          avatar: 'aa',
          email: 'dis@example.com',
          verified: true,
        },
      },
      {
        id: '80',
        name: 'dis#1337',
        avatarURL: 'https://cdn.discordapp.com/avatars/80/aa.png',
        email: 'dis@example.com',
      },
    ],
    [
      'linear',
      {
        user: {
          data: {
            viewer: {
              id: 'l',
              displayName: 'lin',
              name: 'Lin',
              email: 'lin@example.com',
              active: true,
            },
          },
        },
      },
      { id: 'l', username: 'lin', email: 'lin@example.com' },
    ],
  ];
  for (const [name, play, expected] of cases) {
    const { status, body, text } = await api.signIn(name, play);
    assert.equal(status, 200, `${name}: ${text}`);
    for (const [member, value] of Object.entries(expected))
      assert.equal(body.meta[member], value, `${name}: ${member}`);
    assert.equal(body.record.email, expected.email, name);
    assert.equal(body.record.verified, true, name);
  }
  const query = api.stage.asked.find(({ body }) => `${body}`.includes('viewer'));
  assert.equal(query.step, '/user', 'GraphQL is posted');

  await t.test('an address that the provider has not verified is none', async () => {
    const users = [
      ['google', google({ sub: 'g2', email_verified: false })],
      ['gitlab', { user: { id: 8, email: 'g@example.com', confirmed_at: null } }],
      ['discord', { user: { id: '81', username: 'd', email: 'g@example.com', verified: false } }],
      [
        'github',
        {
          user: { id: 9, email: 'g@example.com' },
          emails: [{ email: 'g@example.com', primary: true }],
        },
      ],
      ['github', { user: { id: 9, email: 'g@example.com' } }],
    ];
    const before = await recordsOf(api);
    for (const [name, play] of users)
      assertProblems(await api.signIn(name, play), { email: 'validation_required' });
    assert.deepEqual(await recordsOf(api), before);
  });

  await t.test('a directory that anybody may have does not say whose an address is', async () => {
    const mail = { user: { id: 'ms-2', displayName: 'Mallory', mail: 'g@example.com' } };
    const shared = (extra) => [
      {
        name: 'microsoft',
        ...api.stage.config,
        tokenURL: `${api.stage.url}/token/common/oauth2`,
        extra,
      },
    ];
    await configure(api, shared(null));
    assertProblems(await api.signIn('microsoft', mail), { email: 'validation_not_unique' });
    const fresh = { user: { id: 'ms-3', displayName: 'Nora', mail: 'nora@example.com' } };
    const { status, body } = await api.signIn('microsoft', fresh);
    assert.equal(status, 200);
    assert.equal(body.record.verified, false);
    await configure(api, shared({ idTokenEmailClaim: 'any_verified' }));
    const claims = { iss: 'https://login.example.com', aud: 'the-client', exp: soon(), sub: 'x' };
    const token = { id_token: idToken({ ...claims, email: 'g@example.com', xms_edov: true }) };
    const linked = await api.signIn('microsoft', { ...mail, token });
    assert.equal(linked.status, 200, linked.text);
    assert.equal(linked.body.record.email, 'g@example.com');
    assert.equal(linked.body.meta.isNew, false);
  });

  await t.test("Apple's name is told to the redirect only, and comes with the code", async () => {
    const client = clientOf(api.server);
    await configure(api, [{ name: 'apple', ...api.stage.config }]);
    const claims = { ...apple, sub: 'app-2', email: 'app2@example.com', email_verified: true };
    api.stage.play('of-apple', { token: { id_token: idToken(claims) } });
    const { record, meta } = await client.collection('users').authWithOAuth2({
      provider: 'apple',
      async urlCallback(url) {
        const query = new URL(url).searchParams;
        assert.equal(query.get('response_mode'), 'form_post');
        const user = JSON.stringify({ name: { firstName: 'Ada', lastName: 'Ap' } });
        const answer = await fetch(query.get('redirect_uri'), {
          method: 'POST',
          redirect: 'manual',
          body: new URLSearchParams({ state: query.get('state'), code: 'of-apple', user }),
        });
        assert.equal(answer.headers.get('location'), '../_/#/auth/oauth2-redirect-success');
      },
    });
    assert.deepEqual([record.name, meta.name], ['Ada Ap', 'Ada Ap']);
  });
});

/** The collection's field `nick` is who somebody is at the provider. */
async function withNicks(t) {
  const api = await withStage(t, ['github']);
  const { fields, indexes } = (await api.get('/api/collections/users')).body;
  const unique = "CREATE UNIQUE INDEX nicks ON users (nick COLLATE NOCASE) WHERE nick != ''";
  const options = {
    fields: [...fields, { name: 'nick', type: 'text', max: 10 }],
    indexes: [...indexes, unique],
  };
  const settings = [{ name: 'github', ...api.stage.config }];
  await configure(api, settings, { options, mappedFields: { username: 'nick' } });
  return api;
}

test('a name of the provider is taken where it is free and fits', async (t) => {
  const { signIn } = await withNicks(t);
  const cases = [
    ['octo', 'octo'],
    ['OCTO', ''],
    ['longer than ten', ''],
    ['lab', 'lab'],
  ];
  for (const [index, [login, nick]] of cases.entries()) {
    const emails = [{ email: `${index}@example.com`, verified: true, primary: true }];
    const answer = await signIn('github', { user: { id: index + 1, login }, emails });
    assert.equal(answer.status, 200, answer.text);
    assert.equal(answer.body.record.nick, nick, login);
    assert.equal(answer.body.meta.username, login);
  }
});

test('a provider that does not answer as it should lets nobody in', async (t) => {
  const extra = { oidc: { userInfoURL: '', extra: { issuers: ['https://id.example.com'] } } };
  const args = ['--oauth2-timeout', '400ms'];
  const api = await withStage(t, ['google', 'oidc', 'oidc2'], { args, extra });
  const { stage, signIn } = api;
  const raw =
    (status, text, headers = {}) =>
    (_, response) => {
      response.writeHead(status, headers);
      response.end(text);
    };
  const endless = (_, response) => {
    const chunk = 'x'.repeat(65536);
    const more = () => {
      while (!response.destroyed && response.write(chunk));
    };
    response.writeHead(200);
    response.on('drain', more).on('error', () => {});
    more();
  };
  const claims = {
    iss: 'https://id.example.com',
    aud: 'the-client',
    sub: 's',
    email: 'v@example.com',
    email_verified: true,
  };
  const withToken = (rest, head) => ({
    token: { id_token: idToken({ ...claims, exp: soon(), ...rest }, head) },
  });
  const token = 'Failed to fetch OAuth2 token.';
  const user = 'Failed to fetch OAuth2 user.';
  const cases = {
    'a token that never comes': ['google', { token: () => {} }, token],
    'no token but 500': ['google', { token: raw(500, '{"access_token":"access-x"}') }, token],
    'garbage for a token': ['google', { token: raw(200, 'access_token=x') }, token],
    'a token without end': ['google', { token: endless }, token],
    'a redirect': [
      'google',
      { token: raw(302, '', { location: `${stage.url}/elsewhere` }) },
      token,
    ],
    'a refusal': ['google', { token: raw(400, '{"error":"invalid_grant"}') }, token],
    'a token of lines': ['google', { token: { access_token: 'a\r\nx: y' } }, user],
    'a user that never comes': ['google', { user: () => {} }, user],
    'a user behind 403': ['google', { user: raw(403, '{"sub":"x"}') }, user],
    'a user in a list': ['google', { user: [] }, user],
    'half a user': ['google', { user: raw(200, '{"sub":"x"') }, user],
    'a user without end': ['google', { user: endless }, user],
    'a user without an id': ['google', google({ sub: '' }), user],
    'a user whose id is a list': ['google', google({ sub: ['g'] }), user],
    'no id_token': ['oidc', {}, user],
    'an id_token of another issuer': ['oidc', withToken({ iss: 'https://id.example.org' }), user],
    'an id_token for another client': ['oidc', withToken({ aud: ['somebody'] }), user],
    'an id_token for several': ['oidc', withToken({ aud: ['the-client', 'x'], azp: 'x' }), user],
    'an id_token that has expired': ['oidc', withToken({ exp: soon() - 3600 }), user],
    'an id_token without an end': ['oidc', withToken({ exp: undefined }), user],
    'an id_token of the future': ['oidc', withToken({ iat: soon() + 3600 }), user],
    'an id_token that is not signed': ['oidc', withToken({}, { alg: 'none' }), user],
    'an id_token that is none': ['oidc', { token: { id_token: 'a.b' } }, user],
    "another user's id_token": ['oidc2', { ...google(), ...withToken({ sub: 'other' }) }, user],
  };
  await Promise.all(
    Object.entries(cases).map(async ([name, [provider, play, message]]) => {
      const answer = await signIn(provider, play);
      assert.equal(answer.status, 400, `${name}: ${answer.text}`);
      assert.equal(answer.body.message, message, name);
      assert.deepEqual(answer.body.data, {});
    }),
  );
  assert.deepEqual(await recordsOf(api), []);
  assert.equal(
    stage.asked.some(({ step }) => step === '/elsewhere'),
    false,
    'no redirect is followed',
  );
  assert.equal(
    (await signIn('oidc', withToken({}))).status,
    200,
    'and all of them were near right',
  );
  const line = await api.server.logged('oauth2_failed', 'invalid_grant');
  assert.deepEqual([line.provider, line.step, line.tenant], ['google', 'token', 'default']);

  await t.test('secrets are in no event and no line of the log', async () => {
    const { events } = await readFeed(api.server, api.token);
    assert.ok(
      events.some(({ type, payload }) => type === 'auth.login' && payload.method === 'oauth2'),
      'a sign-in is an event',
    );
    const told = JSON.stringify(events) + api.server.log.join('\n');
    for (const secret of ['a client secret', 'access-code', 'code-1'])
      assert.equal(told.includes(secret), false, secret);
  });
});

test('nobody waits for a provider that hangs', { timeout: 30_000 }, async (t) => {
  const api = await withStage(t, ['google'], {
    args: ['--oauth2-timeout', '60s', '--drain-timeout', '200ms'],
  });
  const hang = (code) => {
    const play = {};
    const asked = new Promise((resolve) => {
      play.token = (request) => {
        const closed = new Promise((end) => request.socket.on('close', end));
        resolve({ closed });
      };
    });
    api.stage.play(code, play);
    return asked;
  };
  const post = (code, signal) =>
    fetch(api.server.url + route, {
      method: 'POST',
      signal,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ provider: 'google', code }),
    });

  const leaving = new AbortController();
  const [first] = [hang('one'), post('one', leaving.signal).catch(() => {})];
  const { closed } = await first;
  leaving.abort();
  await closed;

  const second = hang('two');
  const answer = post('two').then(
    ({ status }) => status,
    () => 'cut',
  );
  await second;
  await api.server.stop();
  assert.ok([400, 503, 'cut'].includes(await answer));
});

test('networks that no operator has named are asked nothing', async (t) => {
  const api = await operator(t);
  const stage = await startStage(t);
  await configure(api, [{ name: 'google', ...stage.config }]);
  const body = {
    provider: 'google',
    code: 'x',
    codeVerifier: 'y',
    redirectURL: 'http://127.0.0.1/',
  };
  const answer = await api.server.request('POST', route, body);
  assertRefused(answer, 400);
  assert.equal(answer.body.message, 'Failed to fetch OAuth2 token.');
  assert.deepEqual(stage.asked, []);
});

test('whose record it is', async (t) => {
  const api = await withStage(t, ['google', 'oidc']);
  const { server, signIn } = api;
  const login = (identity, password) =>
    server.request('POST', '/api/collections/users/auth-with-password', { identity, password });
  const register = async (email, rest = {}) =>
    api.create('users', { email, ...both('known to many'), ...rest });
  const linksOf = async (id) =>
    (await api.get(`${recordsPath('_externalAuths')}?filter=recordRef='${id}'`)).body.items.map(
      ({ provider, providerId }) => `${provider}/${providerId}`,
    );

  const totp = (action, body, token) =>
    server.request('POST', `/api/collections/users/totp/${action}`, body, { token });

  await t.test('one that waits for its owner loses what its maker knows', async () => {
    const { id } = await register('dee@example.com');
    const trap = (await login('dee@example.com', 'known to many')).body.token;
    const owned = await signIn(
      'oidc',
      { user: { sub: 'trap', email: '', email_verified: false } },
      {},
      { token: trap },
    );
    assert.equal(owned.status, 200, owned.text);
    assert.deepEqual(await linksOf(id), ['oidc/trap']);
    assertRefused(await totp('enroll', { password: 'known to many' }, trap), 403);
    const { body } = await signIn('google', google({ sub: 'dee', email: 'dee@example.com' }));
    assert.deepEqual([body.record.id, body.record.verified, body.meta.isNew], [id, true, false]);
    assertRefused(await login('dee@example.com', 'known to many'), 400);
    const view = await server.request('GET', recordsPath('users', id), undefined, { token: trap });
    assertRefused(view, 404);
    assert.deepEqual(await linksOf(id), ['google/dee']);
    const own = await server.request('GET', recordsPath('users', id), undefined, {
      token: body.token,
    });
    assert.equal(own.status, 200);
  });

  await t.test('a link alone takes nothing off, and no link takes off an app', async () => {
    const password = 'known to many';
    const { id } = await register('pia@example.com', { verified: true });
    const own = (await login('pia@example.com', password)).body.token;
    const { secret } = (await totp('enroll', { password }, own)).body;
    assert.equal((await totp('confirm', { code: codeOf(secret) }, own)).status, 200);
    await api.patch(recordsPath('users', id), { verified: false });
    const nobody = { user: { sub: 'pia', email: '', email_verified: false } };
    const linked = await signIn('oidc', nobody, {}, { token: own });
    assert.equal(linked.status, 401, linked.text);
    assert.deepEqual(await linksOf(id), ['oidc/pia']);
    for (const email of ['', 'other@example.com']) {
      const play = { user: { sub: 'pia', email, email_verified: email !== '' } };
      const answer = await signIn('oidc', play);
      assert.equal(answer.status, 401, answer.text);
      assert.deepEqual(Object.keys(answer.body), ['mfaId']);
    }
    assert.equal((await login('pia@example.com', password)).status, 401, 'the password stays');
    const refreshed = '/api/collections/users/auth-refresh';
    const session = await server.request('POST', refreshed, {}, { token: own });
    assert.equal(session.status, 200, 'nobody is signed out');
    const vouched = { sub: 'pia', email: 'pia@example.com', email_verified: true };
    assert.equal((await signIn('oidc', { user: vouched })).status, 401, 'the app stays');
    assertRefused(await login('pia@example.com', password), 400);
    assert.deepEqual(await linksOf(id), ['oidc/pia']);
  });

  await t.test('an index that ignores case finds what waits, and it loses the same', async () => {
    const { id } = await register('Quin@example.com');
    const { indexes } = (await api.get('/api/collections/users')).body;
    const ignoring = indexes.map((each) => each.replace(/\(`?email`?\)/, '(`email` COLLATE NOCASE)'));
    assert.notDeepEqual(ignoring, indexes);
    const changed = await api.patch('/api/collections/users', { indexes: ignoring });
    assert.equal(changed.status, 200, changed.text);
    const { body } = await signIn('google', google({ sub: 'quin', email: 'quin@example.com' }));
    assert.deepEqual([body.record.id, body.record.verified], [id, true]);
    assertRefused(await login('Quin@example.com', 'known to many'), 400);
    assert.equal((await api.patch('/api/collections/users', { indexes })).status, 200);
  });

  await t.test('one that was made by a provider takes up an app without a password', async () => {
    const { body } = await signIn('google', google({ sub: 'ron', email: 'ron@example.com' }));
    assert.equal(body.meta.isNew, true);
    const answer = await totp('enroll', {}, body.token);
    assert.equal(answer.status, 200, answer.text);
  });

  await t.test('one whose address is verified keeps its password', async () => {
    const { id } = await register('eve@example.com', { verified: true });
    const { body } = await signIn('google', google({ sub: 'eve', email: 'eve@example.com' }));
    assert.equal(body.record.id, id);
    assert.equal((await login('eve@example.com', 'known to many')).status, 200);
    assert.deepEqual(await linksOf(id), ['google/eve']);
  });

  await t.test('who is signed in links an account with another address', async () => {
    const { id } = await register('fay@example.com', { verified: true });
    const { token } = (await login('fay@example.com', 'known to many')).body;
    const play = google({ sub: 'fay', email: 'eve@example.com' });
    const { body } = await signIn('google', play, {}, { token });
    assert.deepEqual([body.record.id, body.record.email], [id, 'fay@example.com']);
    const again = await signIn('google', play);
    assert.equal(again.body.record.id, id, 'the link comes before the address');
    const taken = await signIn(
      'google',
      google({ sub: 'eve', email: 'fay@example.com' }),
      {},
      { token },
    );
    assert.equal(taken.body.record.email, 'eve@example.com');
  });

  await t.test('two at once of somebody new are one', async () => {
    const play = google({ sub: 'gil', email: 'gil@example.com' });
    const answers = await Promise.all([1, 2, 3, 4].map(() => signIn('google', play)));
    assert.deepEqual(
      answers.map(({ status }) => status),
      [200, 200, 200, 200],
    );
    assert.equal(new Set(answers.map(({ body }) => body.record.id)).size, 1);
    assert.equal(answers.filter(({ body }) => body.meta.isNew).length, 1);
    assert.deepEqual(await linksOf(answers[0].body.record.id), ['google/gil']);
  });

  await t.test('the rule and the fields of the collection judge who is new', async () => {
    const define = (definition) => api.patch('/api/collections/users', definition);
    await define({ createRule: null });
    assertRefused(await signIn('google', google({ sub: 'h', email: 'h@example.com' })), 403);
    await define({ createRule: "@request.context = 'oauth2'" });
    assertProblems(
      await server.request('POST', recordsPath('users'), {
        email: 'i@example.com',
        ...both('12345678'),
      }),
      {},
    );
    const createData = { name: 'x'.repeat(300) };
    const play = google({ sub: 'i', email: 'i@example.com' });
    assertProblems(await signIn('google', play, { createData }), {
      name: 'validation_max_text_constraint',
    });
    assert.deepEqual(
      (await recordsOf(api, '_externalAuths')).filter(({ providerId }) => providerId === 'i'),
      [],
    );
    const chosen = { name: 'Chosen', email: 'chosen@example.com', ...both('a password of mine') };
    const { body } = await signIn('google', play, { createData: chosen });
    assert.deepEqual(
      [body.record.name, body.record.email, body.record.verified],
      ['Chosen', 'chosen@example.com', false],
    );
    assert.equal((await login('chosen@example.com', 'a password of mine')).status, 200);
    await define({ authRule: 'verified = true' });
    assertRefused(
      await signIn('google', google({ sub: 'j', email: 'j@example.com' }), {
        createData: { email: 'k@example.com' },
      }),
      403,
    );
    const { status } = await signIn('google', google({ sub: 'l', email: 'l@example.com' }));
    assert.equal(status, 200, 'a new one is verified by then');
  });

  await t.test('what is wrong with the request', async () => {
    const text = 'An error occurred while loading the submitted data.';
    const post = (body) => server.request('POST', route, body);
    assertProblems(
      await post({}),
      { provider: 'validation_required', code: 'validation_required' },
      text,
    );
    assertProblems(
      await post({ provider: 'github', code: 'x' }),
      { provider: 'validation_invalid_provider' },
      text,
    );
    assertRefused(await post({ provider: 1, code: 'x' }), 400);
    assertRefused(await post({ provider: 'google', code: 'x', createData: [] }), 400);
    const off = await server.request('POST', '/api/collections/_superusers/auth-with-oauth2', {});
    assertRefused(off, 403);
    assertRefused(await server.request('POST', '/api/collections/none/auth-with-oauth2', {}), 404);
  });
});
