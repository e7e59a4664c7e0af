/**
 * Named consumers: a position is where it was committed to, and the next page begins right behind
 * it, so that nothing is left out, whatever happened between.
 */
const PATH = '/api/consumers';
const PREFIX = 'reader';
const LEASE_MS = 100; /* the least; a crash does not end it */
const KEPT_MAX = 2;

/** Of a cursor of this server: the number of the last event before it. */
const sequenceOf = (cursor) => Number(Buffer.from(cursor, 'base64url').readBigUInt64BE(9));

function define(worker) {
  const key = worker.newKey((digits) => PREFIX + digits);
  const body = { types: ['*', '_*'], after: 'start' };
  return { kind: 'created', key, value: 0, send: ['PUT', `${PATH}/${key}`, body] };
}

function poll(worker, key) {
  const body = { limit: 50, wait: 1, leaseMs: LEASE_MS };
  const answered = ({ json: page }) => {
    const position = worker.mine.get(key);
    if (page.firstSequence !== position + 1)
      worker.report(`${key} is at ${position}, and its page begins with ${page.firstSequence}`);
    const missing = page.lastSequence - page.firstSequence + 1 - page.events.length;
    if (missing !== 0) worker.report(`a page of ${key} lacks ${missing} events`);
    if (page.lease) worker.memory.page = { key, next: page.next, lease: page.lease };
  };
  const send = ['POST', `${PATH}/${key}/poll`, body];
  return { kind: 'poll', send, answered, mayFail: [409] };
}

function commit(worker, { key, next, lease }) {
  worker.memory.page = null;
  const send = ['POST', `${PATH}/${key}/commit`, { cursor: next, lease }];
  return { kind: 'commit', key, value: sequenceOf(next), send };
}

export default {
  name: 'consumers',
  workers: 2,
  keepsKeys: true,

  choose(worker, random) {
    const { page } = worker.memory;
    const keys = [...worker.mine].filter(([, value]) => value !== null).map(([key]) => key);
    const dice = random.number();
    /* A page that nobody commits is handed out again. */
    if (page && worker.mine.get(page.key) !== null && dice < 0.9) return commit(worker, page);
    worker.memory.page = null;
    if (keys.length === 0 || (keys.length < KEPT_MAX && dice < 0.1)) return define(worker);
    const key = keys[random.below(keys.length)];
    if (keys.length > 1 && dice > 0.99)
      return { kind: 'deleted', key, value: null, send: ['DELETE', `${PATH}/${key}`] };
    return poll(worker, key);
  },

  async observe({ server, token }) {
    const { body } = await server.request('GET', `${PATH}?perPage=200`, undefined, { token });
    return new Map(body.items.map(({ name, cursor }) => [name, sequenceOf(cursor)]));
  },
};
