/**
 * The page that the links of the default mails lead to: its headers, that it knows what the templates link
 * to, and each of its forms in a real browser, Debian's Chromium.
 *
 * The latter with BAKEND_LONG=1: a browser is large to install.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { chromium } from 'playwright-core';
import { actions } from './support/mail.mjs';
import { operator } from './support/operator.mjs';
import { recordsPath } from './support/records.mjs';
import { startMailServer } from './support/smtp.mjs';

const browserPath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const isSkipped =
  process.env.BAKEND_LONG !== '1' && 'BAKEND_LONG=1: it takes a browser, Debian’s chromium';
const PASSWORD = 'secret-1234';
const route = (action) => `/api/collections/users/${action}`;

test('the page of mails allows its own script and style alone, and knows what the mails link to', async (t) => {
  const api = await operator(t);
  const { status, headers, text } = await api.server.request('GET', '/_/');
  assert.equal(status, 200);
  assert.equal(headers.get('content-type'), 'text/html; charset=utf-8');
  assert.equal(headers.get('cache-control'), 'no-store');
  assert.equal(headers.get('referrer-policy'), 'no-referrer');
  const hashOf = (name) => {
    const parts = [...text.matchAll(new RegExp(`<${name}>([^]*?)</${name}>`, 'g'))];
    assert.equal(parts.length, 1, name);
    return `'sha256-${createHash('sha256').update(parts[0][1]).digest('base64')}'`;
  };
  assert.deepEqual(headers.get('content-security-policy').split('; '), [
    "default-src 'none'",
    `script-src ${hashOf('script')}`,
    `style-src ${hashOf('style')}`,
    "connect-src 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "form-action 'none'",
  ]);
  assert.doesNotMatch(text, /https?:|\bsrc=|\bhref=|\bstyle=|\son\w+=|innerHTML/, 'nothing of elsewhere');
  const { body } = await api.get('/api/collections/users');
  const templates = ['verificationTemplate', 'resetPasswordTemplate', 'confirmEmailChangeTemplate'];
  for (const name of templates) {
    const [, action] = /"\{APP_URL\}\/_\/#\/auth\/([\w-]+)\/\{TOKEN\}"/.exec(body[name].body);
    assert.ok(text.includes(`'${action}': [`), action);
  }
});

test('the links of the mails do what they say', { skip: isSkipped }, async (t) => {
  assert.ok(existsSync(browserPath), `${browserPath} is missing: install the package chromium`);
  const api = await operator(t);
  const mails = actions(api.server, api.token);
  const smtp = await startMailServer(t);
  await mails.useSmtp(smtp.port);
  await mails.set({ meta: { appName: 'Kitchen', appURL: api.server.url } });
  const email = 'ann@example.com';
  const user = await api.create('users', { email, password: PASSWORD, passwordConfirm: PASSWORD });
  const view = async () => (await api.get(recordsPath('users', user.id))).body;
  const login = async (identity, password) =>
    (await api.server.request('POST', route('auth-with-password'), { identity, password })).status;
  const browser = await chromium.launch({ executablePath: browserPath, args: ['--no-sandbox'] });
  const page = await browser.newPage({ viewport: { width: 360, height: 640 } });
  const problems = [];
  const urls = [];
  page.on('pageerror', (error) => problems.push(String(error)));
  page.on('console', (message) => {
    if (/Content Security/.test(message.text())) problems.push(message.text());
  });
  page.on('request', (request) => urls.push(request.url()));
  const open = async (address) => {
    const mail = await smtp.take(address);
    const [link] = /http\S+?\/_\/#\/auth\/[\w-]+\/[\w.-]+/.exec(mail.text);
    await page.goto('about:blank');
    await page.goto(link);
    return link;
  };
  const ask = async (action, body, options) => {
    const answer = await api.server.request('POST', route(`request-${action}`), body, options);
    assert.equal(answer.status, 204, answer.text);
  };
  const told = (text) => page.getByRole('alert').filter({ hasText: text }).waitFor();
  const press = (name) => page.getByRole('button', { name }).click();
  try {
    await ask('verification', { email });
    const link = await open(email);
    assert.equal((await view()).verified, false, 'a link that is opened confirms nothing');
    await press('Confirm');
    await told('Your email address is confirmed.');
    assert.equal((await view()).verified, true);
    assert.equal(page.url(), `${api.server.url}/_/`, 'the token is out of the address');

    await ask('password-reset', { email });
    const used = await open(email);
    await page.getByLabel('New password').first().fill('other-1234');
    await page.getByLabel('The new password again').fill('another-1234');
    await press('Set password');
    await page.getByText("Values don't match.").waitFor();
    await page.getByLabel('The new password again').fill('other-1234');
    await press('Set password');
    await told('Your password is changed.');
    assert.deepEqual([await login(email, PASSWORD), await login(email, 'other-1234')], [400, 200]);

    await page.goto('about:blank');
    await page.goto(used);
    for (const label of ['New password', 'The new password again'])
      await page.getByLabel(label, { exact: true }).fill('third-1234');
    await press('Set password');
    await told('This link is no longer good');

    const session = await api.server.request('POST', route('auth-with-password'), {
      identity: email,
      password: 'other-1234',
    });
    await ask('email-change', { newEmail: 'new@example.com' }, { token: session.body.token });
    await open('new@example.com');
    await page.getByLabel('Your password').fill('wrong-1234');
    await press('Confirm');
    await page.locator('#password-error:not(:empty)').waitFor();
    await page.getByLabel('Your password').fill('other-1234');
    await press('Confirm');
    await told('Your email address is changed.');
    assert.equal(await login('new@example.com', 'other-1234'), 200);

    await page.goto('about:blank');
    await page.goto(link.slice(0, link.lastIndexOf('/') + 9));
    await told('This link is not whole.');
    assert.deepEqual(problems, []);
    for (const url of urls.filter((each) => each !== 'about:blank')) {
      assert.ok(url.startsWith(`${api.server.url}/`), url);
      assert.ok(!url.split('#')[0].includes('eyJ'), 'no token is in what a server is asked for');
    }
  } finally {
    await browser.close();
  }
});
