/** Writes that went wrong once, each with what it did: none may again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { operator } from './support/operator.mjs';
import { recordsPath } from './support/records.mjs';

test('the last superuser stays', async (t) => {
  const api = await operator(t);
  const { items } = (await api.get(recordsPath('_superusers'))).body;
  assert.equal(items.length, 1);
  const answer = await api.remove(recordsPath('_superusers', items[0].id));
  assert.equal(answer.status, 400);
  assert.equal(answer.body.message, "You can't delete the only existing superuser.");
  assert.equal((await api.get(recordsPath('_superusers', items[0].id))).status, 200);
  const other = { email: 'b@example.com', password: 'password 123', passwordConfirm: 'password 123' };
  const { id } = await api.create('_superusers', other);
  assert.equal((await api.remove(recordsPath('_superusers', id))).status, 204);
});
