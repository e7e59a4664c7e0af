/** `bakend events tail`: on a running server, through its restarts, and on a stopped directory. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { readFeed } from './support/feed.mjs';
import { operator, titled } from './support/history.mjs';
import { canary } from './support/neighbours.mjs';
import { binary, run, startServer } from './support/program.mjs';
import { createRecord } from './support/records.mjs';

const CURSOR = /^bakend: go on with --after (\S+)$/m;
const LINE = new RegExp(
  '^\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d\\.\\d{3} {2}(?<type>\\S+) {2}' +
    '(?<subject>\\S+) {2}(?<actor>\\S+) {2}(?<payload>.*)$',
);

async function until(condition, what, timeoutMs = 20_000) {
  for (const end = Date.now() + timeoutMs; !condition(); await sleep(20))
    assert.ok(Date.now() < end, `not in time: ${what()}`);
}

async function withPosts(t, count) {
  const api = await operator(t);
  await api.define(titled('posts'));
  for (let i = 0; i < count; i++) await api.create('posts', { title: `post ${i}` });
  const tail = (...args) => run(['events', 'tail', '--data', api.server.data, ...args]);
  return { ...api, tail };
}

/** A tail that runs until it is stopped. */
class Tail {
  stdout = '';
  stderr = '';

  constructor(t, api, ...args) {
    this.child = spawn(binary, ['events', 'tail', '--data', api.server.data, ...args]);
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
  shows(text) {
    return until(
      () => this.stdout.includes(text),
      () => `${text} in ${this.stdout}\n${this.stderr}`,
    );
  }
  /** Ends it as Ctrl-C does; resolves with the cursor that it leaves. */
  async interrupt() {
    this.child.kill('SIGINT');
    assert.deepEqual(await this.ended, { code: 0, signal: null });
    return CURSOR.exec(this.stderr)[1];
  }
}

const parsed = (text) => text.split('\n').slice(0, -1).map(JSON.parse);

test('tail begins with the last ten events and follows', async (t) => {
  const api = await withPosts(t, 15);
  const tail = new Tail(t, api);
  await tail.shows('post 14');
  assert.equal(tail.lines.length, 10);
  for (const line of tail.lines) assert.match(line, LINE);
  const record = await api.create('posts', { title: 'live' });
  await tail.shows('live');
  const { groups } = LINE.exec(tail.lines.at(-1));
  assert.equal(groups.type, 'posts.created');
  assert.equal(groups.subject, `posts/${record.id}`);
  assert.match(groups.actor, /^_superusers\//);
  assert.equal(JSON.parse(groups.payload).title, 'live');
  assert.ok(!tail.stdout.includes('\u001b'), 'no colours but on a terminal');
  assert.ok(!tail.stdout.includes(canary));
  const cursor = await tail.interrupt();

  await t.test('and leaves the cursor from which one goes on', async () => {
    await api.create('posts', { title: 'meanwhile' });
    const { code, stdout } = await api.tail('--after', cursor, '--no-follow', '--json');
    assert.equal(code, 0);
    assert.deepEqual(
      parsed(stdout).map(({ payload }) => payload.title),
      ['meanwhile'],
    );
  });
});

test('tail shows what is asked for', async (t) => {
  const api = await withPosts(t, 5);
  const { id } = await api.create('posts', { title: 'the one' });
  const { events } = await readFeed(api.server, api.token);

  await t.test('--json prints the events as they are', async () => {
    const { code, stdout, stderr } = await api.tail('--after', 'start', '--no-follow', '--json');
    assert.equal(code, 0);
    assert.deepEqual(parsed(stdout), events);
    assert.match(stderr, CURSOR);
  });
  await t.test('--limit ends, forward and backward', async () => {
    const first = await api.tail('--after', 'start', '--limit', '2', '--json');
    assert.deepEqual(parsed(first.stdout), events.slice(0, 2));
    const last = await api.tail('--limit=3', '--no-follow', '--json');
    assert.deepEqual(parsed(last.stdout), events.slice(-3));
    const none = await api.tail('--limit', '0', '--no-follow');
    assert.deepEqual([none.code, none.stdout], [0, '']);
  });
  await t.test('--types and --subject', async () => {
    const subject = await api.tail('--subject', `posts/${id}`, '--no-follow', '--json');
    assert.deepEqual(
      parsed(subject.stdout).map(({ payload }) => payload.title),
      ['the one'],
    );
    const types = await api.tail('--types', '_collections.*,auth.*', '--no-follow', '--json');
    const query = '&types=_collections.*,auth.*';
    const expected = await readFeed(api.server, api.token, { query });
    assert.ok(expected.events.length > 0);
    assert.deepEqual(parsed(types.stdout), expected.events);
  });
  await t.test('--tenant', async () => {
    const { stdout } = await api.tail('--tenant', 'left', '--no-follow', '--json');
    const shown = parsed(stdout);
    assert.ok(shown.length > 0);
    for (const { tenant } of shown) assert.equal(tenant, 'left');
    const none = await api.tail('--tenant', 'nobody', '--no-follow');
    assert.equal(none.code, 1);
    assert.match(none.stderr, /^bakend: /);
  });
  await t.test('control characters do not reach the terminal', async () => {
    await api.create('posts', { title: 'a\u001b[31mb\u009b31mc\u007fd' });
    const { stdout } = await api.tail('--limit', '1', '--no-follow');
    // eslint-disable-next-line no-control-regex
    assert.ok(!/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/.test(stdout), JSON.stringify(stdout));
  });
  await t.test('wrong usage ends with 2, a wrong place with 1', async () => {
    for (const args of [
      ['--limit', 'x'],
      ['--limit', '1001'],
      ['--limit'],
      ['--types', 'nodot'],
      ['--nonsense'],
      ['extra'],
      ['--after', ''],
    ]) {
      const { code, stderr } = await api.tail(...args);
      assert.equal(code, 2, args.join(' '));
      assert.match(stderr, /^usage: bakend events tail/m);
    }
    const slip = await api.tail('--typs', 'posts.*');
    assert.match(
      slip.stderr,
      /^bakend: unknown option --typs: did you mean --types\? See `bakend help events`$/m,
    );
    const strange = await api.tail('--nonsense');
    assert.match(strange.stderr, /^bakend: unknown option --nonsense: see `bakend help events`$/m);
    assert.match((await api.tail('--types')).stderr, /^bakend: --types needs a value behind it$/m);
    assert.match((await api.tail('extra')).stderr, /^bakend: unexpected argument extra: see/m);
    assert.equal((await run(['events', '--data', api.server.data])).code, 2);
    const other = await run(['events', 'tial', '--data', api.server.data]);
    assert.match(other.stderr, /^bakend: events has one command: `bakend events tail`$/m);
    const { code, stderr } = await api.tail('--after', 'nonsense', '--no-follow');
    assert.equal(code, 1);
    assert.match(stderr, /--after: Must be a cursor/);
  });
});

test('tail outlives restarts of the server without a hole', async (t) => {
  let api = await withPosts(t, 3);
  const { folder } = api.server;
  const tail = new Tail(t, api, '--json', '--types', 'posts.created', '--after', 'start');
  await tail.shows('post 2');
  let written = 3;
  for (const signal of ['SIGTERM', 'SIGKILL']) {
    for (let i = 0; i < 5; i++) await api.create('posts', { title: `post ${written++}` });
    await api.server.stop(signal);
    await until(
      () => tail.stderr.includes('waiting for it'),
      () => tail.stderr,
    );
    await sleep(1200);
    const server = await startServer(t, { folder });
    await createRecord(server, api.token, 'posts', { title: `post ${written++}` });
    await tail.shows(`post ${written - 1}"`);
    const create = (name, record) => createRecord(server, api.token, name, record);
    api = { ...api, server, create };
  }
  await tail.interrupt();
  assert.deepEqual(
    parsed(tail.stdout).map(({ payload }) => payload.title),
    Array.from({ length: written }, (_, i) => `post ${i}`),
  );
  assert.equal(tail.stderr.match(/waiting for it/g).length, 2, 'it says so once');
  assert.equal(tail.stderr.match(/is back/g).length, 2);
});

test('tail of a stopped directory shows what there is and ends', async (t) => {
  const api = await withPosts(t, 12);
  await api.server.stop();
  const { code, stdout, stderr } = await api.tail();
  assert.equal(code, 0, stderr);
  assert.equal(stdout.split('\n').length - 1, 10);
  assert.match(stderr, CURSOR);
  const after = await api.tail('--after', 'start', '--types', 'posts.*', '--json');
  assert.equal(parsed(after.stdout).length, 12);
  const gone = await run(['events', 'tail', '--data', `${api.server.data}-that-is-not-there`]);
  assert.equal(gone.code, 1);
});

test('tail ends when nobody reads it any more', async (t) => {
  const api = await withPosts(t, 3);
  const tail = new Tail(t, api);
  await tail.shows('post 2');
  tail.child.stdout.destroy();
  await api.create('posts', { title: 'for nobody' });
  const { signal } = await tail.ended;
  assert.equal(signal, null);
  assert.ok(!tail.stderr.includes('Assert'), tail.stderr);
});
