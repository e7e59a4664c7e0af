/** Backups: one that was acknowledged is there and whole, one that was removed stays away. */
import { stateOfZip } from '../zip.mjs';

const PATH = '/api/backups';
const KEPT_MAX = 2;

/** 'whole', or what is wrong with it. */
async function stateOf({ server, token }, key) {
  const answer = await fetch(`${server.url}${PATH}/${key}`, { headers: { authorization: token } });
  const bytes = Buffer.from(await answer.arrayBuffer());
  return answer.status === 200 ? stateOfZip(bytes) : `${answer.status}`;
}

export default {
  name: 'backups',
  workers: 1,
  pauseMs: 200,
  keepsKeys: true,

  choose(worker, random) {
    const keys = [...worker.mine].filter(([, value]) => value !== null).map(([key]) => key);
    if (keys.length < KEPT_MAX || random.number() < 0.2) {
      const key = worker.newKey((digits) => `b${digits}.zip`);
      return { kind: 'created', key, value: 'whole', send: ['POST', PATH, { name: key }] };
    }
    const [key] = keys;
    return { kind: 'deleted', key, value: null, send: ['DELETE', `${PATH}/${key}`] };
  },

  async observe(api, wanted) {
    const { body } = await api.server.request('GET', PATH, undefined, { token: api.token });
    const observed = new Map();
    for (const { key } of body)
      observed.set(key, wanted.has(key) ? await stateOf(api, key) : 'whole');
    return observed;
  },

  eventOf: { created: 'backup.created' },
  keyOf: ({ type, payload }) => (type === 'backup.created' ? payload.key : undefined),
  /* The file is there first: an event of a backup that is not would be worse. */
  tellsLater: true,
};
