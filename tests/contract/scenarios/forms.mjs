/** Records as forms: what the text of a part or a pair becomes. */
const path = '/api/collections/rec_forms/records';
const pairs = 'application/x-www-form-urlencoded';
const open = { listRule: '', viewRule: '', createRule: '', updateRule: '', deleteRule: '' };

const form = (name, parts, more = {}) => ({
  name: `multipart: ${name}`,
  method: 'POST',
  path,
  form: parts,
  ...more,
});
const text = (name, raw, more = {}) => ({
  name: `pairs: ${name}`,
  method: 'POST',
  path,
  raw,
  type: pairs,
  ...more,
});
const file = { name: 'a.txt', type: 'text/plain', text: 'hello' };

const guesses = [
  'true',
  'false',
  'TRUE',
  '1',
  '0',
  '-0',
  '1.0',
  '1.5',
  '01',
  '.5',
  '1e3',
  '12345678901234567890',
  '9007199254740993',
  '100000000000000000000',
  'null',
  '',
  ' ',
  '[1,2]',
  '{"a":1}',
  '"x"',
  '-',
  '1-2',
  '0.1',
  '-12.25',
  'NaN',
];

export default {
  collections: [
    {
      name: 'rec_forms',
      ...open,
      fields: [
        { name: 'title', type: 'text' },
        { name: 'n', type: 'number' },
        { name: 'ok', type: 'bool' },
        { name: 'tags', type: 'select', values: ['a', 'b', '5', 'true'], maxSelect: 3 },
        { name: 'data', type: 'json' },
        { name: 'place', type: 'geoPoint' },
        { name: 'day', type: 'date' },
        { name: 'doc', type: 'file', maxSelect: 1 },
      ],
    },
    {
      name: 'rec_forms_ruled',
      ...open,
      createRule:
        '@request.body.n = 5 && @request.body.ok = true && @request.body.title:isset = true',
      fields: [
        { name: 'title', type: 'text' },
        { name: 'n', type: 'number' },
        { name: 'ok', type: 'bool' },
      ],
    },
  ],
  steps: [
    ...guesses.flatMap((each) => [
      form(`text ${JSON.stringify(each)}`, [['title', each]], { pick: ['title'] }),
      form(`json ${JSON.stringify(each)}`, [['data', each]], { pick: ['data'] }),
      form(`number ${JSON.stringify(each)}`, [['n', each]], { pick: ['n'] }),
      form(`bool ${JSON.stringify(each)}`, [['ok', each]], { pick: ['ok'] }),
      form(`select ${JSON.stringify(each)}`, [['tags', each]], { pick: ['tags'] }),
    ]),
    form('a key twice', [
      ['tags', 'a'],
      ['tags', 'b'],
    ]),
    form('a key twice, guessed', [
      ['tags', '5'],
      ['tags', 'true'],
    ]),
    form('a single key twice', [
      ['title', 'x'],
      ['title', 'y'],
    ]),
    form('a number twice', [
      ['n', '1'],
      ['n', '2'],
    ]),
    form('json twice', [
      ['data', '1'],
      ['data', '{"a":2}'],
    ]),
    form('payload', [['@jsonPayload', '{"title":"12","n":"7","data":{"a":[1]},"tags":["b","a"]}']]),
    form('payload after values', [
      ['title', 'x'],
      ['n', '1'],
      ['@jsonPayload', '{"title":"y"}'],
    ]),
    form('payload before values', [
      ['@jsonPayload', '{"title":"y"}'],
      ['title', 'x'],
      ['n', '1'],
    ]),
    form('two payloads', [
      ['@jsonPayload', '{"title":"y","n":1}'],
      ['@jsonPayload', '{"n":2}'],
    ]),
    form('payload that is null', [
      ['title', 'x'],
      ['@jsonPayload', 'null'],
    ]),
    form('payload that is a list', [['@jsonPayload', '[1]']]),
    form('payload that is broken', [['@jsonPayload', '{"title":']]),
    form('payload that is empty', [['@jsonPayload', '']]),
    form('payload with a modifier', [
      ['n', '1'],
      ['@jsonPayload', '{"n+":2}'],
    ]),
    form('modifiers', [
      ['n', '1'],
      ['n+', '2'],
      ['tags', 'a'],
      ['tags+', 'b'],
      ['+tags', '5'],
    ]),
    form('dots and brackets', [
      ['place.lon', '1'],
      ['tags[]', 'a'],
      ['data[a]', '1'],
    ]),
    form('a point as text', [['place', '{"lon":1.5,"lat":2}']]),
    form('a date', [['day', '2020-01-02']]),
    form('a number as a date', [['day', '2020']]),
    form('no parts', []),
    form('a part without a name', [['', 'x']]),
    form('an empty file is a value', [['title', { name: '', type: 'text/plain', text: 'x' }]]),
    form('a file for a text', [
      ['title', file],
      ['n', '3'],
    ]),
    form('a file for nothing', [
      ['nothing', file],
      ['n', '3'],
    ]),
    form('a name for a file field', [['doc', 'a.txt']]),
    form('an empty name for a file field', [['doc', '']]),
    form('unicode', [['title', 'Grüße 🎉']]),
    form('the query is joined', [['title', 'x']], { path: `${path}?n=4&title=y` }),
    form('fields of the query', [['title', 'x']], { path: `${path}?fields=title` }),
    form(
      'a rule sees what was guessed',
      [
        ['title', 'x'],
        ['n', '5'],
        ['ok', 'true'],
      ],
      { path: '/api/collections/rec_forms_ruled/records' },
    ),
    form(
      'a rule sees what is missing',
      [
        ['n', '5'],
        ['ok', 'true'],
      ],
      { path: '/api/collections/rec_forms_ruled/records' },
    ),
    text('plain', 'title=a+b%20c&n=12&ok=true'),
    text('a key twice', 'tags=a&tags=b'),
    text('no value', 'title&n='),
    text('no key', '=x&title=y'),
    text('empty pairs', '&&title=y&'),
    text('an escape in the key', '%74itle=x'),
    text('a broken escape', 'title=%zz'),
    text('a cut escape', 'title=%4'),
    text('a semicolon', 'title=x;n=1'),
    text('an escaped semicolon', 'title=x%3Bn'),
    text('payload', '@jsonPayload=%7B%22title%22%3A%2212%22%7D&n=1'),
    text('the query is joined', 'title=x', { path: `${path}?title=y&n=4` }),
    text('with a charset', 'title=%C3%A4', { type: `${pairs}; charset=utf-8` }),
    text('JSON by mistake', '{"title":"x"}'),
    text('as an upper-case type', 'title=x', { type: 'Application/X-WWW-Form-Urlencoded' }),
    text('as multipart', 'title=x', { type: 'multipart/form-data; boundary=x' }),
    text('as multipart without a boundary', 'title=x', { type: 'multipart/form-data' }),
    text('as another type of JSON', '{"title":"x"}', { type: 'application/ld+json' }),
    text('as JSON with parameters', '{"title":"x"}', {
      type: 'application/json; charset=utf-8; v=1',
    }),
    text('as a type that begins like JSON', '{"title":"x"}', { type: 'application/json-seq' }),
    text('as text', '{"title":"x"}', { type: 'text/plain;charset=UTF-8' }),
    text('JSON null', 'null', { type: 'application/json' }),
    text('JSON false', 'false', { type: 'application/json' }),
    text('JSON text', '"{}"', { type: 'application/json' }),
    text('JSON with a huge number', '{"n":1e309}', { type: 'application/json' }),
    text('JSON with a tiny number', '{"n":1e-400}', { type: 'application/json' }),
    text('JSON spaces', '   ', { type: 'application/json' }),
    text('JSON cut', '{"title":"x"', { type: 'application/json' }),
  ],
};
