/**
 * Work, by the example of mails: what was taken on is done, however often the server dies meanwhile,
 * and told of once. There is no mail server: mails become files.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { readFeed } from '../../../support/feed.mjs';
import { comes } from '../process.mjs';

const DONE_MS = 30_000;
const QUIET_LOOKS = 5;
const UNDONE = encodeURIComponent(
  "kind = 'mail' && (state = 'waiting' || state = 'blocked' || state = 'running')",
);

const keyOf = ({ type, payload }) =>
  type.startsWith('mail.') ? payload.to[0].split('@')[0] : undefined;

/** Whose mails have been told of: key → 'sent' or 'failed'. */
async function toldOf({ server, token }) {
  const { events } = await readFeed(server, token, { query: '&types=mail.*' });
  return new Map(events.map((event) => [keyOf(event), event.type.replace('mail.', '')]));
}

async function isIdle({ server, token }) {
  const path = `/api/work?filter=${UNDONE}&perPage=1&skipTotal=1`;
  const { body } = await server.request('GET', path, undefined, { token });
  return body.items.length === 0;
}

export default {
  name: 'mail',
  workers: 2,
  pauseMs: 20,

  choose(worker, random) {
    const key = worker.newKey((digits) => `reader${digits}`);
    const refusal = random.below(10) === 0 ? 400 : undefined;
    const body = { to: `${key}@${refusal ? '' : 'example.com'}`, subject: 'Hello', text: 'A text' };
    return { kind: 'created', key, value: 'sent', send: ['POST', '/api/mail', body], refusal };
  },

  /**
   * An attempt that the death of the server cut off is made again. What nobody was told of may still
   * be on its way to the tasks: it is there soon after the others.
   */
  async settle(api, own) {
    const acknowledged = own.filter(({ outcome }) => outcome === 'ok');
    let quiet = 0;
    await comes(async () => {
      const told = await toldOf(api);
      const isDone = acknowledged.every(({ key }) => told.has(key)) && (await isIdle(api));
      quiet = isDone ? quiet + 1 : 0;
      return quiet > QUIET_LOOKS || sleep(50).then(() => false);
    }, DONE_MS);
  },

  observe: toldOf,

  eventOf: { created: 'mail.sent' },
  keyOf,
};
