/**
 * What may happen once happens once, however many ask for it at the same moment; and what may happen often is
 * refused to nobody because others ask too.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { smtpOf } from './support/mail.mjs';
import { operator } from './support/operator.mjs';
import { recordsPath } from './support/records.mjs';
import { startMailServer } from './support/smtp.mjs';

const RACERS = 100;
/** Of those that cost a hash each. */
const HASHERS = process.env.BAKEND_LONG ? RACERS : 20;
const PASSWORD = 'secret-1234';
const users = recordsPath('users');
const route = (action) => `/api/collections/users/${action}`;
const guest = { token: undefined };

/** All of them sent before the first is answered; how many were answered with each status. */
async function race(ask, count = RACERS) {
  const answers = await Promise.all(Array.from({ length: count }, (_, index) => ask(index)));
  const counts = {};
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1;
  return { answers, counts };
}

/** One was answered with success, and nobody with a failure of the server. */
function assertOneWinner({ answers, counts }) {
  const winners = answers.filter(({ status }) => status < 300);
  assert.equal(winners.length, 1, JSON.stringify(counts));
  for (const { status, text } of answers) assert.ok(status < 500, text);
  return winners[0];
}

/** A server with mails, and people to sign in. */
async function begin(t, settings = {}) {
  /* Those that are being judged count as failures until they are: here the race is what is to be seen. */
  const args = ['', '-account', '-address'].flatMap((of) => [`--sign-in-failures${of}-max`, '10000']);
  const api = await operator(t, { args: [...args, '--password-queue-max', '1024'] });
  const smtp = await startMailServer(t);
  const set = await api.patch('/api/settings', { smtp: smtpOf(smtp.port), ...settings });
  assert.equal(set.status, 200, set.text);
  const configured = await api.patch('/api/collections/users', {
    otp: { enabled: true, duration: 180, length: 8 },
    authAlert: { enabled: false },
  });
  assert.equal(configured.status, 200, configured.text);
  return {
    ...api,
    smtp,
    signIn: (email, options = guest) =>
      api.post(route('auth-with-password'), { identity: email, password: PASSWORD }, options),
    async add(name, rest = {}) {
      const email = `${name}@example.com`;
      const body = { email, password: PASSWORD, passwordConfirm: PASSWORD, ...rest };
      return { ...(await api.create('users', body)), email };
    },
    async ask(action, body, options = guest) {
      const answer = await api.post(route(action), body, options);
      assert.ok(answer.status < 300, answer.text);
      return answer.body;
    },
    /** What a code by mail is shown with. */
    async codeOf(address) {
      const { otpId } = await this.ask('request-otp', { email: address });
      const { text } = await smtp.take(address);
      return { otpId, password: /\b(\d{8})\b/.exec(text)[1] };
    },
    /** What stands behind `name/` in the mail's link. */
    async tokenOf(address, name) {
      const { text, html } = await smtp.take(address);
      const found = new RegExp(`${name}/([\\w.-]+)`).exec(`${text}\n${html}`);
      assert.ok(found, `no link of ${name} in ${text}`);
      return found[1];
    },
  };
}

test('races', async (t) => {
  const app = await begin(t);

  await t.test('a token of a password reset is used once', async () => {
    const { email } = await app.add('reset');
    await app.ask('request-password-reset', { email });
    const token = await app.tokenOf(email, 'confirm-password-reset');
    const run = await race((index) => {
      const password = `race-number-${index}`;
      return app.post(route('confirm-password-reset'), { token, password, passwordConfirm: password }, guest);
    }, HASHERS);
    const winner = run.answers.indexOf(assertOneWinner(run));
    const body = { identity: email, password: `race-number-${winner}` };
    const signedIn = await app.post(route('auth-with-password'), body, guest);
    assert.equal(signedIn.status, 200, 'the password is the one of the winner');
  });

  await t.test('a token of a new address is used once', async () => {
    const { email } = await app.add('moving');
    const { token: own } = (await app.signIn(email)).body;
    await app.ask('request-email-change', { newEmail: 'moved@example.com' }, { token: own });
    const token = await app.tokenOf('moved@example.com', 'confirm-email-change');
    assertOneWinner(
      await race(() => app.post(route('confirm-email-change'), { token, password: PASSWORD }, guest), HASHERS),
    );
  });

  await t.test('a code is used once', async () => {
    /* Of one who is not verified it would end with the password, too. */
    const { email } = await app.add('otto', { verified: true });
    const form = await app.codeOf(email);
    assertOneWinner(await race(() => app.post(route('auth-with-otp'), form, guest)));
  });

  await t.test('one of many who register with one address is there', async () => {
    const body = { email: 'twin@example.com', password: PASSWORD, passwordConfirm: PASSWORD };
    assertOneWinner(await race(() => app.post(users, body, guest), HASHERS));
  });

  await t.test('renewing a token is refused to nobody', async () => {
    const { email, id } = await app.add('fresh');
    const { token } = (await app.signIn(email)).body;
    const { answers, counts } = await race(() => app.post(route('auth-refresh'), {}, { token }));
    assert.deepEqual(counts, { 200: RACERS });
    const last = answers.at(-1).body.token;
    assert.equal((await app.get(`${users}/${id}`, { token: last })).status, 200);
  });

  await t.test('the id of a first factor is used once', async () => {
    const { email } = await app.add('mfa');
    const set = await app.patch('/api/collections/users', { mfa: { enabled: true, duration: 600, rule: '' } });
    assert.equal(set.status, 200, set.text);
    const first = await app.post(route('auth-with-otp'), await app.codeOf(email), guest);
    assert.equal(first.status, 401, first.text);
    const body = { identity: email, password: PASSWORD, mfaId: first.body.mfaId };
    assertOneWinner(await race(() => app.post(route('auth-with-password'), body, guest), HASHERS));
  });
});
