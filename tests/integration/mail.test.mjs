/**
 * Mails as they come to a real mail server on loopback: what they look like, by which means they are
 * handed over, and where they go when there is no mail server.
 */
import assert from 'node:assert/strict';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { actions, smtpOf, start } from './support/mail.mjs';
import { assertProblems, operator } from './support/operator.mjs';
import { certificate, startMailServer } from './support/smtp.mjs';
import { createSuperuser, signIn } from './support/superuser.mjs';

test('a mail', async (t) => {
  const { server, token } = await operator(t);
  const api = actions(server, token);
  const smtp = await startMailServer(t);
  await api.useSmtp(smtp.port);
  await api.set({ meta: { senderName: 'Die Küche', senderAddress: 'kitchen@example.org' } });

  await t.test('comes as it was meant', async () => {
    const html = '<p>Grüße, <b>Ann</b> & Co.</p>\n<p><a href="https://x.org/?a=1&amp;b=2">Go</a></p>';
    const text = 'A line that is longer than any line of a mail may be, so it is cut. '.repeat(40);
    const task = await api.send({
      to: [{ address: 'ann@example.com', name: 'Ann "the ✓" Lee, Jr.' }, 'bob@example.com'],
      cc: { address: 'cy@example.com', name: 'Cy' },
      bcc: ['dee@example.com'],
      replyTo: 'desk@example.org',
      subject: 'Überraschung – ein sehr langer Betreff, der auf keine einzige Zeile passt: 寿司 🍣',
      headers: { 'List-Unsubscribe': '<https://example.org/leave>', 'X-Note': 'naïve' },
      text,
      html,
    });
    const mail = await smtp.take('ann@example.com');
    const all = ['ann@example.com', 'bob@example.com', 'cy@example.com', 'dee@example.com'];
    assert.deepEqual(mail.recipients, all);
    assert.equal(
      mail.subject,
      'Überraschung – ein sehr langer Betreff, der auf keine einzige Zeile passt: 寿司 🍣',
    );
    assert.deepEqual(mail.from.value, [{ address: 'kitchen@example.org', name: 'Die Küche' }]);
    assert.deepEqual(mail.to.value, [
      { address: 'ann@example.com', name: 'Ann "the ✓" Lee, Jr.' },
      { address: 'bob@example.com', name: '' },
    ]);
    assert.equal(mail.cc.value[0].name, 'Cy');
    assert.equal(mail.bcc, undefined, 'a blind copy is named nowhere');
    assert.ok(!mail.raw.includes('dee@'));
    assert.equal(mail.replyTo.value[0].address, 'desk@example.org');
    assert.equal(mail.html.trim(), html);
    assert.equal(mail.text.trim(), text.trim());
    assert.equal(mail.messageId, `<${task}@example.org>`);
    assert.equal(mail.headers.get('auto-submitted'), 'auto-generated');
    assert.equal(mail.headers.get('mime-version'), '1.0');
    assert.equal(mail.headers.get('x-note'), '=?utf-8?B?bmHDr3Zl?=');
    assert.equal(mail.headers.get('list').unsubscribe.url, 'https://example.org/leave');
    assert.ok(Math.abs(mail.date - Date.now()) < 60_000);
    for (const line of mail.raw.split('\r\n')) {
      assert.ok(line.length <= 78, line);
      assert.match(line, /^[\t -~]*$/, 'ASCII, without a bare line end');
    }
    assert.deepEqual(await api.end(task), {
      task,
      to: all,
      messageId: `${task}@example.org`,
      transport: 'smtp',
      status: 250,
      attempts: 1,
    });
  });

  await t.test('has a text where it has only a page', async () => {
    await api.send({
      to: 'ann@example.com',
      text: undefined,
      html: '<ul><li>one</li><li><a href="https://x.org">two</a></li></ul>',
    });
    const mail = await smtp.take('ann@example.com');
    assert.equal(mail.text.trim(), '- one\n- two <https://x.org>');
  });

  await t.test('with lines that look like the protocol comes whole', async () => {
    const text = 'a\n.\n..b\r\n.\r\nQUIT\nFrom me\n trailing \n' + 'x'.repeat(3000);
    await api.send({ to: 'ann@example.com', text });
    const mail = await smtp.take('ann@example.com');
    assert.equal(mail.text.trimEnd(), text.replaceAll('\r\n', '\n'));
  });

  await t.test('that could break a head is refused by the name of its field', async () => {
    const broken = 'x\r\nBcc: eve@example.com';
    const mail = (more) => ({ to: 'ann@example.com', subject: 'a', text: 'b', ...more });
    for (const [body, codes] of [
      [mail({ subject: broken }), { subject: 'validation_invalid_line' }],
      [mail({ headers: { 'X-A': broken } }), { headers: { 'X-A': 'validation_invalid_line' } }],
      [mail({ headers: { Bcc: 'eve@example.com' } }), { headers: 'validation_invalid_header' }],
      [mail({ to: undefined }), { to: 'validation_required' }],
      [mail({ text: '' }), { text: 'validation_required' }],
      [mail({ attachments: [] }), { attachments: 'validation_unknown_name' }],
      [mail({ reply_to: 'x@y.z' }), { reply_to: 'validation_unknown_name' }],
      [mail({ record: 'x' }), { record: 'validation_unknown_name' }],
    ]) {
      const answer = await api.ask('POST', '/api/mail', body);
      if (body.headers) assert.ok(answer.status === 400 && answer.body.data.headers, answer.text);
      else assertProblems(answer, codes, 'Failed to send the mail.');
    }
    for (const body of [undefined, 'null', '{}'])
      assert.equal((await api.ask('POST', '/api/mail', body)).status, 400, `${body}`);
    const answer = await api.ask('POST', '/api/mail', mail({ to: [`a@b.c\nRCPT TO:<e@x.y>`] }));
    assert.equal(answer.body.data.to[0].code, 'validation_invalid_line');
    assert.equal((await server.request('POST', '/api/mail', mail({}))).status, 401, 'a guest');
    assert.equal(smtp.mails.length, 0);
  });

  await t.test('of a template says what the collection and the record say now', async () => {
    await api.set({ meta: { appName: 'A & B', appURL: 'https://app.example.org' } });
    await api.ask('PATCH', '/api/collections/users', {
      fields: [
        ...(await api.ask('GET', '/api/collections/users')).body.fields,
        { name: 'nick', type: 'text' },
        { name: 'inner', type: 'text', hidden: true },
      ],
      verificationTemplate: {
        subject: '{APP_NAME}: {RECORD:nick} {RECORD:inner} {TOKEN}',
        body: '<p>{RECORD:nick} {RECORD:tokenKey}</p><a class="btn" href="{APP_URL}/v/{TOKEN}">Go</a>',
      },
    });
    const { body: user } = await api.ask('POST', '/api/collections/users/records', {
      email: 'eve@example.com',
      password: 'correct horse 1',
      passwordConfirm: 'correct horse 1',
      nick: '<i>{TOKEN}</i>\r\nBcc: x@example.com',
      inner: 'inner',
    });
    const answer = await api.ask('POST', '/api/mail', {
      template: 'verification',
      collection: 'users',
      record: user.id,
      variables: { TOKEN: 'secret-token', APP_URL: 'https://evil.example' },
    });
    assert.equal(answer.status, 202, answer.text);
    const mail = await smtp.take('eve@example.com');
    assert.equal(
      mail.subject,
      'A & B: <i>{TOKEN}</i>  Bcc: x@example.com {RECORD:inner} secret-token',
    );
    assert.match(mail.html, /<p>&lt;i&gt;\{TOKEN\}&lt;\/i&gt;\s+Bcc: x@example.com \{RECORD:tokenKey\}/);
    assert.match(mail.html, /href="https:\/\/app\.example\.org\/v\/secret-token"/);
    assert.match(mail.text, /^<i>\{TOKEN\}<\/i> Bcc/);
    assert.match(mail.text, /Go <https:\/\/app\.example\.org\/v\/secret-token>/);
    const end = await api.end(answer.body.id);
    assert.equal(end.template, 'verification');
    assert.equal(end.subject, 'A & B: {RECORD:nick} {RECORD:inner} {TOKEN}', 'no secret');
    assert.ok(!JSON.stringify(end).includes('secret-token'));
    const variables = { TOKEN: 't' };
    const its = { template: 'verification', collection: 'users', record: user.id, variables };
    for (const [body, codes] of [
      [{ ...its, subject: 'a', html: 'b' }, { subject: 'validation_unknown_name', html: 'validation_unknown_name' }],
      [{ ...its, collection: 'nope' }, { collection: 'validation_invalid_auth_collection' }],
      [{ ...its, record: 'nope' }, { record: 'validation_missing_rel_records' }],
    ])
      assertProblems(await api.ask('POST', '/api/mail', body), codes, 'Failed to send the mail.');
    const other = await api.ask('POST', '/api/mail', { ...its, template: 'zz' });
    assert.equal(other.status, 400, other.text);
    assert.match(other.body.data.template.message, /verification, password-reset, email-change, otp and login-alert/);
    for (const given of [undefined, {}, { TOKEN: '' }]) {
      const mail = { ...its, variables: given };
      const { status, body, text } = await api.ask('POST', '/api/mail', mail);
      assert.equal(status, 400, text);
      assert.equal(body.data.variables.TOKEN.code, 'validation_required');
      assert.match(body.data.variables.TOKEN.message, /\{TOKEN\}/);
    }
    await api.ask('POST', '/api/work/lanes/pause', { lane: 'mail' });
    const otp = { ...its, template: 'otp', variables: { OTP: '123456' } };
    const lacking = await api.ask('POST', '/api/mail', otp);
    assert.equal(lacking.status, 202, lacking.text);
    await api.ask('PATCH', '/api/collections/users', {
      otp: { emailTemplate: { subject: 'a', body: '{OTP} {OTP_ID}' } },
    });
    await api.ask('POST', '/api/work/lanes/resume', { lane: 'mail' });
    const { error } = await api.end(lacking.body.id, 'mail.failed');
    assert.match(error, /has \{OTP_ID\} in it/);
    await api.ask('POST', '/api/work/lanes/pause', { lane: 'mail' });
    const again = await api.ask('POST', '/api/mail', its);
    await api.ask('DELETE', `/api/collections/users/records/${user.id}`);
    await api.ask('POST', '/api/work/lanes/resume', { lane: 'mail' });
    assert.equal((await api.end(again.body.id, 'mail.failed')).error, 'the record is gone');
  });

  await t.test('that is asked for again with its Idempotency-Key is sent once', async () => {
    const ask = (key, body, asker = {}) =>
      server.request('POST', '/api/mail', body, {
        token,
        ...asker,
        headers: { 'Idempotency-Key': key },
      });
    const mail = { to: 'ann@example.com', subject: 'once', text: 'a' };
    const first = await ask('key-1', mail);
    assert.equal(first.status, 202, first.text);
    assert.equal(first.headers.get('idempotent-replayed'), null);
    await api.end(first.body.id); /* it is done and gone: the key is not */
    const second = await ask('key-1', mail);
    assert.deepEqual([second.status, second.body], [202, first.body]);
    assert.equal(second.headers.get('idempotent-replayed'), 'true');
    const many = await Promise.all(Array.from({ length: 10 }, () => ask('key-2', mail)));
    assert.equal(new Set(many.map(({ body }) => body.id)).size, 1, 'and at the same time');
    assert.notEqual(many[0].body.id, first.body.id);
    const other = await ask('key-1', { ...mail, text: 'b' });
    assert.equal(other.status, 422, other.text);
    assert.match(other.body.message, /Idempotency-Key/);
    assertProblems(await ask('x'.repeat(256), mail), {
      'Idempotency-Key': 'validation_length_out_of_range',
    });
    assertProblems(await ask('key-3', { ...mail, to: 'x' }), { to: 'validation_is_email' });
    assert.equal((await ask('key-3', mail)).status, 202, 'what was refused was not done');
    for (let i = 0; i < 3; i++) await smtp.take('ann@example.com');
    await api.end(await api.send({ to: 'bob@example.com' }));
    await smtp.take('bob@example.com');
    assert.equal(smtp.mails.length, 0);
  });

  await t.test('fails with the words for it where smtp.port is none', async () => {
    await api.useSmtp(99999); /* PocketBase takes it, too */
    assert.match(await api.refused('ann@example.com'), /smtp\.port is 99999, which is no port/);
    await api.useSmtp(smtp.port);
  });

  await t.test('that has expired is not sent', async () => {
    const task = await api.send({ to: 'ann@example.com', expires: '2020-01-01 00:00:00.000Z' });
    const end = await api.end(task, 'mail.failed');
    assert.equal(end.error, 'the message has expired');
    assert.deepEqual(end.to, ['ann@example.com']);
    assert.equal(smtp.mails.length, 0);
  });
});

test('a test mail is sent while the client waits', async (t) => {
  const api = await start(t);
  const smtp = await startMailServer(t);
  await api.useSmtp(smtp.port);
  for (const template of ['verification', 'password-reset', 'email-change', 'otp', 'login-alert']) {
    const answer = await api.test('ann@example.com', { template, collection: 'users' });
    assert.equal(answer.status, 204, answer.text);
    const mail = await smtp.take('ann@example.com');
    assert.ok(mail.subject.length > 0);
    assert.match(mail.text, /Acme/);
  }
  const path = '/api/settings/test/email';
  const nothing = await api.ask('POST', path, {});
  assertProblems(
    nothing,
    { email: 'validation_required', template: 'validation_required' },
    'Failed to send the test email.',
  );
  assertProblems(await api.ask('POST', path, { email: 'x', template: 'x', collection: 'nope' }), {
    email: 'validation_is_email',
    template: 'validation_in_invalid',
    collection: 'validation_invalid_auth_collection',
  });
  assert.equal((await api.server.request('POST', path, {})).status, 401);

  await t.test('but not to a server whose certificate nobody vouches for', async () => {
    const stranger = await startMailServer(t, certificate(t));
    await api.useSmtp(stranger.port);
    assert.match(await api.refused('ann@example.com'), /:\d+: tls: .* SSL_CERT_FILE /);
    assert.equal(stranger.mails.length, 0);
  });
});

test('encryption and logins', async (t) => {
  const own = certificate(t);
  const logins = { me: 'pass word' };
  const api = await start(t, { env: { SSL_CERT_FILE: own.file } });
  const plain = await startMailServer(t, {}, { logins });
  const starttls = await startMailServer(t, { ...own, allowInsecureAuth: false }, { logins });
  const tls = await startMailServer(t, { ...own, secure: true }, { logins });
  const me = { username: 'me', password: 'pass word' };

  for (const authMethod of ['PLAIN', 'LOGIN', ''])
    for (const [name, server, more] of [
      ['none, on loopback', plain, {}],
      ['STARTTLS', starttls, {}],
      ['TLS', tls, { tls: true }],
    ])
      await t.test(`${authMethod || 'the default'} over ${name}`, async () => {
        await api.useSmtp(server.port, { ...me, ...more, authMethod });
        const answer = await api.test('ann@example.com');
        assert.equal(answer.status, 204, answer.text);
        const mail = await server.take('ann@example.com');
        assert.equal(mail.secure, server !== plain);
        const { method, username, secure } = server.logins.at(-1);
        assert.deepEqual(
          { method, username, secure },
          { method: authMethod || 'PLAIN', username: 'me', secure: server !== plain },
        );
      });

  await t.test('a wrong password is said', async () => {
    await api.useSmtp(starttls.port, { ...me, password: 'wrong' });
    assert.match(await api.refused('ann@example.com'), /535/);
  });
  await t.test('TLS is not given up for a server without', async () => {
    await api.useSmtp(plain.port, { ...me, tls: true });
    assert.match(await api.refused('ann@example.com'), /set smtp\.tls to false/);
  });
});

test('without a mail server mails become files', async (t) => {
  const api = await start(t);
  const { data } = api.server;
  const task = await api.send({ to: 'ann@example.com', html: '<p>Hi' });
  const end = await api.end(task);
  assert.deepEqual([end.transport, end.messageId], ['file', `${task}@example.com`]);
  const line = await api.server.logged('mail_written', task);
  const path = join(data, 'mail', `${task}.eml`);
  assert.equal(line.path, path);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.equal((await stat(join(data, 'mail'))).mode & 0o777, 0o700);
  assert.match(await readFile(path, 'latin1'), /^To: ann@example\.com\r\n/m);
  const said = await api.refused('bob@example.com');
  const [, tested] = /no mail server is set .* mail\/(\w{15}\.eml) /.exec(said);
  assert.match(await readFile(join(data, 'mail', tested), 'latin1'), /^To: bob@example\.com\r\n/m);
  assert.equal((await readdir(join(data, 'mail'))).length, 2);

  await api.ask('POST', '/api/tenants', { name: 'acme' });
  await createSuperuser(api.server, { tenant: 'acme' });
  const acme = actions(api.server, await signIn(api.server, { tenant: 'acme' }), 'acme');
  const theirs = await acme.send({ to: 'cy@example.com' });
  assert.equal((await acme.end(theirs)).transport, 'file');
  assert.deepEqual(await readdir(join(data, 'tenants', 'acme', 'mail')), [`${theirs}.eml`]);
  assert.equal((await readdir(join(data, 'mail'))).length, 2);

  await t.test('and another tenant asks around in no private network', async () => {
    const smtp = await startMailServer(t);
    for (const host of ['127.0.0.1', 'localhost']) {
      await acme.set({ smtp: smtpOf(smtp.port, { host }) });
      assert.match(await acme.refused('ann@example.com'), /--mail-allow/);
      const end = await acme.end(await acme.send({ to: 'ann@example.com' }), 'mail.failed');
      assert.match(end.error, /not at a public address/);
    }
    assert.equal(smtp.sessions, 0);
  });
});

test('another tenant reaches the networks that it was allowed', async (t) => {
  const smtp = await startMailServer(t);
  const { server, ask } = await start(t, { args: ['--mail-allow', '10.0.0.0/8, 127.0.0.1'] });
  await ask('POST', '/api/tenants', { name: 'acme' });
  await createSuperuser(server, { tenant: 'acme' });
  const acme = actions(server, await signIn(server, { tenant: 'acme' }), 'acme');
  await acme.useSmtp(smtp.port);
  assert.equal((await acme.test('ann@example.com')).status, 204);
  await smtp.take('ann@example.com');
});

