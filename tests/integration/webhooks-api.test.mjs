/**
 * Webhooks over REST: what can be said of one, what is refused and how, who may, and what it says of
 * itself. What is delivered, and when, is webhooks.test.mjs.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canary } from './support/neighbours.mjs';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { runServer, temporaryFolder } from './support/program.mjs';
import { ALLOW } from './support/webhooks.mjs';

const HOOKS = '/api/webhooks';
/** Nobody listens there. */
const NOWHERE = 'http://127.0.0.1:9/hook';

/** One server for all: what each test needs of its own it makes. */
const checks = [];
const check = (name, body) => checks.push([name, body]);

async function world(t) {
  const api = await operator(t, { args: ALLOW });
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
  for (const [name, value] of Object.entries(all)) assert.deepEqual(full[name], value, name);
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
    subject: 'x'.repeat(301),
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
  for (const text of [events.text, server.log.join('\n')])
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
  const off = (await patch(path, { enabled: false })).body;
  assert.equal(off.disabledReason, 'manual');
  const again = (await patch(path, { enabled: false })).body;
  assert.equal(again.disabledAt, off.disabledAt);
  const on = (await patch(path, { enabled: true })).body;
  assert.deepEqual([on.enabled, on.disabledReason, on.disabledAt], [true, '', '']);
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

test('webhooks over REST', async (t) => {
  const api = await world(t);
  for (const [name, body] of checks) await t.test(name, () => body(api));
});

test('options that make no sense are refused before the start', async (t) => {
  const folder = await temporaryFolder(t);
  for (const [name, value, problem] of [
    ['--webhooks-allow', '10.0.0.0/99', /must be addresses or networks/],
    ['--webhooks-origin', 'https://example.com', /must be a host's name/],
    ['--webhooks-timeout', '10m', /webhooks-timeout/],
    ['--webhooks-disable-after', '-1d', /webhooks-disable-after/],
  ]) {
    const { code, stderr } = await runServer(folder, { args: [name, value] });
    assert.notEqual(code, 0, name);
    assert.match(stderr, problem, name);
  }
});
