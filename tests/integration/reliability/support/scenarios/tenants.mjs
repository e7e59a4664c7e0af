/** Tenants that are made, written to and removed: a directory and a database each. */
const PATH = '/api/tenants';
const PREFIX = 'made';
const KEPT_MAX = 2;

/** How many collections an operator finds in it, beside those that each tenant has. */
async function countCollections({ server, token }, tenant) {
  const { body, status } = await server.request('GET', '/api/collections?perPage=500', undefined, {
    token,
    tenant,
  });
  const isMade = ({ system, name }) => !system && name !== 'users';
  return status === 200 ? body.items.filter(isMade).length : `${status}`;
}

export default {
  name: 'tenants',
  workers: 1,
  pauseMs: 30,
  keepsKeys: true,

  choose(worker, random) {
    const keys = [...worker.mine].filter(([, value]) => value !== null).map(([key]) => key);
    const dice = random.number();
    if (keys.length === 0 || (keys.length < KEPT_MAX && dice < 0.4)) {
      const key = worker.newKey((digits) => PREFIX + digits);
      return { kind: 'created', key, value: 0, send: ['POST', PATH, { name: key }] };
    }
    const key = keys[random.below(keys.length)];
    if (dice > 0.8)
      return { kind: 'deleted', key, value: null, send: ['DELETE', `${PATH}/${key}`] };
    const value = worker.mine.get(key) + 1;
    const body = { name: `things${value}`, type: 'base', fields: [{ name: 'a', type: 'text' }] };
    const send = ['POST', '/api/collections', body, { 'X-Bakend-Tenant': key }];
    return { kind: 'write', key, value, send };
  },

  async observe(api, wanted) {
    const { server, token } = api;
    const { body } = await server.request('GET', `${PATH}?perPage=500`, undefined, { token });
    const observed = new Map();
    for (const { name } of body.items)
      if (wanted.has(name)) observed.set(name, await countCollections(api, name));
    return observed;
  },

  eventOf: { created: '_tenants.created', deleted: '_tenants.deleted' },
  keyOf: ({ type, payload }) => (type.startsWith('_tenants.') ? payload.name : undefined),
};
