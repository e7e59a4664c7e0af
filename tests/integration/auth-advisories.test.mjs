/**
 * What has gone wrong in other backends, as it was published: one test for each kind, from the attacker's side.
 */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import http from 'node:http';
import { test } from 'node:test';
import { readFeed } from './support/feed.mjs';
import { smtpOf } from './support/mail.mjs';
import { assertRefused, operator } from './support/operator.mjs';
import { Listener } from './support/realtime.mjs';
import { open, recordsPath } from './support/records.mjs';
import { eventually, startMailServer } from './support/smtp.mjs';

const PASSWORD = 'canary-password-1';
const APP_URL = 'https://app.example.com';
const users = recordsPath('users');
const route = (action, collection = 'users') => `/api/collections/${collection}/${action}`;
const guest = { token: undefined };
const both = (password) => ({ password, passwordConfirm: password });
const encode = (json) => Buffer.from(JSON.stringify(json)).toString('base64url');

/** A server with mails; what it gave out that nobody else may ever see is in `secrets`. */
async function begin(t) {
  const api = await operator(t);
  const smtp = await startMailServer(t);
  const set = await api.patch('/api/settings', {
    smtp: smtpOf(smtp.port),
    meta: { appURL: APP_URL },
    batch: { enabled: true, maxRequests: 50 },
  });
  assert.equal(set.status, 200, set.text);
  const configured = await api.patch(route('').slice(0, -1), {
    otp: { enabled: true, duration: 180, length: 8 },
    authAlert: { enabled: false },
  });
  assert.equal(configured.status, 200, configured.text);
  const secrets = new Set([PASSWORD]);
  const app = {
    ...api,
    smtp,
    secrets,
    async add(name, rest = {}) {
      const email = `${name}@example.com`;
      const answer = await api.post(users, { email, ...both(PASSWORD), ...rest }, guest);
      assert.equal(answer.status, 200, answer.text);
      return { ...answer.body, email };
    },
    signIn: (email, password = PASSWORD) =>
      api.post(route('auth-with-password'), { identity: email, password }, guest),
    async tokenOf(email) {
      const { status, text, body } = await app.signIn(email);
      assert.equal(status, 200, text);
      secrets.add(body.token);
      return body.token;
    },
    /** Whether somebody is who the token says. */
    isGood: async (token) =>
      token !== undefined && (await api.post(route('auth-refresh'), {}, { token })).status === 200,
    async linkOf(address, name) {
      const mail = await smtp.take(address);
      const found = new RegExp(`(\\S*?)/_/#/auth/${name}/([\\w.-]+)`).exec(mail.html || mail.text);
      assert.ok(found, `no ${name} in ${mail.html}`);
      secrets.add(found[2]);
      return { base: found[1].replace(/^href="/, ''), token: found[2] };
    },
    async ask(action, body, options = guest) {
      const answer = await api.post(route(action), body, options);
      assert.ok(answer.status < 300, answer.text);
      return answer.body;
    },
  };
  return app;
}

test('advisories', async (t) => {
  const app = await begin(t);

  await t.test('an account that was registered in the name of somebody else is theirs, not his', async () => {
    await app.add('victim');
    const stolen = await app.tokenOf('victim@example.com');
    await app.ask('request-password-reset', { email: 'victim@example.com' });
    const { token } = await app.linkOf('victim@example.com', 'confirm-password-reset');
    await app.ask('confirm-password-reset', { token, ...both('password-of-the-victim') });
    assert.equal(await app.isGood(stolen), false, 'his session is over');
    assert.equal((await app.signIn('victim@example.com')).status, 400, 'and so is his password');
    assert.equal((await app.signIn('victim@example.com', 'password-of-the-victim')).status, 200);

    await app.add('second');
    const kept = await app.tokenOf('second@example.com');
    const { otpId } = await app.ask('request-otp', { email: 'second@example.com' });
    const code = /\b(\d{8})\b/.exec((await app.smtp.take('second@example.com')).text)[1];
    app.secrets.add(code);
    await eventually('that it was sent there is noted', async () => {
      const { items } = (await app.get(recordsPath('_otps'))).body;
      return items.some(({ id, sentTo }) => id === otpId && sentTo === 'second@example.com');
    });
    const { record } = await app.ask('auth-with-otp', { otpId, password: code });
    assert.equal(record.verified, true);
    assert.equal((await app.signIn('second@example.com')).status, 400, 'a password of before is gone');
    assert.equal(await app.isGood(kept), false);
  });

  await t.test('links of mails name the host of the settings, whatever the request says', async () => {
    await app.add('host');
    const body = JSON.stringify({ email: 'host@example.com' });
    const headers = {
      host: 'evil.example.net',
      'x-forwarded-host': 'evil.example.net',
      forwarded: 'host=evil.example.net',
      origin: 'https://evil.example.net',
      referer: 'https://evil.example.net/',
      'content-type': 'application/json',
      'content-length': body.length,
    };
    const status = await new Promise((resolve, reject) => {
      const options = { method: 'POST', headers, path: route('request-password-reset') };
      http
        .request(app.server.url, options, (answer) => answer.resume().on('end', () => resolve(answer.statusCode)))
        .on('error', reject)
        .end(body);
    });
    assert.equal(status, 204);
    const mail = await app.smtp.take('host@example.com');
    assert.ok(`${mail.html}${mail.text}`.includes(`${APP_URL}/_/#/auth/confirm-password-reset/`));
    assert.ok(!mail.raw.includes('evil.example.net'));
  });

  await t.test('what is hidden cannot be asked for in a filter, an order, a field or a relation', async () => {
    const people = await app.define({ name: 'people', type: 'auth', ...open });
    await app.create('people', { email: 'hidden@example.com', ...both(PASSWORD) });
    await app.define({
      name: 'notes',
      ...open,
      fields: [{ name: 'owner', type: 'relation', collectionId: people.id, maxSelect: 1 }],
    });
    const list = (query, collection = 'people') => app.get(`${recordsPath(collection)}?${query}`, guest);
    for (const query of ["filter=id~'a'", "filter=id:lower~'a'", 'sort=id', "filter=(id>'')"])
      assert.equal((await list(query)).status, 200, `${query} can be asked`);
    for (const field of ['tokenKey', 'password'])
      for (const query of [
        `filter=${field}~'a'`,
        `filter=${field}:lower~'a'`,
        `sort=${field}`,
        `filter=(${field}>'')`,
      ])
        assertRefused(await list(query), 400);
    for (const field of ['owner.tokenKey', '@collection.people.password', '@collection.people.tokenKey'])
      assertRefused(await list(`filter=${field}~'a'`, 'notes'), field.startsWith('@') ? 403 : 400);
    const { status, body } = await list("filter=email~'hidden'");
    assert.equal(status, 200);
    assert.deepEqual(body.items, [], 'an address that is not shown is not found');
    for (const query of ['fields=*,password,tokenKey,email', 'expand=*']) {
      const { text } = await list(query);
      for (const word of ['tokenKey', 'hidden@example.com', '"password"', '$argon2'])
        assert.ok(!text.includes(word), `${query} shows ${word}`);
    }
  });

  await t.test('realtime is no second door', async () => {
    const { id } = await app.add('door');
    const token = await app.tokenOf('door@example.com');
    const own = await Listener.connect(app.server, { token });
    const stranger = await Listener.connect(app.server);
    for (const each of [own, stranger]) await each.subscribe({ types: ['users.*'] });
    await app.patch(`${users}/${id}`, { name: 'seen by one' });
    await eventually('the event', () => own.events.length > 0);
    /* Nothing of the record changes when somebody signs out. */
    const other = await app.tokenOf('door@example.com');
    const left = await Listener.connect(app.server, { token: other });
    assert.equal((await app.post(route('auth-logout'), {}, { token: other })).status, 204);
    await eventually('that who signs out is not listened for any more', () => left.code !== null);
    await app.patch(`${users}/${id}`, both('another-password-1'));
    await eventually('that what was opened with a dead token is closed', () => own.code !== null);
    assert.equal(own.events.length, 1, 'before anything else is told');
    assert.deepEqual(stranger.events, []);
    assert.ok(!JSON.stringify(own.messages).includes('tokenKey'));
    stranger.socket.terminate();
  });

  await t.test('a token that was revoked is worth nothing at any door', async () => {
    const { id } = await app.add('gone');
    const token = await app.tokenOf('gone@example.com');
    assert.equal(await app.isGood(token), true);
    const lent = (await app.post(route(`impersonate/${id}`), { duration: 600 })).body.token;
    const changed = await app.patch(
      `${users}/${id}`,
      { ...both('another-password-1'), oldPassword: PASSWORD },
      { token },
    );
    assert.equal(changed.status, 200, changed.text);
    for (const dead of [token, lent]) {
      assert.equal(await app.isGood(dead), false);
      assert.equal((await app.get(`${users}/${id}`, { token: dead })).status, 404);
      const requests = [{ method: 'PATCH', url: `${users}/${id}`, body: { name: 'x' } }];
      assert.equal((await app.post('/api/batch', { requests }, { token: dead })).status, 400);
      const { body } = await app.get('/api/events?types=users.*', { token: dead });
      assert.ok((body.events ?? []).length === 0);
    }
    const fresh = (await app.signIn('gone@example.com', 'another-password-1')).body.token;
    assert.equal((await app.remove(`${users}/${id}`)).status, 204);
    assert.equal(await app.isGood(fresh), false, 'of a record that is gone');
  });

  await t.test('nobody gives himself what only others may give', async () => {
    const forbidden = { verified: true, tokenKey: 'x'.repeat(50), collectionId: 'pbc_3142635823', collectionName: '_superusers' };
    const register = (rest) => app.post(users, { email: 'mass@example.com', ...both(PASSWORD), ...rest }, guest);
    const bold = await register(forbidden);
    if (bold.status === 200) assert.equal(bold.body.verified, false);
    const { tokenKey, collectionId, collectionName } = forbidden;
    const record = bold.status === 200 ? bold.body : (await register({ tokenKey, collectionId, collectionName })).body;
    assert.equal(record.collectionName, 'users');
    assert.equal(record.verified, false);
    const token = await app.tokenOf('mass@example.com');
    const change = (body) => app.patch(`${users}/${record.id}`, body, { token });
    await change({ verified: true });
    await change({ tokenKey: 'y'.repeat(50), collectionId: 'pbc_3142635823' });
    assert.equal((await change({ email: 'other@example.com' })).status, 400, 'an address by its mail alone');
    assert.equal((await change(both('another-password-1'))).status, 400, 'a password with the old one alone');
    const { body } = await app.get(`${users}/${record.id}`);
    assert.deepEqual([body.verified, body.email, body.collectionName], [false, 'mass@example.com', 'users']);
    assert.equal(await app.isGood(token), true, 'the token key is not theirs to set');
    assert.equal((await app.post(recordsPath('_superusers'), { email: 'me@example.com', ...both(PASSWORD) }, { token })).status, 403);
  });

  await t.test('no session outlives its time, renewed or not', async () => {
    const { id } = await app.add('short');
    const lent = (await app.post(route(`impersonate/${id}`), { duration: 2 })).body.token;
    const again = await app.post(route('auth-refresh'), {}, { token: lent });
    assert.equal(again.body.token, lent, 'a lent token is not renewed');
    await eventually('its end', async () => !(await app.isGood(lent)));
    assert.equal((await app.get(`${users}/${id}`, { token: lent })).status, 404);
  });

  await t.test('answers say nothing of who is there', async () => {
    await app.add('known');
    const pairs = {
      'request-password-reset': (email) => ({ email }),
      'request-verification': (email) => ({ email }),
      'request-otp': (email) => ({ email }),
      'auth-with-password': (identity) => ({ identity, password: 'not-the-password' }),
    };
    const shape = ({ status, body }) => [status, typeof body === 'object' ? Object.keys(body).sort() : body, body.message];
    for (const [action, form] of Object.entries(pairs)) {
      const known = await app.post(route(action), form('known@example.com'), guest);
      const unknown = await app.post(route(action), form('unknown@example.com'), guest);
      assert.deepEqual(shape(known), shape(unknown), action);
      if (known.body.otpId) assert.equal(known.body.otpId.length, unknown.body.otpId.length);
    }
  });

  await t.test('nor do the times of sign-ins: both hash', async () => {
    const fastest = async (identity) => {
      let least = Infinity;
      for (let i = 0; i < 4; i++) {
        const began = performance.now();
        await app.signIn(identity, 'not-the-password');
        least = Math.min(least, performance.now() - began);
      }
      return least;
    };
    const unknown = await fastest('nobody-at-all@example.com');
    const known = await fastest('known@example.com');
    assert.ok(unknown > known / 4, `${unknown} ms of nobody, ${known} ms of somebody`);
  });

  await t.test('nobody signs in, or becomes somebody else, inside a batch', async () => {
    const { id } = await app.add('batch');
    const token = await app.tokenOf('batch@example.com');
    const batch = (request) => app.post('/api/batch', { requests: [request] }, guest);
    const signIn = { method: 'POST', url: route('auth-with-password'), body: { identity: 'batch@example.com', password: PASSWORD } };
    assert.equal((await batch(signIn)).status, 400);
    const rename = { method: 'PATCH', url: `${users}/${id}`, body: { name: 'x' }, headers: { authorization: token } };
    assert.equal((await batch(rename)).status, 400, 'a token of a part means nothing');
    assertRefused(await app.post(route(`impersonate/${id}`), {}, { token }), 403);
  });

  await t.test('a token is what its signature says, and no more', async () => {
    const { id } = await app.add('signed');
    const token = await app.tokenOf('signed@example.com');
    const [head, claims, signature] = token.split('.');
    const header = JSON.parse(Buffer.from(head, 'base64url'));
    const payload = JSON.parse(Buffer.from(claims, 'base64url'));
    const none = (alg) => `${encode({ ...header, alg })}.${claims}.`;
    const signed = (own, key) => {
      const text = `${encode(own)}.${claims}`;
      return `${text}.${createHmac('sha256', key).update(text).digest('base64url')}`;
    };
    const forged = {
      'alg none': none('none'),
      'alg None': none('None'),
      'alg none with the signature': `${none('none')}${signature}`,
      'another algorithm': `${encode({ ...header, alg: 'HS512' })}.${claims}.${signature}`,
      'a public key': `${encode({ ...header, alg: 'RS256' })}.${claims}.${signature}`,
      'an empty key': signed(header, ''),
      'its own kid as the key': signed(header, header.kid ?? ''),
      'another kid': `${encode({ ...header, kid: `${header.kid}9` })}.${claims}.${signature}`,
      'a kid that is a path': signed({ ...header, kid: '../../dev/null' }, ''),
      'the kid of a neighbour': `${encode({ ...header, kid: (header.kid ?? '').replace('default', 'left') })}.${claims}.${signature}`,
      'a key of its own': signed({ ...header, jwk: { kty: 'oct', k: '' }, jku: 'http://127.0.0.1/' }, ''),
      'longer life': `${head}.${encode({ ...payload, exp: payload.exp + 3600 })}.${signature}`,
      'another record': `${head}.${encode({ ...payload, id: 'x'.repeat(15) })}.${signature}`,
      'another collection': `${head}.${encode({ ...payload, collectionId: 'pbc_3142635823' })}.${signature}`,
      'no signature': `${head}.${claims}.`,
      'two parts': `${head}.${claims}`,
      'a part more': `${token}.${signature}`,
      'a cut signature': token.slice(0, -2),
    };
    for (const [name, each] of Object.entries(forged)) {
      assert.equal(await app.isGood(each), false, name);
      assert.notEqual((await app.get(`${users}/${id}`, { token: each })).status, 200, name);
    }
    assert.equal(await app.isGood(token), true);
    assertRefused(await app.get(`${users}/${id}`, { token, tenant: 'left' }), 401);
    await app.ask('request-password-reset', { email: 'signed@example.com' });
    const reset = await app.linkOf('signed@example.com', 'confirm-password-reset');
    assert.equal(await app.isGood(reset.token), false, 'one for another thing');
    const confirm = await app.post(route('confirm-password-reset'), { token, ...both('another-password-1') }, guest);
    assert.equal(confirm.status, 400, 'nor the other way round');
  });

  await t.test('no secret is in a log or an event', async () => {
    const { events } = await readFeed(app.server, app.token, { query: '&types=*,_*' });
    const logs = await app.get('/api/logs?perPage=500');
    const places = { events: JSON.stringify(events), logs: logs.text, 'standard error': app.server.log.join('\n') };
    assert.ok(events.some(({ type }) => type === 'auth.login'));
    for (const [place, text] of Object.entries(places)) {
      for (const secret of app.secrets) assert.ok(!text.includes(secret), `${place} has ${secret.slice(0, 12)}…`);
      assert.ok(!text.includes('$argon2id$'), `${place} has a hash`);
    }
    const keys = events.filter(({ payload, previous }) => payload?.tokenKey || previous?.tokenKey || payload?.password);
    assert.deepEqual(keys, []);
  });
});
