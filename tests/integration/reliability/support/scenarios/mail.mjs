/**
 * Work, by the example of mails: what was taken on is done, however often the server dies meanwhile,
 * and told of once. There is no mail server: mails become files.
 */
import { readFeed } from '../../../support/feed.mjs';
import { comes } from '../process.mjs';

const DONE_MS = 30_000;
const UNDONE = encodeURIComponent(
  "kind = 'mail' && (state = 'waiting' || state = 'blocked' || state = 'running')",
);

const keyOf = ({ type, payload }) =>
  type.startsWith('mail.') ? payload.to[0].split('@')[0] : undefined;

export default {
  name: 'mail',
  workers: 2,
  pauseMs: 20,

  choose(worker) {
    const key = worker.newKey((digits) => `reader${digits}`);
    const body = { to: `${key}@example.com`, subject: 'Hello', text: 'A text' };
    return { kind: 'created', key, value: 'sent', send: ['POST', '/api/mail', body] };
  },

  /** An attempt that the death of the server cut off is made again. */
  async settle({ server, token }) {
    const path = `/api/work?filter=${UNDONE}&perPage=1&skipTotal=1`;
    await comes(async () => {
      const { body } = await server.request('GET', path, undefined, { token });
      return body.items.length === 0;
    }, DONE_MS);
  },

  async observe({ server, token }) {
    const { events } = await readFeed(server, token, { query: '&types=mail.*' });
    return new Map(events.map((event) => [keyOf(event), event.type.replace('mail.', '')]));
  },

  eventOf: { created: 'mail.sent' },
  keyOf,
};
