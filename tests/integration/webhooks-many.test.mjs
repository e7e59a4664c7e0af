/** Many endpoints, of which few ask for an event. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertChain, create, start, titles } from './support/webhook_posts.mjs';
import { startReceiver } from './support/webhooks.mjs';

test('a thousand endpoints, of which ten ask', async (t) => {
  const { server, webhook } = await start(t);
  const receiver = await startReceiver(t);
  const bodies = Array.from({ length: 1000 }, (_, i) => ({
    url: `${receiver.url}/${i}`,
    types: [i % 100 === 0 ? 'posts.created' : `other${i}.created`],
  }));
  for (let i = 0; i < bodies.length; i += 50) await Promise.all(bodies.slice(i, i + 50).map((body) => webhook(body)));
  await create(server, titles(20));
  await receiver.until('two hundred', (all) => all.length >= 200, 60_000);
  for (let i = 0; i < 1000; i += 100)
    assert.equal(assertChain(receiver.deliveries.filter(({ path }) => path === `/hook/${i}`)).length, 20);
  assert.equal(receiver.deliveries.length, 200);
});
