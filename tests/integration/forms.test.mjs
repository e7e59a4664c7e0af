/** Bodies that are forms, from the stock client and by hand, and the files in them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import PocketBase from 'pocketbase';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { open, recordsPath } from './support/records.mjs';
import { email, password } from './support/superuser.mjs';
import { Wire } from './support/wire.mjs';

const BOUNDARY = 'x';
const TYPE = `multipart/form-data; boundary=${BOUNDARY}`;
const PNG = Buffer.from('89504e470d0a1a0a', 'hex');

const definition = {
  name: 'papers',
  ...open,
  fields: [
    { name: 'title', type: 'text' },
    { name: 'n', type: 'number' },
    { name: 'ok', type: 'bool' },
    { name: 'tags', type: 'select', values: ['a', 'b', 'c'], maxSelect: 3 },
    { name: 'data', type: 'json' },
    { name: 'doc', type: 'file', maxSelect: 1, maxSize: 20, mimeTypes: ['image/png'] },
    { name: 'docs', type: 'file', maxSelect: 2 },
  ],
};

async function prepare(t) {
  const api = await operator(t);
  await api.define(definition);
  const client = new PocketBase(api.server.url);
  client.autoCancellation(false);
  const count = async () => (await api.get(recordsPath('papers'))).body.totalItems;
  return { ...api, client, papers: client.collection('papers'), count };
}

const part = (head, data = '') => `--${BOUNDARY}\r\n${head}\r\n\r\n${data}\r\n`;
const named = (name, data) => part(`Content-Disposition: form-data; name="${name}"`, data);
const END = `--${BOUNDARY}--\r\n`;

test('the stock client sends forms', async (t) => {
  const { papers, count } = await prepare(t);

  await t.test('FormData without files', async () => {
    const form = new FormData();
    for (const [key, value] of [
      ['title', '12'],
      ['n', '2.5'],
      ['ok', 'true'],
      ['tags', 'a'],
      ['tags', 'c'],
      ['data', '{"a":[1]}'],
    ])
      form.append(key, value);
    const made = await papers.create(form);
    const { title, n, ok, tags, data, doc, docs } = made;
    assert.deepEqual(
      { title, n, ok, tags, data, doc, docs },
      { title: '12', n: 2.5, ok: true, tags: ['a', 'c'], data: { a: [1] }, doc: '', docs: [] },
    );
    const changes = new FormData();
    changes.append('n+', '1');
    changes.append('tags-', 'a');
    changes.append('docs', '');
    const changed = await papers.update(made.id, changes);
    assert.deepEqual([changed.n, changed.tags, changed.docs], [3.5, ['c'], []]);
  });

  await t.test('a file where no field takes one is ignored, as PocketBase does', async () => {
    const blob = new Blob(['hello']);
    const made = await papers.create({ title: blob, other: blob, n: 7, data: { a: null } });
    assert.deepEqual([made.title, made.n, made.data], ['', 7, { a: null }]);
  });

  await t.test(
    'a file that would have to be stored is refused by the name of its field',
    async () => {
      const before = await count();
      for (const body of [{ docs: [new Blob(['a']), new Blob(['b'])] }, { doc: new Blob([PNG]) }]) {
        const error = await papers.create({ title: 'lost', ...body }).catch((reason) => reason);
        assert.equal(error.status, 400);
        const [field] = Object.keys(body);
        assert.deepEqual(Object.keys(error.response.data), [field]);
        assert.equal(error.response.data[field].code, 'validation_not_supported');
      }
      assert.equal(await count(), before);
    },
  );
});

test('uploads are judged by what they are', async (t) => {
  const { papers } = await prepare(t);
  const codeOf = async (body, field) => {
    const error = await papers.create(body).catch((reason) => reason);
    assert.equal(error.status, 400, `${error}`);
    return error.response.data[field];
  };
  const disguised = new Blob(['<script>1</script>'], { type: 'image/png' });
  const wrong = await codeOf({ doc: disguised }, 'doc');
  assert.equal(wrong.code, 'validation_invalid_mime_type');
  assert.match(wrong.message, /must be one of: image\/png\.$/);
  const large = await codeOf({ doc: new Blob([PNG, 'x'.repeat(20)]) }, 'doc');
  assert.equal(large.code, 'validation_file_size_limit');
  assert.deepEqual(large.params, { file: 'blob', maxSize: 20 });
  const many = await codeOf({ docs: ['a', 'b', 'c'].map((each) => new Blob([each])) }, 'docs');
  assert.equal(many.code, 'validation_too_many_files');
  assert.deepEqual(many.params, { maxSelect: 2 });
  const named = await codeOf({ docs: ['no-such.txt'] }, 'docs');
  assert.equal(named.code, 'validation_invalid_file');
});

test('an upload in a batch refuses the whole batch', async (t) => {
  const { client, patch, count } = await prepare(t);
  await patch('/api/settings', { batch: { enabled: true } });
  const batch = client.createBatch();
  batch.collection('papers').create({ title: 'one' });
  batch.collection('papers').create({ title: 'two', docs: [new Blob(['a'])] });
  const error = await batch.send().catch((reason) => reason);
  assert.equal(error.status, 400);
  const { response } = error.response.data.requests[1];
  assert.equal(response.data.docs.code, 'validation_not_supported');
  assert.equal(await count(), 0);
});

test('digits are a password in a form', async (t) => {
  const { server } = await operator(t);
  const form = new FormData();
  form.append('identity', email);
  form.append('password', '12345');
  const path = '/api/collections/_superusers/auth-with-password';
  const post = (body, headers) => fetch(server.url + path, { method: 'POST', body, headers });
  const wrong = await post(form);
  assert.deepEqual((await wrong.json()).data, {}, 'it is wrong, not missing');
  const right = await post(new URLSearchParams({ identity: email, password }));
  assert.equal(right.status, 200);
});

test('broken forms are refused, and the connection goes on', async (t) => {
  const { server, count } = await prepare(t);
  const wire = await Wire.open(server.port);
  const long = 'a'.repeat(2000);
  const bodies = {
    'no delimiter': 'hello',
    'no end': named('title', 'a').slice(0, -4),
    'no last delimiter': named('title', 'a'),
    'an end within a head': '--x\r\nContent-Disposition: form-data',
    'text behind a delimiter': `${named('title', 'a')}--x and more\r\n${END}`,
    'a header twice': part(`Content-Disposition: form-data; name=a\r\n`.repeat(2).trimEnd()) + END,
    'a name twice': part('Content-Disposition: form-data; name=title; name=n', '1') + END,
    'a folded header': part('Content-Disposition: form-data;\r\n name=title', '1') + END,
    'a control character in a header': part('X-A: \x01', '1') + END,
    'bytes that are no UTF-8': Buffer.from(named('title', '\xff') + END, 'latin1'),
    'a NUL': named('title', 'a\0b') + END,
    'a NUL in a name': named('ti\0tle', 'a') + END,
    'a transfer encoding':
      part('Content-Disposition: form-data; name=title\r\nContent-Transfer-Encoding: base64') + END,
    'a payload that is no object': named('@jsonPayload', '[]') + END,
    'a payload with a key twice': named('@jsonPayload', '{"n":1,"n":2}') + END,
    'too many parts': named('tags', 'a').repeat(1001) + END,
    'a head that is too long': part(`X-A: ${long.repeat(9)}`, '1') + END,
    'a name that is too long': named(long, '1') + END,
  };
  for (const [name, body] of Object.entries(bodies)) {
    await t.test(name, async () => {
      const bytes = Buffer.from(body);
      const head = `POST ${recordsPath('papers')} HTTP/1.1\r\nHost: x\r\nContent-Type: ${TYPE}\r\n`;
      wire.write(
        Buffer.concat([Buffer.from(`${head}Content-Length: ${bytes.length}\r\n\r\n`), bytes]),
      );
      const answer = await wire.answer();
      assert.equal(answer.status, name.startsWith('too') || name.includes('too long') ? 413 : 400);
      const { message, data } = JSON.parse(answer.body.toString());
      assert.match(message, /^An error occurred while loading the submitted data\. \S.*\.$/);
      assert.deepEqual(data, {});
    });
  }
  wire.destroy();
  assert.equal(await count(), 0);
});

test('a form of 30 MiB is read, one past the limit is not', async (t) => {
  const { server } = await prepare(t);
  const post = (size) =>
    server.request(
      'POST',
      recordsPath('papers'),
      part('Content-Disposition: form-data; name=other; filename=a', 'x'.repeat(size)) + END,
      { headers: { 'content-type': TYPE } },
    );
  assert.equal((await post(30 * 1024 * 1024)).status, 200);
  assertRefused(await post(33 * 1024 * 1024), 413);
});

test('a file field is defined with its options', async (t) => {
  const { get, post } = await prepare(t);
  const { body } = await get('/api/collections/papers');
  const { id, ...doc } = body.fields.find(({ name }) => name === 'doc');
  assert.match(id, /^file\d+$/);
  assert.deepEqual(doc, {
    name: 'doc',
    type: 'file',
    system: false,
    hidden: false,
    presentable: false,
    required: false,
    help: '',
    maxSelect: 1,
    maxSize: 20,
    mimeTypes: ['image/png'],
    thumbs: null,
    protected: false,
  });
  const bad = await post('/api/collections', {
    name: 'bad',
    type: 'base',
    fields: [{ name: 'f', type: 'file', thumbs: ['0x0'] }],
  });
  assert.equal(bad.body.data.fields[1].thumbs[0].code, 'validation_not_in_invalid');
  assertProblems(await post(recordsPath('papers'), { doc: 'x', docs: ['y', 'z'] }), {
    doc: 'validation_invalid_file',
    docs: 'validation_invalid_file',
  });
});
