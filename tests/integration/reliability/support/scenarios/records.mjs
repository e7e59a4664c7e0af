/** Records that are made, changed and deleted, each change with one event. */
import { createCollection, listAll, open, recordsPath } from '../../../support/records.mjs';

const COLLECTION = 'things';
/* Now and then a long one, so that the log of a life is long enough to be moved into the file. */
const LONG_BYTES = 60_000,
  SHORT_BYTES = 100;

/** What the record of a key says with a value: a torn one says something else. */
function bodyOf(key, value) {
  const number = Number(key.slice(1)) + value;
  const text = `${key} ${value} `;
  return text.repeat((number % 8 === 0 ? LONG_BYTES : SHORT_BYTES) / text.length);
}

const idOf = (digits) => `w${digits.padStart(14, '0')}`;

function create(worker, key = worker.newKey(idOf)) {
  const body = { id: key, title: `title ${key}`, value: 1, body: bodyOf(key, 1) };
  return { kind: 'created', key, value: 1, send: ['POST', recordsPath(COLLECTION), body] };
}

/** Lacks the required title. */
function createBroken(worker) {
  const key = worker.newKey(idOf);
  const send = ['POST', recordsPath(COLLECTION), { id: key, value: 0 }];
  return { kind: 'created', key, value: 0, send, refusal: 400 };
}

export default {
  name: 'records',
  workers: 20,
  /* Ids grow, so that the rows of a life are the newest ones, and are found without the others. */
  keepsKeys: false,

  setUp: ({ server, token }) =>
    createCollection(server, token, {
      name: COLLECTION,
      ...open,
      fields: [
        { name: 'title', type: 'text', required: true },
        { name: 'value', type: 'number' },
        { name: 'body', type: 'text', max: 2 * LONG_BYTES },
        { name: 'created', type: 'autodate', onCreate: true },
      ],
    }),

  choose(worker, random) {
    const dice = random.number(),
      keys = [...worker.mine].filter(([, value]) => value !== null).map(([key]) => key);
    if (dice < 0.05) return createBroken(worker);
    if (keys.length === 0 || dice < 0.55) return create(worker);
    const key = keys[random.below(keys.length)],
      path = recordsPath(COLLECTION, key);
    if (dice >= 0.8) return { kind: 'deleted', key, value: null, send: ['DELETE', path] };
    const value = worker.mine.get(key) + 1;
    const send = ['PATCH', path, { value, body: bodyOf(key, value) }];
    return { kind: 'updated', key, value, send };
  },

  async observe({ server, token }, wanted) {
    const from = [...wanted.keys()].reduce((least, id) => (id < least ? id : least), '~');
    const isOlder = ({ id }) => id < from;
    const options = { query: '&sort=-id', isEnough: isOlder };
    const rows = await listAll(server, token, COLLECTION, options);
    const observed = new Map();
    for (const row of rows) {
      if (isOlder(row)) continue;
      const isWhole = row.body === bodyOf(row.id, row.value);
      observed.set(row.id, observed.has(row.id) ? 'twice' : isWhole ? row.value : 'torn');
    }
    return observed;
  },

  eventOf: {
    created: `${COLLECTION}.created`,
    updated: `${COLLECTION}.updated`,
    deleted: `${COLLECTION}.deleted`,
  },
  keyOf: ({ subject }) =>
    subject?.startsWith(`${COLLECTION}/`) ? subject.slice(COLLECTION.length + 1) : undefined,
  /* The table and the journal are of one mind: what was made once, and not deleted, is a row. */
  checkFile: [
    `WITH told AS (
       SELECT substr(subject, ${COLLECTION.length + 2}) AS id,
              sum(type = '${COLLECTION}.created') AS made,
              sum(type = '${COLLECTION}.deleted') AS deleted
       FROM _journal WHERE subject LIKE '${COLLECTION}/%' GROUP BY subject)
     SELECT told.id, 'was made and deleted', made, deleted, 'times, and is there:', ${COLLECTION}.id
     FROM told LEFT JOIN ${COLLECTION} ON ${COLLECTION}.id = told.id
     WHERE made <> 1 OR deleted > 1 OR (deleted = 0) <> (${COLLECTION}.id IS NOT NULL)
     UNION ALL
     SELECT id, 'is there, and no event tells of it', '', '', '', '' FROM ${COLLECTION}
     WHERE id NOT IN (SELECT id FROM told)`,
  ],
  valueIn: ({ type, payload }) => (type === `${COLLECTION}.deleted` ? null : payload.value),
};
