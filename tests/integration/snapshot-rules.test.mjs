/** A snapshot of a collection whose list rule is an expression: as the list shows it to who asks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { operator } from './support/operator.mjs';
import { recordsPath } from './support/records.mjs';

/** More than a window of ids, so that whole windows show nothing. */
const COUNT = 5_400;
const EVERY = 1_700;
const AT_ONCE = 100;

test('a snapshot shows what the rule shows, however few those are', async (t) => {
  const api = await operator(t);
  const teams = await api.define({ name: 'teams', fields: [{ name: 'name', type: 'text' }] });
  await api.define({
    name: 'notes',
    listRule: 'shown = true || team.name = "open"',
    viewRule: '',
    fields: [
      { name: 'n', type: 'number' },
      { name: 'shown', type: 'bool' },
      { name: 'secret', type: 'text', hidden: true },
      { name: 'team', type: 'relation', collectionId: teams.id, maxSelect: 1 },
    ],
  });
  const team = await api.create('teams', { name: 'open' });
  const wanted = [];
  for (let start = 0; start < COUNT; start += AT_ONCE) {
    const some = Array.from({ length: AT_ONCE }, (_, i) => start + i);
    await Promise.all(
      some.map((n) => {
        const isShown = n % EVERY === 0;
        const isOfTeam = n % EVERY === 1;
        if (isShown || isOfTeam) wanted.push(n);
        const record = { n, shown: isShown, team: isOfTeam ? team.id : '', secret: 'canary' };
        return api.post(recordsPath('notes'), record);
      }),
    );
  }
  const take = async (token) => {
    const path = '/api/collections/notes/snapshot';
    const { text } = await api.server.request('GET', path, undefined, { token });
    const lines = text.trim().split('\n').map((line) => JSON.parse(line));
    assert.equal(lines.at(-1).done, true);
    return { text, records: lines.slice(1, -1) };
  };
  const some = await take('');
  assert.deepEqual(
    some.records.map(({ n }) => n).sort((a, b) => a - b),
    wanted.sort((a, b) => a - b),
  );
  const ids = some.records.map(({ id }) => id);
  assert.deepEqual(ids, [...ids].sort());
  assert.equal(some.text.includes('canary'), false);
  const all = await take(api.token);
  assert.equal(all.records.length, COUNT);
  assert.ok(all.text.includes('canary'));
  await api.patch('/api/collections/notes', { listRule: 'n < 0' });
  assert.equal((await take('')).records.length, 0);
});
