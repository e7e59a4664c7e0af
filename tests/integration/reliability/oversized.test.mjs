/**
 * Too much of everything, many times over: each is refused with a status that names it, at the cost
 * of no more memory and no more time than an ordinary request may take, and the server goes on.
 *
 * What single requests of the kind do is in tests/hostile; here they come in numbers, and memory is
 * looked at.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promise } from '../support/promise.mjs';
import { requestText, Wire } from '../support/wire.mjs';
import { comes, isInstrumented, peakMebibytes, residentMebibytes } from './support/process.mjs';
import { readCorpus } from './support/corpus.mjs';
import { startThings } from './support/things.mjs';

const IS_LONG = process.env.BAKEND_LONG === '1';
const TIMES = IS_LONG ? 200 : 20;
const PIPELINED = 100_000;
const GROWTH_MAX_MEBIBYTES = 16;
const HEAD = 'POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n';

/** What is left in memory is held against what was there before. */
async function judgeMemory(t, server, before, name) {
  const isBack = () => residentMebibytes(server) - before < GROWTH_MAX_MEBIBYTES;
  if (!isInstrumented(server)) await comes(isBack, 5000);
  const growth = residentMebibytes(server) - before;
  t.diagnostic(`${name}: ${growth.toFixed(1)} MiB more, peak ${peakMebibytes(server).toFixed(0)}`);
  if (!isInstrumented(server)) assert.ok(growth < GROWTH_MAX_MEBIBYTES, `${growth} MiB more`);
  assert.equal((await server.request('GET', '/api/health')).status, 200);
  return growth;
}

test('large requests of every kind', async (t) => {
  const { server, count } = await startThings(t);
  const large = readCorpus().filter(({ data }) => data.length > 5000);
  assert.ok(large.length > 10);
  const send = async ({ name, data, statuses, isClosed }) => {
    const wire = await Wire.open(server.port);
    wire.write(data);
    assert.equal((await wire.answer()).status, statuses[0], name);
    if (isClosed) assert.ok(await wire.ends(), name);
    wire.destroy();
  };
  await Promise.all(large.map(send));
  const before = residentMebibytes(server);
  for (let i = 0; i < TIMES; i++) await Promise.all(large.map(send));
  const growth = await judgeMemory(t, server, before, 'large requests');
  assert.deepEqual(await count(), {});
  promise(
    t,
    'oversized requests',
    `${TIMES * large.length} refused, ${growth.toFixed(1)} MiB more in the end`,
  );
});

/** Sends the same bytes until the server answers or has had so many; resolves with the answer. */
async function pour(server, head, block, mebibytes) {
  const wire = await Wire.open(server.port);
  wire.write(head);
  const rounds = Math.ceil((mebibytes * 2 ** 20) / block.length);
  for (let i = 0; i < rounds && !wire.pending && !wire.isEnded; i++) {
    if (!wire.socket.write(block))
      await Promise.race([
        new Promise((resolve) => wire.socket.once('drain', resolve)),
        wire.ends(2000),
      ]);
    else await new Promise((resolve) => setImmediate(resolve));
  }
  const answer = await wire.answer();
  const isEnded = await wire.ends();
  wire.destroy();
  return { status: answer.status, isEnded };
}

test('bodies without an end', async (t) => {
  const { server, count } = await startThings(t);
  const chunk = (size, text) => `${size.toString(16)}\r\n${text}\r\n`;
  const chunked = `${HEAD}Transfer-Encoding: chunked\r\n\r\n`;
  const large = Buffer.from(chunk(65536, 'x'.repeat(65536)));
  const kinds = [
    ['10 GB announced and sent', `${HEAD}Content-Length: 10737418240\r\n\r\n`, large, [413]],
    ['large chunks', chunked, large, [413]],
    ['small chunks', chunked, Buffer.from(chunk(16, 'x'.repeat(16)).repeat(3000)), [413]],
    ['one chunk of 2^60', `${chunked}fffffffffffffff\r\n`, large, [413]],
    ['an extension', `${chunked}1;`, Buffer.alloc(65536, 'x'), [400]],
    ['a trailer', `${chunked}0\r\nX: `, Buffer.alloc(65536, 'x'), [400]],
    ['trailers', `${chunked}0\r\n`, Buffer.from('X: y\r\n'.repeat(10_000)), [400]],
    ['a header', `${HEAD}X: `, Buffer.alloc(65536, 'x'), [431]],
    ['headers', HEAD, Buffer.from('X: y\r\n'.repeat(10_000)), [431]],
    ['a request line', 'GET /', Buffer.alloc(65536, 'x'), [414]],
  ];
  if (IS_LONG)
    kinds.push(['chunks of one byte', chunked, Buffer.from(chunk(1, 'x').repeat(9000)), [413]]);
  const run = async ([name, head, block, statuses]) => {
    const { status, isEnded } = await pour(server, head, block, 256);
    assert.ok(statuses.includes(status), `${name}: ${status}`);
    assert.ok(isEnded, name);
  };
  for (const kind of kinds) await run(kind);
  const before = residentMebibytes(server);
  for (let i = 0; i < (IS_LONG ? 10 : 1); i++) for (const kind of kinds) await run(kind);
  const growth = await judgeMemory(t, server, before, 'endless bodies');
  assert.deepEqual(await count(), {});
  promise(t, 'endless bodies', `${kinds.length} kinds, ${growth.toFixed(1)} MiB more in the end`);
});

/* Names that are equal under the hashes that programs have used without a key. */
function collidingNames(count) {
  /* "Aa" and "BB" are the same for h = 31 h + c, and so is every row of them; for h = 33 h + c it
   * is "Ab" and "BA". */
  const pairs = ['Aa', 'BB'];
  return Array.from({ length: count }, (_, i) =>
    Array.from({ length: 18 }, (_, bit) => pairs[(i >> bit) & 1]).join(''),
  );
}

const mebibytesOf = (text) => (text.length / 2 ** 20).toFixed(1);
const objectOf = (names) => `{"title":"visible","j":{${names.map((n) => `"${n}":1`).join(',')}}}`;

test('JSON that is made to be expensive', async (t) => {
  const { server } = await startThings(t);
  const send = async (text) => {
    const began = performance.now();
    const { status, body } = await server.request('POST', '/things', text);
    return { status, ms: performance.now() - began, message: body.message };
  };
  const plain = (count, letter = 'k') =>
    Array.from({ length: count }, (_, i) => letter + String(i).padStart(35, '0'));
  const nested = (open, close, depth) => open.repeat(depth) + close.repeat(depth);
  const rows = [
    ['a million members', objectOf(plain(1_000_000).map((n) => n.slice(20))), 413],
    ['a million elements', `{"title":"x","j":[${'1,'.repeat(999_999)}1]}`, 413],
    ['ten million elements', `{"title":"x","j":[${'1,'.repeat(9_999_999)}1]}`, 413],
    ['a million empty arrays', `{"title":"x","j":[${'[],'.repeat(999_999)}[]]}`, 413],
    ['a million levels', `{"title":"x","j":${nested('[', ']', 1_000_000)}}`, 400],
    ['65 levels', `{"title":"x","j":${nested('[', ']', 65)}}`, 400],
    ['ten million open brackets', '['.repeat(10_000_000), 400],
    ['a million open objects', '{"a":'.repeat(1_000_000), 400],
    ['a million open strings', `{"title":${'"\\""'.repeat(1_000_000)}`, 400],
    ['a number of a million digits', `{"title":"x","j":1${'0'.repeat(1_000_000)}}`, [200, 400]],
    ['a million escapes', `{"title":"${'\\u00e9'.repeat(1_000_000)}"}`, 400],
    ['a name of a million bytes', `{"${'x'.repeat(1_000_000)}":1}`, 400],
    ['ten million spaces', `{"title":"x"${' '.repeat(10_000_000)}`, 400],
    ['the same name 100,000 times', `{${'"title":1,'.repeat(100_000)}"a":1}`, [400, 413]],
  ];
  await send(rows[0][1]);
  const before = residentMebibytes(server);
  for (const [name, text, statuses] of rows) {
    await t.test(`${name} (${mebibytesOf(text)} MiB)`, async (tt) => {
      const { status, ms, message } = await send(text);
      assert.ok([statuses].flat().includes(status), `${status} ${message}`);
      tt.diagnostic(`${ms.toFixed(0)} ms`);
    });
  }
  await judgeMemory(t, server, before, 'expensive JSON');

  await t.test('names that collide cost what others do', async (tt) => {
    const COUNT = 60_000;
    const texts = { plain: objectOf(plain(COUNT)), colliding: objectOf(collidingNames(COUNT)) };
    const best = { plain: Infinity, colliding: Infinity };
    const statuses = new Set();
    for (let round = 0; round < 3; round++)
      for (const [kind, text] of Object.entries(texts)) {
        const { status, ms } = await send(text);
        statuses.add(status);
        best[kind] = Math.min(best[kind], ms);
      }
    assert.deepEqual([...statuses], [200]);
    /* Quadratic would be a factor of thousands. */
    assert.ok(best.colliding < 4 * best.plain + 200, JSON.stringify(best));
    promise(
      tt,
      'colliding names',
      `${COUNT} in an object: ${best.colliding.toFixed(0)} ms, others ${best.plain.toFixed(0)} ms`,
    );
  });
});

test('a pipeline of 100,000 requests', async (t) => {
  const { server } = await startThings(t);
  const request = requestText('GET', '/api/health');
  const block = Buffer.concat(Array.from({ length: 1000 }, () => request));
  const before = residentMebibytes(server);

  await t.test('read as they come: each is answered, and others are served meanwhile', async () => {
    const wire = await Wire.open(server.port);
    let bytes = 0;
    wire.socket.removeAllListeners('data');
    wire.socket.on('data', (data) => (bytes += data.length));
    const asked = server.request('GET', '/api/health');
    for (let i = 0; i < PIPELINED / 1000; i++) wire.write(block);
    const one = await Wire.open(server.port);
    one.write(request);
    await one.answer();
    one.destroy();
    assert.equal((await asked).status, 200);
    const single = await Wire.open(server.port);
    single.write(request);
    assert.ok(await comes(() => single.pending.endsWith('}')), 'one whole answer');
    const length = single.pending.length;
    single.destroy();
    const patienceMs = isInstrumented(server) ? 200_000 : 40_000;
    assert.ok(await comes(() => bytes >= PIPELINED * length, patienceMs), `${bytes} bytes`);
    assert.equal(bytes, PIPELINED * length);
    wire.destroy();
  });

  await t.test('not read: the server stops reading, and holds a bounded amount', async () => {
    const wires = await Promise.all(Array.from({ length: 20 }, () => Wire.open(server.port)));
    wires.forEach((wire) => {
      wire.socket.pause();
      for (let i = 0; i < PIPELINED / 1000; i++) wire.write(block);
    });
    assert.equal((await server.request('GET', '/api/health')).status, 200);
    await sleep(1000);
    const growth = residentMebibytes(server) - before;
    if (!isInstrumented(server)) assert.ok(growth < 32, `${growth} MiB for 20 of them`);
    wires.forEach((wire) => wire.socket.resetAndDestroy());
  });
  const growth = await judgeMemory(t, server, before, 'pipelines');
  promise(t, 'pipelining floods', `21 × ${PIPELINED} requests, ${growth.toFixed(1)} MiB more`);
});
