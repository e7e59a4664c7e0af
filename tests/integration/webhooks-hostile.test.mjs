/** Webhooks whose endpoints are hostile, or lead where nobody may be sent. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createSecureServer } from 'node:https';
import { test } from 'node:test';
import { addNeighbours } from './support/neighbours.mjs';
import { startServer } from './support/program.mjs';
import { createCollection, createRecord, open } from './support/records.mjs';
import { certificate, eventually, startRawServer } from './support/smtp.mjs';
import { operatorToken } from './support/superuser.mjs';
import { ALLOW, createWebhook, listDeliveries, startReceiver } from './support/webhooks.mjs';

const things = { name: 'things', ...open, fields: [{ name: 'title', type: 'text' }] };
const types = ['things.created'];
const KEPT_BYTES = 4096;
/** What a peer that floods sends at once; it never ends. */
const FLOOD = Buffer.alloc(256 * 1024, 'x');
const TIMEOUT_MS = 1000;

async function startAlone(t, args = []) {
  const server = await startServer(t, { args });
  const token = await operatorToken(server);
  await addNeighbours(server, token);
  await createCollection(server, token, things);
  return { server, token };
}

/** Peers and what is told of an attempt at each. */
const peers = [
  { name: 'accepts and says nothing', talk: () => {}, error: /No answer came/ },
  {
    name: 'trickles its head',
    talk: (socket) => {
      const timer = setInterval(() => socket.write('x'), 50);
      socket.on('close', () => clearInterval(timer));
      socket.write('HTTP/1.1 200 OK\r\nx-slow: ');
    },
    error: /No answer came/,
  },
  {
    name: 'trickles its body',
    talk: (socket) => {
      const timer = setInterval(() => socket.write('x'), 50);
      socket.on('close', () => clearInterval(timer));
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n');
    },
    error: /No answer came/,
  },
  { name: 'resets', talk: (socket) => socket.once('data', () => socket.resetAndDestroy()), error: /./ },
  { name: 'closes', talk: (socket) => socket.once('data', () => socket.end()), error: /./ },
  { name: 'talks nonsense', talk: (socket) => socket.once('data', () => socket.end('I am a teapot\r\n\r\n')), error: /./ },
  {
    name: 'has a head without end',
    talk: (socket) =>
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\n');
        const pour = () => {
          while (socket.writable && socket.write(`x-${'y'.repeat(1000)}: z\r\n`));
        };
        socket.on('drain', pour);
        pour();
      }),
    error: /./,
  },
  {
    name: 'answers 500 without an end',
    talk: (socket) =>
      socket.once('data', () => {
        socket.write(`HTTP/1.1 500 No\r\ncontent-length: ${10 * 2 ** 30}\r\n\r\n`);
        const pour = () => {
          while (socket.writable && socket.write(FLOOD));
        };
        socket.on('drain', pour);
        pour();
      }),
    error: /500/,
    answer: KEPT_BYTES,
  },
];

test('a hostile endpoint costs only itself', async (t) => {
  const { server, token } = await startAlone(t, ALLOW);
  const healthy = await startReceiver(t);
  const good = await createWebhook(server, token, { url: healthy.url, types });
  const bad = [];
  for (const peer of peers) {
    const { port } = await startRawServer(t, peer.talk);
    const webhook = { url: `http://127.0.0.1:${port}/`, types, timeoutMs: TIMEOUT_MS };
    bad.push({ ...peer, webhook: await createWebhook(server, token, webhook) });
  }
  for (let number = 0; number < 20; number++) await createRecord(server, token, 'things', { title: `${number}` });
  await healthy.untilIds(20);
  assert.ok((await listDeliveries(server, token, good.id)).every(({ state }) => state !== 'failed'));
  for (const { name, webhook, error, answer } of bad) {
    await t.test(`one that ${name}`, async () => {
      const [row] = await eventually('an attempt', async () => {
        const rows = await listDeliveries(server, token, webhook.id);
        return rows.length > 0 && rows;
      });
      assert.equal(row.state, 'retrying');
      assert.match(row.attempts[0].error, error);
      if (answer) assert.equal(Buffer.byteLength(row.attempts[0].answer), answer);
    });
  }
  const { body } = await server.request('GET', '/api/health');
  assert.equal(body.code, 200);
});

test('an answer that does not end is taken by its status', async (t) => {
  const { server, token } = await startAlone(t, ALLOW);
  const { port } = await startRawServer(t, (socket) =>
    socket.once('data', () => {
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${10 * 2 ** 30}\r\n\r\n`);
      const pour = () => {
        while (socket.writable && socket.write(FLOOD));
      };
      socket.on('drain', pour);
      pour();
    }),
  );
  const { id } = await createWebhook(server, token, { url: `http://127.0.0.1:${port}/`, types });
  await createRecord(server, token, 'things', { title: 'one' });
  const [row] = await eventually('a delivery', async () => {
    const rows = await listDeliveries(server, token, id);
    return rows.length > 0 && rows;
  });
  assert.equal(row.state, 'delivered');
  assert.equal(row.attempts[0].status, 200);
  assert.equal(Buffer.byteLength(row.attempts[0].answer), KEPT_BYTES);
});

/** What is no UTF-8, and NUL, which no text of the database has. */
const noTexts = [
  { name: 'bytes', body: Buffer.from([0x61, 0xff, 0xc5, 0xbc, 0x00, 0xc0, 0xaf, 0x62]), kept: 'a?ż???b' },
  { name: 'half a pair', body: Buffer.from([0xed, 0xa0, 0x80, 0xf0, 0x9f]), kept: '?????' },
  { name: 'a cut character', body: `${'a'.repeat(KEPT_BYTES - 1)}ż`, kept: `${'a'.repeat(KEPT_BYTES - 1)}?` },
];

test('an answer that is no text is kept as one', async (t) => {
  const { server, token } = await startAlone(t, ALLOW);
  const hooks = [];
  for (const { body } of noTexts) {
    const receiver = await startReceiver(t, { answer: () => ({ status: 500, body }) });
    hooks.push(await createWebhook(server, token, { url: receiver.url, types }));
  }
  await createRecord(server, token, 'things', { title: 'one' });
  for (const [index, { name, kept }] of noTexts.entries()) {
    const [row] = await eventually(`the attempt answered with ${name}`, async () => {
      const rows = await listDeliveries(server, token, hooks[index].id);
      return rows.length > 0 && rows;
    });
    assert.equal(row.attempts[0].answer, kept, name);
  }
});

test('a redirect is an answer, and is not followed', async (t) => {
  const { server, token } = await startAlone(t, ALLOW);
  const inside = await startReceiver(t);
  for (const target of [inside.url, 'http://169.254.169.254/latest/meta-data/']) {
    const receiver = await startReceiver(t, { answer: () => ({ status: 302, headers: { location: target } }) });
    const { id } = await createWebhook(server, token, { url: receiver.url, types });
    await createRecord(server, token, 'things', { title: 'one' });
    const [row] = await eventually('an attempt', async () => {
      const rows = await listDeliveries(server, token, id);
      return rows.length > 0 && rows;
    });
    assert.equal(row.state, 'retrying');
    assert.equal(row.attempts[0].status, 302);
  }
  assert.equal(inside.deliveries.length, 0);
});

test('a certificate that nobody vouches for is refused', async (t) => {
  const { server, token } = await startAlone(t, ALLOW);
  const secure = createSecureServer(certificate(t), (request, response) => response.end());
  secure.listen(0, '127.0.0.1');
  await once(secure, 'listening');
  t.after(() => {
    secure.close();
    secure.closeAllConnections();
  });
  const url = `https://127.0.0.1:${secure.address().port}/`;
  const { id } = await createWebhook(server, token, { url, types });
  await createRecord(server, token, 'things', { title: 'one' });
  const [row] = await eventually('an attempt', async () => {
    const rows = await listDeliveries(server, token, id);
    return rows.length > 0 && rows;
  });
  assert.equal(row.state, 'retrying');
  assert.match(row.attempts[0].error, /certificate/i);
});

/** Each is one of this machine's, or of a network that is nobody's business. */
const forbidden = [
  '127.0.0.1', '127.1', '0x7f.1', '0x7f000001', '2130706433', '017700000001', '0', '0.0.0.0', '[::]', '[::1]',
  '[::ffff:127.0.0.1]', '[::127.0.0.1]', '[64:ff9b::7f00:1]', '[2002:7f00:1::]', '10.0.0.1', '172.16.0.1',
  '192.168.1.1', '169.254.169.254', '169.254.170.2', '100.100.100.200', '168.63.129.16', '[fd00:ec2::254]',
  '[fe80::1]', '[fec0::1]', '[fc00::1]', '[ff02::1]', '[2001:db8::1]', '[2001::1]', '[100::1]', '198.18.0.1',
  '192.0.2.1', '198.51.100.1', '203.0.113.1', '224.0.0.1', '240.0.0.1', '255.255.255.255', '192.0.0.1',
];

test('what is not public is refused when it is saved, in one and the same words', async (t) => {
  const { server, token } = await startAlone(t);
  const messages = new Set();
  for (const host of forbidden) {
    const answer = await server.request('POST', '/api/webhooks', { url: `https://${host}/hook`, types }, { token });
    assert.equal(answer.status, 400, host);
    messages.add(answer.body.data.url.message);
  }
  assert.equal(messages.size, 1, [...messages].join('\n'));
  assert.match([...messages][0], /--webhooks-allow/);
});

test('a name that leads inside is blocked when it is sent to, and nothing connects', async (t) => {
  const { server, token } = await startAlone(t);
  const connected = [];
  const { port } = await startRawServer(t, (socket) => connected.push(socket.remotePort));
  for (const host of ['localhost', 'hook.localhost', 'localhost.']) {
    const created = await server.request('POST', '/api/webhooks', { url: `https://${host}:${port}/`, types }, { token });
    if (created.status === 400) continue;
    assert.equal(created.status, 200, created.text);
    await createRecord(server, token, 'things', { title: host });
    const [row] = await eventually('an attempt', async () => {
      const rows = await listDeliveries(server, token, created.body.id);
      return rows.length > 0 && rows;
    });
    assert.equal(row.attempts[0].error, 'The address of this endpoint is not allowed.');
    assert.equal(row.attempts[0].answer ?? '', '');
  }
  assert.deepEqual(connected, []);
});

test('what is no URL of an endpoint is refused', async (t) => {
  const { server, token } = await startAlone(t);
  const urls = [
    'file:///etc/passwd', 'gopher://example.com/', 'ftp://example.com/', 'https://a:b@example.com/',
    '//example.com', 'https://exa mple.com/', 'https://example.com\r\nx: y/', '', 'hook', 7, null,
  ];
  for (const url of urls) {
    const answer = await server.request('POST', '/api/webhooks', { url, types }, { token });
    assert.equal(answer.status, 400, JSON.stringify(url));
    assert.ok(answer.body.data.url.message);
  }
});
