/** Superusers whose password is changed: the new one is good and the former one is not. */
import { recordsPath } from '../../../support/records.mjs';

const COLLECTION = '_superusers';
const SIGN_IN = `/api/collections/${COLLECTION}/auth-with-password`;
const PREFIX = 'user';
const KEPT_MAX = 2;

const idOf = (digits) => `${PREFIX}${digits.padStart(11, '0')}`;
const emailOf = (key) => `${key}@example.com`;
const secretOf = (value) => `a long secret ${value}`;
const secretsOf = (value) => ({ password: secretOf(value), passwordConfirm: secretOf(value) });

/** Signing in makes an event of the same subject, which is not a change. */
async function canSignIn({ server }, key, value) {
  const body = { identity: emailOf(key), password: secretOf(value) };
  return (await server.request('POST', SIGN_IN, body)).status === 200;
}

/** The one of the passwords that is good; 'several' must not be, 'none' neither. */
async function passwordOf(api, key, values) {
  const numbers = values.filter((value) => value !== null);
  const candidates = new Set([...numbers, ...numbers.map((value) => value - 1)]);
  const good = [];
  for (const value of candidates)
    if (value > 0 && (await canSignIn(api, key, value))) good.push(value);
  if (good.length > 1) return 'several';
  return good.length ? good[0] : 'none';
}

export default {
  name: 'auth',
  workers: 1,
  pauseMs: 50, /* a password costs a processor dearly */
  keepsKeys: true,

  choose(worker, random) {
    const keys = [...worker.mine].filter(([, value]) => value !== null).map(([key]) => key);
    const dice = random.number();
    if (keys.length === 0 || (keys.length < KEPT_MAX && dice < 0.5)) {
      const key = worker.newKey(idOf);
      const body = { id: key, email: emailOf(key), ...secretsOf(1) };
      return { kind: 'created', key, value: 1, send: ['POST', recordsPath(COLLECTION), body] };
    }
    const key = keys[random.below(keys.length)],
      path = recordsPath(COLLECTION, key);
    if (dice > 0.85) return { kind: 'deleted', key, value: null, send: ['DELETE', path] };
    const value = worker.mine.get(key) + 1;
    return { kind: 'updated', key, value, send: ['PATCH', path, secretsOf(value)] };
  },

  async observe(api, wanted) {
    const { server, token } = api;
    const path = `${recordsPath(COLLECTION)}?perPage=500`;
    const { body } = await server.request('GET', path, undefined, { token });
    const observed = new Map();
    for (const { id } of body.items)
      if (wanted.has(id)) observed.set(id, await passwordOf(api, id, wanted.get(id)));
    return observed;
  },

  eventOf: {
    created: `${COLLECTION}.created`,
    updated: `${COLLECTION}.updated`,
    deleted: `${COLLECTION}.deleted`,
  },
  keyOf: ({ type, subject }) =>
    type.startsWith(`${COLLECTION}.`) && subject.startsWith(`${COLLECTION}/${PREFIX}`)
      ? subject.slice(COLLECTION.length + 1)
      : undefined,
};
