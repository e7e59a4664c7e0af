/** `bakend webhooks listen`: events posted to a local server, signed, through restarts of either side. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { operator } from './support/operator.mjs';
import { binary, run, startServer, temporaryFolder } from './support/program.mjs';
import { createCollection, createRecord, open } from './support/records.mjs';
import { eventually } from './support/smtp.mjs';
import { operatorToken } from './support/superuser.mjs';
import { sparePort, startReceiver } from './support/webhooks.mjs';

const posts = { name: 'posts', ...open, fields: [{ name: 'title', type: 'text' }] };
const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
const LINE = new RegExp(
  '^\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d\\.\\d{3} {2}(?<type>\\S+) {2}(?<subject>\\S+) {2}' +
    '(?<status>\\S+) {2}\\d+ ms( {2}.*)?$',
);

/** One that runs until it is stopped. */
class Listener {
  stdout = '';
  stderr = '';

  constructor(t, data, ...args) {
    this.child = spawn(binary, ['webhooks', 'listen', '--data', data, ...args]);
    this.child.stdout.setEncoding('utf8').on('data', (text) => (this.stdout += text));
    this.child.stderr.setEncoding('utf8').on('data', (text) => (this.stderr += text));
    this.ended = new Promise((resolve) => {
      this.child.on('close', (code, signal) => resolve({ code, signal }));
    });
    t.after(() => this.child.kill('SIGKILL'));
  }
  get lines() {
    return this.stdout.split('\n').slice(0, -1);
  }
  says(pattern) {
    return eventually(`${pattern}`, () => pattern.exec(this.stderr));
  }
  /** Ends it as Ctrl-C does; resolves with the cursor that it leaves. */
  async interrupt() {
    this.child.kill('SIGINT');
    assert.deepEqual(await this.ended, { code: 0, signal: null });
    return /^bakend: go on with --after (\S+)$/m.exec(this.stderr)[1];
  }
}

/** As the specification has it, by hand. */
function verify(secret, { id, headers, text }) {
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
  const mac = createHmac('sha256', key).update(`${id}.${headers['webhook-timestamp']}.${text}`).digest('base64');
  assert.equal(headers['webhook-signature'], `v1,${mac}`);
}

test('events are posted to a local server, signed, and a line is printed for each', async (t) => {
  const api = await operator(t);
  await api.define(posts);
  await api.define({ ...posts, name: 'books' });
  await api.create('posts', { title: 'before' });
  const bad = ({ body }) => (body.data.title === 'bad' ? { status: 422, body: 'no such\x1b[31m thing' } : 200);
  const receiver = await startReceiver(t, { answer: bad });
  const listener = new Listener(t, api.server.data, '--forward', receiver.url, '--types', 'posts.*');
  const [, secret] = await listener.says(/forwarding to \S+, signed with (whsec_\S+)\n/);
  await api.create('books', { title: 'not asked for' });
  const first = await api.create('posts', { title: 'good' });
  await api.create('posts', { title: 'bad' });
  await receiver.until('both were posted', (all) => all.length === 2);
  const [good, other] = receiver.deliveries;
  verify(secret, good);
  verify(secret, other);
  assert.equal(good.body.data.id, first.id);
  assert.equal(good.body.type, 'posts.created');
  assert.equal(other.body.after, good.body.cursor, 'each names the one before');
  assert.equal(other.body.data.title, 'bad');
  await eventually('two lines', () => listener.lines.length === 2);
  const shown = listener.lines.map((line) => ({ ...LINE.exec(line)?.groups }));
  assert.deepEqual(shown[0], { type: 'posts.created', subject: `posts/${first.id}`, status: '200' });
  assert.equal(shown[1].status, '422');
  assert.match(listener.lines[1], / {2}no such\?\[31m thing$/, 'what it said of the error');
  const cursor = await listener.interrupt();

  await api.create('posts', { title: 'while nobody listened' });
  const args = ['--forward', receiver.url, '--types=posts.*', '--secret', SECRET, '--after', cursor, '--json'];
  const next = new Listener(t, api.server.data, ...args);
  await receiver.until('it went on', (all) => all.length === 3);
  verify(SECRET, receiver.deliveries[2]);
  assert.ok(!next.stderr.includes(SECRET), 'who has given it knows it');
  assert.equal(receiver.deliveries[2].body.after, cursor);
  const line = await eventually('a line', () => next.lines.length === 1 && JSON.parse(next.lines[0]));
  assert.deepEqual([line.type, line.status, line.error], ['posts.created', 200, '']);
  await next.interrupt();
});

test('a local server and ours are waited for', async (t) => {
  const folder = await temporaryFolder(t);
  let server = await startServer(t, { folder });
  const token = await operatorToken(server);
  await createCollection(server, token, posts);
  const port = await sparePort();
  const to = ['--forward', `http://127.0.0.1:${port}/hook`];
  const listener = new Listener(t, server.data, ...to, '--types', 'posts.*', '--secret', SECRET);
  await listener.says(/forwarding to/);
  await createRecord(server, token, 'posts', { title: 'one' });
  await listener.says(/does not answer \(.+\): waiting for it/);
  const back = await startReceiver(t, { port });
  await back.until('it came', (all) => all.length === 1);
  await listener.says(/is back/);
  await server.stop();
  await listener.says(/the server on \S+ does not answer/);
  server = await startServer(t, { folder });
  await createRecord(server, token, 'posts', { title: 'two' });
  await back.until('it goes on', (all) => all.length === 2);
  await listener.says(/the server is back/);
  assert.deepEqual(
    back.deliveries.map(({ body }) => body.data.title),
    ['one', 'two'],
  );
  await listener.interrupt();
});

test('what is wrong on its command line is said', async (t) => {
  const folder = await temporaryFolder(t);
  const listen = (...args) => run(['webhooks', 'listen', '--data', folder, ...args]);
  const to = ['--forward', 'http://127.0.0.1:9/'];
  for (const [args, code, text] of [
    [[], 2, /--forward/],
    [['--forward', 'ftp://x/'], 2, /--forward must be a URL/],
    [['--forward', 'foo'], 2, /such as http:\/\/localhost:3000\/hook/],
    [[...to, '--secret', 'abc'], 2, /--secret must be/],
    [[...to, '--format', 'xml'], 2, /--format must be/],
    [[...to, '--tipes', 'posts.*'], 2, /did you mean --types/],
    [to, 1, /no server runs on/],
  ]) {
    const ended = await listen(...args);
    assert.equal(ended.code, code, ended.stderr);
    assert.match(ended.stderr, text);
  }
  const other = await run(['webhooks', 'lisen', '--data', folder]);
  assert.equal(other.code, 2);
  const server = await startServer(t);
  const filter = await run(['webhooks', 'listen', '--data', server.data, ...to, '--filter', 'type = = 1']);
  assert.equal(filter.code, 1);
  assert.match(filter.stderr, /--filter: Invalid filter/);
});
