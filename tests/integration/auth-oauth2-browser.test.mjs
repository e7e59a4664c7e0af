/**
 * Signing in with the popup of the stock client in a real browser, Debian's Chromium: the page of an app
 * on an origin of its own, a certified provider, and nothing else in between.
 *
 * BAKEND_LONG=1: a browser is large to install.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { chromium } from 'playwright-core';
import { listen, startProvider } from './support/oauth2.mjs';
import { operator } from './support/operator.mjs';

const browserPath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const isSkipped =
  process.env.BAKEND_LONG !== '1' && 'BAKEND_LONG=1: it takes a browser, Debian’s chromium';

const sdk = new URL('./node_modules/pocketbase/dist/pocketbase.es.mjs', import.meta.url);
const pageOf = (url) => `<!DOCTYPE html><title>app</title><button>Sign in</button>
<script type="module">
import PocketBase from '/sdk.mjs';
const client = new PocketBase('${url}');
document.querySelector('button').onclick = () =>
  client.collection('users').authWithOAuth2({ provider: 'oidc' }).then(
    ({ record }) => { document.title = record.email; },
    (error) => { document.title = 'failed: ' + (error.originalError ?? error); });
</script>`;

test('the popup of an app signs its user in', { skip: isSkipped }, async (t) => {
  assert.ok(existsSync(browserPath), `${browserPath} is missing: install the package chromium`);
  const api = await operator(t, { args: ['--oauth2-allow', '127.0.0.0/8'] });
  const provider = await startProvider(t, { redirectURL: `${api.server.url}/api/oauth2-redirect` });
  provider.people.current = { sub: 'ann', email: 'ann@example.com', email_verified: true };
  const oidc = { name: 'oidc', ...provider.config, userInfoURL: provider.userInfoURL };
  const answer = await api.patch('/api/collections/users', {
    oauth2: { enabled: true, providers: [oidc] },
  });
  assert.equal(answer.status, 200, answer.text);
  const app = await listen(t, async (request, response) => {
    const isScript = request.url === '/sdk.mjs';
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
    response.end(isScript ? await readFile(sdk) : pageOf(api.server.url));
  });
  const browser = await chromium.launch({ executablePath: browserPath, args: ['--no-sandbox'] });
  try {
    const page = await browser.newPage();
    await page.goto(app);
    const [popup] = await Promise.all([page.waitForEvent('popup'), page.click('button')]);
    await page.waitForFunction(() => document.title !== 'app');
    assert.equal(await page.title(), 'ann@example.com');
    if (!popup.isClosed()) await popup.waitForEvent('close');
    const end = await browser.newPage();
    await end.goto(`${api.server.url}/_/#/auth/oauth2-redirect-success`);
    assert.match(await end.innerText('body'), /^Auth completed\. You can close this window/);
  } finally {
    await browser.close();
  }
});
