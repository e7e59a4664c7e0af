/**
 * Names that lead elsewhere when they are sent to (DNS rebinding): the address that is judged is the one that is
 * connected to. The resolver of the program is the test's own.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { preload } from './reliability/support/machine.mjs';
import { temporaryFolder } from './support/program.mjs';
import { eventually } from './support/smtp.mjs';
import { create, start } from './support/webhook_posts.mjs';
import { startReceiver } from './support/webhooks.mjs';

const NAME = 'rebind.test';
const ALLOWED = '127.0.0.1';
const FORBIDDEN = '127.0.0.2';
const REFUSAL = 'The address of this endpoint is not allowed.';
/** An answer is remembered for half a minute. */
const FORGOTTEN_MS = 60_000;

/**
 * A receiver where the name may lead, and whoever listens where it may not, on the same port. The receiver keeps no
 * connection, so that each delivery makes one.
 */
async function startBoth(t) {
  const folder = await temporaryFolder(t);
  const addresses = join(folder, 'addresses');
  const leadTo = (answer) => writeFile(addresses, answer);
  await leadTo(ALLOWED);
  const env = { ...(await preload(t, 'moved_name')), BAKEND_TEST_NAME: NAME, BAKEND_TEST_ADDRESSES: addresses };
  const api = await start(t, { env });
  const receiver = await startReceiver(t, { answer: () => ({ status: 200, headers: { connection: 'close' } }) });
  const inside = { connections: 0 };
  const listener = createServer((socket) => {
    inside.connections++;
    socket.destroy();
  });
  listener.listen(receiver.port, FORBIDDEN);
  await once(listener, 'listening');
  t.after(() => listener.close());
  const body = { url: `http://${NAME}:${receiver.port}/hook`, types: ['posts.created'] };
  return { ...api, receiver, inside, leadTo, body };
}

test('a name that leads inside by the time of a delivery is blocked', async (t) => {
  const { server, post, webhook, rows, receiver, inside, leadTo, body } = await startBoth(t);
  const { id } = await webhook(body);
  await create(server, ['while it leads outside']);
  await receiver.untilIds(1);
  await leadTo(FORBIDDEN);
  const blocked = await eventually(
    'a test is blocked',
    async () => {
      const { body: answer } = await post(`/api/webhooks/${id}/test`);
      return answer.status === 0 && answer;
    },
    FORGOTTEN_MS,
  );
  assert.ok(blocked.error.startsWith(REFUSAL), blocked.error);
  await create(server, ['while it leads inside']);
  const row = await eventually('an attempt', async () => (await rows(id, { filter: 'state = "retrying"' }))[0]);
  assert.ok(row.attempts[0].error.startsWith(REFUSAL), row.attempts[0].error);
  assert.equal(inside.connections, 0);
  assert.ok(!receiver.deliveries.some(({ text }) => text.includes('while it leads inside')));
});

test('of several addresses none is connected to that may not be', async (t) => {
  const { server, webhook, receiver, inside, leadTo, body } = await startBoth(t);
  await leadTo(`${FORBIDDEN},${ALLOWED}`);
  await webhook(body);
  await create(server, ['one', 'two', 'three']);
  await receiver.untilIds(3);
  assert.equal(inside.connections, 0);
});
