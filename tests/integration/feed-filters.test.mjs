/** `filter` on the feed: pages, long polls, streams, lines, named consumers, the command line. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertProblems, operator } from './support/operator.mjs';
import { runWell, startServer } from './support/program.mjs';
import { open, recordsPath } from './support/records.mjs';

const fields = [
  { name: 'title', type: 'text' },
  { name: 'total', type: 'number' },
  { name: 'tags', type: 'json' },
];
const query = (parameters) => `/api/events?${new URLSearchParams(parameters)}`;
const titles = ({ body }) => body.events.map(({ payload }) => payload.title);

async function withSales(t) {
  const api = await operator(t);
  await api.define({ name: 'sales', ...open, fields });
  return api;
}

test('a filter on the feed', async (t) => {
  const api = await withSales(t);
  for (let i = 1; i <= 40; i++)
    await api.create('sales', { title: `${i}`, total: i, tags: { parity: ['even', 'odd'][i % 2] } });

  await t.test('picks events by what they say', async () => {
    const filter = 'source = "collections" && payload.total >= 38';
    assert.deepEqual(titles(await api.get(query({ types: 'sales.*', filter }))), ['38', '39', '40']);
    const odd = 'payload.tags.parity = "odd" && payload.total < 5';
    assert.deepEqual(titles(await api.get(query({ filter: odd }))), ['1', '3']);
    assert.deepEqual(titles(await api.get(query({ filter: odd, order: 'desc' }))), ['3', '1']);
    const none = await api.get(query({ filter: 'payload.total > 1000' }));
    assert.deepEqual(none.body.events, []);
    const { firstSequence, lastSequence, skipped, next, head } = none.body;
    assert.equal(lastSequence - firstSequence + 1, skipped);
    assert.equal(next, head);
  });

  await t.test('sees what was before', async () => {
    const { body } = await api.get(`${recordsPath('sales')}?perPage=1&sort=total`);
    await api.patch(recordsPath('sales', body.items[0].id), { total: 500 });
    const filter = 'type = "sales.updated" && previous.total < 50 && payload.total >= 50';
    assert.deepEqual(titles(await api.get(query({ filter }))), ['1']);
  });

  await t.test('keeps the account of each page exact', async () => {
    let after = 'start';
    const found = [];
    for (let page = 0; page < 60; page++) {
      const { body } = await api.get(query({ after, limit: 3, filter: 'payload.total > 20' }));
      assert.equal(body.lastSequence - body.firstSequence + 1, body.events.length + body.skipped);
      found.push(...body.events);
      after = body.next;
      if (!body.hasMore) break;
    }
    assert.equal(found.length, 21);
  });

  await t.test('that is wrong is refused with the position', async () => {
    for (const filter of ['payload.total >', 'nobody = 1', '@request.auth.id = 1', '(type = 1']) {
      const answer = await api.get(query({ filter }));
      assertProblems(answer, { filter: 'validation_invalid_filter' });
      assert.match(answer.body.data.filter.message, /^Invalid filter: at \d+: /);
    }
    const stream = await api.get(query({ filter: 'a' }), { headers: { accept: 'text/event-stream' } });
    assertProblems(stream, { filter: 'validation_invalid_filter' });
  });

  await t.test('holds for lines too', async () => {
    const headers = { accept: 'application/x-ndjson' };
    const answer = await api.get(query({ filter: 'payload.total = 7' }), { headers });
    const lines = answer.text.trim().split('\n');
    assert.deepEqual(
      lines.map((line) => JSON.parse(line).payload.title),
      ['7'],
    );
  });

  await t.test('lets a long poll sleep over the others, and counts them', async () => {
    const { body: now } = await api.get(query({ after: 'now' }));
    const poll = api.get(query({ after: now.next, wait: 20, filter: 'payload.title = "wanted"' }));
    await sleep(100);
    for (const title of ['a', 'b', 'wanted', 'c']) await api.create('sales', { title });
    const { body } = await poll;
    assert.deepEqual(titles({ body }), ['wanted']);
    assert.equal(body.skipped, body.lastSequence - body.firstSequence);
    assert.ok(body.skipped >= 2);
  });

  await t.test('holds for a stream, live and before', async () => {
    const address = `${api.server.url}${query({ filter: 'payload.title ~ "stream"', after: 'start' })}`;
    await api.create('sales', { title: 'stream 1' });
    const abort = new AbortController();
    const answer = await fetch(address, {
      headers: { authorization: api.token, accept: 'text/event-stream' },
      signal: abort.signal,
    });
    let text = '';
    const reading = (async () => {
      for await (const chunk of answer.body) text += new TextDecoder().decode(chunk);
    })().catch(() => {});
    for (const title of ['other', 'stream 2']) await api.create('sales', { title });
    for (let waited = 0; waited < 10_000 && !text.includes('stream 2'); waited += 10) await sleep(10);
    abort.abort();
    await reading;
    const got = [...text.matchAll(/^data: (.*)$/gm)].map(([, json]) => JSON.parse(json).payload.title);
    assert.deepEqual(got, ['stream 1', 'stream 2']);
  });

  await t.test('is an option of the command line', async () => {
    const common = ['events', 'tail', '--no-follow', '--json', '--data', api.server.data];
    const out = await runWell([...common, '--after', 'start', '--filter', 'payload.total = 7']);
    assert.deepEqual(
      out
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).payload.title),
      ['7'],
    );
  });
});

test('a filter of a named consumer', async (t) => {
  const api = await withSales(t);
  const path = '/api/consumers/large';
  const put = (body) => api.server.request('PUT', path, body, { token: api.token });
  const poll = async (body = {}) => (await api.post(`${path}/poll`, body)).body;

  const made = await put({ types: ['sales.*'], filter: 'payload.total >= 50', after: 'start' });
  assert.equal(made.status, 200, made.text);
  assert.equal(made.body.filter, 'payload.total >= 50');
  assertProblems(await put({ filter: 'payload.total >=' }), { filter: 'validation_invalid_filter' });
  assertProblems(await put({ filter: 5 }), { filter: 'validation_invalid_type' });
  assert.equal((await api.get(path)).body.filter, 'payload.total >= 50');

  for (const total of [10, 60, 20, 70]) await api.create('sales', { title: `${total}`, total });
  const first = await poll();
  assert.deepEqual(
    first.events.map(({ payload }) => payload.total),
    [60, 70],
  );
  await api.post(`${path}/commit`, { cursor: first.next, lease: first.lease });

  const waiting = poll({ wait: 20 });
  await sleep(100);
  for (const total of [30, 80]) await api.create('sales', { title: `${total}`, total });
  const second = await waiting;
  assert.deepEqual(
    second.events.map(({ payload }) => payload.total),
    [80],
  );
  await api.post(`${path}/commit`, { cursor: second.next, lease: second.lease });

  /* It is read back with the row. */
  await api.server.stop();
  const server = await startServer(t, { folder: api.server.folder });
  const options = { token: api.token };
  for (const total of [40, 90])
    await server.request('POST', recordsPath('sales'), { title: `${total}`, total }, options);
  const third = await server.request('POST', `${path}/poll`, {}, options);
  assert.deepEqual(
    third.body.events.map(({ payload }) => payload.total),
    [90],
  );
});
