/** Deletes that are refused, ids that are names, and what else was found where options meet. */
import { id } from '../replay.mjs';

const open = { listRule: '', viewRule: '', createRule: '', updateRule: '', deleteRule: '' };
const relation = (name, collection, maxSelect, more = {}) => ({
  name,
  type: 'relation',
  collectionId: `{collection ${collection}}`,
  maxSelect,
  ...more,
});
const records = (collection, rest = '') => `/api/collections/${collection}/records${rest}`;
const ask = (name, method, path, more = {}) => ({ name, method, path, as: 'super', ...more });
const levels = ['rec_top', 'rec_middle', 'rec_low', 'rec_bottom'];
const look = (when) =>
  levels.map((name) => ask(`${name} ${when}`, 'GET', records(name, '?sort=id')));
const remove = (name, collection, text, more) =>
  ask(name, 'DELETE', records(collection, `/${id(text)}`), more);
const batch = (name, requests) =>
  ask(name, 'POST', '/api/batch', { body: { requests }, as: 'guest' });
const list = (name, collection, query, more) =>
  ask(name, 'GET', records(collection, `?${new URLSearchParams(query)}`), more);
const change = (name, collection, body) =>
  ask(name, 'PATCH', `/api/collections/${collection}`, { body, pick: ['id', 'name', 'listRule'] });
const take = (name, collections) =>
  ask(name, 'PUT', '/api/collections/import', { body: { collections } });

export default {
  settings: { batch: { enabled: true, maxRequests: 50, timeout: 3 } },
  collections: [
    { name: 'rec_top', ...open, fields: [{ name: 't', type: 'text' }] },
    {
      name: 'rec_middle',
      ...open,
      fields: [
        relation('top', 'rec_top', 1, { cascadeDelete: true }),
        relation('tops', 'rec_top', 3),
      ],
    },
    {
      name: 'rec_low',
      ...open,
      fields: [
        relation('middle', 'rec_middle', 1, { cascadeDelete: true, required: true }),
        relation('top', 'rec_top', 1),
      ],
    },
    {
      name: 'rec_bottom',
      ...open,
      fields: [
        relation('lows', 'rec_low', 2, { cascadeDelete: true }),
        relation('must', 'rec_top', 1, { required: true }),
      ],
    },
    { name: 'rec_owner', ...open, fields: [{ name: 't', type: 'text' }] },
    {
      name: 'rec_owned',
      ...open,
      indexes: ['CREATE UNIQUE INDEX idx_rec_owned ON rec_owned (owner, place)'],
      fields: [relation('owner', 'rec_owner', 1), { name: 'place', type: 'number' }],
    },
    { name: 'rec_named', id: 'rec_named_id', ...open, fields: [{ name: 't', type: 'text' }] },
    {
      name: 'rec_counts',
      type: 'view',
      listRule: '',
      viewRule: '',
      viewQuery:
        'SELECT o.id, CAST(count(w.id) AS BOOL) AS has, CAST(o.t AS BOOL) AS is_so ' +
        'FROM rec_owner o LEFT JOIN rec_owned w ON w.owner = o.id GROUP BY o.id',
    },
  ],
  makes: ['rec_other', 'rec_double'],
  records: {
    rec_top: [1, 2, 3, 4, 5, 6, 7].map((n) => ({ id: id(`edgetop${n}`) })),
    rec_middle: [
      { id: id('edgemid1'), top: id('edgetop1'), tops: [id('edgetop1'), id('edgetop2')] },
      { id: id('edgemid2'), top: id('edgetop2') },
      { id: id('edgemid3'), tops: [id('edgetop3')] },
      { id: id('edgemid5'), top: id('edgetop5') },
    ],
    rec_low: [
      { id: id('edgelow1'), middle: id('edgemid1'), top: id('edgetop1') },
      { id: id('edgelow2'), middle: id('edgemid2'), top: id('edgetop4') },
      { id: id('edgelow5'), middle: id('edgemid5') },
    ],
    rec_bottom: [
      { id: id('edgebot1'), lows: [id('edgelow1'), id('edgelow2')], must: id('edgetop5') },
      { id: id('edgebot2'), lows: [id('edgelow5')], must: id('edgetop6') },
    ],
    rec_owner: [
      { id: id('edgeowner1'), t: '1' },
      { id: id('edgeowner2'), t: '12' },
      { id: id('edgeowner3'), t: 'true' },
    ],
    rec_owned: [
      { id: id('edgeowned1'), owner: id('edgeowner1'), place: 1 },
      { id: id('edgeowned2'), place: 1 },
      { id: id('edgeowned3'), owner: id('edgeowner2'), place: 2 },
      { id: id('edgeowned4'), owner: id('edgeowner2'), place: 3 },
    ],
  },
  steps: [
    list('a view: what is cast to a truth', 'rec_counts', { sort: 'id' }),
    list('a view: a truth in a filter', 'rec_counts', { sort: 'id', filter: 'has = true' }),

    remove('delete: the first of four levels', 'rec_top', 'edgetop1'),
    ...look('after the first'),
    remove('delete: the second', 'rec_top', 'edgetop2'),
    ...look('after the second'),
    remove('delete: one of a list alone', 'rec_top', 'edgetop3'),
    remove('delete: by a guest', 'rec_top', 'edgetop4', { as: 'guest' }),
    remove('delete: what is required', 'rec_top', 'edgetop6'),
    remove('delete: what is required, by a guest', 'rec_top', 'edgetop6', { as: 'guest' }),
    batch('batch: the second delete is refused', [
      { method: 'DELETE', url: records('rec_top', `/${id('edgetop7')}`) },
      { method: 'DELETE', url: records('rec_top', `/${id('edgetop6')}`) },
    ]),
    ask('truncate: what is required', 'DELETE', '/api/collections/rec_top/truncate'),
    remove('delete: in the middle', 'rec_middle', 'edgemid5'),
    ...look('at the end'),

    remove('delete: a reference that made the rest unique', 'rec_owner', 'edgeowner1'),
    remove('delete: the same by a guest', 'rec_owner', 'edgeowner1', { as: 'guest' }),
    batch('batch: a reference that made the rest unique', [
      { method: 'DELETE', url: records('rec_owner', `/${id('edgeowner1')}`) },
    ]),
    ask('truncate: references that make unique', 'DELETE', '/api/collections/rec_owner/truncate'),
    list('owned: as they were', 'rec_owned', { sort: 'id' }),

    list('sort: a space behind the sign', 'rec_owner', { sort: '- t' }),
    list('sort: a space before the sign', 'rec_owner', { sort: ' -t , id' }),
    list('filter: an alias that is empty', 'rec_owner', { filter: '@collection.rec_top:.id = ""' }),
    list('filter: an alias of two', 'rec_owner', { filter: '@collection.rec_top:a:b.id = ""' }),
    list('filter: an alias', 'rec_owner', { filter: '@collection.rec_top:a.id != "x"', sort: 'id' }),

    ...[
      { type: 'number', primaryKey: 1 },
      { type: 'json', primaryKey: 'x' },
      { type: 'text', primaryKey: 1 },
      { type: 'date', required: 1 },
    ].flatMap((field) => [
      ask(`create: a field ${JSON.stringify(field)}`, 'POST', '/api/collections', {
        body: { name: 'rec_double', fields: [{ name: 'f', ...field }] },
        pick: ['name', 'fields'],
      }),
      ask(`drop: ${JSON.stringify(field)}`, 'DELETE', '/api/collections/rec_double'),
    ]),

    change('change: a name of null is the name that it has', 'rec_named', { name: null }),
    change('change: an empty name', 'rec_named', { name: '' }),
    ask('create: a name of null', 'POST', '/api/collections', { body: { name: null } }),
    ask('create: an id that is the name of another', 'POST', '/api/collections', {
      body: { name: 'rec_other', id: 'rec_named', fields: [{ name: 'x', type: 'text' }] },
      pick: ['id', 'name'],
    }),
    ask('get: by what is both', 'GET', '/api/collections/rec_named', { pick: ['id', 'name'] }),
    change('change: the one whose name it is', 'rec_named_id', { listRule: '' }),
    ask('drop: the one whose id it is', 'DELETE', '/api/collections/rec_other'),
    change('change: again, when it is gone', 'rec_named_id', { listRule: '' }),
    ask('create: a name that is the id of another', 'POST', '/api/collections', {
      body: { name: 'rec_named_id', fields: [{ name: 'x', type: 'text' }] },
    }),

    take('import: one collection twice', [
      { name: 'rec_named', listRule: null, fields: [{ name: 'a', type: 'text' }] },
      { name: 'rec_named', viewRule: null, fields: [{ name: 'b', type: 'text' }] },
    ]),
    ask('import: what has become of it', 'GET', '/api/collections/rec_named'),
    take('import: a new one twice', [{ name: 'rec_double' }, { name: 'rec_double' }]),
    take('import: null', [null]),
    take('import: a text', ['x']),
  ],
};
