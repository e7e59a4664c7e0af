/** Records whose events endpoints get, and what holds of all that came to one. */
import assert from 'node:assert/strict';
import { operator } from './operator.mjs';
import { open, recordsPath } from './records.mjs';
import { ALLOW, createWebhook, listDeliveries } from './webhooks.mjs';

export const posts = { name: 'posts', ...open, fields: [{ name: 'title', type: 'text' }] };
export const titles = (count, name = 'post') => Array.from({ length: count }, (_, i) => `${name} ${i}`);

/** Creates records, some at a time, and gives those that were acknowledged. */
export async function create(server, all, { collection = 'posts', tenant, atOnce = 25 } = {}) {
  const made = [];
  for (let i = 0; i < all.length; i += atOnce)
    made.push(
      ...(await Promise.all(
        all.slice(i, i + atOnce).map(async (title) => {
          const answer = await server.request('POST', recordsPath(collection), { title }, { tenant });
          assert.equal(answer.status, 200, answer.text);
          return answer.body;
        }),
      )),
    );
  return made;
}

/** In the order of the journal: each names the one before it. */
export function assertChain(deliveries) {
  const all = [...deliveries].sort((a, b) => a.body.sequence - b.body.sequence);
  for (let i = 1; i < all.length; i++) assert.equal(all[i].body.after, all[i - 1].body.cursor, `of ${all[i].text}`);
  return all;
}

/** Whatever came more than once came as it was. */
export function assertSameBytes(deliveries) {
  const first = new Map();
  for (const delivery of deliveries) {
    const before = first.get(delivery.id);
    if (before) assert.deepEqual(delivery.raw, before.raw, `of ${delivery.id}`);
    else first.set(delivery.id, delivery);
  }
  return [...first.values()];
}

export async function start(t, options) {
  const it = await operator(t, { args: ALLOW, ...options });
  await it.define(posts);
  it.webhook = (body, more) => createWebhook(it.server, it.token, body, more);
  it.rows = (id, more) => listDeliveries(it.server, it.token, id, more);
  return it;
}
