/** Collections over the API: what a definition may say, what it becomes, and how it changes. */
import { id } from '../replay.mjs';

const path = '/api/collections';
const make = (name, body, more = {}) => ({
  name: `create: ${name}`,
  as: 'super',
  method: 'POST',
  path,
  body,
  ...more,
});
const change = (name, body, of = 'rec_def_main') => ({
  name: `change: ${name}`,
  as: 'super',
  method: 'PATCH',
  path: `${path}/${of}`,
  body,
});
const drop = (name, of) => ({
  name: `delete: ${name}`,
  as: 'super',
  method: 'DELETE',
  path: `${path}/${of}`,
});
const show = (name, of = 'rec_def_main') => ({
  name: `view: ${name}`,
  as: 'super',
  path: `${path}/${of}`,
});
const rows = (name, of, query = '') => ({
  name: `records: ${name}`,
  as: 'super',
  path: `${path}/${of}/records?sort=id${query}`,
});
const field = (name, body) =>
  make(`field ${name}`, { name: 'rec_def_field', type: 'base', fields: [{ name: 'f', ...body }] });
/** Made, and gone again when it was not refused. */
const bad = (name, body) => [
  make(`bad ${name}`, { name: 'rec_def_bad', type: 'base', ...body }),
  drop(`bad ${name}`, 'rec_def_bad'),
];
const text = (name, more) => ({ name, type: 'text', ...more });
const view = (name, viewQuery, more = {}) =>
  make(`view ${name}`, { name: 'rec_def_view', type: 'view', viewQuery, ...more });

const everyField = [
  'text',
  'number',
  'bool',
  'email',
  'url',
  'date',
  'autodate',
  'json',
  'editor',
  'geoPoint',
  'file',
].map((type) => ({ name: `a_${type}`, type, ...(type === 'autodate' ? { onCreate: true } : {}) }));

const wrongFields = [
  ['without a type', { type: '' }],
  ['of an unknown type', { type: 'nothing' }],
  ['text bounds', { type: 'text', min: 5, max: 2 }],
  ['text below zero', { type: 'text', min: -1 }],
  ['text pattern', { type: 'text', pattern: '(' }],
  ['text autogenerate', { type: 'text', autogeneratePattern: '[a-z' }],
  ['text autogenerate and pattern', { type: 'text', pattern: '^a+$', autogeneratePattern: 'a{3}' }],
  ['number bounds', { type: 'number', min: 5, max: 2 }],
  ['number fraction', { type: 'number', min: 0.5, onlyInt: true }],
  ['email both', { type: 'email', onlyDomains: ['a.com'], exceptDomains: ['b.com'] }],
  ['email domain', { type: 'email', onlyDomains: ['a b'] }],
  ['url both', { type: 'url', onlyDomains: ['a.com'], exceptDomains: ['b.com'] }],
  ['date bounds', { type: 'date', min: '2021-01-01', max: '2020-01-01' }],
  ['date no date', { type: 'date', min: 'x' }],
  ['autodate never', { type: 'autodate' }],
  ['select nothing', { type: 'select' }],
  ['select empty', { type: 'select', values: [] }],
  ['select too many', { type: 'select', values: ['a'], maxSelect: 2 }],
  ['select twice', { type: 'select', values: ['a', 'a'], maxSelect: 1 }],
  ['relation nowhere', { type: 'relation' }],
  ['relation missing', { type: 'relation', collectionId: 'missing' }],
  [
    'relation bounds',
    { type: 'relation', collectionId: '{collection rec_def_main}', minSelect: 3, maxSelect: 2 },
  ],
  ['json size', { type: 'json', maxSize: -1 }],
  ['editor size', { type: 'editor', maxSize: -1 }],
  ['file size', { type: 'file', maxSize: -1 }],
  ['file thumbs', { type: 'file', thumbs: ['10x10', 'x', '0x0'] }],
  ['file count', { type: 'file', maxSelect: -1 }],
  ['password in a base', { type: 'password' }],
  ['long help', { type: 'text', help: 'x'.repeat(301) }],
];
const names = [
  '',
  'a b',
  'ä',
  'a-b',
  '1a',
  '_a',
  'a'.repeat(101),
  'id',
  'expand',
  'collectionId',
  'collectionName',
  'null',
  'true',
  '_via_',
  'a_via_b',
  'rowid',
  'oid',
  '_rowid_',
  'select',
];

export default {
  collections: [
    {
      name: 'rec_def_main',
      listRule: '',
      fields: [
        text('title'),
        { name: 'n', type: 'number' },
        { name: 'tags', type: 'select', values: ['a', 'b'], maxSelect: 2 },
        { name: 'one', type: 'select', values: ['a', 'b'], maxSelect: 1 },
      ],
    },
    {
      name: 'rec_def_other',
      fields: [
        text('label'),
        { name: 'main', type: 'relation', collectionId: '{collection rec_def_main}', maxSelect: 1 },
      ],
    },
  ],
  makes: [
    'rec_def_all',
    'rec_def_auth',
    'rec_def_field',
    'rec_def_index',
    'rec_def_imported',
    'rec_def_renamed',
    'rec_def_bad',
    'rec_def_self',
    'rec_def_view',
    'rec_def_view_of_view',
  ],
  records: {
    rec_def_main: [1, 2, 3].map((n) => ({
      id: id(`recmain${n}`),
      title: `t${n}`,
      n,
      tags: n === 1 ? ['a', 'b'] : [],
      one: 'a',
    })),
    rec_def_other: [{ id: id('recother1'), label: 'l', main: id('recmain1') }],
  },
  steps: [
    make('every field', { name: 'rec_def_all', type: 'base', fields: everyField }),
    show('every field', 'rec_def_all'),
    make('nothing', {}),
    make('a name alone', { name: 'rec_def_bad' }),
    drop('the name alone', 'rec_def_bad'),
    make('a name that is taken', { name: 'rec_def_main' }),
    make('a name in other letters', { name: 'REC_DEF_MAIN' }),
    make('an unknown type', { name: 'rec_def_bad', type: 'nothing' }),
    make('a view without a query', { name: 'rec_def_bad', type: 'view' }),
    make('an id that is taken', { name: 'rec_def_bad', id: '{collection rec_def_main}' }),
    make(
      'an id of its own',
      { name: 'rec_def_bad', id: 'rec_own_id' },
      { pick: ['id', 'name', 'type'] },
    ),
    drop('the id of its own', 'rec_own_id'),
    make('an id with a space', { name: 'rec_def_bad', id: 'a b' }),
    ...['a b', 'ä', 'a-b', '1a', 'a'.repeat(256), 'a_via_b', 'sqlite_x'].map((name) =>
      make(`the name ${name.slice(0, 20)}`, { name }, { pick: [] }),
    ),
    ...['a'.repeat(255), '1a'].map((name) => drop(`the name ${name.slice(0, 20)}`, name)),
    ...names.flatMap((name) => bad(`field name ${name.slice(0, 20)}`, { fields: [text(name)] })),
    ...bad('two fields of a name', { fields: [text('a'), text('a')] }),
    ...bad('two fields of a name in other letters', { fields: [text('a'), text('A')] }),
    ...bad('two fields of an id', { fields: [text('a', { id: 'x' }), text('b', { id: 'x' })] }),
    ...bad('fields that are no list', { fields: {} }),
    ...bad('a rule', { listRule: 'nothing = 1' }),
    ...bad('several rules', {
      listRule: '(',
      viewRule: 'id',
      createRule: 'id =',
      updateRule: '@nothing = 1',
      deleteRule: 'x.y = 1',
    }),
    ...bad('a rule that is a number', { listRule: 5 }),
    ...bad('an index of nothing', {
      indexes: ['CREATE INDEX idx_rec_bad ON rec_def_bad (nothing)'],
    }),
    ...bad('an index that is none', { indexes: ['DROP TABLE x'] }),
    ...bad('an index twice', {
      indexes: [
        'CREATE INDEX idx_rec_bad ON rec_def_bad (id)',
        'CREATE INDEX idx_rec_bad ON rec_def_bad (id)',
      ],
    }),
    ...wrongFields.flatMap(([name, body]) => [
      field(name, body),
      drop(`field ${name}`, 'rec_def_field'),
    ]),
    make('an index', {
      name: 'rec_def_index',
      type: 'base',
      fields: [text('a'), text('b')],
      indexes: [
        'create unique index  `idx_rec_a` on rec_def_index (`a`, b COLLATE NOCASE desc) where a > 5',
        'CREATE INDEX idx_rec_b ON "another" (b)',
      ],
    }),
    change('drop a field of an index', { fields: [text('a')] }, 'rec_def_index'),
    change(
      'rename a field of an index',
      {
        fields: [text('c', { id: 'text3904355907' })],
        indexes: ['CREATE INDEX idx_rec_c ON rec_def_index (c)'],
      },
      'rec_def_index',
    ),
    change('a unique index over equal values', {
      indexes: ['CREATE UNIQUE INDEX idx_rec_one ON rec_def_main (one)'],
    }),
    make('itself', { name: 'rec_def_self', type: 'base', fields: [text('t')] }, { pick: ['id'] }),
    change(
      'a relation to itself',
      {
        fields: [
          text('t'),
          {
            name: 'parent',
            type: 'relation',
            collectionId: '{collection rec_def_main}',
            maxSelect: 1,
          },
        ],
      },
      'rec_def_self',
    ),
    make('an auth collection', { name: 'rec_def_auth', type: 'auth', fields: [text('nick')] }),
    make('an auth collection with bad options', {
      name: 'rec_def_bad',
      type: 'auth',
      authToken: { duration: 1 },
      passwordAuth: { enabled: true, identityFields: ['nothing'] },
      otp: { enabled: true, duration: 1, length: 1 },
      mfa: { enabled: true, duration: 1 },
      oauth2: { enabled: true, providers: [{ name: 'nothing' }] },
    }),
    change(
      'options of auth',
      { authToken: { duration: 100 }, otp: { enabled: true, duration: 120, length: 6 } },
      'rec_def_auth',
    ),
    change(
      'a secret is not shown',
      { authToken: { duration: 100, secret: 'x'.repeat(30) } },
      'rec_def_auth',
    ),
    change('a short secret', { authToken: { secret: 'x' } }, 'rec_def_auth'),
    change('the type', { type: 'base' }, 'rec_def_auth'),
    change('a system field away', { fields: [text('nick')] }, 'rec_def_auth'),
    change('nothing', {}),
    change('the name to one that is taken', { name: 'rec_def_other' }),
    change('the name', { name: 'rec_def_renamed' }),
    show('by its old name'),
    change('the name back', { name: 'rec_def_main' }, 'rec_def_renamed'),
    change('several to one', {
      fields: [
        text('title', { id: 'text724990059' }),
        { name: 'n', type: 'number', id: 'number2283307594' },
        { name: 'tags', type: 'select', values: ['a', 'b'], maxSelect: 1, id: 'select1874629670' },
      ],
    }),
    rows('several to one', 'rec_def_main'),
    change('one to several', {
      fields: [
        text('title', { id: 'text724990059' }),
        { name: 'tags', type: 'select', values: ['a', 'b'], maxSelect: 2, id: 'select1874629670' },
      ],
    }),
    rows('one to several', 'rec_def_main'),
    change('the type of a field', {
      fields: [{ name: 'title', type: 'number', id: 'text724990059' }],
    }),
    change('the order of fields', {
      fields: [{ name: 'tags', type: 'select', values: ['a', 'b'], maxSelect: 2 }, text('title')],
    }),
    change('what is read only', { id: 'other', created: '2020-01-01', system: true }),
    view('of a collection', 'SELECT id, title FROM rec_def_main'),
    show('the view', 'rec_def_view'),
    rows('of the view', 'rec_def_view'),
    {
      name: 'records: create in the view',
      as: 'super',
      method: 'POST',
      path: `${path}/rec_def_view/records`,
      body: { title: 'x' },
    },
    {
      name: 'records: update in the view',
      as: 'super',
      method: 'PATCH',
      path: `${path}/rec_def_view/records/${id('recmain1')}`,
      body: { title: 'x' },
    },
    {
      name: 'records: delete in the view',
      as: 'super',
      method: 'DELETE',
      path: `${path}/rec_def_view/records/${id('recmain1')}`,
    },
    {
      name: 'records: one of the view',
      as: 'super',
      path: `${path}/rec_def_view/records/${id('recmain2')}`,
    },
    rows('filter in the view', 'rec_def_view', `&filter=${encodeURIComponent('title = "t2"')}`),
    change('a field that the view reads', {
      fields: [{ name: 'tags', type: 'select', values: ['a', 'b'], maxSelect: 2 }],
    }),
    drop('the view', 'rec_def_view'),
    ...[
      ['without an id', 'SELECT title FROM rec_def_main'],
      ['that is broken', 'SELECT FROM'],
      ['that writes', 'DELETE FROM rec_def_main'],
      ['of two statements', 'SELECT id FROM rec_def_main; SELECT 1'],
      ['of a missing table', 'SELECT id FROM rec_missing'],
      ['with a star', 'SELECT * FROM rec_def_main'],
      ['with bad names', 'SELECT id, title AS [a b] FROM rec_def_main'],
      ['with a comment', 'SELECT id FROM rec_def_main -- x'],
    ].map(([name, query]) => view(name, query)),
    drop('a view that was made', 'rec_def_view'),
    view(
      'of all kinds',
      'SELECT m.id, m.title AS name, count(o.id) AS total, (m.id || "x") AS mixed, 5 AS five, 1.5 AS half, cast(m.title AS TEXT) AS cast_text, cast(5 AS INT) AS cast_int, cast(1 AS bool) AS cast_bool, o.main, m.tags FROM rec_def_main m LEFT JOIN rec_def_other o ON o.main = m.id GROUP BY m.id',
    ),
    rows('of all kinds', 'rec_def_view'),
    make('a view of a view', {
      name: 'rec_def_view_of_view',
      type: 'view',
      listRule: '',
      viewQuery: 'SELECT id, name FROM rec_def_view',
    }),
    rows('of a view of a view', 'rec_def_view_of_view'),
    drop('a view that a view reads', 'rec_def_view'),
    drop('the second view', 'rec_def_view_of_view'),
    {
      name: 'import: nothing',
      as: 'super',
      method: 'PUT',
      path: `${path}/import`,
      body: { collections: [] },
    },
    { name: 'import: no list', as: 'super', method: 'PUT', path: `${path}/import`, body: {} },
    {
      name: 'import: one',
      as: 'super',
      method: 'PUT',
      path: `${path}/import`,
      body: { collections: [{ name: 'rec_def_imported', type: 'base', fields: [text('a')] }] },
    },
    {
      name: 'import: changes it',
      as: 'super',
      method: 'PUT',
      path: `${path}/import`,
      body: { collections: [{ name: 'rec_def_imported', type: 'base', fields: [text('b')] }] },
    },
    show('imported', 'rec_def_imported'),
    {
      name: 'import: one of two is wrong',
      as: 'super',
      method: 'PUT',
      path: `${path}/import`,
      body: {
        collections: [
          { name: 'rec_def_imported', type: 'base', fields: [text('c')] },
          { name: 'a b' },
        ],
      },
    },
    show('imported still', 'rec_def_imported'),
    { name: 'truncate', as: 'super', method: 'DELETE', path: `${path}/rec_def_other/truncate` },
    rows('truncated', 'rec_def_other'),
    {
      name: 'truncate: missing',
      as: 'super',
      method: 'DELETE',
      path: `${path}/rec_missing/truncate`,
    },
    drop('what others refer to', 'rec_def_main'),
    drop('what refers to others', 'rec_def_other'),
    drop('missing', 'rec_missing'),
    drop('a system collection', '_superusers'),
    change('a system collection: its name', { name: 'x' }, '_superusers'),
    {
      name: 'list: names',
      as: 'super',
      path: `${path}?filter=${encodeURIComponent('name ~ "rec_def_%"')}&sort=-name&fields=name,type,system&perPage=50`,
    },
    {
      name: 'list: a page',
      as: 'super',
      path: `${path}?filter=${encodeURIComponent('name ~ "rec_def_%"')}&sort=name&fields=page,perPage,totalItems,totalPages,items.name&perPage=2&page=2`,
    },
    {
      name: 'list: a bad filter',
      as: 'super',
      path: `${path}?filter=${encodeURIComponent('nothing = 1')}`,
    },
    { name: 'list: a bad sort', as: 'super', path: `${path}?sort=nothing` },
    { name: 'scaffolds', as: 'super', path: `${path}/meta/scaffolds` },
  ],
};
