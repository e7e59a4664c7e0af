/** Several writes as one. */
import { id } from '../replay.mjs';

const open = { listRule: '', viewRule: '', createRule: '', updateRule: '', deleteRule: '' };
const notes = '/api/collections/rec_notes/records';
const batch = (name, requests, more = {}) => ({
  name,
  method: 'POST',
  path: '/api/batch',
  body: { requests },
  ...more,
});
const create = (body, url = notes) => ({ method: 'POST', url, body });
const note = (n) => `${notes}/${id(`recnote${n}`)}`;
const left = (name) => ({
  name,
  as: 'super',
  path: `${notes}?sort=title,n&fields=title,n&perPage=100`,
});

export default {
  settings: { batch: { enabled: true, maxRequests: 6, timeout: 5, maxBodySize: 0 } },
  collections: [
    {
      name: 'rec_notes',
      ...open,
      updateRule: '@request.auth.id != "" || n < 5',
      indexes: ["CREATE UNIQUE INDEX idx_rec_notes_title ON rec_notes (title) WHERE title > ''"],
      fields: [
        { name: 'title', type: 'text', max: 10 },
        { name: 'n', type: 'number' },
        {
          name: 'next',
          type: 'relation',
          collectionId: '{collection rec_targets_of_notes}',
          maxSelect: 1,
        },
      ],
    },
    { name: 'rec_closed', fields: [{ name: 'title', type: 'text' }] },
  ]
    .reverse()
    .flatMap((each) =>
      each.name === 'rec_notes'
        ? [
            { name: 'rec_targets_of_notes', ...open, fields: [{ name: 'title', type: 'text' }] },
            each,
          ]
        : [each],
    ),
  records: { rec_notes: [1, 2, 3].map((n) => ({ id: id(`recnote${n}`), title: `n${n}`, n })) },
  steps: [
    batch('one of each', [
      create({ id: id('recnote4'), title: 'n4' }),
      { method: 'PATCH', url: note(1), body: { title: 'changed', 'n+': 1 } },
      { method: 'PUT', url: notes, body: { id: id('recnote2'), n: 22 } },
      { method: 'PUT', url: notes, body: { id: id('recnote5'), title: 'n5' } },
      { method: 'DELETE', url: note(3) },
    ]),
    left('after one of each'),
    batch('a later one fails: all is as before', [
      create({ title: 'lost' }),
      { method: 'PATCH', url: note(1), body: { title: 'x'.repeat(11) } },
      create({ title: 'lost too' }),
    ]),
    batch('the first one fails', [
      create({ title: 'x'.repeat(11), n: 'a' }),
      create({ title: 'fine' }),
    ]),
    batch('a unique index', [create({ title: 'same' }), create({ title: 'same' })]),
    batch('one that needs the one before it', [
      create({ id: id('rectarget'), title: 't' }, '/api/collections/rec_targets_of_notes/records'),
      create({ title: 'follows', next: id('rectarget') }),
    ]),
    batch('a relation to what comes later', [
      create({ title: 'early', next: id('reclater') }),
      create({ id: id('reclater') }, '/api/collections/rec_targets_of_notes/records'),
    ]),
    batch('update of what was made', [
      create({ id: id('recnote6'), title: 'n6', n: 1 }),
      { method: 'PATCH', url: note(6), body: { 'n+': 2 } },
      { method: 'PATCH', url: note(6), body: { 'n+': 2 } },
    ]),
    batch('update and delete', [
      { method: 'PATCH', url: note(6), body: { n: 0 } },
      { method: 'DELETE', url: note(6) },
    ]),
    batch('delete twice', [
      { method: 'DELETE', url: note(5) },
      { method: 'DELETE', url: note(5) },
    ]),
    left('after the failures'),
    batch('a rule: a guest', [{ method: 'PATCH', url: note(2), body: { title: 'mine' } }]),
    batch('a rule: a superuser', [{ method: 'PATCH', url: note(2), body: { title: 'mine' } }], {
      as: 'super',
    }),
    batch('a closed collection: a guest', [
      create({ title: 'x' }, '/api/collections/rec_closed/records'),
    ]),
    batch(
      'a closed collection: a superuser',
      [create({ id: id('recclosed'), title: 'x' }, '/api/collections/rec_closed/records')],
      { as: 'super' },
    ),
    batch('an upsert without an id', [{ method: 'PUT', url: notes, body: { title: 'up' } }]),
    batch('an upsert with an empty id', [
      { method: 'PUT', url: notes, body: { id: '', title: 'up2' } },
    ]),
    batch('an upsert with a wrong id', [
      { method: 'PUT', url: notes, body: { id: 'a b', title: 'up3' } },
    ]),
    batch('expand and fields', [
      create(
        { id: id('recnote7'), title: 'n7', next: id('rectarget') },
        `${notes}?expand=next&fields=title,expand.next.title`,
      ),
    ]),
    batch('no requests', []),
    batch(
      'too many requests',
      Array.from({ length: 7 }, (_, n) => create({ title: `m${n}` })),
    ),
    batch(
      'as many as may be',
      Array.from({ length: 6 }, (_, n) => create({ id: id(`recmany${n}`), n })),
    ),
    batch('an unknown collection', [create({}, '/api/collections/rec_missing/records')]),
    batch('an unknown record', [{ method: 'PATCH', url: note(9), body: {} }]),
    batch('a GET', [{ method: 'GET', url: notes }]),
    batch('another route', [{ method: 'POST', url: '/api/collections', body: {} }]),
    batch('a batch', [{ method: 'POST', url: '/api/batch', body: { requests: [] } }]),
    batch('a whole URL', [create({ title: 'whole' }, `http://127.0.0.1:1${notes}`)]),
    batch('no URL', [{ method: 'POST', body: {} }]),
    batch('no method', [{ url: notes, body: {} }]),
    batch('a method in small letters', [{ method: 'post', url: notes, body: { title: 'small' } }]),
    batch('no body', [{ method: 'POST', url: notes }]),
    batch('a body that is a list', [{ method: 'POST', url: notes, body: [1] }]),
    batch('with more keys', [{ ...create({ title: 'more' }), more: 1 }]),
    batch('headers of a part', [
      { ...create({ id: id('recnote8'), title: 'headers' }), headers: { 'X-Any': '1' } },
    ]),
    batch(
      'the one without a token',
      [
        {
          ...create({ title: 'x' }, '/api/collections/rec_closed/records'),
          headers: { Authorization: 'wrong' },
        },
      ],
      { as: 'super' },
    ),
    {
      name: 'not an object',
      method: 'POST',
      path: '/api/batch',
      raw: '[]',
      type: 'application/json',
    },
    {
      name: 'requests that is no list',
      method: 'POST',
      path: '/api/batch',
      body: { requests: {} },
    },
    {
      name: 'a part that is no object',
      method: 'POST',
      path: '/api/batch',
      body: { requests: [1] },
    },
    { name: 'null for requests', method: 'POST', path: '/api/batch', body: { requests: null } },
    { name: 'nothing', method: 'POST', path: '/api/batch', body: {} },
    {
      name: 'as a form',
      method: 'POST',
      path: '/api/batch',
      form: [
        [
          '@jsonPayload',
          JSON.stringify({ requests: [create({ id: id('recform1'), title: 'form' })] }),
        ],
      ],
    },
    {
      name: 'as a form with keys',
      method: 'POST',
      path: '/api/batch',
      form: [
        ['requests.0.method', 'POST'],
        ['requests.0.url', notes],
        ['requests.0.body', '{"title":"key"}'],
      ],
    },
    left('in the end'),
  ],
};
