/**
 * What a receiver of webhooks sees, through the libraries that receivers have, as they are: both
 * generations of `standardwebhooks`, `svix` (which brings the older one), and `cloudevents`.
 */
import assert from 'node:assert/strict';
import { createPublicKey, verify as verifyWithKey } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { HTTP } from 'cloudevents';
import matchesSchema from 'cloudevents/dist/schema/v1.js';
import { Webhook as Current } from 'standardwebhooks';
import { Webhook as First } from 'standardwebhooks-1-0';
import { Webhook as Svix } from 'svix';
import { assertProblems, operator } from './support/operator.mjs';
import { startServer, temporaryFolder } from './support/program.mjs';
import { open } from './support/records.mjs';
import { eventually } from './support/smtp.mjs';
import { ALLOW, createWebhook, startReceiver } from './support/webhooks.mjs';

const LIBRARIES = { 'standardwebhooks 1.0.0': First, 'standardwebhooks 1.1.1': Current, svix: Svix };
/** The other ends of the scale: what the reference vector has, and as long as it may be. */
const SHORT = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const LONG = `whsec_${Buffer.alloc(64, 'é').toString('base64')}`;
/** Attempts that fail come again at once, so to say. */
const AGAIN = ['--webhooks-retry-schedule', '0s,50ms,50ms,50ms'];

/** One server for all; each test has receivers and webhooks of its own. */
const checks = [];
const check = (name, body) => checks.push([name, body]);

async function world(t, options) {
  const api = await operator(t, { ...options, args: [...ALLOW, ...AGAIN] });
  await api.define({
    name: 'posts',
    ...open,
    fields: [
      { name: 'title', type: 'text' },
      { name: 'any', type: 'json' },
    ],
  });
  /** A webhook with a receiver, asked for the events of one post alone; and that post's deliveries. */
  const hook = async (t, body = {}, answer) => {
    const receiver = await startReceiver(t, answer ? { answer } : {});
    const webhook = await createWebhook(api.server, api.token, {
      url: receiver.url,
      types: ['posts.*'],
      ...body,
    });
    t.after(() => api.server.isRunning && api.remove(`/api/webhooks/${webhook.id}`));
    return { receiver, ...webhook };
  };
  const write = (title = 'Hello', any = null) => api.create('posts', { title, any });
  return { ...api, hook, write };
}

/** Its first delivery of this subject, once it has come. */
const take = (receiver, subject) =>
  receiver.until(`a delivery of ${subject}`, (all) =>
    all.find(({ text, headers }) => text.includes(subject) || headers['ce-subject'] === subject),
  );

/** With a clock that is so many seconds behind the delivery's timestamp. */
function after(seconds, { headers }, body) {
  const { now } = Date;
  Date.now = () => (Number(headers['webhook-timestamp']) + seconds) * 1000;
  try {
    return body();
  } finally {
    Date.now = now;
  }
}

function assertVerified({ raw, text, headers }, secret, expected = JSON.parse(text)) {
  for (const [name, Webhook] of Object.entries(LIBRARIES)) {
    const webhook = new Webhook(secret);
    assert.deepEqual(webhook.verify(raw, headers), expected, name);
    assert.deepEqual(webhook.verify(text, headers), expected, `${name}: as a text`);
  }
}

function assertRefused({ raw, headers }, secret, message) {
  for (const [name, Webhook] of Object.entries(LIBRARIES))
    assert.throws(() => new Webhook(secret).verify(raw, headers), { message }, name);
}

const entries = ({ headers }) => headers['webhook-signature'].split(' ');
const NOT_OURS = 'No matching signature found';

check('every library takes a delivery, and none takes what was tampered with', async (t, w) => {
  const { receiver, secret } = await w.hook(t);
  const { id } = await w.write('Grüße, "Ann" \\ 寿司 🍣 \u2028 \u0001');
  const delivery = await take(receiver, id);
  assert.equal(delivery.method, 'POST');
  assertVerified(delivery, secret);
  const { headers, raw } = delivery;
  const shouted = Object.entries(headers).map(([name, value]) => [name.toUpperCase(), value]);
  assertVerified({ ...delivery, headers: Object.fromEntries(shouted) }, secret);
  assertVerified(delivery, secret.slice('whsec_'.length));

  const flipped = Buffer.from(raw);
  flipped[raw.length >> 1] ^= 1;
  assertRefused({ raw: flipped, headers }, secret, NOT_OURS);
  assertRefused({ raw: Buffer.concat([raw, Buffer.from(' ')]), headers }, secret, NOT_OURS);
  assertRefused(delivery, SHORT, NOT_OURS);
  for (const change of [
    { 'webhook-id': `${headers['webhook-id']}x` },
    { 'webhook-timestamp': String(Number(headers['webhook-timestamp']) + 1) },
    { 'webhook-signature': headers['webhook-signature'].replace('v1,', 'v2,') },
  ])
    assertRefused({ raw, headers: { ...headers, ...change } }, secret, NOT_OURS);

  for (const seconds of [-300, 300]) after(seconds, delivery, () => assertVerified(delivery, secret));
  after(301, delivery, () => assertRefused(delivery, secret, 'Message timestamp too old'));
  after(-301, delivery, () => assertRefused(delivery, secret, 'Message timestamp too new'));
});

check('headers have the form that every library reads', async (t, w) => {
  const { receiver } = await w.hook(t);
  const { id } = await w.write();
  const { headers, raw, rawHeaders, body } = await take(receiver, id);
  assert.equal(headers['content-type'], 'application/json');
  assert.equal(headers['content-length'], String(raw.length));
  assert.match(headers['webhook-timestamp'], /^\d{10}$/, 'seconds, without a fraction');
  assert.ok(Math.abs(Number(headers['webhook-timestamp']) * 1000 - Date.now()) < 60_000);
  assert.match(headers['webhook-signature'], /^v1,[A-Za-z0-9+/]{43}=$/, 'padded, once');
  assert.match(headers['webhook-id'], /^evt_[0-9A-Z]{26}$/, 'no dot, which parts what is signed');
  assert.equal(headers['webhook-id'], body.id);
  const names = rawHeaders.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase());
  assert.equal(new Set(names).size, names.length, 'each is there once');
  for (const absent of ['svix-id', 'expect', 'transfer-encoding', 'webhook-request-origin', 'cookie'])
    assert.equal(headers[absent], undefined, absent);
  assert.equal(raw[0], '{'.charCodeAt(0), 'no byte order mark');
});

check('the body is the event, its payload untouched', async (t, w) => {
  const { receiver } = await w.hook(t);
  const any = '{"big":12345678901234567890123,"small":1.10,"e":1E+2,"none":null,"":"\\u2028\\u0001"}';
  const { id } = await w.write('one', JSON.parse('{"placeholder":1}'));
  const changed = await w.patch(`/api/collections/posts/records/${id}`, `{"any":${any}}`);
  assert.equal(changed.status, 200, changed.text);
  const subject = `posts/${id}`;
  const [created, updated] = await receiver.until('both', (all) => {
    const its = all.filter(({ body }) => body.subject === subject);
    return its.length === 2 && its.sort((a, b) => a.body.sequence - b.body.sequence);
  });
  const feed = (await w.get(`/api/events?subject=${subject}&types=posts.*`)).body.events;
  for (const [i, { body }] of [created, updated].entries()) {
    const { payload: data, ...event } = feed[i];
    const { cursor, after, ...rest } = body;
    assert.deepEqual(rest, { ...event, data }, 'what the feed says of it');
    for (const text of [cursor, after]) assert.match(text, /^[\w-]{27}$/);
  }
  assert.deepEqual(
    Object.keys(updated.body),
    [
      'type', 'timestamp', 'data', 'id', 'source', 'tenant', 'subject', 'sequence', 'actor', 'version', 'previous',
      'cursor', 'after',
    ],
  );
  assert.ok(updated.text.includes(`"any":${any}`), 'numbers as they were written');
  assert.deepEqual(updated.body.previous.any, { placeholder: 1 });
  assert.equal(updated.body.after, created.body.cursor, 'what was sent before it');
  const next = await w.get(`/api/events?types=posts.*&limit=1&after=${created.body.cursor}`);
  assert.equal(next.body.events[0].id, updated.body.id, 'a cursor is good for the feed');
});

check('an attempt that comes again has the same bytes and the same id', async (t, w) => {
  let left = 3;
  const { receiver, secret } = await w.hook(t, {}, () => (left-- > 0 ? 500 : 204));
  await w.write('again');
  await receiver.until('four attempts', (all) => all.length === 4);
  const [first, ...others] = receiver.deliveries;
  for (const each of others) {
    assert.deepEqual(each.raw, first.raw);
    assert.equal(each.id, first.id);
    assert.ok(each.headers['webhook-timestamp'] >= first.headers['webhook-timestamp']);
    assertVerified(each, secret);
  }
});

check('a secret that is given signs, as long as it may be', async (t, w) => {
  for (const secret of [SHORT, LONG]) {
    const made = await w.hook(t, { secret });
    assert.equal(made.secret, secret);
    const { id } = await w.write();
    assertVerified(await take(made.receiver, id), secret);
  }
  const url = 'https://hooks.example.com/';
  for (const secret of [SHORT.slice(6), 'whsec_AAAA', `whsec_${'-'.repeat(44)}`, SHORT.slice(0, -1)])
    assertProblems(await w.post('/api/webhooks', { url, types: ['*'], secret }), {
      secret: 'validation_invalid_secret',
    });
});

check('while a secret is changed both sign, and the old one no longer than it may', async (t, w) => {
  const { receiver, secret: old, id: webhook } = await w.hook(t, { ed25519: true });
  const path = `/api/webhooks/${webhook}/rotate`;
  const rotate = async (body) => (await w.post(path, body)).body.secret;
  const versions = (delivery) => entries(delivery).map((entry) => entry.split(',')[0]);
  const first = await take(receiver, (await w.write()).id);
  assertVerified(first, old);

  const next = await rotate({});
  assert.notEqual(next, old);
  const both = await take(receiver, (await w.write()).id);
  assert.deepEqual(versions(both), ['v1', 'v1', 'v1a']);
  for (const secret of [next, old]) assertVerified(both, secret);
  const only = (n) => ({ ...both.headers, 'webhook-signature': entries(both)[n] });
  assertVerified({ ...both, headers: only(0) }, next);
  assertVerified({ ...both, headers: only(1) }, old);
  assertRefused({ ...both, headers: only(2) }, next, NOT_OURS);
  const joined = { ...both.headers, 'webhook-signature': entries(both).join(', ') };
  for (const secret of [next, old]) assertVerified({ ...both, headers: joined }, secret);

  const last = await rotate({ graceMs: 1, force: true });
  const alone = await eventually('the last secret signs alone', async () => {
    const delivery = await take(receiver, (await w.write()).id);
    return entries(delivery).length === 2 && delivery;
  });
  assertVerified(alone, last);
  for (const secret of [old, next]) assertRefused(alone, secret, NOT_OURS);

  assert.equal(await rotate({ secret: SHORT, graceMs: 0 }), SHORT);
  const given = await take(receiver, (await w.write()).id);
  assert.deepEqual(versions(given), ['v1', 'v1a']);
  assertVerified(given, SHORT);
  assertRefused(given, last, NOT_OURS);
});

check('a test is signed and formed like a delivery', async (t, w) => {
  for (const format of ['standard', 'cloudevents', 'cloudevents-binary']) {
    const { receiver, secret, id: webhook } = await w.hook(t, { format });
    const { body } = await w.post(`/api/webhooks/${webhook}/test`, {});
    assert.equal(body.ok, true, JSON.stringify(body));
    const [delivery, ...others] = receiver.deliveries;
    assert.deepEqual(others, []);
    assert.equal(delivery.id, body.event);
    assertVerified(delivery, secret);
    const { headers, text } = delivery;
    if (format === 'standard') {
      const names = ['type', 'timestamp', 'data', 'id', 'source', 'tenant', 'subject', 'actor', 'version'];
      assert.deepEqual(Object.keys(delivery.body), names);
    } else {
      const event = HTTP.toEvent({ headers, body: text });
      assert.deepEqual([event.id, event.type, event.cursor], [body.event, 'webhook.test', undefined]);
    }
    if (format === 'cloudevents') assert.equal(matchesSchema(delivery.body), true);
  }
});

check('an endpoint that agreed to our name is told it each time', async (t, w) => {
  const consents = { 'WebHook-Allowed-Origin': '*', 'WebHook-Allowed-Rate': '600' };
  const { receiver, secret, id: webhook } = await w.hook(t, {}, ({ method }) =>
    method === 'OPTIONS' ? { headers: consents } : 200,
  );
  const before = await take(receiver, (await w.write()).id);
  assert.equal(before.headers['webhook-request-origin'], undefined);
  const { body } = await w.post(`/api/webhooks/${webhook}/probe`, {});
  assert.equal(body.verified, true, JSON.stringify(body));
  const asked = receiver.deliveries.find(({ method }) => method === 'OPTIONS').headers;
  assert.equal(asked['webhook-request-origin'], body.origin);
  assert.equal(asked['webhook-signature'], undefined);
  const delivery = await take(receiver, (await w.write()).id);
  assertVerified(delivery, secret);
  assert.equal(delivery.headers['webhook-request-origin'], body.origin);
});

/** What node's own Ed25519 says of the entry, by the key that the webhook shows. */
function isSigned({ headers, raw }, entry, publicKey) {
  assert.match(publicKey, /^whpk_[A-Za-z0-9+/]{43}=$/);
  const x = Buffer.from(publicKey.slice('whpk_'.length), 'base64').toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  const head = `${headers['webhook-id']}.${headers['webhook-timestamp']}.`;
  const signature = Buffer.from(entry.slice('v1a,'.length), 'base64');
  return verifyWithKey(null, Buffer.concat([Buffer.from(head), raw]), key, signature);
}

check('who asks for Ed25519 can verify without the secret', async (t, w) => {
  const { receiver, secret, publicKey, id: webhook } = await w.hook(t, { ed25519: true });
  const first = await take(receiver, (await w.write()).id);
  assertVerified(first, secret);
  assert.deepEqual(entries(first).map((entry) => entry.split(',')[0]), ['v1', 'v1a']);
  assert.equal(isSigned(first, entries(first)[1], publicKey), true);
  assert.equal(isSigned({ ...first, raw: Buffer.from('{}') }, entries(first)[1], publicKey), false);

  const path = `/api/webhooks/${webhook}`;
  const off = await w.patch(path, { ed25519: false });
  assert.deepEqual([off.status, off.body.publicKey], [200, '']);
  const without = await take(receiver, (await w.write()).id);
  assert.deepEqual(entries(without).map((entry) => entry.split(',')[0]), ['v1']);
  assertVerified(without, secret);

  const on = await w.patch(path, { ed25519: true });
  assert.notEqual(on.body.publicKey, publicKey, 'a key of its own');
  const last = await take(receiver, (await w.write()).id);
  assert.equal(isSigned(last, entries(last)[1], on.body.publicKey), true);
  assert.equal(isSigned(last, entries(last)[1], publicKey), false);
});

/** The attributes of a CloudEvent in headers, as the HTTP binding writes them. */
const attributesOf = ({ headers }) =>
  Object.fromEntries(
    Object.entries(headers)
      .filter(([name]) => name.startsWith('ce-'))
      .map(([name, value]) => [name.slice('ce-'.length), decodeURIComponent(value)]),
  );

check('CloudEvents are such by their schema, structured and binary alike', async (t, w) => {
  const structured = await w.hook(t, { format: 'cloudevents' });
  const binary = await w.hook(t, { format: 'cloudevents-binary' });
  const plain = await w.hook(t);
  const { id } = await w.write('Ż', { deep: [1, { x: 'é' }] });
  const subject = `posts/${id}`;
  const one = await take(structured.receiver, subject);
  const other = await take(binary.receiver, subject);
  const { body: standard } = await take(plain.receiver, subject);
  assertVerified(one, structured.secret);
  assertVerified(other, binary.secret);

  assert.equal(one.headers['content-type'], 'application/cloudevents+json; charset=utf-8');
  assert.deepEqual(Object.keys(attributesOf(one)), []);
  assert.equal(matchesSchema(one.body), true, JSON.stringify(matchesSchema.errors));
  const { data, datacontenttype, dataversion, ...attributes } = one.body;
  assert.deepEqual(attributes, {
    specversion: '1.0',
    id: standard.id,
    source: '/tenants/default/collections',
    type: 'posts.created',
    time: standard.timestamp,
    subject,
    sequence: String(standard.sequence).padStart(20, '0'),
    tenantid: 'default',
    actor: attributes.actor,
    cursor: standard.cursor,
    after: attributes.after,
  });
  assert.deepEqual(data, standard.data);
  assert.deepEqual([datacontenttype, dataversion], ['application/json', 1]);
  for (const name of Object.keys(one.body)) assert.match(name, /^[a-z0-9]{1,20}$/);

  assert.equal(other.headers['content-type'], 'application/json');
  assert.deepEqual(other.body, standard.data, 'the body is the data');
  assert.deepEqual(attributesOf(other), {
    ...attributes,
    dataversion: String(dataversion),
    after: attributesOf(other).after,
  });
  for (const [name, value] of Object.entries(other.headers))
    if (name.startsWith('ce-')) assert.match(value, /^[!#-$&-~]+(%[0-9A-F]{2})*/);

  for (const { headers, text } of [one, other]) {
    const event = HTTP.toEvent({ headers, body: text });
    assert.equal(event.validate(), true);
    assert.deepEqual(
      [event.id, event.source, event.type, event.subject, event.time, event.cursor],
      [standard.id, attributes.source, 'posts.created', subject, standard.timestamp, standard.cursor],
    );
    assert.deepEqual(event.data, standard.data);
  }
});

check('headers of its own go with each delivery, and none that says what ours say', async (t, w) => {
  const headers = { Authorization: 'Bearer abc', 'X-Shop': 'a "b", c; d=1' };
  const { receiver, secret, id: webhook } = await w.hook(t, { headers });
  const delivery = await take(receiver, (await w.write()).id);
  assertVerified(delivery, secret);
  assert.equal(delivery.headers.authorization, headers.Authorization);
  assert.equal(delivery.headers['x-shop'], headers['X-Shop']);

  const path = `/api/webhooks/${webhook}`;
  for (const wrong of [
    { 'Webhook-Signature': 'v1,x' },
    { 'svix-id': 'x' },
    { Host: 'internal' },
    { 'content-length': '0' },
    { 'Transfer-Encoding': 'chunked' },
    { 'ce-id': 'x' },
    { 'X-A': 'b\r\nHost: internal' },
    { 'X A': 'b' },
    { 'X-A': 'é' },
    { 'x-a': 'b', 'X-A': 'c' },
  ])
    assertProblems(await w.patch(path, { headers: wrong }), { headers: 'validation_invalid_header' });
  assertProblems(await w.patch(path, { headers: ['x'] }), { headers: 'validation_invalid_type' });
  assert.equal((await w.patch(path, { headers: { 'X-Shop': 'new' } })).status, 200);
  const later = await take(receiver, (await w.write()).id);
  assert.equal(later.headers['x-shop'], 'new');
  assert.equal(later.headers.authorization, undefined);
});

/** All bytes of a folder. */
async function bytesBelow(folder) {
  const parts = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) parts.push(await bytesBelow(path));
    else if (entry.isFile()) parts.push(await readFile(path));
  }
  return Buffer.concat(parts);
}

/** Nobody reads it where it is kept, and it signs on after a restart. */
async function checkSecretAtRest(t, { server, hook, get }) {
  const { receiver, secret, publicKey, id } = await hook(t, { ed25519: true });
  const text = secret.slice('whsec_'.length, -1);
  for (const path of [`/api/webhooks/${id}`, '/api/webhooks', '/api/events?types=*,_*&limit=1000'])
    assert.equal((await get(path)).text.includes(text), false, path);
  await server.stop();
  const disk = await bytesBelow(server.data);
  assert.equal(disk.includes(id), true);
  assert.equal(disk.includes(text), false);
  assert.equal(disk.includes(Buffer.from(text, 'base64')), false);
  assert.equal(server.log.join('\n').includes(text), false);

  const again = await startServer(t, { folder: server.folder, args: ALLOW });
  const path = '/api/collections/posts/records';
  const { body } = await again.request('POST', path, { title: 'x' });
  const delivery = await take(receiver, body.id);
  assertVerified(delivery, secret);
  assert.equal(isSigned(delivery, entries(delivery)[1], publicKey), true);
}

test('what a receiver sees', async (t) => {
  const w = await world(t, { folder: await temporaryFolder(t) });
  for (const [name, body] of checks) await t.test(name, (t) => body(t, w));
  await t.test('a secret is nowhere to be found, and signs on after a restart', (t) =>
    checkSecretAtRest(t, w),
  );
});
