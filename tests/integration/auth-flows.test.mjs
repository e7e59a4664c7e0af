/**
 * Everything of an account that goes by mail, with the stock client and a real mail server: verifying an
 * address, a new password, another address, and the alert of a sign-in from a new place.
 */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import PocketBase, { BaseAuthStore } from 'pocketbase';
import { preload } from './reliability/support/machine.mjs';
import { actions } from './support/mail.mjs';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { startServer, temporaryFolder } from './support/program.mjs';
import { recordsPath } from './support/records.mjs';
import { eventually, refuse, startMailServer } from './support/smtp.mjs';
import { operatorToken } from './support/superuser.mjs';

const PASSWORD = 'secret-1234';
const APP_URL = 'https://app.example.org/base';
const both = (password) => ({ password, passwordConfirm: password });
const route = (action, collection = 'users') => `/api/collections/${collection}/${action}`;
const partOf = (token, i) => JSON.parse(Buffer.from(token.split('.')[i], 'base64url'));
const headOf = (token) => partOf(token, 0);
const claimsOf = (token) => partOf(token, 1);
const tokenIn = (mail) => /eyJ[\w-]+\.[\w-]+\.[\w-]+/.exec(mail.text)[0];
/** What an authenticator app shows for the secret of its URI. */
function appCode(secret) {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  const bits = [...secret].map((c) => letters.indexOf(c).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g).map((each) => parseInt(each, 2)));
  const step = Buffer.alloc(8);
  step.writeBigInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const mac = createHmac('sha1', key).update(step).digest();
  const number = mac.readUInt32BE(mac[19] & 15) & 0x7fffffff;
  return String(number % 1e6).padStart(6, '0');
}
const INVALID = { token: 'validation_invalid_token' };

/** A server whose mails come here, and what the tests do with it. */
async function world(t, options, on) {
  const api = await operator(t, options);
  const mails = actions(api.server, api.token);
  const smtp = await startMailServer(t, {}, { on });
  await mails.useSmtp(smtp.port);
  await mails.set({ meta: { appName: 'Kitchen', appURL: APP_URL } });
  const guest = (action, body, more = {}) =>
    api.server.request('POST', route(action, more.collection), body, more);
  const client = () => new PocketBase(api.server.url, new BaseAuthStore());
  return {
    ...api,
    smtp,
    guest,
    client,
    user: (email, rest = {}) => api.create('users', { email, ...both(PASSWORD), ...rest }),
    view: async (id) => (await api.get(recordsPath('users', id))).body,
    login: (identity, password, more) => guest('auth-with-password', { identity, password }, more),
    /** A ticket that came by mail. */
    async ticket(action, email, more) {
      const answer = await guest(`request-${action}`, { email }, more);
      assert.equal(answer.status, 204, answer.text);
      return tokenIn(await smtp.take(email));
    },
    /** Mails that are there when none is on its way any more. What is new is not listed at once, so one of
     * our own goes first: what was asked for before it is listed by then, or over. */
    async settled() {
      await mails.send({ to: 'last@example.com' });
      await smtp.take('last@example.com');
      await eventually('the end of all mails', async () => {
        const { body } = await api.get('/api/work');
        return body.totalItems === 0;
      });
      return smtp.mails;
    },
    async events(type) {
      const { body } = await api.get(`/api/events?types=${type}&limit=1000`);
      return body.events;
    },
  };
}

test('an address is verified', async (t) => {
  const w = await world(t);
  const ann = await w.user('ann@example.com');

  await t.test('by the link of a mail, with the stock client', async () => {
    const pb = w.client();
    await pb.collection('users').authWithPassword('ann@example.com', PASSWORD);
    assert.equal(await pb.collection('users').requestVerification('ann@example.com'), true);
    const mail = await w.smtp.take('ann@example.com');
    const token = tokenIn(mail);
    assert.ok(mail.text.includes(`${APP_URL}/_/#/auth/confirm-verification/${token}`), mail.text);
    const { exp, ...claims } = claimsOf(token);
    assert.deepEqual(claims, {
      id: ann.id,
      collectionId: '_pb_users_auth_',
      type: 'verification',
      email: 'ann@example.com',
    });
    assert.ok(Math.abs(exp - Date.now() / 1000 - 86400) < 60);
    assert.ok(Buffer.from(headOf(token).jti, 'base64url').length >= 16, 'at least 128 bits');
    assert.equal(await pb.collection('users').confirmVerification(token), true);
    assert.equal(pb.authStore.record.verified, true, 'the client has learnt it');
    assert.equal((await w.view(ann.id)).verified, true);
    const [event, ...others] = await w.events('auth.verified');
    assert.deepEqual(others, []);
    assert.equal(event.subject, `users/${ann.id}`);
    assert.equal(event.actor, `users/${ann.id}`, 'who has the mail acts for the record');
    assert.equal(event.payload.remoteAddress, '127.0.0.1');
    assert.ok(!JSON.stringify(event).includes(token));
    assert.equal((await w.guest('confirm-verification', { token })).status, 204, 'as good as used');
    assert.equal((await w.events('auth.verified')).length, 1);
  });

  await t.test('of many who come with one ticket, one does it', async () => {
    await w.user('race@example.com');
    const token = await w.ticket('verification', 'race@example.com');
    const before = (await w.events('auth.verified')).length;
    const answers = await Promise.all(
      Array.from({ length: 100 }, () => w.guest('confirm-verification', { token })),
    );
    const statuses = new Set(answers.map(({ status }) => status));
    assert.ok(statuses.has(204) && [...statuses].every((status) => [204, 400].includes(status)));
    assert.equal((await w.events('auth.verified')).length, before + 1);
  });

  await t.test('whoever is asked for: the same answer, and one mail in two minutes', async () => {
    await w.user('often@example.com');
    const ask = (email) => w.guest('request-verification', { email });
    const answers = await Promise.all(
      ['often', 'often', 'often', 'nobody', 'ann'].map((name) => ask(`${name}@example.com`)),
    );
    for (const { status, text } of answers) assert.deepEqual([status, text], [204, '']);
    const known = (await w.settled()).flatMap(({ recipients }) => recipients);
    assert.deepEqual(known, ['often@example.com']);
  });

  await t.test('what is wrong is said in the words of the contract', async () => {
    const { body } = await w.login('ann@example.com', PASSWORD);
    const confirm = (token, collection) =>
      w.guest('confirm-verification', { token }, { collection });
    const claims = { token: 'validation_invalid_token_claims' };
    assertProblems(await confirm(''), { token: 'validation_required' });
    assertProblems(await confirm('nonsense'), claims);
    assertProblems(await confirm(body.token), claims);
    assertRefused(await confirm({}), 400);
    await w.define({ name: 'members', type: 'auth' });
    await w.user('else@example.com');
    const token = await w.ticket('verification', 'else@example.com');
    assertProblems(await confirm(token, 'members'), {
      token: 'validation_token_collection_mismatch',
    });
    const secret = { secret: 'one for all of them, by mistake of an operator' };
    await w.define({
      name: 'alike',
      type: 'auth',
      verificationToken: secret,
      passwordResetToken: secret,
    });
    const more = { collection: 'alike' };
    await w.create('alike', { email: 'alike@example.com', ...both(PASSWORD) });
    const other = await w.ticket('verification', 'alike@example.com', more);
    const misused = { token: other, ...both('other-1234') };
    assertProblems(await w.guest('confirm-password-reset', misused, more), INVALID);
    assertProblems(await w.guest('request-verification', { email: 'x' }), {
      email: 'validation_is_email',
    });
    assertRefused(await confirm(token, '_superusers'), 400);
  });

  await t.test('in a collection without passwords, one from before is worth nothing', async () => {
    await w.define({ name: 'guests', type: 'auth', passwordAuth: { enabled: false } });
    const email = 'hijacked@example.com';
    await w.create('guests', { email, ...both(PASSWORD) });
    const token = await w.ticket('verification', email, { collection: 'guests' });
    const answer = await w.guest('confirm-verification', { token }, { collection: 'guests' });
    assert.equal(answer.status, 204, answer.text);
    await w.patch('/api/collections/guests', { passwordAuth: { enabled: true } });
    assertRefused(await w.login(email, PASSWORD, { collection: 'guests' }), 400);
  });
});

test('a password is reset', async (t) => {
  const w = await world(t);
  const link = (user, providerId, provider = 'google') =>
    w.create('_externalAuths', {
      collectionRef: '_pb_users_auth_',
      recordRef: user.id,
      provider,
      providerId,
    });
  const links = async (user) =>
    (await w.get(`${recordsPath('_externalAuths')}?filter=recordRef="${user.id}"`)).body.totalItems;

  await t.test('and with it goes what somebody has left there before', async () => {
    const ann = await w.user('ann@example.com');
    await link(ann, 'of a stranger');
    const { token: session } = (await w.login('ann@example.com', PASSWORD)).body;
    const own = { token: session };
    assertRefused(await w.guest('totp/enroll', { password: PASSWORD }, own), 403);
    const pb = w.client();
    assert.equal(await pb.collection('users').requestPasswordReset('ann@example.com'), true);
    const mail = await w.smtp.take('ann@example.com');
    const token = tokenIn(mail);
    assert.ok(mail.text.includes(`${APP_URL}/_/#/auth/confirm-password-reset/${token}`));
    await pb.collection('users').confirmPasswordReset(token, 'next-1234', 'next-1234');
    assert.equal((await w.view(ann.id)).verified, true, 'who gets the mail has the address');
    assert.equal(await links(ann), 0);
    assertRefused(await w.guest('auth-refresh', {}, { token: session }), 401);
    assertRefused(await w.login('ann@example.com', PASSWORD), 400);
    assert.equal((await w.login('ann@example.com', 'next-1234')).status, 200, 'and no app');
    const [event] = await w.events('auth.password_reset');
    assert.equal(event.subject, `users/${ann.id}`);
    assert.equal(event.actor, `users/${ann.id}`);
    assert.equal((await w.events('auth.verified')).length, 1);
    const again = await w.guest('confirm-password-reset', { token, ...both('third-1234') });
    assertProblems(again, INVALID);
  });

  await t.test('but an authenticator app is not taken off by a mailbox', async () => {
    const user = await w.user('kay@example.com', { verified: true });
    const own = { token: (await w.login('kay@example.com', PASSWORD)).body.token };
    const app = await w.guest('totp/enroll', { password: PASSWORD }, own);
    const code = appCode(app.body.secret);
    assert.equal((await w.guest('totp/confirm', { code }, own)).status, 200);
    await w.patch(recordsPath('users', user.id), { verified: false });
    const token = await w.ticket('password-reset', 'kay@example.com');
    const answer = await w.guest('confirm-password-reset', { token, ...both('next-1234') });
    assert.equal(answer.status, 204, answer.text);
    assert.equal((await w.login('kay@example.com', 'next-1234')).status, 401);
    assert.equal((await w.events('auth.mfa_disabled')).length, 0);
  });

  await t.test('who was verified keeps the accounts that are linked', async () => {
    const bob = await w.user('bob@example.com', { verified: true });
    await link(bob, 'his own');
    const token = await w.ticket('password-reset', 'bob@example.com');
    const answer = await w.guest('confirm-password-reset', { token, ...both('next-1234') });
    assert.equal(answer.status, 204, answer.text);
    assert.equal(await links(bob), 1);
  });

  await t.test('what was linked before the address was proven goes, though a click has proven it', async () => {
    const mia = await w.user('mia@example.com');
    await link(mia, 'of a stranger, before');
    const click = await w.ticket('verification', 'mia@example.com');
    assert.equal((await w.guest('confirm-verification', { token: click })).status, 204);
    assert.equal(await links(mia), 1, 'the click vouches for the account as it is');
    await link(mia, 'her own, since', 'github');
    const token = await w.ticket('password-reset', 'mia@example.com');
    assert.equal((await w.guest('confirm-password-reset', { token, ...both('next-1234') })).status, 204);
    const { items } = (await w.get(`${recordsPath('_externalAuths')}?filter=recordRef="${mia.id}"`)).body;
    assert.deepEqual(items.map(({ providerId }) => providerId), ['her own, since']);
  });

  await t.test('of many who come with one ticket, one wins', async () => {
    await w.user('race@example.com');
    const token = await w.ticket('password-reset', 'race@example.com');
    const before = (await w.events('auth.password_reset')).length;
    const length = process.env.BAKEND_LONG ? 100 : 40; // each costs a hash
    const passwords = Array.from({ length }, (_, i) => `number-${1000 + i}`);
    const answers = await Promise.all(
      passwords.map((each) => w.guest('confirm-password-reset', { token, ...both(each) })),
    );
    const won = passwords.filter((_, i) => answers[i].status === 204);
    assert.equal(won.length, 1, JSON.stringify(answers.map(({ status }) => status)));
    for (const { status } of answers) assert.ok([204, 400, 429].includes(status), status);
    assert.equal((await w.events('auth.password_reset')).length, before + 1);
    assert.equal((await w.login('race@example.com', won[0])).status, 200);
  });

  await t.test('a ticket is of no use once the password was changed in another way', async () => {
    const cy = await w.user('cy@example.com');
    const token = await w.ticket('password-reset', 'cy@example.com');
    await w.patch(recordsPath('users', cy.id), both('changed-1234'));
    assertProblems(
      await w.guest('confirm-password-reset', { token, ...both('next-1234') }),
      INVALID,
    );
  });

  await t.test('what is wrong with the passwords does not use it up', async () => {
    await w.user('dee@example.com');
    const token = await w.ticket('password-reset', 'dee@example.com');
    const confirm = (body) => w.guest('confirm-password-reset', { token, ...body });
    assertProblems(await confirm(both('short')), { password: 'validation_length_out_of_range' });
    assertProblems(await confirm({ password: 'next-1234', passwordConfirm: 'else-1234' }), {
      passwordConfirm: 'validation_values_mismatch',
    });
    assertProblems(
      await confirm(both('x'.repeat(100))),
      { password: 'validation_max_text_constraint' },
      'Failed to set new password.',
    );
    assertProblems(await w.guest('confirm-password-reset', {}), {
      token: 'validation_required',
      password: 'validation_required',
      passwordConfirm: 'validation_required',
    });
    assert.equal((await confirm(both('next-1234'))).status, 204);
  });

  await t.test('superusers, too', async () => {
    const email = 'operator@example.com';
    const collection = '_superusers';
    const token = await w.ticket('password-reset', email, { collection });
    const answer = await w.guest(
      'confirm-password-reset',
      { token, ...both('next-12345') },
      { collection },
    );
    assert.equal(answer.status, 204, answer.text);
    assert.equal((await w.login(email, 'next-12345', { collection })).status, 200);
  });
});

test('another address', async (t) => {
  const w = await world(t);
  const ann = await w.user('ann@example.com');
  await w.user('taken@example.com');
  const pb = w.client();
  await pb.collection('users').authWithPassword('ann@example.com', PASSWORD);
  const session = pb.authStore.token;

  await t.test('is asked for by who is signed in', async () => {
    const ask = (newEmail, token = session) => w.guest('request-email-change', { newEmail }, { token });
    assertRefused(await ask('new@example.com', ''), 401);
    assertRefused(await ask('new@example.com', w.token), 403);
    assertProblems(await ask(''), { newEmail: 'validation_required' });
    assertProblems(await ask('nope'), { newEmail: 'validation_is_email' });
    assertProblems(await ask('ann@example.com'), { newEmail: 'validation_not_in_invalid' });
    assertProblems(await ask('taken@example.com'), { newEmail: 'validation_invalid_new_email' });
    assert.equal(await pb.collection('users').requestEmailChange('new@example.com'), true);
  });

  await t.test('is confirmed by the mail to it and the password', async () => {
    const mail = await w.smtp.take('new@example.com');
    const token = tokenIn(mail);
    const claims = claimsOf(token);
    assert.ok(mail.text.includes(`${APP_URL}/_/#/auth/confirm-email-change/${token}`));
    assert.deepEqual([claims.email, claims.newEmail], ['ann@example.com', 'new@example.com']);
    const confirm = (body) => w.guest('confirm-email-change', body);
    assertProblems(await confirm({ token: 'nope', password: PASSWORD }), {
      token: 'validation_invalid_token_payload',
      password: 'validation_invalid_password',
    });
    assertProblems(await confirm({ token, password: 'wrong-1234' }), {
      password: 'validation_invalid_password',
    });
    assert.equal((await w.view(ann.id)).email, 'ann@example.com');
    assert.equal(await w.client().collection('users').confirmEmailChange(token, PASSWORD), true);
    const { email, verified } = await w.view(ann.id);
    assert.deepEqual([email, verified], ['new@example.com', true]);
    assertRefused(await w.guest('auth-refresh', {}, { token: session }), 401);
    assertProblems(await confirm({ token, password: PASSWORD }), {
      token: 'validation_invalid_token',
      password: 'validation_invalid_password',
    });
    const [event] = await w.events('auth.email_changed');
    assert.equal(event.subject, `users/${ann.id}`);
    assert.equal((await w.login('new@example.com', PASSWORD)).status, 200);
  });

  await t.test('that somebody took meanwhile is refused', async () => {
    const { body } = await w.login('taken@example.com', PASSWORD);
    await w.guest('request-email-change', { newEmail: 'free@example.com' }, { token: body.token });
    const token = tokenIn(await w.smtp.take('free@example.com'));
    await w.user('free@example.com');
    assertProblems(await w.guest('confirm-email-change', { token, password: PASSWORD }), {
      token: 'validation_invalid_token_email',
      password: 'validation_invalid_password',
    });
  });
});

test('links lead where the settings say, whatever host a request names', async (t) => {
  const w = await world(t);
  await w.user('ann@example.com');
  const headers = {
    'x-forwarded-host': 'evil.example',
    'x-forwarded-proto': 'https',
    'x-original-url': 'https://evil.example/',
    forwarded: 'host=evil.example',
    origin: 'https://evil.example',
    referer: 'https://evil.example/',
  };
  const http = await import('node:http');
  for (const action of ['request-verification', 'request-password-reset']) {
    const status = await new Promise((resolve, reject) => {
      const request = http.request(
        new URL(route(action), w.server.url),
        {
          method: 'POST',
          headers: { ...headers, host: 'evil.example', 'content-type': 'application/json' },
        },
        (answer) => answer.resume().on('end', () => resolve(answer.statusCode)),
      );
      request.on('error', reject).end(JSON.stringify({ email: 'ann@example.com' }));
    });
    assert.equal(status, 204);
    const mail = await w.smtp.take('ann@example.com');
    assert.ok(!mail.raw.includes('evil') && !mail.html.includes('evil'), mail.raw);
    const links = [...mail.html.matchAll(/href="([^"]*)"/g)].map(([, to]) => to);
    assert.ok(links.length > 0 && links.every((to) => to.startsWith(`${APP_URL}/`)), `${links}`);
  }
});

test('a sign-in from a new place is told by mail', async (t) => {
  const w = await world(t);
  await w.patch('/api/collections/users', { authAlert: { enabled: true } });
  const ann = await w.user('ann@example.com');
  const from = async (agent) => {
    const headers = { 'user-agent': agent };
    assert.equal((await w.login('ann@example.com', PASSWORD, { headers })).status, 200);
  };
  const origins = async () =>
    (await w.get(`${recordsPath('_authOrigins')}?filter=recordRef="${ann.id}"&sort=created`)).body;

  await from('Kit/1');
  await from('Kit/1');
  assert.deepEqual(await w.settled(), [], 'the first place is known silently');
  await from('Kit/2 <b>bold</b>');
  const mail = await w.smtp.take('ann@example.com');
  assert.ok(mail.text.includes('127.0.0.1 Kit/2 <b>bold</b>'), mail.text);
  assert.ok(!mail.html.includes('<b>bold'), 'what a client says of itself is text');
  await from('Kit/1');
  await from('Kit/2 <b>bold</b>');
  assert.deepEqual(await w.settled(), [], 'and the second, too, from then on');
  const known = await origins();
  assert.equal(known.totalItems, 2);
  assert.match(known.items[0].fingerprint, /^[0-9a-f]{32}$/);

  for (let i = 3; i <= 7; i++) await from(`Kit/${i}`);
  assert.equal((await origins()).totalItems, 5, 'not more than five are kept');
  await w.patch(recordsPath('users', ann.id), both('next-1234'));
  assert.equal((await origins()).totalItems, 0, 'none of before a new password');
});

test('a ticket expires', async (t) => {
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
  const token = await operatorToken(server);
  const smtp = await startMailServer(t);
  const api = actions(server, token);
  await api.useSmtp(smtp.port);
  const email = 'ann@example.com';
  await api.ask('POST', recordsPath('users'), { email, ...both(PASSWORD) });
  const ask = (action, body) => server.request('POST', route(action), body);
  const request = async () => {
    assert.equal((await ask('request-password-reset', { email })).status, 204);
    return tokenIn(await smtp.take(email));
  };
  const first = await request();
  await setClock(1801);
  const late = await ask('confirm-password-reset', { token: first, ...both('next-1234') });
  assertProblems(late, INVALID);
  const second = await request();
  await setClock(0);
  const answer = await ask('confirm-password-reset', { token: second, ...both('next-1234') });
  assert.equal(answer.status, 204, `a clock that is set back: ${answer.text}`);
});

test('a ticket is in no event and no line of the log', async (t) => {
  const w = await world(t);
  const secrets = [];
  await w.user('ann@example.com');
  for (const action of ['verification', 'password-reset'])
    secrets.push(await w.ticket(action, 'ann@example.com'));
  await w.guest('confirm-verification', { token: secrets[0] });
  await w.guest('confirm-password-reset', { token: secrets[1], ...both('next-1234') });
  await w.guest('confirm-password-reset', { token: secrets[1], ...both('canary-1234') });
  await w.settled();
  const said = JSON.stringify(await w.events('*')) + w.server.log.join('\n');
  for (const secret of secrets) {
    assert.ok(!said.includes(secret));
    assert.ok(!said.includes(headOf(secret).jti));
  }
  assert.ok(!said.includes('canary-1234'));
});

test('a ticket whose mail waits is in no file', async (t) => {
  const on = {
    mailFrom: () => {
      throw refuse(451, 'later');
    },
  };
  const w = await world(t, undefined, on);
  await w.user('ann@example.com');
  assert.equal((await w.guest('request-verification', { email: 'ann@example.com' })).status, 204);
  const sent = await w.post('/api/mail', {
    template: 'otp',
    collection: 'users',
    record: (await w.user('bob@example.com')).id,
    variables: { OTP: 'canary-of-a-code', OTP_ID: 'x' },
  });
  assert.equal(sent.status, 202, sent.text);
  const waiting = await eventually('both to have been tried', async () => {
    const { items } = (await w.get('/api/work?filter=kind="mail"')).body;
    return items.length === 2 && items.every(({ attempts }) => attempts > 0) && items;
  });
  const folder = join(w.server.data, 'tenants', 'default');
  const names = (await readdir(folder)).filter((name) => name.startsWith('data.db'));
  const files = names.map((name) => join(folder, name));
  const bytes = (await Promise.all(files.map((file) => readFile(file, 'latin1')))).join('');
  assert.ok(waiting.every(({ id }) => bytes.includes(id)), 'the tasks are in them');
  delete on.mailFrom;
  for (const { id } of waiting) await w.post(`/api/work/${id}/retry`);
  const token = tokenIn(await w.smtp.take('ann@example.com'));
  assert.match((await w.smtp.take('bob@example.com')).text, /canary-of-a-code/);
  assert.ok(!bytes.includes(token) && !bytes.includes(headOf(token).jti));
  assert.ok(!bytes.includes('canary-of-a-code'));
});
