/** How many webhooks there may be, and how much waits for one in memory: past that it waits in the journal. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { open, recordsPath } from './support/records.mjs';
import { assertChain, assertSameBytes, create, start } from './support/webhook_posts.mjs';
import { startReceiver } from './support/webhooks.mjs';

/** Of a tenant. */
const WEBHOOKS_MAX = 10_000;
const AT_ONCE = 100;

test('a tenant has ten thousand webhooks and no more', async (t) => {
  const { get, post, remove } = await start(t);
  const body = { url: 'https://example.com/hook', types: ['nothing.happens'], enabled: false };
  const make = () => post('/api/webhooks', body);
  for (let made = 0; made < WEBHOOKS_MAX; made += AT_ONCE) {
    const answers = await Promise.all(Array.from({ length: AT_ONCE }, make));
    for (const answer of answers) assert.equal(answer.status, 200, answer.text);
  }
  const refused = await make();
  assert.equal(refused.status, 400, refused.text);
  assert.match(refused.body.message, /10000 webhooks/, 'which limit');
  assert.match(refused.body.message, /delete/, 'what to do');
  const list = await get('/api/webhooks?perPage=1');
  assert.equal(list.body.totalItems, WEBHOOKS_MAX);
  assert.equal((await remove(`/api/webhooks/${list.body.items[0].id}`)).status, 204);
  assert.equal((await make()).status, 200, 'there is room for another one');
});

/** Of the text of a record: with the former one, its event is a little smaller than one may be. */
const TEXT_BYTES = 110_000;
const VERSIONS = 300;

test('versions that there is no room for wait in the journal, and come in their order', async (t) => {
  const { server, define, patch, webhook } = await start(t);
  await define({ name: 'pages', ...open, fields: [{ name: 'text', type: 'text', max: 2 * TEXT_BYTES }] });
  const all = [];
  let isHeld = true;
  for (let i = 0; i < 2; i++) {
    const held = [];
    const answer = () => (isHeld ? new Promise((resolve) => held.push(resolve)) : 200);
    const receiver = await startReceiver(t, { answer });
    all.push({ receiver, held });
    await webhook({ url: receiver.url, types: ['pages.*'], ordered: true, timeoutMs: 30_000 });
  }
  const text = (number) => `${number} `.padEnd(TEXT_BYTES, String(number % 10));
  const [{ id }] = await create(server, [''], { collection: 'pages' });
  for (let number = 1; number <= VERSIONS; number++)
    assert.equal((await patch(recordsPath('pages', id), { text: text(number) })).status, 200);
  isHeld = false;
  for (const { held } of all) for (const answer of held) answer(200);
  for (const { receiver } of all) {
    await receiver.untilIds(VERSIONS + 1, 120_000);
    const came = assertSameBytes(receiver.deliveries);
    assert.deepEqual(came, assertChain(came), 'in order');
    came.slice(1).forEach(({ body }, i) => assert.equal(body.data.text, text(i + 1)));
  }
});
