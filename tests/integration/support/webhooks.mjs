/** Receivers of webhooks on loopback, and what is asked of the server about them. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { eventually } from './smtp.mjs';

/** Receivers of tests are on loopback, which nobody may be sent to otherwise. */
export const ALLOW = ['--webhooks-allow', '127.0.0.1/32'];

/**
 * Takes deliveries and keeps them in the order in which they came.
 * @param {import('node:test').TestContext} t
 * @param {{port?: number, answer?: (delivery: object) => object|number|Promise<object|number>}} [options]
 *   answer: what is answered to each, a status or {status, headers, body}; 200 without one. It may be replaced
 *   while the receiver runs.
 */
export async function startReceiver(t, { port = 0, answer = () => 200 } = {}) {
  const receiver = { deliveries: [], answer, inFlight: 0, mostInFlight: 0 };
  const http = createServer(async (request, response) => {
    receiver.mostInFlight = Math.max(receiver.mostInFlight, ++receiver.inFlight);
    response.on('close', () => receiver.inFlight--);
    const parts = [];
    try {
      for await (const part of request) parts.push(part);
    } catch {
      return; /* whoever sent it is gone */
    }
    const { method, url: path, headers, rawHeaders } = request;
    const raw = Buffer.concat(parts);
    const delivery = { method, path, headers, rawHeaders, raw, text: raw.toString('utf8'), id: headers['webhook-id'] };
    try {
      delivery.body = JSON.parse(delivery.text);
    } catch {
      delivery.body = null;
    }
    receiver.deliveries.push(delivery);
    const answered = await receiver.answer(delivery);
    const { status = 200, headers: more = {}, body = '' } = typeof answered === 'number' ? { status: answered } : answered;
    response.writeHead(status, more).end(body);
  });
  http.listen(port, '127.0.0.1');
  await once(http, 'listening');
  receiver.port = http.address().port;
  receiver.url = `http://127.0.0.1:${receiver.port}/hook`;
  receiver.close = () =>
    new Promise((resolve) => {
      http.close(resolve);
      http.closeAllConnections();
    });
  t.after(() => http.listening && receiver.close());
  /** Waits until look(deliveries) gives something. */
  receiver.until = (what, look, patienceMs) => eventually(what, () => look(receiver.deliveries), patienceMs);
  /** Waits until so many different events have come. */
  receiver.untilIds = (count, patienceMs) =>
    eventually(
      `${count} events`,
      () => {
        const ids = new Set(receiver.deliveries.map(({ id }) => id));
        return ids.size >= count && ids;
      },
      patienceMs,
    );
  return receiver;
}

/** A port that stays free while nobody listens on it: the system gives none of these to whoever asks for any. */
export async function sparePort() {
  for (;;) {
    const port = 20000 + Math.floor(Math.random() * 12000);
    const http = createServer();
    const isFree = await new Promise((resolve) => {
      http.once('error', () => resolve(false));
      http.listen(port, '127.0.0.1', () => http.close(() => resolve(true)));
    });
    if (isFree) return port;
  }
}

/** The answer has its secret. */
export async function createWebhook(server, token, body, { tenant } = {}) {
  const answer = await server.request('POST', '/api/webhooks', body, { token, tenant });
  if (answer.status !== 200) throw new Error(`cannot create a webhook: ${answer.status} ${answer.text}`);
  return answer.body;
}

/** Rows of `_deliveries` of one webhook, by event. */
export async function listDeliveries(server, token, webhook, { filter = '', tenant } = {}) {
  const all = [`webhook = "${webhook}"`, ...(filter ? [filter] : [])].join(' && ');
  const path = `/api/deliveries?sort=id&perPage=1000&filter=${encodeURIComponent(all)}`;
  const answer = await server.request('GET', path, undefined, { token, tenant });
  if (answer.status !== 200) throw new Error(`cannot list deliveries: ${answer.status} ${answer.text}`);
  return answer.body.items;
}

/** Waits until all deliveries of a webhook are in a state, and there are so many. */
export function untilDelivered(server, token, webhook, count, state = 'delivered') {
  return eventually(`${count} deliveries of ${webhook} are ${state}`, async () => {
    const rows = await listDeliveries(server, token, webhook);
    return rows.length >= count && rows.every((row) => row.state === state) && rows;
  });
}
