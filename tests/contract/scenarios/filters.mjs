/** Filters that nobody would write: put together by chance, always the same, over the lists' data. */
import lists from './lists.mjs';

const COUNT = 500;
const paths = [
  'id',
  'title',
  'pages',
  'isOut',
  'kind',
  'tags',
  'author',
  'others',
  'data',
  'text',
  'place',
  'secret',
  'author.name',
  'author.level',
  'author.born',
  'author.id',
  'others.name',
  'others.level',
  'others.id',
  'data.a.b',
  'data.0',
  'data.1',
  'data.2.three',
  'place.lon',
  'place.lat',
  'collectionId',
  'collectionName',
  'rec_shops_via_best.owner',
  'rec_shops_via_best.owner.name',
  'rec_shops_via_best.id',
  'author.rec_books_via_author.pages',
  'author.rec_shops_via_owner.id',
  'author.rec_shops_via_owner.best.title',
  'others.rec_books_via_author.title',
  'author.data',
  'nothing',
  '@collection.rec_authors.name',
  '@request.query.filter',
];
const modifiers = ['', '', '', '', '', '', '', ':each', ':length', ':lower', ':isset', ':changed'];
const constants = [
  "''",
  "'a'",
  "'A title 0'",
  "'%title%'",
  "'title'",
  "'_ title 1'",
  '0',
  '1',
  '37',
  '-1',
  '2.5',
  'true',
  'false',
  'null',
  "'true'",
  "'1'",
  "'x'",
  "'[]'",
  "'prose'",
  "'recann000000000'",
  "'recbob000000000'",
  "'Ann'",
  '\'["x"]\'',
  '\'{"a":{"b":1}}\'',
  "'two'",
  "'text'",
  '"B title 1"',
  "'1970-01-01 00:00:00.000Z'",
  "'1970'",
  '""',
  '5',
  '10',
];
const operators = [
  '=',
  '!=',
  '>',
  '>=',
  '<',
  '<=',
  '~',
  '!~',
  '?=',
  '?!=',
  '?>',
  '?<',
  '?~',
  '?!~',
  '?>=',
  '?<=',
];

/** Mulberry32. */
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
const path = () => pick(paths) + pick(modifiers);
const distance = () => `geoDistance(place.lon, place.lat, ${draw(10)}, ${pick(constants)})`;

function operand() {
  if (draw(3) > 0) return pick(constants);
  return draw(12) === 0 ? distance() : path();
}

function term(depth) {
  if (depth > 0 && draw(8) === 0) return `(${expression(depth - 1)})`;
  return `${draw(6) === 0 ? pick(constants) : path()} ${pick(operators)} ${operand()}`;
}

function expression(depth) {
  let text = term(depth);
  for (let more = draw(3); more > 0; more--) text += ` ${pick(['&&', '||'])} ${term(depth)}`;
  return text;
}

const step = (_, number) => {
  const filter = expression(2);
  const query = `perPage=50&sort=id&fields=id&filter=${encodeURIComponent(filter)}`;
  return {
    name: `${number} ${filter}`,
    as: pick(['guest', 'super']),
    path: `/api/collections/rec_books/records?${query}`,
  };
};

export default {
  collections: lists.collections,
  records: lists.records,
  steps: Array.from({ length: COUNT }, step),
};
