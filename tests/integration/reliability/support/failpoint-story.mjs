/**
 * A story that passes every place where something is written or delivered, and what must be true
 * after it was cut off anywhere: what was acknowledged is there, what was refused is not, what is in
 * between is whole, each record's events come in order, a consumer has seen every event, work that
 * was taken on is done and told of once, and nothing half-made is left.
 */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { checkContiguous, readFeed } from '../../support/feed.mjs';
import { listAll, recordsPath } from '../../support/records.mjs';
import { signIn } from '../../support/superuser.mjs';

const SUBJECTS = 3;
const UPDATES = 3;
const LEASE_MS = 1000;
const WORK_S = 30;
const OK = (status) => status >= 200 && status < 300;
export const oldTenant = 'old';
const newTenant = 'fresh';
const superuser = { email: 'root@fresh.example', password: 'battery staple 2' };
const idOf = (number) => `s${String(number).padStart(14, '0')}`;
export const definition = {
  name: 'things',
  listRule: '',
  viewRule: '',
  fields: [{ name: 'value', type: 'number' }],
};

export class Story {
  /** id → {acknowledged, unknown}: the value that a record has, and the one it may have instead. */
  records = new Map();
  /** Of each thing that is made or removed once: true, false, or undefined when nobody knows. */
  isTenantMade = false;
  isTenantDeleted = false;
  isBackedUp = false;
  isRuled = false;
  isMailed = false;
  handed = [];
  isRestored = false;
  /** Answers that were neither a success nor asked for. */
  failures = [];

  constructor(server, token) {
    Object.assign(this, { server, token });
  }

  async #ask(method, path, body, options = {}) {
    const answer = await this.server.request(method, path, body, { token: this.token, ...options });
    if (!OK(answer.status)) this.failures.push(`${method} ${path} ${answer.status}`);
    return answer;
  }

  async #write(id, value) {
    const known = this.records.get(id) ?? { acknowledged: 0 };
    this.records.set(id, { ...known, unknown: value });
    const { status } =
      value === 1
        ? await this.#ask('POST', recordsPath('things'), { id, value })
        : await this.#ask('PATCH', recordsPath('things', id), { value });
    if (OK(status)) this.records.set(id, { acknowledged: value });
    /* A commit of unknown outcome is answered with 500: it may be there. */ else if (status !== 500)
      this.records.set(id, known);
    return OK(status);
  }

  async #writeSome(first) {
    const ids = Array.from({ length: SUBJECTS }, (_, index) => idOf(first + index));
    await Promise.all(
      ids.map(async (id) => {
        for (let value = 1; value <= UPDATES + 1; value++)
          if (!(await this.#write(id, value))) return;
      }),
    );
  }

  async #consume() {
    const { status, body } = await this.#ask('POST', '/api/consumers/reader/poll', {
      limit: 5,
      leaseMs: LEASE_MS,
    });
    if (!OK(status)) return 0;
    this.handed.push(...body.events);
    const { next: cursor, lease } = body;
    if (lease) await this.#ask('POST', '/api/consumers/reader/commit', { cursor, lease });
    return body.events.length;
  }

  async #backUp() {
    this.isBackedUp = undefined;
    const { status } = await this.#ask('POST', '/api/backups', { name: 'story.zip' });
    this.isBackedUp = OK(status);
    const { backups } = await filesOf(this.server, 'default');
    const hidden = backups.filter((name) => name.startsWith('.'));
    assert.deepEqual(hidden, [], 'a backup that was answered leaves nothing half-made');
  }

  async #makeTenant() {
    this.isTenantMade = undefined;
    const made = await this.#ask('POST', '/api/tenants', { name: newTenant, superuser });
    if (made.status !== 500) this.isTenantMade = OK(made.status);
  }

  /** A change of a collection becomes a migration file. */
  async #changeCollection() {
    this.isRuled = undefined;
    const { status } = await this.#ask('PATCH', '/api/collections/things', { updateRule: '' });
    if (status !== 500) this.isRuled = OK(status);
  }

  /** A mail becomes a file, by work that goes on after the answer. */
  async #sendMail() {
    this.isMailed = undefined;
    const mail = { to: 'reader@example.com', subject: 'A story', text: 'Once upon a time' };
    const { status } = await this.#ask('POST', '/api/mail', mail);
    if (status !== 500) this.isMailed = OK(status);
    if (this.isMailed) await this.#mailsSent();
  }

  /** The events of mails, which may be a while in coming. */
  async #mailsSent() {
    const query = `/api/events?after=start&types=mail.*&wait=${WORK_S}`;
    const { body, text } = await this.server.request('GET', query, undefined, {
      token: this.token,
    });
    assert.ok(body.events, text);
    return body.events;
  }

  async #deleteTenant() {
    this.isTenantDeleted = undefined;
    const { status } = await this.#ask('DELETE', `/api/tenants/${oldTenant}`);
    if (OK(status)) this.isTenantDeleted = true;
  }

  /** To its end, or to the end of the server. */
  async tell() {
    await this.#writeSome(1);
    await this.#consume();
    await this.#consume();
    await this.#ask('GET', '/api/collections/things/snapshot');
    await this.#backUp();
    await this.#makeTenant();
    await this.#deleteTenant();
    await this.#changeCollection();
    await this.#sendMail();
    await this.#writeSome(10);
    const body = { identity: 'operator@example.com', password: 'correct horse 1' };
    await this.#ask('POST', '/api/collections/_superusers/auth-with-password', body);
  }

  async #checkRecords() {
    const rows = new Map(
      (await listAll(this.server, this.token, 'things')).map(({ id, value }) => [id, value]),
    );
    for (const [id, { acknowledged, unknown }] of this.records) {
      const value = rows.get(id) ?? 0;
      assert.ok(
        value === acknowledged || value === unknown,
        `${id} is ${value}, acknowledged ${acknowledged}, under way ${unknown}`,
      );
    }
    const { events } = await readFeed(this.server, this.token, { query: '&types=*,_*' });
    checkContiguous(events, 1);
    const histories = new Map();
    for (const { type, subject, payload } of events) {
      if (!type.startsWith('things.')) continue;
      const last = histories.get(subject) ?? 0;
      assert.equal(payload.value, last + 1, `the events of ${subject} come once, and in order`);
      histories.set(subject, payload.value);
    }
    assert.deepEqual(
      histories,
      new Map([...rows].map(([id, value]) => [`things/${id}`, value]).sort()),
      'each row has all of its events',
    );
    return events.filter(({ type }) => type.startsWith('things.'));
  }

  #consumer(action, body) {
    const path = `/api/consumers/reader/${action}`;
    return this.server.request('POST', path, body, { token: this.token });
  }

  /** The lease of a page that was being handed out may still run; after a restore it is sought. */
  async #poll() {
    let answer = await this.#consumer('poll', { limit: 1000 });
    if (answer.text.includes('consumer_leased'))
      answer = await this.#consumer('poll', { limit: 1000, wait: 20 });
    if (this.isRestored && answer.text.includes('cursor_epoch_changed')) {
      assert.equal((await this.#consumer('seek', { after: 'start' })).status, 200);
      answer = await this.#consumer('poll', { limit: 1000 });
    }
    assert.equal(answer.status, 200, answer.text);
    return answer.body;
  }

  async #checkConsumer(events) {
    for (let page; page?.hasMore !== false;) {
      page = await this.#poll();
      this.handed.push(...page.events);
      const { next: cursor, lease } = page;
      if (!lease) continue;
      const { status, text } = await this.#consumer('commit', { cursor, lease });
      assert.equal(status, 200, text);
    }
    const seen = new Map(this.handed.map((event) => [event.sequence, event.id]));
    for (const { sequence, id } of events)
      assert.equal(seen.get(sequence), id, `the consumer was handed ${sequence}`);
  }

  async #checkTenants() {
    const { body } = await this.server.request('GET', '/api/tenants', undefined, {
      token: this.token,
    });
    const names = body.items.map(({ name }) => name);
    const directories = (await readdir(join(this.server.data, 'tenants'))).filter(
      (name) => name !== 'default',
    );
    assert.deepEqual(directories.sort(), [...names].sort(), 'each directory has its record');
    if (this.isTenantMade !== undefined)
      assert.equal(names.includes(newTenant), this.isTenantMade, 'the new tenant');
    if (this.isTenantDeleted === true) assert.ok(!names.includes(oldTenant), 'the deleted one');
    if (this.isTenantDeleted === false) assert.ok(names.includes(oldTenant), 'the old one');
    for (const tenant of names) {
      const answer = await this.server.request('GET', '/api/collections', undefined, {
        token: this.token,
        tenant,
      });
      assert.equal(answer.status, 200, `${tenant} opens: ${answer.text}`);
      const { files } = await filesOf(this.server, tenant);
      assert.ok(!files.includes('unfinished'), `${tenant} is finished`);
    }
    if (names.includes(newTenant)) await signIn(this.server, { tenant: newTenant, ...superuser });
  }

  /** The change and its file are there together, or neither is. */
  async #checkMigrations() {
    const options = { token: this.token };
    const things = await this.server.request('GET', '/api/collections/things', undefined, options);
    const isRuled = things.body.updateRule === '';
    if (this.isRuled !== undefined) assert.equal(isRuled, this.isRuled, 'the changed collection');
    const { body } = await this.server.request('GET', '/api/migrations', undefined, options);
    const wrong = body.items.filter(({ state }) => state !== 'applied');
    assert.deepEqual(wrong, [], 'each file was applied');
    const changes = body.items.filter(({ file }) => file.endsWith('_updated_things.json'));
    assert.equal(changes.length, isRuled ? 1 : 0, 'a change has a file');
    const left = await readdir(join(this.server.folder, 'migrations'));
    assert.deepEqual(left.sort(), body.items.map(({ file }) => file), 'no half of a file');
  }

  /** What was taken on is done by now, or by this life of the server. */
  async #checkMail() {
    if (this.isMailed === false) return;
    const events = this.isMailed ? await this.#mailsSent() : [];
    assert.ok(!this.isMailed || events.length === 1, `a mail is told of once: ${events.length}`);
    for (const { type, payload } of events) {
      assert.equal(type, 'mail.sent');
      const files = await readdir(join(this.server.data, 'mail'));
      assert.deepEqual(files, [`${payload.task}.eml`], 'and its file is there, and no other');
    }
  }

  /** Another backup clears away what one that was cut off has left. */
  async #checkBackups() {
    const again = await this.server.request(
      'POST',
      '/api/backups',
      { name: 'again.zip' },
      { token: this.token },
    );
    assert.equal(again.status, 204, again.text);
    const { backups } = await filesOf(this.server, 'default');
    if (this.isBackedUp !== undefined)
      assert.equal(backups.includes('story.zip'), this.isBackedUp, 'the backup');
    assert.deepEqual(
      backups.filter((name) => name !== 'story.zip'),
      ['again.zip'],
      'nothing else is left',
    );
  }

  /** On a server without failpoints. */
  async check(server) {
    this.server = server;
    await this.#checkConsumer(await this.#checkRecords());
    await this.#checkTenants();
    await this.#checkBackups();
    await this.#checkMigrations();
    await this.#checkMail();
    await this.#writeSome(20);
    await this.#checkConsumer(await this.#checkRecords());
    const { text } = await server.request('GET', '/api/collections/things/snapshot', undefined, {
      token: this.token,
    });
    const lines = text.split('\n').filter(Boolean);
    assert.equal(JSON.parse(lines.at(-1)).done, true, 'a snapshot is whole');
    const left = (await readdir(server.data)).filter(
      (name) => name.startsWith('.') || name.includes('tmp'),
    );
    assert.deepEqual(left, [], 'nothing is left in the data directory');
  }
}

async function filesOf(server, tenant) {
  const directory = join(server.data, 'tenants', tenant);
  const backups = await readdir(join(directory, 'backups')).catch(() => []);
  return { files: await readdir(directory), backups };
}
