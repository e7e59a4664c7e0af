/** The list of collections in the orders that can be asked for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { operator } from './support/operator.mjs';

test('collections are listed in the asked order', async (t) => {
  const api = await operator(t);
  for (const name of ['pears', 'apples', 'quinces']) await api.define({ name });
  const listed = async (sort) => {
    const { status, body, text } = await api.get(`/api/collections?perPage=100&sort=${sort}`);
    assert.equal(status, 200, text);
    return body.items.filter(({ system, name }) => !system && name !== 'users');
  };
  const names = async (sort) => (await listed(sort)).map(({ name }) => name);
  assert.deepEqual(await names('name'), ['apples', 'pears', 'quinces']);
  assert.deepEqual(await names('-name'), ['quinces', 'pears', 'apples']);
  assert.deepEqual(await names('type,-name'), ['quinces', 'pears', 'apples']);
  assert.deepEqual(await names('%2Btype,system,name'), ['apples', 'pears', 'quinces']);
  assert.deepEqual(await names('@rowid'), ['pears', 'apples', 'quinces']);
  assert.deepEqual(await names('-created,name'), ['quinces', 'apples', 'pears']);
  assert.deepEqual(await names('updated'), ['pears', 'apples', 'quinces']);
  const ids = (await listed('id')).map(({ id }) => id);
  assert.deepEqual(ids, [...ids].sort());
  const wrong = await api.get('/api/collections?sort=colour');
  assert.deepEqual([wrong.status, wrong.body.data], [400, {}]);
});
