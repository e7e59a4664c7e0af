/** What a field of each type keeps of a value, and what it refuses. */
const open = { listRule: '', viewRule: '', createRule: '', updateRule: '', deleteRule: '' };
const records = (collection) => `/api/collections/${collection}/records`;

const strict = {
  text: { min: 2, max: 5, pattern: '^[a-zß]+$' },
  number: { min: -3, max: 10, onlyInt: true },
  email: { onlyDomains: ['example.com'] },
  url: { exceptDomains: ['evil.example'] },
  date: { min: '2020-02-01 00:00:00.000Z', max: '2021-01-01 00:00:00.000Z' },
  select: { values: ['red', 'green', 'blue'], maxSelect: 2 },
  relation: { maxSelect: 3, minSelect: 2 },
  json: { maxSize: 12 },
  editor: { maxSize: 10 },
};
const loose = {
  select: { values: ['red', 'green', 'blue'], maxSelect: 1 },
  relation: { maxSelect: 1 },
};
const types = [
  'text',
  'number',
  'bool',
  'email',
  'url',
  'date',
  'select',
  'relation',
  'json',
  'editor',
  'geoPoint',
  'file',
];

const target = (options) => ({ ...options, collectionId: '{collection rec_targets}' });
const define = (kind, type, options, required) => ({
  name: `rec_${kind}_${type}`,
  ...open,
  fields: [{ name: 'f', type, required, ...(type === 'relation' ? target(options) : options) }],
});

const common = [
  '',
  ' ',
  'abc',
  'ABC',
  '12',
  12,
  -0.5,
  1e25,
  1e-9,
  true,
  false,
  'true',
  'TRUE',
  't',
  '0',
  null,
  [],
  [''],
  ['abc', 'abd'],
  [1, 2],
  {},
  { a: 1 },
  '[]',
  '{}',
  '["red","blue"]',
];
const own = {
  text: ['ab', 'ßßßßß', 'ßßßßßß', 'a\nb', 'a b', '\u200b', '   ab   ', '😀😀', 'null'],
  number: [
    '1e2',
    '0x1f',
    ' 7 ',
    '7,5',
    '+7',
    '.5',
    '5.',
    'Infinity',
    'NaN',
    10,
    11,
    -3,
    -4,
    2.5,
    9007199254740993,
    '9007199254740993',
    -1e-320,
  ],
  bool: ['1', 'f', 'F', 'False', 'yes', 'on', 2, -1, 0.1, 'tRue'],
  email: [
    'a@example.com',
    'a@Example.com',
    'a@sub.example.com',
    'a b@example.com',
    'a@example',
    '"a b"@example.com',
    'a@@example.com',
    'a+b@example.com',
    'ä@example.com',
    'a@exämple.com',
    '@example.com',
    'a@127.0.0.1',
  ],
  url: [
    'https://a.example',
    'http://a.example:80/x?y#z',
    'ftp://a.example',
    'a.example',
    '//a.example',
    'https://',
    'https://evil.example/x',
    'https://www.evil.example',
    'mailto:a@b.c',
    'javascript:alert(1)',
    'https://a.example/ä',
    'HTTP://A.EXAMPLE',
    'http://127.0.0.1',
    'http://[::1]/',
    'http://localhost',
  ],
  date: [
    '2020-06-07',
    '2020-06-07 08:09:10',
    '2020-06-07 08:09:10Z',
    '2020-06-07T08:09:10Z',
    '2020-06-07T08:09:10.1234Z',
    '2020-06-07T08:09:10+02:00',
    '2020-06-07 08:09',
    '2020-6-7',
    '07.06.2020',
    '2020-13-01',
    '2020-02-29',
    '2021-02-29',
    '2020',
    '20200607',
    1591517350,
    1591517350000,
    '1591517350',
    'now',
    '0001-01-01 00:00:00.000Z',
    '9999-12-31 23:59:59.999Z',
    '2019-12-31',
    '2021-01-01 00:00:00.001Z',
    'Sun, 07 Jun 2020 08:09:10 GMT',
  ],
  select: [
    'red',
    'Red',
    ['red'],
    ['green', 'red'],
    ['red', 'red'],
    ['red', 'green', 'blue'],
    ['pink', 'red'],
    'red,green',
    ' red',
    [null, 'red'],
    [['red']],
    ['red', 5],
  ],
  relation: [
    'rectarget000001',
    ['rectarget000001', 'rectarget000002'],
    ['rectarget000002', 'rectarget000001', 'rectarget000002'],
    ['rectarget000001', 'missing00000000'],
    'missing00000000',
    'x',
    ['rectarget000001', 'rectarget000002', 'rectarget000003'],
    ['rectarget000001', 'rectarget000002', 'rectarget000003', 'rectarget000004'],
    '["rectarget000001","rectarget000002"]',
  ],
  json: [
    '"quoted"',
    'plain',
    '[1, 2]',
    ' {"a" : 1 } ',
    '{"a":1',
    { a: { b: [1, 2.5, null] } },
    'null',
    '12.0',
    '1e3',
    '12345678901',
    '123456789012',
    '1234567890123',
    [[]],
    'a"b',
    -0,
    '\u2028',
  ],
  editor: ['<p>a</p>', '<p>abc</p>', '<p>abcd</p>', '<script>1</script>', 'ääääää'],
  geoPoint: [
    { lon: 1, lat: 2 },
    { lat: 2, lon: 1, more: 3 },
    { lon: 1 },
    { lon: '1.5', lat: '2' },
    { lon: 181, lat: 0 },
    { lon: 180, lat: -90 },
    { lon: 0, lat: 90.1 },
    { lon: 0, lat: 0 },
    '{"lon":3,"lat":4}',
    [5, 6],
    { Lon: 1, Lat: 2 },
    { lon: true, lat: null },
  ],
  file: ['a.txt', ['a.txt', 'b.txt'], '../a.txt', 'x'.repeat(260)],
};

/** A short name that differs from all others of its type. */
const show = (value) => {
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)} (${text.length})` : text;
};

function stepsOf(kind, type) {
  const values =
    kind === 'needed'
      ? ['', 0, false, null, [], {}, { lon: 0, lat: 0 }, '0', ' ', 'abc', 'red', '{}', '[]', 'null']
      : [...common, ...own[type]];
  const unique = [...new Map(values.map((value) => [show(value), value])).entries()];
  const all = unique.map(([text, value]) => ({
    name: `${kind} ${type} ${text}`,
    method: 'POST',
    path: records(`rec_${kind}_${type}`),
    body: { f: value },
    pick: ['f'],
  }));
  if (kind === 'needed')
    all.push({
      name: `needed ${type} not given`,
      method: 'POST',
      path: records(`rec_needed_${type}`),
      body: {},
      pick: ['f'],
    });
  return all;
}

const kinds = { loose: loose, strict, needed: loose };

export default {
  collections: [
    { name: 'rec_targets', ...open, fields: [{ name: 'title', type: 'text' }] },
    ...Object.entries(kinds).flatMap(([kind, options]) =>
      types.map((type) => define(kind, type, options[type], kind === 'needed')),
    ),
  ],
  records: {
    rec_targets: [1, 2, 3, 4].map((n) => ({ id: `rectarget00000${n}`, title: `t${n}` })),
  },
  steps: Object.keys(kinds).flatMap((kind) => types.flatMap((type) => stepsOf(kind, type))),
};
