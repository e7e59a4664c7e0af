/**
 * One-time passwords by mail, second factors and authenticator apps: through the stock client where it has a
 * method, over a real mail server, and many at once.
 */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import http from 'node:http';
import { test } from 'node:test';
import PocketBase, { ClientResponseError } from 'pocketbase';
import { actions } from './support/mail.mjs';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { open } from './support/records.mjs';
import { eventually, startMailServer } from './support/smtp.mjs';

const password = 'secret-1234';
const route = (collection, action) => `/api/collections/${collection}/${action}`;
const codeIn = (mail) => /\b\d{6}\b/.exec(mail.text)[0];
const otp = { enabled: true, length: 6, duration: 180 };

/** An auth collection without indexes of its own. */
const people = (name, rest = {}) => ({ name, type: 'auth', ...open, fields: [], otp, ...rest });

/** A server with a mail server and what tests ask of them. */
async function start(t) {
  const api = await operator(t);
  const smtp = await startMailServer(t);
  await actions(api.server, api.token).useSmtp(smtp.port);
  const guest = (collection, action, body, token) =>
    api.post(route(collection, action), body, { token });
  return {
    ...api,
    smtp,
    guest,
    async person(collection, name, more = {}) {
      const email = `${name}@example.com`;
      const both = { password, passwordConfirm: password };
      return api.create(collection, { email, ...both, ...more });
    },
    /** The id and the code, once it is noted where the mail went. */
    async code(collection, email) {
      const asked = await guest(collection, 'request-otp', { email });
      assert.equal(asked.status, 200, asked.text);
      const { otpId } = asked.body;
      const code = codeIn(await smtp.take(email));
      await eventually('sentTo', async () => {
        const { body } = await api.get(`/api/collections/_otps/records/${otpId}`);
        return body.sentTo === email;
      });
      return { otpId, password: code };
    },
    login: (collection, name, body = {}) =>
      guest(collection, 'auth-with-password', {
        identity: `${name}@example.com`,
        password,
        ...body,
      }),
    async events(types) {
      const { body } = await api.get(`/api/events?types=${types}&order=desc&limit=100`);
      return body.events;
    },
    verified: async (collection, id) =>
      (await api.get(`/api/collections/${collection}/records/${id}`)).body.verified,
  };
}

/** A request from another address of this machine. */
function from(server, address, path, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(server.url + path, {
      method: 'POST',
      localAddress: address,
      headers: { 'content-type': 'application/json' },
    });
    request.on('error', reject);
    request.on('response', async (answer) => {
      let text = '';
      for await (const part of answer) text += part;
      resolve({ status: answer.statusCode, text, body: JSON.parse(text) });
    });
    request.end(JSON.stringify(body));
  });
}

/** So many at once, each from an address of its own. */
const crowd = (count, each) =>
  Promise.all(Array.from({ length: count }, (_, i) => each(`127.0.1.${i + 1}`)));

const countOf = (answers, status) => answers.filter((answer) => answer.status === status).length;

/** An authenticator app: a code for each step, none twice. */
class App {
  #last = 0;
  constructor(secret) {
    const bits = [...secret].map((c) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c));
    const text = bits.map((value) => value.toString(2).padStart(5, '0')).join('');
    this.key = Buffer.from(text.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  }
  at(step) {
    const counter = Buffer.alloc(8);
    counter.writeBigUInt64BE(BigInt(step));
    const mac = createHmac('sha1', this.key).update(counter).digest();
    const number = mac.readUInt32BE(mac[19] & 15) & 0x7fffffff;
    return String(number % 1_000_000).padStart(6, '0');
  }
  /** The first of those that are good now and were not used. */
  async next() {
    const now = () => Math.floor(Date.now() / 30_000);
    await eventually('a code that was not used', () => this.#last <= now(), 35_000);
    this.#last = Math.max(this.#last + 1, now() - 1);
    return this.at(this.#last);
  }
}

async function oneTimePasswords(t, api) {
  await api.define(people('folk'));
  const seen = [];

  await t.test('the stock client signs in, and the address is proven', async () => {
    const { id } = await api.person('folk', 'ann');
    const pb = new PocketBase(api.server.url);
    const { otpId } = await pb.collection('folk').requestOTP('ann@example.com');
    const code = codeIn(await api.smtp.take('ann@example.com'));
    seen.push(code);
    await eventually('sentTo', async () => {
      const { body } = await api.get(`/api/collections/_otps/records/${otpId}`);
      return body.sentTo === 'ann@example.com';
    });
    assert.equal(await api.verified('folk', id), false);
    const { record } = await pb.collection('folk').authWithOTP(otpId, code);
    assert.equal(record.verified, true);
    assert.equal((await pb.collection('folk').authRefresh()).record.id, id);
    await assert.rejects(pb.collection('folk').authWithOTP(otpId, code), ClientResponseError);
    // Whoever took the address before its owner came does not get in any more.
    assertRefused(await api.login('folk', 'ann'), 400);
    const [event] = await api.events('auth.otp_requested');
    assert.deepEqual(Object.keys(event.payload).sort(), [
      'collection',
      'id',
      'remoteAddress',
      'userAgent',
    ]);
    assert.equal(event.subject, `folk/${id}`);
  });

  await t.test('a code that comes back before its mail has left proves no address', async () => {
    const { id } = await api.person('folk', 'bob');
    const made = await api.create('_otps', {
      collectionRef: (await api.get('/api/collections/folk')).body.id,
      recordRef: id,
      password: '12345678',
    });
    const answer = await api.guest('folk', 'auth-with-otp', {
      otpId: made.id,
      password: '12345678',
    });
    assert.equal(answer.status, 200, answer.text);
    assert.equal(answer.body.record.verified, false);
    assert.equal((await api.login('folk', 'bob')).status, 200, 'the password stays');
  });

  await t.test('an address that nobody has gets the same answer', async () => {
    const known = await api.guest('folk', 'request-otp', { email: 'bob@example.com' });
    const unknown = await api.guest('folk', 'request-otp', { email: 'nobody@example.com' });
    assert.deepEqual([known.status, unknown.status], [200, 200]);
    for (const { body } of [known, unknown]) assert.match(body.otpId, /^[a-z0-9]{15}$/);
    assert.deepEqual(Object.keys(known.body), Object.keys(unknown.body));
    const wrong = { password: '000000' };
    const [a, b] = [
      await api.guest('folk', 'auth-with-otp', { otpId: known.body.otpId, ...wrong }),
      await api.guest('folk', 'auth-with-otp', { otpId: unknown.body.otpId, ...wrong }),
    ];
    assert.deepEqual([a.status, a.body.message], [b.status, b.body.message]);
  });

  await t.test('what is wrong with a request is said by field', async () => {
    assertProblems(await api.guest('folk', 'request-otp', {}), { email: 'validation_required' });
    assertProblems(await api.guest('folk', 'request-otp', { email: 'x' }), {
      email: 'validation_is_email',
    });
    assertProblems(await api.guest('folk', 'auth-with-otp', {}), {
      otpId: 'validation_required',
      password: 'validation_required',
    });
    assertRefused(await api.guest('users', 'request-otp', { email: 'a@example.com' }), 403);
  });

  await t.test('a code dies after five wrong ones, from wherever they come', async () => {
    await api.person('folk', 'cid');
    const shown = await api.code('folk', 'cid@example.com');
    const path = route('folk', 'auth-with-otp');
    const wrong = { ...shown, password: shown.password === '000000' ? '111111' : '000000' };
    for (let i = 1; i <= 5; i++)
      assertRefused(await from(api.server, `127.0.2.${i}`, path, wrong), 400);
    assertRefused(await from(api.server, '127.0.2.9', path, shown), 400);
  });

  await t.test('five guesses in three minutes are what one address has, at nobody too', async () => {
    const { id } = await api.person('folk', 'dan');
    for (const email of ['dan@example.com', 'nobody.else@example.com']) {
      const ask = async () => (await api.guest('folk', 'request-otp', { email })).body.otpId;
      const [otpId, other] = [await ask(), await ask()];
      const enter = (what) => api.guest('folk', 'auth-with-otp', { otpId: what, password: 'no' });
      for (let i = 0; i < 3; i++) assertRefused(await enter(otpId), 400);
      for (let i = 0; i < 2; i++) assertRefused(await enter(other), 400);
      assertRefused(await enter(other), 429);
    }
    assert.equal(await api.verified('folk', id), false);
  });

  await t.test('of a hundred at once with one code one wins', async () => {
    await api.person('folk', 'eve');
    const shown = await api.code('folk', 'eve@example.com');
    const path = route('folk', 'auth-with-otp');
    const answers = await crowd(100, (address) => from(api.server, address, path, shown));
    assert.equal(countOf(answers, 200), 1);
    assert.equal(countOf(answers, 400), 99);
  });

  await t.test('who asks again and again gets the last of ten, for nobody too', async () => {
    await api.person('folk', 'fay');
    for (const email of ['fay@example.com', 'nobody.at.all@example.com']) {
      const ids = [];
      for (let i = 0; i < 12; i++)
        ids.push((await api.guest('folk', 'request-otp', { email })).body.otpId);
      assert.equal(new Set(ids).size, 10);
      assert.deepEqual(ids.slice(10), [ids[9], ids[9]]);
    }
  });

  await t.test('no event and no row shows a code', async () => {
    const page = await api.get('/api/events?limit=1000');
    const rows = await api.get('/api/collections/_otps/records?perPage=500');
    for (const code of seen) {
      assert.ok(!page.text.includes(code));
      assert.ok(!rows.text.includes(code));
    }
    assert.ok(rows.body.items.length > 0);
    for (const row of rows.body.items) assert.ok(!row.password);
  });
}

async function twoFactors(t, api) {
  const mfa = { enabled: true, duration: 600 };
  await api.define(people('pairs', { mfa }));
  await api.define(people('some', { mfa: { ...mfa, rule: 'verified = true' } }));
  for (const name of ['amy', 'gus', 'hal']) await api.person('pairs', name, { verified: true });

  await t.test('the stock client: one thing, then another', async () => {
    const pb = new PocketBase(api.server.url);
    const first = await pb
      .collection('pairs')
      .authWithPassword('amy@example.com', password)
      .catch((error) => error);
    assert.equal(first.status, 401);
    assert.deepEqual(Object.keys(first.response), ['mfaId']);
    const { mfaId } = first.response;
    const shown = await api.code('pairs', 'amy@example.com');
    const { record } = await pb
      .collection('pairs')
      .authWithOTP(shown.otpId, shown.password, { mfaId });
    assert.equal(record.email, 'amy@example.com');
    const [event] = await api.events('auth.login');
    assert.equal(event.subject, `pairs/${record.id}`);
    assert.equal(event.payload.method, 'otp');
  });

  await t.test('the same thing twice is one thing', async () => {
    const { body } = await api.login('pairs', 'gus');
    const again = await api.login('pairs', 'gus', { mfaId: body.mfaId });
    assertRefused(again, 400);
    assert.equal(again.body.message, 'A different authentication method is required.');
  });

  await t.test('an id of nobody, or of somebody else, is none', async () => {
    const { body } = await api.login('pairs', 'gus');
    const shown = await api.code('pairs', 'hal@example.com');
    const enter = (mfaId) => api.guest('pairs', 'auth-with-otp', { ...shown, mfaId });
    assert.equal((await enter('nope')).body.message, 'Invalid or expired MFA session.');
    assert.equal((await enter(body.mfaId)).body.message, 'Invalid MFA session.');
    const { mfaId } = (await api.login('pairs', 'hal')).body;
    assert.equal((await enter(mfaId)).status, 200, 'a refused one uses up no code');
  });

  await t.test('a code is used up by the first factor too, and verifies as the second', async () => {
    const { id } = await api.person('pairs', 'ivy');
    const shown = await api.code('pairs', 'ivy@example.com');
    const first = await api.guest('pairs', 'auth-with-otp', shown);
    assert.equal(first.status, 401, first.text);
    assertRefused(await api.guest('pairs', 'auth-with-otp', shown), 400);
    const second = await api.login('pairs', 'ivy', { mfaId: first.body.mfaId });
    assert.equal(second.status, 200, second.text);
    assert.equal(await api.verified('pairs', id), false);
    const { mfaId } = (await api.login('pairs', 'ivy')).body;
    const other = await api.code('pairs', 'ivy@example.com');
    const both = await api.guest('pairs', 'auth-with-otp', { ...other, mfaId });
    assert.equal(both.status, 200, both.text);
    assert.equal(await api.verified('pairs', id), true);
    assert.equal((await api.login('pairs', 'ivy')).status, 401, 'the password was shown: it stays');
  });

  await t.test('a code that is but the first makes no account of a stranger a verified one', async () => {
    const { id } = await api.person('pairs', 'kim');
    const shown = await api.code('pairs', 'kim@example.com');
    assert.equal((await api.guest('pairs', 'auth-with-otp', shown)).status, 401);
    assert.equal(await api.verified('pairs', id), false, 'her next way in takes off what he has left');
  });

  await t.test('of many at once with one id one wins', async () => {
    const shown = await api.code('pairs', 'gus@example.com');
    const { mfaId } = (await api.guest('pairs', 'auth-with-otp', shown)).body;
    const body = { identity: 'gus@example.com', password, mfaId };
    const path = route('pairs', 'auth-with-password');
    const answers = await crowd(12, (address) => from(api.server, address, path, body));
    assert.equal(countOf(answers, 200), 1);
    assert.equal(countOf(answers, 400), 11);
  });

  await t.test('mfa.rule says of whom it is asked', async () => {
    const { id } = await api.person('some', 'jon');
    assert.equal((await api.login('some', 'jon')).status, 200);
    await api.patch(`/api/collections/some/records/${id}`, { verified: true });
    assert.equal((await api.login('some', 'jon')).status, 401);
  });

  await t.test('of whom it is not asked, a code alone takes off what a stranger knows', async () => {
    const { id } = await api.person('some', 'lou');
    const stranger = (await api.login('some', 'lou')).body.token;
    const shown = await api.code('some', 'lou@example.com');
    const answer = await api.guest('some', 'auth-with-otp', shown);
    assert.equal(answer.status, 200, answer.text);
    assert.equal(await api.verified('some', id), true);
    assertRefused(await api.login('some', 'lou'), 400);
    assertRefused(await api.guest('some', 'auth-refresh', {}, stranger), 401);
    assert.equal((await api.guest('some', 'auth-refresh', {}, answer.body.token)).status, 200);
  });
}

async function authenticatorApps(t, api) {
  await api.define(people('owners'));
  const person = await api.person('owners', 'una', { verified: true });
  const { token } = (await api.login('owners', 'una')).body;
  const totp = (action, body, as = token) => api.guest('owners', `totp/${action}`, body, as);
  const second = (mfaId, code) => api.guest('owners', 'auth-with-totp', { mfaId, code });
  const first = async () => {
    const answer = await api.login('owners', 'una');
    assert.equal(answer.status, 401, answer.text);
    return answer.body.mfaId;
  };
  let app, recoveryCodes;

  await t.test('are taken up with the password, and proven', async () => {
    assertRefused(await totp('enroll', { password }, ''), 401);
    assertProblems(await totp('enroll', {}), { password: 'validation_invalid_password' });
    const early = await totp('confirm', { code: '123456' });
    assertRefused(early, 400);
    assert.match(early.body.message, /call totp\/enroll first/);
    const before = (await totp('enroll', { password })).body;
    const { status, body, text } = await totp('enroll', { password });
    assert.equal(status, 200, text);
    assert.notEqual(body.secret, before.secret);
    assert.match(body.secret, /^[A-Z2-7]{32}$/);
    const uri = new URL(body.uri);
    assert.equal(uri.host + decodeURIComponent(uri.pathname), 'totp/Acme:una@example.com');
    assert.deepEqual(Object.fromEntries(uri.searchParams), {
      secret: body.secret,
      issuer: 'Acme',
      algorithm: 'SHA1',
      digits: '6',
      period: '30',
    });
    app = new App(body.secret);
    assert.equal((await api.login('owners', 'una')).status, 200, 'not asked for before it is proven');
    assertProblems(await totp('confirm', { code: '12345' }), { code: 'validation_invalid_code' });
    const confirmed = await totp('confirm', { code: await app.next() });
    assert.equal(confirmed.status, 200, confirmed.text);
    ({ recoveryCodes } = confirmed.body);
    assert.equal(new Set(recoveryCodes).size, 10);
    for (const code of recoveryCodes) assert.match(code, /^([a-z2-7]{4}-){3}[a-z2-7]{4}$/);
    const [event] = await api.events('auth.mfa_enabled');
    assert.equal(event.subject, `owners/${person.id}`);
    assert.equal(event.actor, `owners/${person.id}`);
    assertRefused(await totp('enroll', { password }), 400);
  });

  await t.test('are asked for whatever the collection says, and each code is good once', async () => {
    const code = await app.next();
    const spaced = `${code.slice(0, 3)} ${code.slice(3)}`;
    const answer = await second(await first(), spaced);
    assert.equal(answer.status, 200, answer.text);
    assert.equal(answer.body.record.id, person.id);
    assertRefused(await second(await first(), code), 400);
    assertRefused(await second('nope', await app.next()), 400);
    assertProblems(await second('', code), { mfaId: 'validation_required' });
  });

  await t.test('a mailbox alone is not two factors', async () => {
    const shown = await api.code('owners', 'una@example.com');
    const answer = await api.guest('owners', 'auth-with-otp', { ...shown, mfaId: await first() });
    assertRefused(answer, 400);
  });

  await t.test('a code of recovery is good once, of many at once', async () => {
    const [code, other] = recoveryCodes;
    const path = route('owners', 'auth-with-totp');
    const body = { mfaId: await first(), code };
    const answers = await crowd(100, (address) => from(api.server, address, path, body));
    assert.equal(countOf(answers, 200), 1);
    assertRefused(await second(await first(), code), 400);
    assert.equal((await second(await first(), other.toUpperCase())).status, 200);
  });

  await t.test('guesses at codes end, those of recovery are judged still', async () => {
    const path = route('owners', 'auth-with-totp');
    const mfaId = await first();
    const body = { mfaId, code: '000' };
    const answers = [];
    for (let i = 1; i <= 6; i++) answers.push(await from(api.server, `127.0.3.${i}`, path, body));
    assert.equal(answers[5].status, 429);
    assert.equal((await second(mfaId, recoveryCodes[2])).status, 200);
  });

  await t.test('neither secret nor code is shown anywhere', async () => {
    const events = await api.get('/api/events?limit=1000');
    const row = await api.get('/api/collections/_totps/records');
    assert.equal(row.status, 200, row.text);
    assert.equal(row.body.items.length, 1);
    for (const { text } of [events, row])
      for (const secret of [app.key.toString('base64url'), ...recoveryCodes])
        assert.ok(!text.includes(secret));
    assert.ok(!row.body.items[0].secret && !row.body.items[0].recovery);
    assertRefused(await api.get('/api/collections/_totps/records', { token }), 403);
  });

  await t.test('are given up with a code or the password, or taken off by a superuser', async () => {
    assertProblems(await totp('disable', {}), { code: 'validation_required' });
    assertProblems(await totp('disable', { password: 'wrong-1234' }), {
      password: 'validation_invalid_password',
    });
    assert.equal((await totp('disable', { password })).status, 204);
    const [event] = await api.events('auth.mfa_disabled');
    assert.equal(event.actor, `owners/${person.id}`);
    assert.equal((await api.login('owners', 'una')).status, 200);
    const again = new App((await totp('enroll', { password })).body.secret);
    assert.equal((await totp('confirm', { code: await again.next() })).status, 200);
    assertRefused(await totp('disable', { record: person.id }), 403);
    const path = route('owners', 'totp/disable');
    assert.equal((await api.post(path, { record: person.id })).status, 204);
    const [taken] = await api.events('auth.mfa_disabled');
    assert.match(taken.actor, /^_superusers\//);
    assert.equal((await api.login('owners', 'una')).status, 200);
  });

  await t.test('are nothing for who took the address of somebody else', async () => {
    await api.person('owners', 'vic');
    const stranger = (await api.login('owners', 'vic')).body.token;
    const refused = await totp('enroll', { password }, stranger);
    assertRefused(refused, 403);
    assert.match(refused.body.message, /verify it first/);
    assertRefused(await totp('confirm', { code: '123456' }, stranger), 403);
    const shown = await api.code('owners', 'vic@example.com');
    const answer = await api.guest('owners', 'auth-with-otp', shown);
    assert.equal(answer.status, 200, answer.text);
    assert.equal(answer.body.record.verified, true);
    assertRefused(await api.login('owners', 'vic'), 400);
    assertRefused(await api.guest('owners', 'auth-refresh', {}, stranger), 401);
  });

  await t.test('no mailbox takes them off an account that is not verified any more', async () => {
    const { id } = await api.person('owners', 'wes', { verified: true });
    const { token: own } = (await api.login('owners', 'wes')).body;
    const { secret } = (await totp('enroll', { password }, own)).body;
    const mine = new App(secret);
    assert.equal((await totp('confirm', { code: await mine.next() }, own)).status, 200);
    await api.patch(`/api/collections/owners/records/${id}`, { verified: false });
    const shown = await api.code('owners', 'wes@example.com');
    const mailbox = await api.guest('owners', 'auth-with-otp', shown);
    assert.equal(mailbox.status, 401, mailbox.text);
    const answer = await second(mailbox.body.mfaId, await mine.next());
    assert.equal(answer.status, 200, answer.text);
    await api.remove(`/api/collections/owners/records/${id}`);
  });

  await t.test('go with their record', async () => {
    const again = new App((await totp('enroll', { password })).body.secret);
    assert.equal((await totp('confirm', { code: await again.next() })).status, 200);
    await api.remove(`/api/collections/owners/records/${person.id}`);
    const { body } = await api.get('/api/collections/_totps/records');
    assert.equal(body.items.length, 0);
  });
}

test('one-time passwords, second factors, authenticator apps', async (t) => {
  const api = await start(t);
  await t.test('one-time passwords', (each) => oneTimePasswords(each, api));
  await t.test('two factors', (each) => twoFactors(each, api));
  await t.test('authenticator apps', (each) => authenticatorApps(each, api));
});
