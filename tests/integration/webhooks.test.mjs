/**
 * Webhooks as endpoints see them: every event that one asked for, in order, each naming the one before; what
 * is held back by caps, rates and orders; what a change leaves of it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { recordsPath } from './support/records.mjs';
import { eventually } from './support/smtp.mjs';
import { assertChain, assertSameBytes, create, posts, start, titles } from './support/webhook_posts.mjs';
import { ALLOW, startReceiver, untilDelivered } from './support/webhooks.mjs';

const soon = `0s,${Array(29).fill('1s').join()}`;

test('an endpoint', async (t) => {
  const { server, token, define, post, webhook, rows, remove, patch } = await start(t, {
    args: [...ALLOW, '--webhooks-retry-schedule', soon],
  });
  await define({ ...posts, name: 'tags' });

  await t.test('once, each naming the one before it', async () => {
    const receiver = await startReceiver(t);
    const { id } = await webhook({ url: receiver.url, types: ['posts.created'] });
    const made = await create(server, titles(1000));
    await receiver.untilIds(1000, 60_000);
    const all = assertChain(receiver.deliveries);
    assert.equal(all.length, 1000, 'none came twice');
    assert.deepEqual(new Set(all.map(({ body }) => body.data.id)), new Set(made.map((record) => record.id)));
    assert.ok(receiver.mostInFlight <= 8, `${receiver.mostInFlight} at once`);
    assert.ok(all.every(({ method, headers, body }) => method === 'POST' && headers['webhook-id'] === body.id));
    await untilDelivered(server, token, id, 1000);
    const [row] = await rows(id, { filter: `event = "${all[7].id}"` });
    assert.equal(row.type, 'posts.created');
    assert.equal(row.subject, `posts/${all[7].body.data.id}`);
    assert.equal(row.sequence, all[7].body.sequence);
    assert.equal(row.after, all[6].body.sequence);
    assert.equal(row.attemptCount, 1);
    assert.equal(row.attempts.length, 1);
    assert.equal(row.attempts[0].status, 200);
    assert.equal((await remove(`/api/webhooks/${id}`)).status, 204);
  });

  await t.test('by type, subject and filter', async () => {
    const receiver = await startReceiver(t);
    const [one] = await create(server, ['one']);
    await webhook({ url: `${receiver.url}/types`, types: ['tags.*', 'posts.deleted'] });
    await webhook({ url: `${receiver.url}/subject`, types: ['*'], subject: `posts/${one.id}` });
    await webhook({ url: `${receiver.url}/filter`, types: ['posts.*'], filter: 'payload.title ~ "yes"' });
    await create(server, ['no', 'yes 1']);
    const [tag] = await create(server, ['a tag'], { collection: 'tags' });
    await patch(recordsPath('posts', one.id), { title: 'oh yes' });
    await remove(recordsPath('posts', one.id));
    await create(server, ['yes, the end']);
    const at = (all, path) => all.filter((delivery) => delivery.path === `/hook/${path}`);
    await receiver.until(
      'the last of each',
      (all) =>
        at(all, 'types').length === 2 &&
        at(all, 'subject').length === 2 &&
        at(all, 'filter').length === 4,
    );
    const of = (path) =>
      assertChain(at(receiver.deliveries, path)).map(
        ({ body }) => `${body.type} ${body.subject === `posts/${one.id}` ? 'one' : body.data.title}`,
      );
    assert.deepEqual(of('types'), [`tags.created ${tag.title}`, 'posts.deleted one']);
    assert.deepEqual(of('subject'), ['posts.updated one', 'posts.deleted one']);
    assert.deepEqual(of('filter'), [
      'posts.created yes 1',
      'posts.updated one',
      'posts.deleted one',
      'posts.created yes, the end',
    ]);
  });

  await t.test('its own tenant\'s, and no other', async () => {
    assert.equal((await post('/api/tenants', { name: 'beside' })).status, 200);
    assert.equal((await post('/api/collections', { type: 'base', ...posts }, { tenant: 'beside' })).status, 200);
    const [here, there] = [await startReceiver(t), await startReceiver(t)];
    await webhook({ url: here.url, types: ['posts.*'] });
    await webhook({ url: there.url, types: ['posts.*'] }, { tenant: 'beside' });
    await Promise.all([create(server, titles(40, 'here')), create(server, titles(40, 'there'), { tenant: 'beside' })]);
    await Promise.all([here.untilIds(40), there.untilIds(40)]);
    for (const [receiver, name] of [
      [here, 'here'],
      [there, 'there'],
    ]) {
      const found = assertChain(receiver.deliveries).map(({ body }) => body.data.title);
      assert.deepEqual(found.sort(), titles(40, name).sort());
    }
  });

  await t.test('no more at once than maxInFlight', async () => {
    const receiver = await startReceiver(t);
    const waiting = [];
    receiver.answer = () => new Promise((resolve) => waiting.push(resolve));
    const { id } = await webhook({ url: receiver.url, types: ['posts.created'], maxInFlight: 3 });
    await create(server, titles(30));
    for (let i = 0; i < 30; i++) {
      await receiver.until('a request', () => waiting.length > 0);
      waiting.shift()(200);
    }
    await untilDelivered(server, token, id, 30);
    assert.equal(receiver.mostInFlight, 3);
    await remove(`/api/webhooks/${id}`);
  });

  await t.test('no more a minute than rateLimit', async () => {
    const receiver = await startReceiver(t);
    /* A bucket that holds one: however long it takes, there is never more than time has filled. */
    const began = Date.now();
    const { id } = await webhook({ url: receiver.url, types: ['posts.created'], rateLimit: 600 });
    await create(server, titles(20));
    const times = [];
    receiver.answer = () => {
      times.push(Date.now());
      return 200;
    };
    await receiver.untilIds(20);
    assert.ok(Date.now() - began >= 900, 'a bucket of ten, then ten a second');
    await remove(`/api/webhooks/${id}`);
  });

  await t.test('redirects are not followed', async () => {
    const receiver = await startReceiver(t, {
      answer: ({ path }) => (path === '/hook' ? { status: 302, headers: { location: '/elsewhere' } } : 200),
    });
    const { id } = await webhook({ url: receiver.url, types: ['posts.created'] });
    await create(server, ['to be redirected']);
    const [row] = await untilDelivered(server, token, id, 1, 'retrying');
    assert.equal(row.attempts[0].status, 302);
    assert.match(row.attempts[0].error, /Redirects are not followed/);
    assert.ok(receiver.deliveries.every(({ path }) => path === '/hook'));
    await remove(`/api/webhooks/${id}`);
  });

  await t.test('an ordered one gets the events of a record one by one', async () => {
    const receiver = await startReceiver(t);
    const { id } = await webhook({ url: receiver.url, types: ['posts.*'], ordered: true });
    const underWay = new Map();
    let isRefused = true;
    const refused = [];
    receiver.answer = async ({ body }) => {
      underWay.set(body.subject, (underWay.get(body.subject) ?? 0) + 1);
      assert.equal(underWay.get(body.subject), 1, `two of ${body.subject} at once`);
      await new Promise((resolve) => setImmediate(resolve));
      underWay.set(body.subject, 0);
      if (body.subject === stuck && isRefused) {
        refused.push(body.id);
        return 503;
      }
      return 200;
    };
    let stuck = '';
    const made = await create(server, titles(6));
    await untilDelivered(server, token, id, 6);
    stuck = `posts/${made[0].id}`;
    for (let i = 0; i < 5; i++)
      await Promise.all(made.map((record) => patch(recordsPath('posts', record.id), { title: `version ${i}` })));
    /* One that fails blocks itself: the others have all of theirs. */
    await receiver.untilIds(6 + 5 * 5 + 1);
    await eventually('the other versions wait behind it', async () => {
      const waiting = await rows(id, { filter: 'state = "retrying"' });
      return waiting.length === 5;
    });
    assert.equal(new Set(refused).size, 1, 'the first of them alone was tried');
    isRefused = false;
    await receiver.untilIds(6 + 6 * 5);
    for (const record of made) {
      const of = receiver.deliveries.filter(({ body }) => body.subject === `posts/${record.id}`);
      const sequences = of.map(({ body }) => body.sequence);
      assert.deepEqual(sequences, [...sequences].sort((a, b) => a - b), 'in order');
    }
    await remove(`/api/webhooks/${id}`);
  });

  await t.test('types: from now on', async () => {
    const receiver = await startReceiver(t);
    const { id } = await webhook({ url: receiver.url, types: ['posts.created'] });
    await create(server, titles(20, 'first'));
    await patch(`/api/webhooks/${id}`, { types: ['posts.deleted'] });
    const made = await create(server, titles(5, 'second'));
    for (const record of made) await remove(recordsPath('posts', record.id));
    const deleted = (all) => all.filter(({ body }) => body.type === 'posts.deleted');
    await receiver.until('what was deleted', (all) => deleted(all).length === 5);
    assertChain(assertSameBytes(receiver.deliveries));
    assert.ok(!receiver.deliveries.some(({ text }) => text.includes('second') && text.includes('posts.created')));
    assert.equal(new Set(receiver.deliveries.map((each) => each.id)).size, receiver.deliveries.length);
    await remove(`/api/webhooks/${id}`);
  });

  await t.test('url: what waits goes to the new one', async () => {
    const [before, after] = [await startReceiver(t), await startReceiver(t)];
    const held = [];
    before.answer = () => new Promise((resolve) => held.push(resolve));
    const { id } = await webhook({ url: before.url, types: ['posts.created'], maxInFlight: 1 });
    await create(server, titles(10));
    await before.until('one', () => held.length === 1);
    await patch(`/api/webhooks/${id}`, { url: after.url });
    held[0](200);
    await after.untilIds(9);
    await untilDelivered(server, token, id, 10);
    assert.equal(before.deliveries.length, 1);
    await remove(`/api/webhooks/${id}`);
  });

  await t.test('turned off: nothing more is sent, and on again it goes on from then', async () => {
    const receiver = await startReceiver(t);
    const held = [];
    receiver.answer = () => new Promise((resolve) => held.push(resolve));
    const { id } = await webhook({ url: receiver.url, types: ['posts.created'], maxInFlight: 2 });
    await create(server, titles(10, 'before'));
    await receiver.until('two', () => held.length === 2);
    assert.equal((await patch(`/api/webhooks/${id}`, { enabled: false })).status, 200);
    receiver.answer = () => 200;
    for (const answer of held) answer(200);
    await untilDelivered(server, token, id, 2);
    await create(server, titles(10, 'meanwhile'));
    assert.equal((await patch(`/api/webhooks/${id}`, { enabled: true })).status, 200);
    await create(server, ['afterwards']);
    await receiver.until('what came afterwards', (all) => all.some(({ text }) => text.includes('afterwards')));
    const [one, two, three, ...more] = receiver.deliveries;
    assert.ok([one, two].every(({ text }) => text.includes('before')));
    assert.ok(three.text.includes('afterwards'));
    assert.deepEqual(more, []);
    assert.notEqual(three.body.after, two.body.cursor, 'the receiver sees that it has missed something');
    await remove(`/api/webhooks/${id}`);
  });

  await t.test('deleted: nothing more is sent, and nobody waits for it', async () => {
    const receiver = await startReceiver(t);
    receiver.answer = () => new Promise(() => {});
    const { id } = await webhook({ url: receiver.url, types: ['posts.created'], timeoutMs: 30_000 });
    await create(server, titles(20));
    await receiver.until('two, as nobody has answered yet', (all) => all.length === 2);
    const tried = post(`/api/webhooks/${id}/test`);
    await receiver.until('a test', (all) => all.length === 3);
    assert.equal((await remove(`/api/webhooks/${id}`)).status, 204);
    await receiver.until('they are ended', () => receiver.inFlight === 0);
    await tried;
    await create(server, titles(5));
    const other = await startReceiver(t);
    await webhook({ url: other.url, types: ['posts.created'] });
    await create(server, ['the last']);
    await other.untilIds(1);
    assert.equal(receiver.deliveries.length, 3);
    assert.deepEqual(await rows(id, { filter: 'state = "retrying"' }), []);
  });
});
