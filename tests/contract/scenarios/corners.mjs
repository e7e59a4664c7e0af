/** What was found by asking both servers at random: each the shortest request that tells. */
import { id } from '../replay.mjs';

const open = { listRule: '', viewRule: '', createRule: '', updateRule: '', deleteRule: '' };
const relation = (name, collection, maxSelect) => ({
  name,
  type: 'relation',
  collectionId: `{collection ${collection}}`,
  maxSelect,
});
const encode = (query) => `?${new URLSearchParams(query)}`;
const list = (name, query, more = {}) => ({
  name: `list: ${name}`,
  path: `/api/collections/rec_places/records${encode({ fields: 'id', sort: 'id', ...query })}`,
  ...more,
});
const filter = (text, as = 'super') => list(`${as} filter ${text}`, { filter: text }, { as });
const made = 'rec_corner';
const make = (name, body) => [
  {
    name: `create: ${name}`,
    as: 'super',
    method: 'POST',
    path: '/api/collections',
    body: { name: made, ...body },
    pick: ['name', 'type'],
  },
  { name: `drop: ${name}`, as: 'super', method: 'DELETE', path: `/api/collections/${made}` },
];
const change = (name, of, body) => ({
  name: `change: ${name}`,
  as: 'super',
  method: 'PATCH',
  path: `/api/collections/${of}`,
  body,
});
const view = (name, viewQuery) => make(`view ${name}`, { type: 'view', viewQuery });
const field = (name, body) => make(`field ${name}`, { fields: [{ name: 'f', ...body }] });

/* Options of another type of collections, which is where they have no use, but must have a form. */
const shapes = [
  { mfa: 72 },
  { otp: '' },
  { authToken: { duration: 1.5 } },
  { authToken: { duration: '100' } },
  { passwordResetToken: 5 },
  { passwordAuth: { enabled: 'yes' } },
  { passwordAuth: { enabled: true, identityFields: ['nothing'] } },
  { verificationTemplate: '1' },
  { verificationTemplate: { subject: '', body: '' } },
  { authRule: ['x'] },
  { authRule: 'nothing = 1' },
  { manageRule: 5 },
  { oauth2: { providers: {} } },
  { viewQuery: ['a'] },
  { viewQuery: 'no query' },
  { created: 100 },
  { updated: ['x'] },
  { updated: 'no date' },
];

export default {
  collections: [
    { name: 'rec_people', type: 'auth', ...open, fields: [{ name: 'nick', type: 'text' }] },
    {
      name: 'rec_places',
      ...open,
      fields: [
        { name: 't', type: 'text' },
        { name: 'n', type: 'number' },
        { name: 'at', type: 'geoPoint' },
        { name: 'data', type: 'json' },
        relation('one', 'rec_people', 1),
        relation('many', 'rec_people', 5),
        relation('near', 'rec_places_of', 5),
      ],
    },
    {
      name: 'rec_wide',
      fields: [...'abcdefghijklmnopqrst'].map((name) => ({ name, type: 'text' })),
    },
    {
      name: 'rec_places_of',
      ...open,
      fields: [
        { name: 't', type: 'text' },
        { name: 'size', type: 'number' },
        { name: 'on', type: 'date' },
      ],
    },
  ].sort((a, b) => (a.name === 'rec_places') - (b.name === 'rec_places')),
  makes: [made],
  records: {
    rec_wide: [...'abcdefghijkl'].map((letter) => ({ id: id(`cornerwide${letter}`), a: letter })),
    rec_people: ['ann', 'bob', 'cid'].map((name) => ({
      id: id(`corner${name}`),
      nick: name,
      email: `rec.${name}@corner.example`,
      emailVisibility: true,
      password: '1234567890',
      passwordConfirm: '1234567890',
    })),
    rec_places_of: [1, 2].map((n) => ({
      id: id(`cornerof${n}`),
      t: `${n}`,
      size: n,
      on: n === 1 ? '2020-02-29 12:00:00.000Z' : '',
    })),
    rec_places: [0, 1, 2, 3, 4, 5].map((n) => ({
      id: id(`cornerplace${n}`),
      t: ['', '-0', '0', 'x-0', '10', '2020'][n],
      n: [0, 100, -1, 2.5, 1, 10][n],
      at: { lon: n, lat: n },
      data: n % 2 ? { a: n } : null,
      one: ['', id('cornerbob'), id('cornercid'), id('cornerann')][n % 4],
      many: [[], [id('cornerann')], [id('cornerbob'), id('cornercid')]][n % 3],
      near: [[], [id('cornerof1')], [id('cornerof1'), id('cornerof2')]][n % 3],
    })),
  },
  users: {
    ann: { collection: 'rec_people', identity: 'rec.ann@corner.example', password: '1234567890' },
  },
  steps: [
    ...['t ~ -0', 't !~ -0', 'n !~ -0', 'n = -0', 't = -0', 'many.nick !~ -0'].map((text) =>
      filter(text),
    ),
    ...[
      'near.size = geoDistance(0, 0, at.lon, 0)',
      'near.size != geoDistance(0, 0, null, at.lat)',
      'geoDistance(at.lon, at.lat, one.nothing, 1) = near.size',
      'geoDistance(at.lon, at.lat, n, n) != near.t',
      'near.t = data.a',
      'near.t != data.a',
      'data.a = near.size',
      'near.t = data',
      "near.on != strftime('%Y', t)",
      "strftime('%Y', near.on) = t",
      "strftime('%Y', near.on) != t",
      "strftime('%Y', near.on) = ''",
      "strftime('', near.on) = t",
      "t = strftime('%Y', near.on)",
      "near.t = strftime('%Y', t)",
    ].map((text) => filter(text)),
    ...[
      "@request.auth.nick:each:lower = ''",
      "@request.auth.nick:each:lower != 'x'",
      "@request.headers.x_a:lower:each = ''",
      "@request.query.fields:isset:lower = ''",
      "@request.body.t:each:lower = ''",
      't:each:lower = 1',
      'one.nick:lower:lower = 1',
    ].map((text) => filter(text)),
    ...['+2', '+1', '++1', '+-1', '+', '-+1', ' 1'].flatMap((page) => [
      list(`page "${page}"`, { page, perPage: 2, fields: 'page,items.id' }),
      list(`perPage "${page}"`, { perPage: page, fields: 'perPage,items.id' }),
    ]),
    ...['one.email', '-one.email', 'many.email', '-many.email,-id', 'one.email,many.email'].flatMap(
      (sort) =>
        ['guest', 'ann', 'super'].map((as) =>
          list(`${as} sort ${sort}`, { sort: `${sort},id` }, { as }),
        ),
    ),
    ...shapes.flatMap((body) => make(`a base with ${JSON.stringify(body)}`, body)),
    ...shapes
      .filter((body) => !('viewQuery' in body))
      .flatMap((body) =>
        make(`a view with ${JSON.stringify(body)}`, {
          type: 'view',
          viewQuery: 'SELECT id FROM rec_places',
          ...body,
        }),
      ),
    change('another type and a wrong option', 'rec_places', { type: 'auth', mfa: 1 }),
    change('another type, with MFA', 'rec_places', { type: 'auth', mfa: { enabled: true } }),
    change('another type, with OTP', 'rec_places', { type: 'auth', otp: { enabled: true } }),
    ...field('password max', { type: 'password', max: {} }),
    ...field('password cost', { type: 'password', cost: 'x' }),
    ...field('password pattern', { type: 'password', pattern: false }),
    ...field('password below', { type: 'password', min: -1 }),
    ...field('autodate help', { type: 'autodate', onCreate: true, help: 100 }),
    ...field('autodate required', { type: 'autodate', onCreate: true, required: 'x' }),
    ...field('date required', { type: 'date', required: 'x' }),
    ...field('date help', { type: 'date', help: 100 }),
    ...view('of ids that come twice', 'SELECT w.id, w.a FROM rec_wide w, rec_people p'),
    ...view('of ids made once', 'SELECT (p.id || u.id) AS id, p.t FROM rec_places p, rec_people u'),
  ],
};
