/** Changes of the schema: collections that are made, get more fields, and are deleted. */
import { recordsPath } from '../../../support/records.mjs';

const PREFIX = 'grown';
const PATH = '/api/collections';
const KEPT_MAX = 4;

/** By their ids fields keep their columns. */
const fieldsOf = (count) =>
  Array.from({ length: count }, (_, index) => ({
    id: `field${index}`,
    name: `field${index}`,
    type: 'number',
  }));

/** Of its fields those that were asked for; -1: not the right ones. */
function countFields(fields) {
  const names = fields.map(({ name }) => name).filter((name) => name !== 'id');
  return names.every((name, index) => name === `field${index}`) ? names.length : -1;
}

export default {
  name: 'collections',
  workers: 1,
  pauseMs: 5,
  keepsKeys: true,

  choose(worker, random) {
    const keys = [...worker.mine].filter(([, value]) => value !== null).map(([key]) => key);
    const dice = random.number();
    if (keys.length === 0 || (keys.length < KEPT_MAX && dice < 0.3)) {
      const key = worker.newKey((digits) => PREFIX + digits);
      const body = { name: key, type: 'base', fields: fieldsOf(1) };
      return { kind: 'created', key, value: 1, send: ['POST', PATH, body] };
    }
    const key = keys[random.below(keys.length)];
    if (dice > 0.85)
      return { kind: 'deleted', key, value: null, send: ['DELETE', `${PATH}/${key}`] };
    const value = worker.mine.get(key) + 1;
    const send = ['PATCH', `${PATH}/${key}`, { fields: fieldsOf(value) }];
    return { kind: 'updated', key, value, send };
  },

  async observe({ server, token }) {
    const { body } = await server.request('GET', `${PATH}?perPage=500`, undefined, { token });
    const own = body.items.filter(({ name }) => name.startsWith(PREFIX));
    return new Map(own.map(({ name, fields }) => [name, countFields(fields)]));
  },

  eventOf: {
    created: '_collections.created',
    updated: '_collections.updated',
    deleted: '_collections.deleted',
  },
  keyOf: ({ type, payload }) =>
    type.startsWith('_collections.') && payload.name.startsWith(PREFIX) ? payload.name : undefined,

  /** The definition and the table are of the same change: a list reads every column. */
  async check({ server, token }, report) {
    const { body } = await server.request('GET', `${PATH}?perPage=500`, undefined, { token });
    for (const { name } of body.items) {
      if (!name.startsWith(PREFIX)) continue;
      const { status, text } = await server.request('GET', recordsPath(name), undefined, { token });
      if (status !== 200) report(`${name} is defined and cannot be listed: ${status} ${text}`);
    }
  },
};
