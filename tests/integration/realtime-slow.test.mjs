/** Rules that hold up: those that are too slow answer no, and others are told what happens. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { operator } from './support/operator.mjs';
import { Listener } from './support/realtime.mjs';

const text = (name) => ({ name, type: 'text' });

test('a rule that is too slow answers no, is counted, and keeps the order of the rest', async (t) => {
  const api = await operator(t);
  const open = { listRule: '', viewRule: '' };
  await api.define({ name: 'words', fields: [text('word'), text('other')] });
  for (let i = 0; i < 40; i++) {
    const requests = Array.from({ length: 50 }, (_, j) => ({
      method: 'POST',
      url: '/api/collections/words/records',
      body: { word: `w${i}-${j}`, other: `o${i}` },
    }));
    await Promise.all(requests.map(({ url, body }) => api.post(url, body)));
  }
  await api.define({
    name: 'slow',
    ...open,
    listRule: '@collection.words:a.word ?~ @collection.words:b.other',
    fields: [text('title')],
  });
  await api.define({ name: 'quick', ...open, fields: [text('title')] });
  const guest = await Listener.connect(api.server);
  await guest.subscribe({ types: ['slow.*', 'quick.*'] });
  for (let i = 0; i < 8; i++) {
    await api.create('slow', { title: `never ${i}` });
    await api.create('quick', { title: `${i}` });
  }
  const events = await guest.until(8);
  assert.deepEqual(
    events.map(({ event }) => event.payload.title),
    ['0', '1', '2', '3', '4', '5', '6', '7'],
  );
  const { text: figures } = await api.get('/metrics');
  assert.ok(Number(figures.match(/rules_late_total (\d+)/)[1]) >= 8, 'late');
  await guest.close();
});
