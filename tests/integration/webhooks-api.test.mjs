/**
 * Webhooks over REST: what can be said of one, what is refused and how, who may, and what it says of
 * itself. What is delivered, and when, is webhooks.test.mjs.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import { canary } from './support/neighbours.mjs';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { runServer, startServer, temporaryFolder } from './support/program.mjs';
import { createCollection, createRecord } from './support/records.mjs';
import { eventually } from './support/smtp.mjs';
import { operatorToken, signIn } from './support/superuser.mjs';
import { ALLOW, createWebhook, listDeliveries, startReceiver, untilDelivered } from './support/webhooks.mjs';

const HOOKS = '/api/webhooks';
/** What has failed is not tried again while a test looks at it. */
const SLOWLY = ['--webhooks-retry-schedule', '0s,1h'];
/** Nobody listens there. */
const NOWHERE = 'http://127.0.0.1:9/hook';

/** One server for all: what each test needs of its own it makes. */
const checks = [];
const check = (name, body) => checks.push([name, body]);

async function world(t) {
  const api = await operator(t, { args: [...ALLOW, ...SLOWLY, '--webhooks-origin', 'hooks.example.com'] });
  const make = async (body = {}) => {
    const answer = await api.post(HOOKS, { url: NOWHERE, types: ['nothing.*'], ...body });
    assert.equal(answer.status, 200, answer.text);
    return answer.body;
  };
  return { ...api, make };
}

check('what is said of a webhook is kept, and the rest has defaults', async ({ make, get }) => {
  const { secret, ...made } = await make({ types: ['posts.*', 'users.created'] });
  assert.match(secret, /^whsec_[A-Za-z0-9+/]{43}=$/);
  const expected = {
    url: NOWHERE,
    types: ['posts.*', 'users.created'],
    subject: '',
    filter: '',
    description: '',
    enabled: true,
    format: 'standard',
    headers: {},
    rateLimit: 0,
    maxInFlight: 8,
    ordered: false,
    timeoutMs: 0,
    ed25519: false,
    publicKey: '',
    disabledReason: '',
    disabledAt: '',
    verifiedAt: '',
    allowedRate: 0,
  };
  for (const [name, value] of Object.entries(expected)) assert.deepEqual(made[name], value, name);
  const viewed = await get(`${HOOKS}/${made.id}`);
  assert.deepEqual(viewed.body, made, 'the same, without the secret');

  const all = {
    url: 'https://hooks.example.com/a?b=c',
    types: ['*'],
    subject: 'posts/abc',
    filter: 'payload.total >= 50 && source = "collections"',
    description: 'Orders for the warehouse',
    enabled: false,
    format: 'cloudevents-binary',
    headers: { Authorization: 'Bearer abc' },
    rateLimit: 600,
    maxInFlight: 64,
    ordered: true,
    timeoutMs: 1000,
  };
  const full = await make(all);
  const shown = { ...all, headers: { Authorization: '********' } };
  for (const [name, value] of Object.entries(shown)) assert.deepEqual(full[name], value, name);
  assert.equal(full.disabledReason, 'manual');
  assert.notEqual(full.disabledAt, '');
});

check('all that is wrong is told in one go, with the remedy', async ({ post, make, patch }) => {
  assertProblems(
    await post(HOOKS, {}),
    { url: 'validation_required', types: 'validation_required' },
    'The webhook cannot be like this.',
  );
  const wrong = {
    url: 'http://10.0.0.1/hook',
    types: ['posts.created', 'a b'],
    subject: `posts/${'x'.repeat(1024)}`,
    filter: 'payload.total >',
    description: 'x'.repeat(1001),
    enabled: 'yes',
    format: 'xml',
    headers: { 'content-length': '1' },
    rateLimit: 600001,
    maxInFlight: 65,
    ordered: 1,
    timeoutMs: 999,
    ed25519: 'yes',
    secret: 'whsec_short',
    urls: [],
    publicKey: 'x',
  };
  const codes = {
    url: 'validation_invalid_url',
    types: 'validation_invalid_types',
    subject: 'validation_max_text_constraint',
    filter: 'validation_invalid_filter',
    description: 'validation_max_text_constraint',
    enabled: 'validation_invalid_type',
    format: 'validation_invalid_format',
    headers: 'validation_invalid_header',
    rateLimit: 'validation_invalid_number',
    maxInFlight: 'validation_invalid_number',
    ordered: 'validation_invalid_type',
    timeoutMs: 'validation_invalid_number',
    ed25519: 'validation_invalid_type',
    secret: 'validation_invalid_secret',
    urls: 'validation_unknown_name',
    publicKey: 'validation_unknown_name',
  };
  const refused = await post(HOOKS, wrong);
  assertProblems(refused, codes);
  assert.match(refused.body.data.url.message, /--webhooks-allow/);
  const { id } = await make();
  assertProblems(await patch(`${HOOKS}/${id}`, wrong), { ...codes, secret: 'validation_not_changeable' });
});

for (const [what, url] of [
  ['none', ''],
  ['a word', 'hook'],
  ['another protocol', 'ftp://example.com/'],
  ['plain http in public', 'http://8.8.8.8/hook'],
  ['a login in it', 'https://user:pass@example.com/'],
  ['this machine in IPv6', 'https://[::1]/hook'],
  ['this machine as a number', 'https://2130706434/hook'],
  ['a cloud’s metadata', 'http://169.254.169.254/latest'],
  ['a private network', 'https://192.168.1.1/hook'],
  ['a mail server', 'https://example.com:25/'],
  ['a line break', 'https://example.com/\r\nhost: x'],
])
  check(`a URL cannot be ${what}`, async ({ post }) => {
    const answer = await post(HOOKS, { url, types: ['*'] });
    const code = url === '' ? 'validation_required' : 'validation_invalid_url';
    assertProblems(answer, { url: code });
  });

for (const subject of ['posts', 'posts/', '/abc', 'posts/*'])
  check(`a subject cannot be ${subject}: no event would have it`, async ({ post }) => {
    const answer = await post(HOOKS, { url: NOWHERE, types: ['*'], subject });
    assertProblems(answer, { subject: 'validation_invalid_subject' });
    assert.match(answer.body.data.subject.message, /posts\/abc/);
  });

check('what is no text is no URL, and 0 requests at once are the default', async ({ post, make }) => {
  assertProblems(await post(HOOKS, { url: 12, types: ['*'] }), { url: 'validation_invalid_type' });
  assert.equal((await make({ maxInFlight: 0 })).maxInFlight, 8);
});

check('a webhook is changed in part, listed as records are, and deleted', async (api) => {
  const { make, get, patch, remove } = api;
  const { id, secret: _, ...made } = await make({ description: 'before', rateLimit: 60 });
  const changed = await patch(`${HOOKS}/${id}`, { description: 'after', rateLimit: null });
  assert.equal(changed.status, 200, changed.text);
  assert.deepEqual(changed.body, {
    ...made,
    id,
    description: 'after',
    rateLimit: 0,
    updated: changed.body.updated,
  });
  const filter = encodeURIComponent(`description = "after" && id = "${id}"`);
  const list = await get(`${HOOKS}?filter=${filter}&fields=id`);
  assert.deepEqual([list.body.items, list.body.totalItems], [[{ id }], 1]);
  assert.equal((await remove(`${HOOKS}/${id}`)).status, 204);
  for (const answer of [
    await get(`${HOOKS}/${id}`),
    await patch(`${HOOKS}/${id}`, {}),
    await remove(`${HOOKS}/${id}`),
  ])
    assertRefused(answer, 404);
});

check('no secret is in a list, an event or the log', async ({ make, get, patch, server }) => {
  const { id, secret } = await make({ headers: { 'X-Token': 'a-token-of-theirs' } });
  await patch(`${HOOKS}/${id}`, { headers: { 'X-Token': 'another-token-of-theirs' } });
  const key = secret.slice('whsec_'.length);
  const list = await get(`${HOOKS}?perPage=500`);
  const events = await get(`/api/events?types=_webhooks.*&limit=1000`);
  assert.ok(events.body.events.some(({ subject }) => subject === `_webhooks/${id}`));
  for (const text of [list.text, events.text, server.log.join('\n')]) assert.ok(!text.includes(key));
  for (const text of [list.text, events.text, server.log.join('\n')])
    assert.ok(!text.includes('token-of-theirs'));
});

check('a given secret is taken', async ({ make }) => {
  const secret = `whsec_${Buffer.alloc(24, 7).toString('base64')}`;
  assert.equal((await make({ secret })).secret, secret);
});

check('ed25519 makes a key pair, once, whose public half is shown', async ({ make, patch }) => {
  const { id, publicKey } = await make({ ed25519: true });
  assert.match(publicKey, /^whpk_[A-Za-z0-9+/]{43}=$/);
  const path = `${HOOKS}/${id}`;
  assert.equal((await patch(path, { ed25519: true })).body.publicKey, publicKey, 'stays');
  assert.equal((await patch(path, { ed25519: false })).body.publicKey, '');
  const other = (await patch(path, { ed25519: true })).body.publicKey;
  assert.match(other, /^whpk_/);
  assert.notEqual(other, publicKey);
});

check('off and on, each is an event, once', async ({ make, patch, get }) => {
  const { id } = await make();
  const path = `${HOOKS}/${id}`;
  const lane = async () =>
    (await get('/api/work/lanes?perPage=200')).body.items.find(({ lane: name }) => name === `webhooks/${id}`);
  const off = (await patch(path, { enabled: false })).body;
  assert.equal(off.disabledReason, 'manual');
  await eventually('what waits to be tried again rests', async () => (await lane())?.state === 'paused');
  const again = (await patch(path, { enabled: false })).body;
  assert.equal(again.disabledAt, off.disabledAt);
  const on = (await patch(path, { enabled: true })).body;
  assert.deepEqual([on.enabled, on.disabledReason, on.disabledAt], [true, '', '']);
  await eventually('it goes on', async () => (await lane()) === undefined);
  await patch(path, { enabled: true });
  const { events } = (await get(`/api/events?types=webhook.*&subject=webhooks/${id}`)).body;
  assert.deepEqual(
    events.map(({ type, payload }) => [type, payload]),
    [
      ['webhook.disabled', { webhook: id, reason: 'manual' }],
      ['webhook.enabled', { webhook: id }],
    ],
  );
});

check('two who turn it off at once make one event', async ({ make, patch, get }) => {
  const { id } = await make();
  const turns = await Promise.all([1, 2, 3, 4].map(() => patch(`${HOOKS}/${id}`, { enabled: false })));
  for (const { status } of turns) assert.equal(status, 200);
  const { events } = (await get(`/api/events?types=webhook.*&subject=webhooks/${id}`)).body;
  assert.equal(events.length, 1);
});

check('whoever wins, record, lane and events say the same', async ({ make, patch, get }) => {
  const { id } = await make();
  const path = `${HOOKS}/${id}`;
  let isOn = true;
  for (let round = 0; round < 8; round++) {
    const wishes = round % 2 ? [true, false] : [false, true];
    const turns = await Promise.all(wishes.map((enabled) => patch(path, { enabled })));
    for (const { status } of turns) assert.equal(status, 200);
    isOn = (await get(path)).body.enabled;
    const { events } = (await get(`/api/events?types=webhook.*&subject=webhooks/${id}`)).body;
    const types = events.map(({ type }) => type);
    types.forEach((type, at) => assert.equal(type, at % 2 ? 'webhook.enabled' : 'webhook.disabled'));
    assert.equal(isOn, types.length % 2 === 0, `${types}`);
    assert.equal((await get(`${path}/stats`)).body.missed?.until === '', !isOn);
  }
  await eventually('its lane rests when it is off', async () => {
    const lanes = (await get('/api/work/lanes?perPage=200')).body.items;
    return isOn !== lanes.some(({ lane, state }) => lane === `webhooks/${id}` && state === 'paused');
  });
});

check('it is for superusers and for keys with the scope', async ({ make, server, post }) => {
  const { id } = await make();
  const key = async (scopes) =>
    (await post('/api/api-keys', { name: scopes.join(' '), scopes })).body.key;
  const [reads, writes, other] = [
    await key(['webhooks:read']),
    await key(['webhooks:write']),
    await key(['records:write', 'records:read']),
  ];
  const path = `${HOOKS}/${id}`;
  const tries = [
    ['GET', HOOKS, reads],
    ['GET', path, reads],
    ['POST', HOOKS, writes],
    ['PATCH', path, writes],
    ['DELETE', path, writes],
  ];
  for (const [method, where, token] of tries) {
    const body = { POST: { url: NOWHERE, types: ['nothing.*'] }, PATCH: {} }[method];
    const refused = [other, reads, writes].filter((each) => each !== token);
    for (const wrong of refused)
      assertRefused(await server.request(method, where, body, { token: wrong }), 403);
    assertRefused(await server.request(method, where, body), 401);
    const right = await server.request(method, where, body, { token });
    assert.ok(right.status < 300, `${method} ${where}: ${right.text}`);
  }
});

check('nobody goes past the module by the records routes', async ({ make, patch, post, remove }) => {
  const { id } = await make();
  const records = '/api/collections/_webhooks/records';
  for (const answer of [
    await post(records, { url: NOWHERE, types: ['*'] }),
    await patch(`${records}/${id}`, { url: 'http://10.0.0.1/' }),
    await remove(`${records}/${id}`),
    await post('/api/collections/_deliveries/records', { webhook: id }),
  ])
    assert.ok(answer.status >= 400 && answer.status < 500, answer.text);
});

check('a tenant has its own', async ({ make, get, server, token }) => {
  const { id } = await make();
  assertRefused(await get(`${HOOKS}/${id}`, { tenant: 'left' }), 404);
  const theirs = await server.request(
    'POST',
    HOOKS,
    { url: NOWHERE, types: ['*'], description: canary },
    { token, tenant: 'right' },
  );
  assert.equal(theirs.status, 200, theirs.text);
  assertRefused(await get(`${HOOKS}/${theirs.body.id}`), 404);
  await get(`${HOOKS}?perPage=500`);
});

/** A receiver of the test's own, and a webhook that is sent nothing but what the test asks for. */
async function receive(t, { make }, { answer, ...body } = {}) {
  const receiver = await startReceiver(t, { answer });
  return { receiver, hook: await make({ url: receiver.url, ...body }) };
}

check('a test is signed, sent now, and answered with how it went', async (api, t) => {
  const { receiver, hook } = await receive(t, api, { enabled: false });
  const path = `${HOOKS}/${hook.id}/test`;
  const good = await api.post(path);
  assert.equal(good.status, 200, good.text);
  const [{ headers, text, body }] = receiver.deliveries;
  new Webhook(hook.secret).verify(text, headers);
  assert.deepEqual([body.type, body.data, body.id], ['webhook.test', { webhook: hook.id }, good.body.event]);
  const { latencyMs, ...rest } = good.body;
  assert.ok(latencyMs >= 0 && latencyMs < 60_000);
  assert.deepEqual(rest, { ok: true, event: headers['webhook-id'], status: 200, error: '', answer: '' });

  receiver.answer = () => ({ status: 500, body: 'x'.repeat(5000) });
  const bad = (await api.post(path)).body;
  assert.deepEqual([bad.ok, bad.status, bad.answer], [false, 500, 'x'.repeat(4096)]);
  assert.equal(bad.error, 'The endpoint answered 500.');
  await receiver.close();
  const away = (await api.post(path)).body;
  assert.deepEqual([away.ok, away.status], [false, 0]);
  assert.match(away.error, /\S/);
  assert.deepEqual(await listDeliveries(api.server, api.token, hook.id), [], 'leaves no delivery');
  const { events } = (await api.get('/api/events?types=webhook.test')).body;
  assert.deepEqual(events, [], 'is in no journal');
  assertProblems(await api.post(path, { type: 'posts.created' }), { type: 'validation_unknown_name' });
  assertRefused(await api.post(`${HOOKS}/nonesuchnonesuc/test`), 404);
});

/** With which of two secrets a delivery can be verified. */
const verifiedWith = ({ text, headers }, secrets) =>
  secrets.map((secret) => {
    try {
      new Webhook(secret).verify(text, headers);
      return true;
    } catch {
      return false;
    }
  });

check('rotated, the former secret signs as well, for a while', async (api, t) => {
  const { receiver, hook } = await receive(t, api);
  const path = `${HOOKS}/${hook.id}/rotate`;
  const rotated = await api.post(path);
  assert.equal(rotated.status, 200, rotated.text);
  assert.equal(rotated.headers.get('cache-control'), 'no-store');
  const { secret, previousUntil } = rotated.body;
  const day = Date.parse(previousUntil) - Date.now();
  assert.ok(day > 86_000_000 && day <= 86_400_000, previousUntil);
  await api.post(`${HOOKS}/${hook.id}/test`);
  assert.deepEqual(verifiedWith(receiver.deliveries.at(-1), [hook.secret, secret]), [true, true]);
  const told = (await api.get(`${HOOKS}/${hook.id}/stats`)).body.previousUntil;
  assert.equal(told, previousUntil);

  const hasty = await api.post(path, {});
  assertRefused(hasty, 409);
  assert.match(hasty.body.message, /until 2.*Z.*"force":true.*"graceMs":0/);
  await api.post(`${HOOKS}/${hook.id}/test`);
  assert.deepEqual(verifiedWith(receiver.deliveries.at(-1), [hook.secret, secret]), [true, true]);
  const forced = (await api.post(path, { force: true })).body;
  await api.post(`${HOOKS}/${hook.id}/test`);
  const all = [hook.secret, secret, forced.secret];
  assert.deepEqual(verifiedWith(receiver.deliveries.at(-1), all), [false, true, true]);

  const given = `whsec_${Buffer.alloc(32, 9).toString('base64')}`;
  const last = (await api.post(path, { secret: given, graceMs: 0 })).body;
  assert.deepEqual([last.secret, last.previousUntil], [given, undefined]);
  await api.post(`${HOOKS}/${hook.id}/test`);
  assert.deepEqual(verifiedWith(receiver.deliveries.at(-1), [secret, forced.secret, given]), [false, false, true]);
  assert.equal((await api.get(`${HOOKS}/${hook.id}/stats`)).body.previousUntil, '');
  assert.equal((await api.post(path)).status, 200, 'nothing is cut off by it');

  const { events } = (await api.get(`/api/events?types=webhook.rotated&subject=webhooks/${hook.id}`)).body;
  assert.deepEqual(
    events.map(({ payload }) => Object.keys(payload)),
    [['webhook', 'previousUntil'], ['webhook', 'previousUntil'], ['webhook'], ['webhook', 'previousUntil']],
  );
  assertProblems(
    await api.post(path, { secret: 'hush', graceMs: 2592000001, grace: 1, force: 1 }),
    {
      secret: 'validation_invalid_secret',
      graceMs: 'validation_invalid_number',
      grace: 'validation_unknown_name',
      force: 'validation_invalid_type',
    },
    'The secret cannot be changed like this.',
  );
});

check('a handshake asks by our name and keeps what it was told', async (api, t) => {
  const allow = (origin, rate) => () => ({
    status: 405,
    headers: { 'WebHook-Allowed-Origin': origin, ...(rate && { 'WebHook-Allowed-Rate': rate }) },
  });
  const { receiver, hook } = await receive(t, api, {
    answer: allow('hooks.example.com', '120'),
    rateLimit: 600,
    headers: { Authorization: 'Bearer abc' },
  });
  const path = `${HOOKS}/${hook.id}`;
  const asked = (await api.post(`${path}/probe`)).body;
  assert.deepEqual(
    [asked.verified, asked.origin, asked.allowedRate, asked.status, asked.error],
    [true, 'hooks.example.com', 120, 405, ''],
  );
  const [{ method, headers }] = receiver.deliveries;
  assert.equal(method, 'OPTIONS');
  assert.equal(headers['webhook-request-origin'], 'hooks.example.com');
  assert.equal(headers['webhook-request-rate'], '600');
  assert.equal(headers.authorization, 'Bearer abc');
  const kept = (await api.get(path)).body;
  assert.equal(kept.allowedRate, 120);
  assert.ok(Math.abs(Date.parse(kept.verifiedAt) - Date.now()) < 60_000, kept.verifiedAt);

  receiver.answer = allow('*', '*');
  const all = (await api.post(`${path}/probe`)).body;
  assert.deepEqual([all.verified, all.allowedRate], [true, 0]);
  for (const answer of [allow('else.example.com'), () => 200]) {
    receiver.answer = answer;
    const no = (await api.post(`${path}/probe`)).body;
    assert.equal(no.verified, false);
    assert.match(no.error, /WebHook-Allowed-Origin: hooks\.example\.com/);
    assert.equal((await api.get(path)).body.verifiedAt, '', 'consent can be withdrawn');
  }
  receiver.answer = allow('*');
  await api.post(`${path}/probe`);
  await receiver.close();
  const away = (await api.post(`${path}/probe`)).body;
  assert.deepEqual([away.verified, away.status], [false, 0]);
  assert.notEqual((await api.get(path)).body.verifiedAt, '', 'who is away has withdrawn nothing');
  const elsewhere = (await api.patch(path, { url: NOWHERE, headers: {} })).body;
  assert.deepEqual([elsewhere.verifiedAt, elsewhere.allowedRate], ['', 0], 'it was another endpoint');
});

check('what an endpoint is like now is told by stats and by metrics', async (api, t) => {
  await api.define({ name: 'counted', fields: [{ name: 'title', type: 'text' }] });
  const { receiver, hook } = await receive(t, api, {
    types: ['counted.*'],
    answer: ({ body }) => (body.data.title === 'bad' ? 500 : 200),
  });
  const stats = async () => (await api.get(`${HOOKS}/${hook.id}/stats`)).body;
  assert.deepEqual(await stats(), {
    enabled: true,
    breaker: 'closed',
    nextProbe: '',
    pausedUntil: '',
    backlog: 0,
    oldestAgeMs: 0,
    inFlight: 0,
    attempts: 0,
    failures: 0,
    latencyMs: { p50: 0, p99: 0, attempts: 0 },
    retrying: 0,
    failed: 0,
    nextAttempt: '',
    problem: '',
    failingSince: '',
    previousUntil: '',
    missed: null,
  });
  for (const title of ['good', 'bad', 'good']) await api.create('counted', { title });
  await receiver.untilIds(3);
  const after = await eventually('three attempts are told', async () => {
    const now = await stats();
    return now.attempts === 3 && now.retrying === 1 && now.backlog === 0 && now;
  });
  assert.deepEqual([after.failures, after.latencyMs.attempts, after.failed], [1, 3, 0]);
  assert.ok(after.latencyMs.p50 <= after.latencyMs.p99);
  assert.ok(Date.parse(after.nextAttempt) > Date.now() - 60_000, after.nextAttempt);

  const labels = `{tenant="default",webhook="${hook.id}"}`;
  const lines = [
    `bakend_webhook_attempts_total${labels} 3`,
    `bakend_webhook_failures_total${labels} 1`,
    `bakend_webhook_backlog_events${labels} 0`,
    `bakend_webhook_oldest_seconds${labels} 0.000`,
  ];
  const text = await eventually('metrics tell the same', async () => {
    const metrics = await api.get('/metrics');
    return lines.every((line) => metrics.text.includes(`\n${line}\n`)) && metrics.text;
  });
  for (const name of ['webhooks_sending', 'webhooks_attempts_total', 'webhooks_delivered_total'])
    assert.match(text, new RegExp(`\nbakend_${name} \\d+\n`));
  const quantile = labels.replace('}', ',quantile="0.99"}');
  assert.ok(text.includes(`\nbakend_webhook_latency_seconds${quantile} `));
});

check('what is not sent yet is a backlog, with an age', async (api, t) => {
  await api.define({ name: 'waiting', fields: [{ name: 'title', type: 'text' }] });
  let release;
  const released = new Promise((resolve) => (release = resolve));
  const { receiver, hook } = await receive(t, api, {
    types: ['waiting.*'],
    maxInFlight: 1,
    answer: () => released.then(() => 200),
  });
  try {
    for (const title of ['a', 'b', 'c']) await api.create('waiting', { title });
    await receiver.until('one is on its way', (deliveries) => deliveries.length === 1);
    const now = await eventually('three wait', async () => {
      const { body } = await api.get(`${HOOKS}/${hook.id}/stats`);
      return body.backlog >= 3 && body.oldestAgeMs > 0 && body;
    });
    assert.equal(now.inFlight, 1);
  } finally {
    release();
  }
  await untilDelivered(api.server, api.token, hook.id, 3);
});

check('what was missed is told as a stretch of the feed', async (api) => {
  const { id } = await api.make();
  const path = `${HOOKS}/${id}`;
  const missed = async () => (await api.get(`${path}/stats`)).body.missed;
  await api.patch(path, { enabled: false });
  const off = await missed();
  assert.deepEqual([off.after.length, off.until], [27, '']);
  await api.patch(path, { enabled: true });
  const on = await missed();
  assert.deepEqual([on.after, on.until.length], [off.after, 27]);
  const { events } = (await api.get(`/api/events?after=${off.after}&types=_webhooks.updated&subject=_webhooks/${id}`))
    .body;
  assert.equal(events.length, 2, 'turning it off and on is in it');
});

check('deliveries are listed and viewed as records, and written by nobody', async (api, t) => {
  await api.define({ name: 'parcels', fields: [{ name: 'title', type: 'text' }] });
  const { hook } = await receive(t, api, { types: ['parcels.created'], answer: () => ({ body: 'thanks' }) });
  const { id } = await api.create('parcels', { title: 'a' });
  const [row] = await untilDelivered(api.server, api.token, hook.id, 1);
  assert.deepEqual(
    [row.webhook, row.type, row.subject, row.format, row.attemptCount, row.nextAttempt],
    [hook.id, 'parcels.created', `parcels/${id}`, 'standard', 1, ''],
  );
  const [{ status, error, answer }] = row.attempts;
  assert.deepEqual([status, error, answer], [200, '', 'thanks']);
  assert.deepEqual((await api.get(`/api/deliveries/${row.id}`)).body, row);
  for (const wrong of ['nonesuchnonesuc', '..%2F_webhooks', 'x'])
    assertRefused(await api.get(`/api/deliveries/${wrong}`), 404);
  for (const answer of [
    await api.patch(`/api/deliveries/${row.id}`, { state: 'failed' }),
    await api.remove(`/api/deliveries/${row.id}`),
    await api.post('/api/deliveries', row),
  ])
    assert.ok(answer.status >= 400 && answer.status < 500, answer.text);
});

check('what there was of a webhook goes with it', async (api, t) => {
  await api.define({ name: 'leavings', fields: [{ name: 'title', type: 'text' }] });
  const { hook } = await receive(t, api, {
    types: ['leavings.*'],
    answer: ({ body }) => (body.data.title === 'bad' ? 500 : 200),
  });
  for (const title of ['good', 'bad']) await api.create('leavings', { title });
  const rows = () => listDeliveries(api.server, api.token, hook.id);
  const tasks = async () => {
    const filter = encodeURIComponent(`lane = "webhooks/${hook.id}"`);
    return (await api.get(`/api/work?filter=${filter}`)).body.items;
  };
  await eventually('one is delivered, one waits', async () => {
    const states = (await rows()).map(({ state }) => state).sort();
    return states.join() === 'delivered,retrying' && (await tasks()).length === 1;
  });
  assert.equal((await api.remove(`${HOOKS}/${hook.id}`)).status, 204);
  await eventually('both are gone', async () => (await rows()).length + (await tasks()).length === 0);
  for (const verb of ['test', 'rotate', 'probe', 'replay'])
    assertRefused(await api.post(`${HOOKS}/${hook.id}/${verb}`, verb === 'rotate' ? {} : undefined), 404);
  assertRefused(await api.get(`${HOOKS}/${hook.id}/stats`), 404);
});

check('the OpenAPI document knows what the bodies hold', async ({ get, post }) => {
  const { paths } = (await get('/api/openapi.json')).body;
  const schema = (path, method = 'post') => paths[path][method].requestBody.content['application/json'].schema;
  const made = schema(HOOKS);
  assert.deepEqual(made.required, ['url', 'types']);
  assert.deepEqual(made.properties.types.items, { type: 'string' });
  assert.equal(made.additionalProperties, false);
  assert.equal(schema(`${HOOKS}/{id}`, 'patch').required, undefined);
  assert.equal(schema(`${HOOKS}/{id}/rotate`).properties.graceMs.default, 86_400_000);
  const members = Object.keys(made.properties);
  const refused = await post(HOOKS, Object.fromEntries(members.map((name) => [name, []])));
  for (const name of members) {
    assert.ok(made.properties[name].description, name);
    assert.ok(refused.body.data[name], `${name} is known`);
    assert.notEqual(refused.body.data[name].code, 'validation_unknown_name', name);
  }
});

check('a key that reads webhooks reads nothing else by their filters', async (api) => {
  const { key: token } = (await api.post('/api/api-keys', { name: 'monitor', scopes: ['webhooks:read'] })).body;
  const { id } = await api.make();
  const ask = (path) => api.server.request('GET', path, undefined, { token });
  for (const path of [`${HOOKS}/${id}`, `${HOOKS}/${id}/stats`, '/api/deliveries']) {
    const answer = await ask(path);
    assert.equal(answer.status, 200, answer.text);
  }
  const oracle = encodeURIComponent('@collection.users.email ~ "a"');
  const relation = encodeURIComponent('posts_via_hook.title ~ "a"');
  for (const where of [HOOKS, `${HOOKS}/${id}`, '/api/deliveries'])
    for (const filter of [oracle, relation]) assertRefused(await ask(`${where}?filter=${filter}`), 403);
  assertRefused(await ask(`${HOOKS}?sort=${encodeURIComponent('@collection.users.email')}`), 403);
  assertRefused(await api.server.request('POST', `${HOOKS}/${id}/test`, undefined, { token }), 403);
  assertRefused(await api.server.request('POST', `${HOOKS}/${id}/rotate`, {}, { token }), 403);
});

check('the receiver of the guide takes what is right and nothing else', async (api, t) => {
  const guide = await readFile(new URL('../../docs/modules/webhooks.md', import.meta.url), 'utf8');
  const [, code] = /```js\n([^]*?)```/.exec(guide);
  const listening = ".listen(0, '127.0.0.1', function () { console.log(this.address().port); });";
  const program = code.replace(/\.listen\(.*\);\n/, listening);
  assert.ok(program.includes(listening));
  await api.define({ name: 'guided', fields: [{ name: 'title', type: 'text' }] });
  const { id, secret } = await api.make({ types: ['guided.*'] });
  const child = spawn(process.execPath, ['--input-type=module', '-'], {
    cwd: new URL('.', import.meta.url),
    env: { ...process.env, SECRET: secret },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => child.kill());
  child.stdin.end(program);
  let printed = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (printed += text));
  const port = await eventually('it listens', () => /^(\d+)\n/.exec(printed)?.[1]);
  const url = `http://127.0.0.1:${port}/hook`;
  await api.patch(`${HOOKS}/${id}`, { url });
  await api.create('guided', { title: 'a parcel' });
  await untilDelivered(api.server, api.token, id, 1);
  await eventually('it is printed', () => /guided\.created guided\/\w{15} .*"a parcel"/.test(printed));
  const forged = await fetch(url, { method: 'POST', body: '{}' });
  assert.equal(forged.status, 401);
});

test('webhooks over REST', async (t) => {
  const api = await world(t);
  for (const [name, body] of checks) await t.test(name, (each) => body(api, each));
});

test('who asks for a test and goes away keeps the server from nothing', async (t) => {
  const receiver = await startReceiver(t, { answer: () => new Promise(() => {}) });
  const server = await startServer(t, { args: ALLOW });
  const token = await operatorToken(server);
  const { id } = await createWebhook(server, token, { url: receiver.url, types: ['nothing.*'], timeoutMs: 30_000 });
  for (const verb of ['test', 'probe']) {
    const leaving = new AbortController();
    const asked = fetch(`${server.url}${HOOKS}/${id}/${verb}`, {
      method: 'POST',
      headers: { authorization: token },
      signal: leaving.signal,
    });
    await receiver.until(`the ${verb} is on its way`, () => receiver.inFlight === 1);
    leaving.abort();
    await assert.rejects(asked, { name: 'AbortError' });
    await receiver.until(`the ${verb} is given up`, () => receiver.inFlight === 0);
  }
  assert.equal((await server.request('DELETE', `${HOOKS}/${id}`, undefined, { token })).status, 204);
  await server.stop();
});

test('an id whose end another one has is drawn again', async (t) => {
  const twice = 'webhooks.id_taken:error@1,webhooks.id_taken:error@2';
  const server = await startServer(t, { args: ALLOW, env: { BAKEND_FAILPOINT: twice } });
  const token = await operatorToken(server);
  const body = { url: NOWHERE, types: ['nothing.*'] };
  const { id, secret } = await createWebhook(server, token, body);
  assert.match(secret, /^whsec_/);
  const { items } = (await server.request('GET', HOOKS, undefined, { token })).body;
  assert.deepEqual(
    items.map((each) => each.id),
    [id],
  );
  const { events } = (await server.request('GET', '/api/events?types=_webhooks.*', undefined, { token })).body;
  assert.equal(events.length, 1, 'what was taken back has left nothing');
});

test('with another instance key nothing is sent until there are new secrets', async (t) => {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, { folder, args: ALLOW });
  const token = await operatorToken(server);
  const receiver = await startReceiver(t);
  const hook = { url: receiver.url, types: ['posts.*'], ed25519: true };
  const { id, publicKey, secret } = await createWebhook(server, token, hook);
  await createCollection(server, token, { name: 'posts', fields: [{ name: 'title', type: 'text' }] });
  await createRecord(server, token, 'posts', { title: 'before' });
  await untilDelivered(server, token, id, 1);
  await server.stop();
  await rm(join(server.data, 'instance.key'));

  const again = await startServer(t, { folder, args: ALLOW });
  const later = await signIn(again);
  const told = await again.logged('webhooks_without_secret');
  assert.deepEqual([told.level, told.count, told.tenant], ['error', 1, 'default']);
  const metrics = (await again.request('GET', '/metrics', undefined, { token: later })).text;
  assert.match(metrics, /\nbakend_webhooks{state="without_secret"} 1\n/);
  await createRecord(again, later, 'posts', { title: 'after' });
  const tried = await again.request('POST', `${HOOKS}/${id}/test`, undefined, { token: later });
  assertRefused(tried, 409);
  const stats = await again.request('GET', `${HOOKS}/${id}/stats`, undefined, { token: later });
  assert.ok(stats.body.backlog > 0, 'it waits');
  for (const problem of [tried.body.message, stats.body.problem]) assert.match(problem, /instance key.*rotate\.$/);
  assert.equal(receiver.deliveries.length, 1, 'nothing is sent with the wrong signature, or none');
  const rotated = (await again.request('POST', `${HOOKS}/${id}/rotate`, {}, { token: later })).body;
  assert.notEqual(rotated.secret, secret);
  assert.match(rotated.publicKey, /^whpk_/);
  assert.notEqual(rotated.publicKey, publicKey);
  await untilDelivered(again, later, id, 2);
  const delivery = receiver.deliveries.at(-1);
  assert.equal(delivery.body.data.title, 'after', 'it goes on where it stood');
  new Webhook(rotated.secret).verify(delivery.text, delivery.headers);
  assert.match(delivery.headers['webhook-signature'], /^v1,\S+ v1a,\S+$/);
});

test('options that make no sense are refused before the start', async (t) => {
  const folder = await temporaryFolder(t);
  for (const [name, value, problem] of [
    ['--webhooks-allow', '10.0.0.0/99', /must be addresses or networks/],
    ['--webhooks-retry-schedule', '5s,1m', /must be 1 to 30 delays/],
    ['--webhooks-origin', 'https://example.com', /must be a host's name/],
    ['--webhooks-timeout', '10m', /webhooks-timeout/],
    ['--webhooks-disable-after', '-1d', /webhooks-disable-after/],
  ]) {
    const { code, stderr } = await runServer(folder, { args: [name, value] });
    assert.notEqual(code, 0, name);
    assert.match(stderr, problem, name);
  }
});
