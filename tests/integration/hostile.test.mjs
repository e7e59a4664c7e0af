/**
 * Clients that no library would be: requests whose end is in doubt, bodies that are no JSON, too
 * much of everything, too slow, and a server that is told to stop meanwhile.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { readFeed } from './support/feed.mjs';
import { startServer } from './support/program.mjs';
import { createCollection, createRecord, open } from './support/records.mjs';
import { operatorToken } from './support/superuser.mjs';
import { Closed, requestText, Wire } from './support/wire.mjs';

/** A server with the open collection `things`, and a way to see whether anything was done. */
async function prepare(t, options) {
  const server = await startServer(t, options);
  const token = await operatorToken(server);
  await createCollection(server, token, {
    name: 'things',
    ...open,
    fields: [
      { name: 'title', type: 'text', required: true },
      { name: 'n', type: 'number' },
      { name: 'j', type: 'json', maxSize: 5_000_000 },
    ],
  });
  return {
    server,
    token,
    countCreated: async () =>
      (await readFeed(server, token, { query: '&types=things.created' })).events.length,
  };
}

/** What a smuggler hides: a whole request that must never be carried out. */
const HIDDEN =
  'POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"title":"smuggled"}';
const BODY = '{"title":"visible"}';
const HEAD = 'POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n';
const chunk = (text) => `${text.length.toString(16)}\r\n${text}\r\n`;
const chunkedHead = `${HEAD}Transfer-Encoding: chunked\r\n\r\n`;

/* name → bytes → status. All end the connection, and nothing is done. */
const refusedFraming = [
  ['a folded header', `${HEAD}X: a\r\n b\r\n\r\n`],
  ['a folded Transfer-Encoding', `${HEAD}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n`],
  ['a header folded with a tab', `${HEAD}X: a\r\n\tb\r\n\r\n`],
  ['a head ended by CR LF CR and a letter (CVE-2025-23167)', `${HEAD}X: a\r\n\rX: b\r\n\r\n`],
  [
    'a CR that ends a header (CVE-2023-30589)',
    `${HEAD}X:\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  ],
  ['an empty header name', `${HEAD}: a\r\n\r\n`],
  ['a header without a colon', `${HEAD}nonsense\r\n\r\n`],
  ['a space before the colon', `${HEAD}Content-Length : ${BODY.length}\r\n\r\n${BODY}`],
  ['a control byte in a name', `${HEAD}X\x01: a\r\n\r\n`],
  ['a control byte in a value', `${HEAD}X: a\x01b\r\n\r\n`],
  ['NUL in a value', `${HEAD}X: a\0b\r\n\r\n`],
  ['a CR in a value', `${HEAD}X: a\rb\r\n\r\n`],
  ['lines that end in LF alone', `${HEAD.replaceAll('\r\n', '\n')}\n`],
  ['one line that ends in LF alone', `${HEAD}X: a\nY: b\r\n\r\n`],
  ['bytes over 0x7F in the target', `GET /things?x=\xe4 HTTP/1.1\r\nHost: x\r\n\r\n`],
  ['a control byte in the target', `GET /things\x07 HTTP/1.1\r\nHost: x\r\n\r\n`],
  ['a fragment in the target', 'GET /things#x HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['a target that is no path', 'GET things HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['a target of another scheme', 'GET file:///etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['two spaces in the request line', 'GET  /things HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['a tab in the request line', 'GET\t/things HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['no version', 'GET /things\r\n\r\n'],
  ['a version that is none', 'GET /things HTTQ/1.1\r\nHost: x\r\n\r\n'],
  ['HTTP/0.9', 'GET /things HTTP/0.9\r\nHost: x\r\n\r\n', 505],
  ['HTTP/2.0', 'GET /things HTTP/2.0\r\nHost: x\r\n\r\n', 505],
  ['HTTP/1.2', 'GET /things HTTP/1.2\r\nHost: x\r\n\r\n', 505],
  ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', [400, 505]],
  ['a TLS handshake', Buffer.from('160301020001000e0f0a0d0a', 'hex').toString('latin1')],
  ['CONNECT', 'CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n', 501],
  ['a method that is none', 'G@T /things HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['a leading empty line', `\r\n\r\n${HEAD}\r\n`],
  ['no Host', 'GET /things HTTP/1.1\r\n\r\n'],
  ['two Hosts', 'GET /things HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n'],
  ['a Host with a path', 'GET /things HTTP/1.1\r\nHost: x/y\r\n\r\n'],
  [
    'Transfer-Encoding and Content-Length',
    `${HEAD}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  ],
  [
    'Content-Length and Transfer-Encoding',
    `${HEAD}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`,
  ],
  [
    'two Content-Lengths',
    `${HEAD}Content-Length: ${BODY.length}\r\nContent-Length: 0\r\n\r\n${BODY}`,
  ],
  [
    'the same Content-Length twice',
    `${HEAD}Content-Length: ${BODY.length}\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`,
  ],
  ...[
    '+19',
    '-1',
    '19,19',
    '19 19',
    '0x13',
    '',
    '19.0',
    '1e1',
    '99999999999999999999',
    '18446744073709551616',
  ].map((length) => [
    `Content-Length: ${length}`,
    `${HEAD}Content-Length: ${length}\r\n\r\n${BODY}`,
  ]),
  ...[
    'gzip',
    'chunked, gzip',
    'gzip, chunked',
    'identity',
    'xchunked',
    'chunked;x=1',
    '"chunked"',
    'chunked,',
    '',
  ].map((encoding) => [
    `Transfer-Encoding: ${encoding}`,
    `${HEAD}Transfer-Encoding: ${encoding}\r\n\r\n${chunk(BODY)}0\r\n\r\n`,
  ]),
  [
    'Transfer-Encoding twice',
    `${HEAD}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n${chunk(BODY)}0\r\n\r\n`,
  ],
  [
    'Transfer-Encoding with HTTP/1.0',
    `${HEAD.replace('1.1', '1.0')}Transfer-Encoding: chunked\r\n\r\n${chunk(BODY)}0\r\n\r\n`,
  ],
  ['a chunk size that is no number', `${chunkedHead}g\r\n${BODY}\r\n0\r\n\r\n`],
  ['a negative chunk size', `${chunkedHead}-1\r\n${BODY}\r\n0\r\n\r\n`],
  ['a chunk size with 0x', `${chunkedHead}0x13\r\n${BODY}\r\n0\r\n\r\n`],
  ['a chunk size past 64 bits', `${chunkedHead}fffffffffffffffff\r\n${BODY}\r\n0\r\n\r\n`],
  ['an empty chunk size', `${chunkedHead}\r\n${BODY}\r\n0\r\n\r\n`],
  ['a chunk size that ends in LF alone', `${chunkedHead}13\n${BODY}\r\n0\r\n\r\n`],
  ['a chunk that ends in LF alone', `${chunkedHead}13\r\n${BODY}\n0\r\n\r\n`],
  ['a chunk longer than its size', `${chunkedHead}13\r\n${BODY}xx\r\n0\r\n\r\n`],
  ['a chunk extension with a control byte', `${chunkedHead}13;a=\x01\r\n${BODY}\r\n0\r\n\r\n`],
  [
    'an expectation that is unknown',
    `${HEAD}Expect: miracles\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`,
    417,
  ],
];

test('a request whose framing is in doubt is refused, its connection ends, and nothing behind it is done', async (t) => {
  const { server, countCreated } = await prepare(t);
  for (const [name, bytes, statuses = 400] of refusedFraming) {
    await t.test(name, async () => {
      const wire = await Wire.open(server.port);
      wire.write(bytes + HIDDEN);
      const { status, headers, json } = await wire.answer();
      assert.ok([statuses].flat().includes(status), `${status}`);
      assert.equal(headers.connection, 'close');
      assert.equal(json.status, status, 'in the error shape');
      assert.ok(await wire.ends(), 'the connection is ended');
      assert.equal(wire.pending, '', 'nothing else is answered');
      wire.destroy();
    });
  }
  assert.equal(await countCreated(), 0, 'nothing was created by any of them');
});

test('what is unusual but clear is served', async (t) => {
  const { server, countCreated } = await prepare(t);
  let created = 0;
  const rows = [
    ['a chunked body', `${chunkedHead}${chunk('{"title":')}${chunk('"x"}')}0\r\n\r\n`],
    [
      'chunk extensions and trailers',
      `${chunkedHead}3;a=b\r\n{"t\r\n7\r\nitle":1\r\n1\r\n}\r\n0\r\nX-Trailer: y\r\n\r\n`,
    ],
    [
      'Transfer-Encoding: CHUNKED',
      `${HEAD}Transfer-Encoding: CHUNKED\r\n\r\n${chunk(BODY)}0\r\n\r\n`,
    ],
    [
      'names in any case',
      `POST /things HTTP/1.1\r\nhOST: x\r\ncONTENT-tYPE: application/json\r\ncontent-LENGTH:${BODY.length}\r\n\r\n${BODY}`,
    ],
    [
      'the absolute form',
      `POST http://other.example/things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`,
    ],
    ['leading zeros of a length', `${HEAD}Content-Length: 0${BODY.length}\r\n\r\n${BODY}`],
    [
      'a charset',
      `POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`,
    ],
  ];
  for (const [name, bytes] of rows) {
    await t.test(name, async () => {
      const wire = await Wire.open(server.port);
      wire.write(bytes + 'GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n');
      const answer = await wire.answer();
      assert.equal(answer.status, 200, answer.text);
      created++;
      assert.equal(
        (await wire.answer()).json.message,
        'API is healthy.',
        'and the next request of the connection',
      );
      wire.destroy();
    });
  }
  assert.equal(await countCreated(), created);

  await t.test('a body on GET is read and left', async () => {
    const wire = await Wire.open(server.port);
    wire.write(
      `GET /api/health HTTP/1.1\r\nHost: x\r\nContent-Length: ${HIDDEN.length}\r\n\r\n${HIDDEN}`,
    );
    const first = await wire.answer();
    assert.ok([200, 413].includes(first.status), first.text);
    wire.write('GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n');
    assert.equal((await wire.answer()).status, 200);
    wire.destroy();
    assert.equal(await countCreated(), created, 'the body is not taken for a request');
  });

  await t.test('HTTP/1.0 is answered and closed, unless it asks to be kept alive', async () => {
    const wire = await Wire.open(server.port);
    wire.write('GET /api/health HTTP/1.0\r\n\r\n');
    assert.equal((await wire.answer()).status, 200);
    assert.ok(await wire.ends());
    const kept = await Wire.open(server.port);
    for (let i = 0; i < 2; i++) {
      kept.write('GET /api/health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n');
      assert.equal((await kept.answer()).status, 200);
    }
    kept.destroy();
  });

  await t.test('what comes behind Connection: close is not read', async () => {
    const wire = await Wire.open(server.port);
    wire.write(`GET /api/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n${HIDDEN}`);
    assert.equal((await wire.answer()).status, 200);
    assert.ok(await wire.ends());
    assert.equal(wire.pending, '');
    assert.equal(await countCreated(), created);
  });
});

const bytes = (...parts) =>
  Buffer.concat(
    parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from(part))),
  );

/* Bodies that are no JSON object, as the parser must see them. */
const wrongBodies = [
  ['text', 'title=x'],
  ['an unfinished object', '{"title":"x"'],
  ['text behind the object', '{"title":"x"} junk'],
  ['a second object', '{"title":"x"}{"title":"y"}'],
  ['a duplicate key', '{"title":"x","title":"y"}'],
  ['a duplicate key that is escaped', '{"title":"x","t\\u0069tle":"y"}'],
  ['a duplicate key in a nested object', '{"title":"x","j":{"a":1,"a":2}}'],
  ['a NUL escape', '{"title":"a\\u0000b"}'],
  ['invalid UTF-8', bytes('{"title":"', [0xff, 0xfe], '"}')],
  ['UTF-8 cut short', bytes('{"title":"', [0xe2, 0x82], '"}')],
  ['UTF-8 that is too long', bytes('{"title":"', [0xc0, 0xaf], '"}')],
  ['UTF-8 of a surrogate', bytes('{"title":"', [0xed, 0xa0, 0x80], '"}')],
  ['a line end in a string', '{"title":"a\nb"}'],
  ['a control character in a string', '{"title":"a\x01b"}'],
  ['a BOM', bytes([0xef, 0xbb, 0xbf], '{"title":"x"}')],
  ['a number with a leading zero', '{"title":"x","n":01}'],
  ['a number without decimals', '{"title":"x","n":1.}'],
  ['a number without a leading digit', '{"title":"x","n":.5}'],
  ['a number with a plus', '{"title":"x","n":+1}'],
  ['a hexadecimal number', '{"title":"x","n":0x10}'],
  ['NaN', '{"title":"x","n":NaN}'],
  ['Infinity', '{"title":"x","n":-Infinity}'],
  ['nullx', '{"title":nullx}'],
  ['single quotes', "{'title':'x'}"],
  ['a comma too many', '{"title":"x",}'],
  ['a comment', '{"title":"x"/* */}'],
  ['an unknown escape', '{"title":"\\x41"}'],
  ['an array', '[{"title":"x"}]'],
  ['a text', '"title"'],
  ['a number', '12'],
  ['too many levels', `{"title":"x","j":${'['.repeat(100)}${']'.repeat(100)}}`],
  ['100,000 levels', `{"title":"x","j":${'['.repeat(100_000)}${']'.repeat(100_000)}}`],
  ['100,000 open objects', '{"a":'.repeat(100_000)],
];

test('a body that is no JSON object is refused with 400, and the connection goes on', async (t) => {
  const { server, countCreated } = await prepare(t);
  const wire = await Wire.open(server.port);
  for (const [name, body] of wrongBodies) {
    await t.test(name, async () => {
      wire.write(
        Buffer.concat([
          Buffer.from(`${HEAD}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n`),
          Buffer.from(body),
        ]),
      );
      const { status, json } = await wire.answer();
      assert.equal(status, 400, JSON.stringify(json));
      assert.match(
        json.message,
        /^An error occurred while loading the submitted data\. \S.*\.$/,
        'it says what is wrong',
      );
      wire.write('GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n');
      assert.equal((await wire.answer()).status, 200, 'the next request of the connection');
    });
  }
  wire.destroy();
  assert.equal(await countCreated(), 0);

  await t.test('a lone surrogate becomes U+FFFD, as in the contract', async () => {
    const { status, body } = await server.request(
      'POST',
      '/things',
      '{"title":"a\\ud800b\\udc00\\ud83c\\udf89"}',
    );
    assert.deepEqual([status, body.title], [200, 'a\ufffdb\ufffd🎉']);
  });

  await t.test('names differ by case', async () => {
    const answer = await server.request('POST', '/things', { Title: 'x', TITLE: 'y' });
    assert.equal(answer.status, 400);
    assert.equal(answer.body.data.title.code, 'validation_required');
  });

  await t.test('a number past a double does not become null or infinite', async () => {
    const answer = await server.request('POST', '/things', '{"title":"x","n":1e999}');
    assert.ok(answer.status === 400 || Number.isFinite(answer.body.n), answer.text);
  });
});

test('a body of another type is refused, and the connection goes on', async (t) => {
  const { server, countCreated } = await prepare(t);
  const wire = await Wire.open(server.port);
  for (const type of [
    'text/plain',
    'text/plain; application/json',
    'multipart/form-data; boundary=x',
    'multipart/form-data',
    'multipart/mixed; boundary=x',
    'application/xml',
    'Application/JSON',
    'text/json',
    'application',
    '*/*',
    null,
  ]) {
    await t.test(type ?? 'none', async () => {
      const line = type === null ? '' : `Content-Type: ${type}\r\n`;
      wire.write(
        `POST /things HTTP/1.1\r\nHost: x\r\n${line}Content-Length: ${BODY.length}\r\n\r\n${BODY}`,
      );
      assert.equal((await wire.answer()).status, 400);
      wire.write('GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n');
      assert.equal((await wire.answer()).status, 200);
    });
  }
  wire.destroy();
  assert.equal(await countCreated(), 0);
});

test('too much is refused', async (t) => {
  const { server, countCreated } = await prepare(t);
  const refused = async (data, status, { isClosed = true } = {}) => {
    const wire = await Wire.open(server.port);
    wire.write(data);
    const answer = await wire.answer();
    assert.equal(answer.status, status, answer.text);
    if (isClosed) assert.ok(await wire.ends());
    wire.destroy();
  };

  await t.test('a request line over 8 KiB: 414', () =>
    refused(`GET /${'x'.repeat(9000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 414),
  );
  await t.test('a request line without an end: 414', () =>
    refused(`GET /${'x'.repeat(20_000)}`, 414),
  );
  await t.test('headers over 16 KiB: 431', () =>
    refused(`GET / HTTP/1.1\r\nHost: x\r\n${`X: ${'y'.repeat(1000)}\r\n`.repeat(20)}\r\n`, 431),
  );
  await t.test('a header without an end: 431', () =>
    refused(`GET / HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(1_000_000)}`, 431),
  );
  await t.test('more than 100 headers: 431', () =>
    refused(`GET / HTTP/1.1\r\nHost: x\r\n${'X: y\r\n'.repeat(101)}\r\n`, 431),
  );
  await t.test('a length over 32 MiB, before a byte of it has come: 413', () =>
    refused(`${HEAD}Content-Length: 10737418240\r\n\r\n`, 413),
  );
  await t.test('a chunked body over 32 MiB', async () => {
    const wire = await Wire.open(server.port);
    wire.write(chunkedHead);
    const block = chunk('x'.repeat(1024 * 1024));
    for (let i = 0; i < 34 && !wire.isEnded; i++) {
      wire.write(block);
      await sleep(1);
    }
    assert.equal((await wire.answer()).status, 413);
    wire.destroy();
  });
  await t.test('endless chunks of one byte', async () => {
    const wire = await Wire.open(server.port);
    wire.write(chunkedHead);
    const block = `1;${'x'.repeat(200)}\r\nx\r\n`.repeat(500);
    for (let i = 0; i < 100 && !wire.isEnded && !wire.pending; i++) {
      wire.write(block);
      await sleep(2);
    }
    assert.equal((await wire.answer()).status, 400, 'mostly framing');
    wire.destroy();
  });
  await t.test('more than 100 parameters: 400', () =>
    refused(
      `GET /things?${Array.from({ length: 101 }, (_, i) => `a${i}=1`).join('&')} HTTP/1.1\r\nHost: x\r\n\r\n`,
      400,
      { isClosed: false },
    ),
  );
  await t.test('a body that a route does not want: 413', () =>
    refused(
      `${HEAD.replace('/things', '/api/collections/_superusers/auth-with-password')}Content-Length: 100000\r\n\r\n`,
      413,
      { isClosed: false },
    ),
  );
  await t.test('and the server goes on', async () => {
    assert.equal((await server.request('GET', '/api/health')).status, 200);
    assert.equal(await countCreated(), 0);
  });
});

test('a large body is taken', async (t) => {
  const { server } = await prepare(t);
  const text = 'x'.repeat(3_000_000);
  const { status, body } = await server.request('POST', '/things', { title: 'large', j: text });
  assert.equal(status, 200);
  assert.equal((await server.request('GET', `/things/${body.id}`)).body.j, text);
});

test('pipelined requests are answered in their order', async (t) => {
  const { server } = await prepare(t);
  const wire = await Wire.open(server.port);
  const wanted = [],
    requests = [];
  for (let i = 0; i < 60; i++) {
    /* Slow ones (a commit), quick ones, and refused ones in between. */
    if (i % 3 === 0) {
      requests.push(requestText('POST', '/things', { title: `number ${i}` }));
      wanted.push({ status: 200, title: `number ${i}` });
    } else if (i % 3 === 1) {
      requests.push(requestText('GET', `/nothing${i}`));
      wanted.push({ status: 404 });
    } else {
      requests.push(requestText('POST', '/things', { n: i }));
      wanted.push({ status: 400 });
    }
  }
  wire.write(Buffer.concat(requests));
  const seen = [];
  for (let i = 0; i < wanted.length; i++) {
    const { status, json } = await wire.answer();
    seen.push(json.title ? { status, title: json.title } : { status });
  }
  assert.deepEqual(seen, wanted);
  wire.destroy();
});

test('a request in pieces of any size is the same request', async (t) => {
  const { server } = await prepare(t);
  const whole = Buffer.from(
    `${chunkedHead}${chunk('{"title":')}${chunk('"in pieces"}')}0\r\n\r\nGET /api/health HTTP/1.1\r\nHost: x\r\n\r\n`,
  );
  for (const size of [1, 2, 3, 7, 50]) {
    const wire = await Wire.open(server.port);
    for (let at = 0; at < whole.length; at += size) {
      wire.write(whole.subarray(at, at + size));
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal((await wire.answer()).json.title, 'in pieces');
    assert.equal((await wire.answer()).status, 200);
    wire.destroy();
  }
});

test('Expect: 100-continue', async (t) => {
  const { server, countCreated } = await prepare(t);
  const head = `${HEAD}Expect: 100-continue\r\nContent-Length: `;

  await t.test('is answered with 100 before the body comes', async () => {
    const wire = await Wire.open(server.port);
    wire.write(`${head}${BODY.length}\r\n\r\n`);
    for (
      const until = Date.now() + 3000;
      !wire.pending.startsWith('HTTP/1.1 100 Continue\r\n\r\n') && Date.now() < until;
    )
      await sleep(5);
    assert.equal(wire.pending, 'HTTP/1.1 100 Continue\r\n\r\n');
    wire.write(BODY);
    assert.equal((await wire.answer()).status, 200);
    assert.deepEqual(wire.interim, [100]);
    wire.destroy();
  });

  await t.test('is not answered with 100 when the request is refused', async () => {
    for (const [bytes, status] of [
      [`${head}99999999999\r\n\r\n`, 413],
      [`${head.replace('/things', '/nothing/at/all')}5\r\n\r\n`, 404],
    ]) {
      const wire = await Wire.open(server.port);
      wire.write(bytes);
      const answer = await wire.answer();
      assert.equal(answer.status, status);
      assert.deepEqual(wire.interim, []);
      assert.ok(await wire.ends(), 'nobody knows whether the body comes');
      wire.destroy();
    }
    assert.equal(await countCreated(), 1);
  });
});

test('HEAD has the head of GET and no body, and 204 has none either', async (t) => {
  const { server, token } = await prepare(t);
  const { id } = await createRecord(server, token, 'things', { title: 'x' });
  const wire = await Wire.open(server.port);
  for (const path of [`/things/${id}`, '/things', '/api/health', '/nothing']) {
    wire.write(requestText('GET', path));
    const get = await wire.answer();
    wire.write(requestText('HEAD', path));
    const head = await wire.answer({ method: 'HEAD' });
    assert.equal(head.status, get.status, path);
    assert.equal(head.headers['content-length'], get.headers['content-length']);
    assert.equal(head.headers['content-type'], get.headers['content-type']);
    await sleep(20);
    assert.equal(wire.pending, '', 'no body');
  }
  wire.write(requestText('DELETE', `/things/${id}`));
  const deleted = await wire.answer();
  assert.equal(deleted.status, 204);
  assert.equal(deleted.headers['content-length'], undefined);
  wire.write(requestText('GET', '/api/health'));
  assert.equal((await wire.answer()).status, 200);
  wire.destroy();
});

test('who is too slow is cut off', async (t) => {
  const args = [
    '--head-timeout',
    '400ms',
    '--body-timeout',
    '400ms',
    '--idle-timeout',
    '600ms',
    '--write-timeout',
    '500ms',
  ];
  const { server, token, countCreated } = await prepare(t, { args });

  await t.test('a head that trickles in: 408', async () => {
    const wire = await Wire.open(server.port);
    const started = Date.now();
    wire.write('GET /api/health HTTP/1.1\r\nHost: x\r\n');
    const trickle = setInterval(() => wire.write('X: y\r\n'), 50);
    assert.equal((await wire.answer()).status, 408);
    clearInterval(trickle);
    assert.ok(Date.now() - started < 3000);
    assert.ok(await wire.ends());
    wire.destroy();
  });

  await t.test('a body that stops: 408', async () => {
    const wire = await Wire.open(server.port);
    wire.write(`${HEAD}Content-Length: 100\r\n\r\n{"title"`);
    assert.equal((await wire.answer()).status, 408);
    assert.ok(await wire.ends());
    wire.destroy();
  });

  await t.test('an idle connection ends without a word', async () => {
    const wire = await Wire.open(server.port);
    wire.write(requestText('GET', '/api/health'));
    await wire.answer();
    assert.ok(await wire.ends(4000));
    assert.equal(wire.pending, '');
    wire.destroy();
  });

  await t.test('a client that does not read its answers', async () => {
    const text = 'y'.repeat(1_000_000);
    for (let i = 0; i < 4; i++)
      await createRecord(server, token, 'things', { title: `${i}`, j: text });
    const wire = await Wire.open(server.port);
    wire.socket.pause();
    wire.write(Buffer.concat(Array.from({ length: 10 }, () => requestText('GET', '/things'))));
    await sleep(3000);
    wire.socket.resume();
    assert.ok(await wire.ends(5000), 'it was cut off');
    assert.ok(wire.pending.length < 10 * 4_000_000, 'before all was sent');
    wire.destroy();
  });

  await t.test('while the others are served', async () => {
    assert.equal((await server.request('GET', '/api/health')).status, 200);
    assert.equal(await countCreated(), 4);
  });
});

test('slow clients by the hundred do not slow down the others', async (t) => {
  const { server } = await prepare(t);
  const slow = await Promise.all(Array.from({ length: 500 }, () => Wire.open(server.port)));
  slow.forEach((wire) => wire.write('POST /things HTTP/1.1\r\nHost: x\r\nX: '));
  const started = Date.now();
  for (let i = 0; i < 50; i++) {
    slow.forEach((wire) => wire.write('y'));
    assert.equal((await server.request('POST', '/things', { title: 'quick' })).status, 200);
  }
  assert.ok(Date.now() - started < 10_000, 'well below the time of one slow head');
  slow.forEach((wire) => wire.destroy());
});

test('1,000 idle connections are kept, and each of them works afterwards', async (t) => {
  const { server } = await prepare(t);
  const wires = [];
  for (let i = 0; i < 10; i++)
    wires.push(...(await Promise.all(Array.from({ length: 100 }, () => Wire.open(server.port)))));
  assert.equal((await server.request('GET', '/api/health')).status, 200);
  wires.forEach((wire, i) =>
    wire.write(
      i % 10 === 0
        ? requestText('POST', '/things', { title: 't' })
        : requestText('GET', '/api/health'),
    ),
  );
  const statuses = await Promise.all(
    wires.map((wire) => wire.answer().then(({ status }) => status)),
  );
  assert.deepEqual([...new Set(statuses)], [200]);
  wires.forEach((wire) => wire.destroy());
});

test('at the most connections that are allowed the next ones wait until one goes', async (t) => {
  const { server } = await prepare(t, { args: ['--connections-max', '20'] });
  await sleep(200);
  const wires = await Promise.all(Array.from({ length: 30 }, () => Wire.open(server.port)));
  wires.forEach((wire) => wire.write(requestText('GET', '/api/health')));
  const answered = (wire) =>
    wire.answer({ timeoutMs: 700 }).then(
      () => true,
      () => false,
    );
  const first = await Promise.all(wires.map(answered));
  const served = first.filter(Boolean).length;
  assert.ok(served > 0 && served <= 20, `${served} are served`);
  wires.forEach((wire, i) => {
    if (first[i]) wire.destroy();
  });
  const waiting = wires.filter((_, i) => !first[i]);
  assert.ok(
    (
      await Promise.all(
        waiting.map((wire) =>
          wire.answer({ timeoutMs: 5000 }).then(
            () => true,
            () => false,
          ),
        ),
      )
    ).every(Boolean),
    'the others after them',
  );
  waiting.forEach((wire) => wire.destroy());
});

/**
 * A client that keeps one connection busy until the server ends it; what became of each request.
 */
async function keepBusy(port, outcomes, next) {
  const wire = await Wire.open(port);
  for (;;) {
    const title = `drain ${next()}`;
    wire.write(requestText('POST', '/things', { title }));
    try {
      const { status, headers } = await wire.answer();
      outcomes.push({ title, status });
      if (headers.connection === 'close') break;
    } catch (error) {
      if (!(error instanceof Closed)) throw error;
      outcomes.push({ title, status: 0 });
      break;
    }
  }
  wire.destroy();
}

test('SIGTERM under load: what is in flight is answered, nothing is half done, and the end is clean', async (t) => {
  const { server, token } = await prepare(t);
  const { folder } = server;
  const outcomes = [];
  let number = 0,
    idle = await Wire.open(server.port);
  idle.write(requestText('GET', '/api/health'));
  await idle.answer();
  const clients = Array.from({ length: 16 }, () => keepBusy(server.port, outcomes, () => ++number));
  await sleep(500);
  const started = Date.now();
  await server.stop('SIGTERM');
  const tookMs = Date.now() - started;
  await Promise.all(clients);
  assert.ok(await idle.ends(), 'idle connections are ended');
  assert.equal(idle.pending, '');
  assert.ok(tookMs < 10_000, 'well within the time for it');
  assert.deepEqual(
    [...new Set(outcomes.map(({ status }) => status))].filter((status) => status !== 0),
    [200],
    'no request failed',
  );
  const again = await startServer(t, { folder });
  const { events } = await readFeed(again, token, { query: '&types=things.created' });
  const done = new Set(events.map(({ payload }) => payload.title));
  for (const { title, status } of outcomes)
    assert.equal(done.has(title), status === 200, `${title}: done and answered, or neither`);
  const unanswered = outcomes.filter(({ status }) => status === 0).length;
  t.diagnostic(
    `${outcomes.length - unanswered} answered, ${unanswered} met a closed connection, ended in ${tookMs} ms`,
  );
});
