/**
 * Rules that nobody would write, put together by chance, always the same: each is set, and then
 * several ask what it is about, with bodies that have what it looks at.
 */
import { id } from '../replay.mjs';
import { world } from '../world.mjs';

const RULES = 70,
  ASKED = 4;

/* Mulberry32. */
function chance(state) {
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
const draw = chance(20261122);
const pick = (list) => list[draw(list.length)];
const words = (text) => text.trim().split(/\s+/);

const people = words('nick org orgs born role email verified id org.name orgs.name orgs.kinds');
const paths = [
  ...words('t n b e u d s m j h g g.lon one many closed x id collectionName j.a.b j.0 j.1.y'),
  ...people.map((name) => `one.${name}`),
  ...people.map((name) => `many.${name}`),
  ...words(`one.org.city.name many.orgs.cities.size one.rec_items_via_one.t
    many.rec_notes_via_owner.items.t rec_notes_via_items.text rec_notes_via_item.owner.nick
    one.org.city.rec_orgs_via_cities.name closed.title one.rec_look_via_one.n
    @collection.rec_folk.nick @collection.rec_folk:a.org.name @collection.rec_notes:z.items`),
];
const asked = words(`@request.body.t @request.body.t:isset @request.body.t:changed
  @request.body.t:lower @request.body.n @request.body.n:changed @request.body.b @request.body.m
  @request.body.m:each @request.body.m:length @request.body.m:changed @request.body.s
  @request.body.one @request.body.one.nick @request.body.one:changed @request.body.many.nick
  @request.body.many:each @request.body.many.orgs.name @request.body.many:length @request.body.j
  @request.body.j.a @request.body.g.lon @request.body.d @request.body.none @request.body.none:isset
  @request.body.one.rec_notes_via_owner.text @request.body.id @request.query.k
  @request.query.k:isset @request.headers.x_a @request.headers.x_a:isset @request.method
  @request.context @request.auth.id @request.auth.nick @request.auth.orgs.name @request.auth.role
  @request.auth.verified @request.auth.rec_notes_via_owner.text @request.auth.orgs.cities.name`);
const modifiers = ['', '', '', '', '', '', ':each', ':length', ':lower'];
/* Without n: in a create rule, and only there, PocketBase reads a whole number as 0.0. */
const values = [
  ...words(`'' 'Alpha' 'alpha' 'a_b' '100%' 'ann' 'Ann' 'red' 'POST' 'PATCH' 'default' 'v' 'Acme'
    'n1' '[]' '2020-02-29' 0 1 -1 2.5 12 true false null t m one many id s j d b one.nick
    many.nick @request.auth.id @request.body.t @now @todayStart`),
  `'${id('folkann')}'`,
  "strftime('%Y', d)",
  'geoDistance(g.lon, g.lat, 0, n)',
];
const signs = words('= = = != != > >= < <= ~ ~ !~ ?= ?= ?!= ?> ?<= ?~ ?!~');
const bodies = [
  {},
  { t: 'Alpha' },
  { t: 'alpha', n: 1 },
  { m: ['red', 'green'] },
  { m: ['red'], s: 'red' },
  { one: id('folkann') },
  { many: [id('folkann'), id('folkbob')] },
  { 'n+': 1 },
  { 'm+': 'blue' },
  { j: { a: 1 } },
  { j: 'x' },
  { g: { lon: 1, lat: 2 } },
  { d: '2020-02-29' },
  { t: '', b: true },
  { none: 1 },
  { one: '', many: [] },
  { 'many-': id('folkbob') },
  { t: null, n: '1' },
];

const left = () => (draw(3) > 0 ? pick(asked) : pick(paths) + pick(modifiers));
const term = () => `${left()} ${pick(signs)} ${pick(values)}`;
function rule() {
  let text = term();
  for (let more = draw(3); more > 0; more--) text += ` ${pick(['&&', '||'])} ${term()}`;
  return text;
}

const path = '/api/collections/rec_items';
const open = { listRule: '', viewRule: '', createRule: '', updateRule: '', deleteRule: '' };
const some = () => `/${id(`item${'abcdefghijkl'[draw(12)]}`)}`;
let made = 0;

function ask(kind, name) {
  const body = { ...pick(bodies), ...(draw(3) > 0 ? {} : pick(bodies)) };
  const query = pick(['?', '?k=v']);
  const headers = pick([{}, { 'X-A': 'v' }]);
  const step = {
    name: `${name} ${JSON.stringify(body)}`,
    as: pick(['guest', 'ann', 'bob']),
    headers,
  };
  const few = `${query}&fields=id&sort=id&perPage=50`;
  if (kind === 'listRule') return [{ ...step, path: `${path}/records${few}` }];
  if (kind === 'viewRule') return [{ ...step, path: `${path}/records${some()}${few}` }];
  const to = { ...step, body };
  if (kind === 'updateRule')
    return [{ ...to, method: 'PATCH', path: `${path}/records${some()}${query}` }];
  const own = id(`made${(made++).toString(36)}z`);
  return [
    { ...to, method: 'POST', path: `${path}/records${query}`, body: { id: own, ...body } },
    { name: `${name} gone`, as: 'super', method: 'DELETE', path: `${path}/records/${own}` },
  ];
}

function stepsOf(number) {
  const kind = pick(['createRule', 'updateRule', 'listRule', 'viewRule']);
  const text = rule();
  const set = {
    name: `${number} ${kind} ${text}`,
    as: 'super',
    method: 'PATCH',
    path,
    body: { ...open, [kind]: text },
    pick: [kind],
  };
  return [set, ...Array.from({ length: ASKED }, (_, n) => ask(kind, `${number}.${n}`)).flat()];
}

export default {
  ...world,
  steps: [
    ...Array.from({ length: RULES }, (_, number) => stepsOf(number)).flat(),
    { name: 'in the end', as: 'super', path: `${path}/records?perPage=100&sort=id` },
  ],
};
