/** Lists of records, page by page and by cursor, and the short form of the paths. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { listAll, open, recordsPath } from './support/records.mjs';

test('lists', async (t) => {
  const api = await operator(t);
  await api.define({
    name: 'items',
    ...open,
    fields: [
      { name: 'n', type: 'number' },
      { name: 'group', type: 'text' },
      { name: 'secret', type: 'text', hidden: true },
    ],
  });
  const path = recordsPath('items');
  for (let start = 0; start < 95; start += 19)
    await Promise.all(
      Array.from({ length: 19 }, (_, i) =>
        api.create('items', { n: start + i, group: 'abc'[(start + i) % 3], secret: 's' }),
      ),
    );
  const page = async (query) => {
    const { status, body, text } = await api.get(`${path}?${query}`);
    assert.equal(status, 200, text);
    return body;
  };
  const numbers = ({ items }) => items.map(({ n }) => n);

  await t.test('have pages of 30 unless asked otherwise, and say how many there are', async () => {
    const { items, ...envelope } = await page('');
    assert.deepEqual(envelope, { page: 1, perPage: 30, totalItems: 95, totalPages: 4 });
    assert.equal(items.length, 30);
    const last = await page('page=4&sort=n');
    assert.deepEqual(numbers(last), [90, 91, 92, 93, 94]);
    assert.deepEqual((await page('page=5')).items, []);
  });

  await t.test('take perPage up to 1000 and say which they used', async () => {
    assert.equal((await page('perPage=1000')).items.length, 95);
    assert.equal((await page('perPage=5000')).perPage, 1000);
    assert.equal((await page('perPage=0')).perPage, 30);
    assert.equal((await page('perPage=7&page=2&sort=n')).items[0].n, 7);
    assert.equal((await api.get(`${path}?page=x`)).status, 400);
  });

  await t.test('are not counted with skipTotal', async () => {
    const { totalItems, totalPages, items } = await page('skipTotal=1&perPage=3');
    assert.deepEqual([totalItems, totalPages, items.length], [-1, -1, 3]);
  });

  await t.test('are sorted by several fields, each in its direction', async () => {
    assert.deepEqual(numbers(await page('sort=-n&perPage=3')), [94, 93, 92]);
    const { items } = await page('sort=group,-n&perPage=1000');
    const wanted = [...items].sort((a, b) => a.group.localeCompare(b.group) || b.n - a.n);
    assert.deepEqual(items, wanted);
    assertRefused(await api.get(`${path}?sort=nothing`), 400);
    assert.equal((await api.get(`${path}?sort=secret`)).status, 200);
    assert.equal(
      (await api.get(`${path}?sort=secret`, { token: undefined })).status,
      400,
      'not by what a guest may not see',
    );
  });

  await t.test('show only the asked fields', async () => {
    const { items } = await page('fields=n,group&perPage=2&sort=n');
    assert.deepEqual(items, [
      { n: 0, group: 'a' },
      { n: 1, group: 'b' },
    ]);
    const { body } = await api.get(
      `${recordsPath('items', (await page('perPage=1')).items[0].id)}?fields=id`,
    );
    assert.deepEqual(Object.keys(body), ['id']);
    for (const where of [path, recordsPath('items', (await page('perPage=1')).items[0].id)]) {
      const refused = await api.get(`${where}?fields=n:excerpt(a)`);
      assert.equal(refused.status, 400);
      assert.match(refused.body.message, /fields.*excerpt/);
    }
  });

  await t.test('by cursor show every record once', async () => {
    for (const sort of ['', '&sort=-n', '&sort=group,-n']) {
      const items = await listAll(api.server, api.token, 'items', { perPage: 10, query: sort });
      assert.equal(items.length, 95);
      assert.equal(new Set(items.map(({ id }) => id)).size, 95);
      if (sort === '&sort=-n')
        assert.deepEqual(
          items.map(({ n }) => n),
          Array.from({ length: 95 }, (_, i) => 94 - i),
        );
    }
    assertProblems(await api.get(`${path}?cursor=nonsense`), {
      cursor: 'validation_invalid_cursor',
    });
    const { nextCursor } = await page('cursor=&perPage=5&sort=n');
    assertProblems(await api.get(`${path}?cursor=${nextCursor}&sort=-n`), {
      cursor: 'validation_invalid_cursor',
    });
  });

  await t.test('by cursor show also the records that have no value to sort by', async () => {
    await api.define({ name: 'sparse', ...open, fields: [{ name: 'mark', type: 'json' }] });
    for (let i = 0; i < 12; i++) await api.create('sparse', i % 3 ? { mark: i } : {});
    for (const sort of ['mark', '-mark', 'mark,-id', '-mark,id']) {
      const seen = [];
      for (let cursor = ''; seen.length === 0 || cursor !== ''; ) {
        const { status, body, text } = await api.get(
          `${recordsPath('sparse')}?sort=${sort}&perPage=2&cursor=${cursor}`,
        );
        assert.equal(status, 200, text);
        seen.push(...body.items.map(({ id }) => id));
        cursor = body.nextCursor;
      }
      const { body } = await api.get(`${recordsPath('sparse')}?sort=${sort}&cursor=`);
      assert.deepEqual(seen, body.items.map(({ id }) => id), sort);
    }
  });

  await t.test('by cursor skip and repeat nothing while records come and go', async () => {
    const before = new Set((await listAll(api.server, api.token, 'items')).map(({ id }) => id));
    const removed = new Set();
    let isOver = false;
    const churn = (async () => {
      const victims = [...before].filter((_, i) => i % 5 === 0);
      while (!isOver) {
        const { id } = await api.create('items', {
          n: Math.floor(Math.random() * 200),
          group: 'd',
        });
        if (Math.random() < 0.5) await api.remove(recordsPath('items', id));
        const victim = victims.pop();
        if (victim) {
          await api.remove(recordsPath('items', victim));
          removed.add(victim);
        }
      }
    })();
    const seen = await listAll(api.server, api.token, 'items', { perPage: 3, query: '&sort=n' });
    isOver = true;
    await churn;
    const ids = seen.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length, 'nothing twice');
    for (const id of before)
      assert.ok(ids.includes(id) || removed.has(id), 'what was there all the time was seen');
  });
});

test('the short form', async (t) => {
  const api = await operator(t);
  await api.define({
    name: 'posts',
    ...open,
    fields: [{ name: 'title', type: 'text', required: true }],
  });
  const record = (await api.post('/posts', { title: 'Hello' }, { token: undefined })).body;

  await t.test('creates, answers, lists, changes and deletes as the long one does', async () => {
    assert.deepEqual((await api.get(`/posts/${record.id}`)).body, record);
    assert.deepEqual((await api.get(`/api/collections/posts/records/${record.id}`)).body, record);
    assert.deepEqual((await api.get('/posts?perPage=5')).body, {
      page: 1,
      perPage: 5,
      totalItems: 1,
      totalPages: 1,
      items: [record],
    });
    assert.equal(
      (await api.patch(`/posts/${record.id}`, { title: 'Changed' })).body.title,
      'Changed',
    );
    const other = (await api.post('/posts', { title: 'x' })).body;
    assert.equal((await api.remove(`/posts/${other.id}`)).status, 204);
    assertProblems(await api.post('/posts', {}), { title: 'validation_required' });
  });

  await t.test('answers JSON unless the client would rather have a page', async () => {
    for (const accept of [undefined, '*/*', 'application/json', 'application/json, text/html']) {
      const answer = await api.get('/posts', { headers: accept ? { accept } : {} });
      assert.equal(answer.status, 200, accept);
      assert.match(answer.headers.get('vary'), /Accept/);
    }
    for (const accept of [
      'text/html',
      'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8',
    ]) {
      const answer = await api.get('/posts', { headers: { accept } });
      assert.equal(answer.status, 404, 'there is no page here');
    }
    assert.equal(
      (await api.post('/posts', { title: 'by form' }, { headers: { accept: 'text/html' } })).status,
      200,
      'only reads give way',
    );
  });

  await t.test(
    'is not there for other methods, longer paths, missing collections and system collections',
    async () => {
      for (const [method, path] of [
        ['PUT', '/posts'],
        ['DELETE', '/posts'],
        ['PATCH', '/posts'],
        ['POST', `/posts/${record.id}`],
        ['GET', `/posts/${record.id}/more`],
        ['GET', '/nothing'],
        ['GET', '/_superusers'],
        ['GET', '/posts/'],
      ])
        assert.equal(
          (
            await api.server.request(method, path, method === 'GET' ? undefined : {}, {
              token: api.token,
            })
          ).status,
          404,
          `${method} ${path}`,
        );
    },
  );
});
