/**
 * Random operations against a tenant and against a model of one: every answer, every page, every
 * event and everything that subscribers are sent is compared, over restarts and kills of the
 * server. Each run begins with an empty tenant.
 *
 * The seed of each failure is printed with the shortest row of operations that fails; BAKEND_SEED
 * repeats it. BAKEND_LONG=1: five minutes instead of twenty seconds.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { checkAccount } from '../support/feed.mjs';
import { startServer, temporaryFolder } from '../support/program.mjs';
import { promise } from '../support/promise.mjs';
import { Listener } from '../support/realtime.mjs';
import { open, recordsPath } from '../support/records.mjs';
import { operatorToken } from '../support/superuser.mjs';
import { inOrder, matchesAny, Model, patternMatches, payloadOf, previousOf } from './support/model.mjs';

const DURATION_MS = process.env.BAKEND_LONG === '1' ? 300_000 : 20_000;
const SHRINK_MS = 60_000;
const OPERATIONS_MAX = 60;
const LISTENERS_MAX = 6;
const PATIENCE_MS = 20_000;
const NAMES = ['alpha', 'beta', 'gamma'];
const PATTERNS = ['*', '_*', 'alpha.*', 'beta.*', '*.deleted', 'alpha.updated', 'beta.created'];
const EVERYTHING = ['*', '_*'];
const SORTS = ['', 'value,id', '-value,-id', '-id', '-value'];
const FIELDS = [
  { name: 'title', type: 'text', required: true, max: 200 },
  { name: 'value', type: 'number' },
  { name: 'flag', type: 'bool' },
  { name: 'created', type: 'autodate', onCreate: true },
  { name: 'updated', type: 'autodate', onCreate: true, onUpdate: true },
];

/* --- what may be done ------------------------------------------------------------------------- */

const nat = (max) => fc.nat({ max });
const collection = fc.constantFrom(...NAMES);
const title = fc.oneof(
  { weight: 5, arbitrary: fc.string({ unit: 'grapheme', maxLength: 12 }) },
  { weight: 1, arbitrary: fc.constantFrom('', '"', '\\', '\u2028', '💥', "'; DROP TABLE") },
);
const value = fc.oneof(
  fc.integer({ min: -5, max: 5 }),
  fc.maxSafeInteger(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
);
const patterns = fc.uniqueArray(fc.constantFrom(...PATTERNS), { minLength: 1, maxLength: 3 });
const slot = nat(7);

const operations = {
  createCollection: [4, { collection }],
  deleteCollection: [1, { collection }],
  changeFields: [2, { collection }],
  create: [14, { collection, slot: fc.option(slot), title, value, flag: fc.boolean() }],
  burst: [3, { collection, count: fc.integer({ min: 2, max: 12 }) }],
  update: [10, { collection, slot, patch: fc.oneof(fc.record({ title }), fc.record({ value })) }],
  remove: [5, { collection, slot }],
  view: [4, { collection, slot }],
  list: [5, { collection, sort: fc.constantFrom(...SORTS), perPage: fc.integer({ min: 1, max: 9 }) }],
  page: [3, { collection, page: fc.integer({ min: 1, max: 4 }), perPage: fc.integer({ min: 1, max: 9 }) }],
  snapshot: [2, { collection }],
  feed: [5, { from: nat(1000), limit: fc.integer({ min: 1, max: 20 }), patterns }],
  feedBackward: [3, { from: nat(1000), limit: fc.integer({ min: 1, max: 20 }), patterns }],
  subscribe: [5, { from: fc.option(nat(1000)), patterns, isGuest: fc.boolean() }],
  leave: [2, { which: nat(LISTENERS_MAX - 1) }],
  restart: [1, { signal: fc.constantFrom('SIGTERM', 'SIGKILL') }],
};
const operation = fc.oneof(
  ...Object.entries(operations).map(([name, [weight, members]]) => ({
    weight,
    arbitrary: fc.record({ do: fc.constant(name), ...members }),
  })),
);
const script = fc.array(operation, { minLength: 1, maxLength: OPERATIONS_MAX, size: 'max' });

/* --- the tenant that is driven ---------------------------------------------------------------- */

/** Which of the ids of a few records; some are given, most the server makes. */
const idOf = (number) => `r${String(number).padStart(14, '0')}`;

class Tenant {
  listeners = [];

  constructor(home, name) {
    Object.assign(this, { home, name });
  }

  async begin() {
    const { server, token } = this.home;
    const made = await server.request('POST', '/api/tenants', { name: this.name }, { token });
    assert.equal(made.status, 200, made.text);
    const page = await this.feedPage({ after: 'start', limit: 1000, patterns: EVERYTHING });
    this.model = new Model(page.lastSequence);
    this.model.cursors.push([page.lastSequence, page.next]);
  }

  async end() {
    await Promise.all(this.listeners.map(({ listener }) => listener.close()));
    const { server, token } = this.home;
    const path = `/api/tenants/${this.name}?confirm=${this.name}`;
    const gone = await server.request('DELETE', path, undefined, { token });
    assert.equal(gone.status, 204, gone.text);
  }

  /** Asks, expects a status, resolves with the body. */
  async ask(status, method, path, body) {
    const { server, token } = this.home;
    const answer = await server.request(method, path, body, { token, tenant: this.name });
    /* A read has a deadline, which a busy machine may miss. */
    if (method === 'GET' && answer.text.includes('took too long')) {
      this.home.late++;
      return this.ask(status, method, path, body);
    }
    assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`);
    this.home.answers++;
    return answer.body;
  }

  async feedPage({ after, limit, patterns: types, order = 'asc' }) {
    const query = new URLSearchParams({ after, limit, types: types.join(','), order });
    const page = await this.ask(200, 'GET', `/api/events?${query}`);
    checkAccount(page);
    return page;
  }

  /** All behind a cursor: a page may be short when the machine is busy, and says so. */
  async feedRest(after) {
    const events = [];
    let page = { next: after, hasMore: true };
    while (page.hasMore) {
      page = await this.feedPage({ after: page.next, limit: 1000, patterns: EVERYTHING });
      events.push(...page.events);
    }
    return { ...page, events };
  }

  /** Compares what has happened since with what should have, event by event. */
  async expectEvents(...expected) {
    const { model } = this;
    const [, after] = model.cursors.at(-1);
    const page = await this.feedRest(after);
    assert.deepEqual(
      page.events.map(({ type }) => type),
      expected.map(({ type }) => type),
    );
    page.events.forEach((event, index) => {
      model.append(event, expected[index]);
      for (const each of this.listeners) each.hear(event, model);
    });
    assert.equal(page.lastSequence, model.last);
    model.cursors.push([page.lastSequence, page.next]);
    return page.events;
  }

  /** All subscribers were sent exactly what they should have been. */
  async settle(listeners = this.listeners) {
    for (const { listener, expected } of listeners) {
      for (let waited = 0; waited < PATIENCE_MS; waited += 5) {
        if (listener.events.length >= expected.length) break;
        await sleep(5);
      }
      assert.deepEqual(
        listener.events.map(({ event }) => event),
        expected,
        'a subscriber is sent every event once, in order',
      );
      this.home.events += expected.length;
    }
  }
}

/** A subscriber, and what it must be sent. */
class Subscription {
  expected = [];

  constructor({ patterns: types, isGuest }) {
    Object.assign(this, { types, isGuest });
  }

  hear(event, model) {
    if (matchesAny(this.types, event.type) && (!this.isGuest || model.isShownToGuests(event)))
      this.expected.push(event);
  }

  /** Opens the subscription behind a cursor; what was sent before is kept over a restart. */
  async open(tenant, after) {
    const { server, token } = tenant.home;
    const who = this.isGuest ? {} : { token };
    const before = this.listener?.events ?? [];
    this.listener = await Listener.connect(server, { ...who, tenant: tenant.name });
    this.listener.events.push(...before);
    const answer = await this.listener.subscribe({ types: this.types, after });
    this.start ??= answer.cursor;
    if (after !== 'now') assert.equal(answer.recovered, true, JSON.stringify(answer));
  }

  get position() {
    return this.listener.events.at(-1)?.cursor ?? this.start;
  }
}

/* --- what is done, and what must come of it ---------------------------------------------------- */

const acts = {
  async createCollection(tenant, { collection: name }) {
    const { collections } = tenant.model;
    const definition = { name, type: 'base', ...open, fields: FIELDS };
    const isNew = !collections.has(name);
    const body = await tenant.ask(isNew ? 200 : 400, 'POST', '/api/collections', definition);
    if (!isNew) return assert.deepEqual(Object.keys(body.data), ['name']);
    collections.set(name, { id: body.id, fields: body.fields, records: new Map() });
    const event = { type: '_collections.created', subject: `_collections/${body.id}` };
    await tenant.expectEvents(event);
  },

  async deleteCollection(tenant, { collection: name }) {
    const { collections } = tenant.model;
    const found = collections.get(name);
    await tenant.settle(tenant.listeners.filter(({ isGuest }) => isGuest));
    await tenant.ask(found ? 204 : 404, 'DELETE', `/api/collections/${name}`);
    if (!found) return;
    collections.delete(name);
    const event = { type: '_collections.deleted', subject: `_collections/${found.id}` };
    await tenant.expectEvents(event);
  },

  /** A field more, or that field again less. */
  async changeFields(tenant, { collection: name }) {
    const found = tenant.model.collections.get(name);
    if (!found) return;
    const has = found.fields.some((field) => field.name === 'extra');
    const fields = has
      ? found.fields.filter((field) => field.name !== 'extra')
      : [...found.fields, { name: 'extra', type: 'text' }];
    const body = await tenant.ask(200, 'PATCH', `/api/collections/${name}`, { fields });
    found.fields = body.fields;
    for (const [id, { extra: _, ...record }] of found.records)
      found.records.set(id, has ? record : { ...record, extra: '' });
    const event = { type: '_collections.updated', subject: `_collections/${found.id}` };
    await tenant.expectEvents(event);
  },

  async create(tenant, { collection: name, slot: number, title: text, value: amount, flag }) {
    const found = tenant.model.collections.get(name);
    const given = number === null ? {} : { id: idOf(number) };
    const wished = { ...given, title: text, value: amount, flag };
    if (!found) return tenant.ask(404, 'POST', recordsPath(name), wished);
    const isTaken = found.records.has(given.id);
    const isRefused = isTaken || text === '';
    const body = await tenant.ask(isRefused ? 400 : 200, 'POST', recordsPath(name), wished);
    if (isRefused) return assert.ok((isTaken ? 'id' : 'title') in body.data || 'title' in body.data);
    checkRecord(tenant, name, body, wished);
    found.records.set(body.id, body);
    await tenant.expectEvents({
      type: `${name}.created`,
      subject: `${name}/${body.id}`,
      payload: payloadOf(body),
    });
  },

  /** Many at once: their order is the server's to choose, and is that of their events. */
  async burst(tenant, { collection: name, count }) {
    const { model } = tenant;
    const found = model.collections.get(name);
    if (!found) return;
    const made = await Promise.all(
      Array.from({ length: count }, (_, index) =>
        tenant.ask(200, 'POST', recordsPath(name), { title: `burst ${index}`, value: index }),
      ),
    );
    const byId = new Map(made.map((record) => [record.id, record]));
    assert.equal(byId.size, count);
    const event = { type: `${name}.created` };
    const events = await tenant.expectEvents(...made.map(() => event));
    for (const { subject, payload } of events) {
      assert.equal(subject, `${name}/${payload.id}`);
      const record = byId.get(payload.id);
      assert.deepEqual(payload, payloadOf(record), 'the event holds what was answered');
      found.records.set(payload.id, record);
    }
    assert.equal(new Set(events.map(({ subject }) => subject)).size, count);
  },

  async update(tenant, { collection: name, slot: number, patch }) {
    const found = tenant.model.collections.get(name);
    const before = recordAt(found, number);
    const path = recordsPath(name, before?.id ?? idOf(number));
    if (!before) return tenant.ask(404, 'PATCH', path, patch);
    const isRefused = patch.title === '';
    const body = await tenant.ask(isRefused ? 400 : 200, 'PATCH', path, patch);
    if (isRefused) return assert.deepEqual(Object.keys(body.data), ['title']);
    assert.deepEqual(body, { ...before, ...plain(patch), updated: body.updated });
    assert.ok(body.updated >= before.updated, 'the clock does not go back');
    found.records.set(before.id, body);
    await tenant.expectEvents({
      type: `${name}.updated`,
      subject: `${name}/${before.id}`,
      payload: payloadOf(body),
      previous: previousOf(before, body),
    });
  },

  async remove(tenant, { collection: name, slot: number }) {
    const found = tenant.model.collections.get(name);
    const before = recordAt(found, number);
    const path = recordsPath(name, before?.id ?? idOf(number));
    await tenant.ask(before ? 204 : 404, 'DELETE', path);
    if (!before) return;
    found.records.delete(before.id);
    await tenant.expectEvents({
      type: `${name}.deleted`,
      subject: `${name}/${before.id}`,
      payload: payloadOf(before),
    });
  },

  async view(tenant, { collection: name, slot: number }) {
    const before = recordAt(tenant.model.collections.get(name), number);
    const path = recordsPath(name, before?.id ?? idOf(number));
    const body = await tenant.ask(before ? 200 : 404, 'GET', path);
    if (before) assert.deepEqual(body, before);
  },

  async list(tenant, { collection: name, sort, perPage }) {
    if (!tenant.model.collections.has(name)) return tenant.ask(404, 'GET', recordsPath(name));
    const items = [];
    let cursor = '';
    do {
      const query = new URLSearchParams({ cursor, perPage, ...(sort && { sort }) });
      const body = await tenant.ask(200, 'GET', `${recordsPath(name)}?${query}`);
      assert.ok(body.items.length <= perPage);
      items.push(...body.items);
      cursor = body.nextCursor;
    } while (cursor !== '');
    assert.deepEqual(items, inOrder(tenant.model.records(name), sort));
  },

  async page(tenant, { collection: name, page, perPage }) {
    if (!tenant.model.collections.has(name)) return;
    const body = await tenant.ask(200, 'GET', `${recordsPath(name)}?page=${page}&perPage=${perPage}`);
    const all = tenant.model.records(name);
    assert.deepEqual(body.items, all.slice((page - 1) * perPage, page * perPage));
    assert.equal(body.totalItems, all.length);
    assert.equal(body.totalPages, Math.ceil(all.length / perPage));
  },

  async snapshot(tenant, { collection: name }) {
    if (!tenant.model.collections.has(name)) return;
    const text = await tenant.ask(200, 'GET', `/api/collections/${name}/snapshot`);
    const lines = text.trimEnd().split('\n').map((line) => JSON.parse(line));
    assert.ok(lines[0].from);
    assert.equal(lines.at(-1).done, true);
    assert.deepEqual(lines.slice(1, -1), inOrder(tenant.model.records(name), 'id'));
  },

  async feed(tenant, { from, limit, patterns: types }) {
    const { model } = tenant;
    const [sequence, after] = model.cursors[from % model.cursors.length];
    const page = await tenant.feedPage({ after, limit, patterns: types });
    const matching = model.after(sequence, types);
    const shown = matching.filter((event) => event.sequence <= page.lastSequence);
    assert.deepEqual(page.events, shown);
    assert.ok(page.events.length <= limit);
    if (page.events.length < limit && !page.hasMore) assert.equal(page.lastSequence, model.last);
    if (!page.hasMore) assert.equal(page.events.length, matching.length);
    assert.equal(page.firstSequence, sequence + 1);
    if (!model.cursors.some(([known]) => known === page.lastSequence))
      model.cursors.splice(-1, 0, [page.lastSequence, page.next]);
  },

  /** From a cursor backward: what lies before it, the newest first. */
  async feedBackward(tenant, { from, limit, patterns: types }) {
    const { model } = tenant;
    const [sequence, after] = model.cursors[from % model.cursors.length];
    const page = await tenant.feedPage({ after, limit, patterns: types, order: 'desc' });
    const own = page.events.filter((event) => event.sequence > model.first);
    const expected = model.events
      .filter((event) => event.sequence <= sequence && matchesAny(types, event.type))
      .reverse();
    if (page.events.length < limit && page.hasMore) return;
    assert.deepEqual(own, expected.slice(0, limit));
  },

  async subscribe(tenant, { from, patterns: types, isGuest }) {
    const { model, listeners } = tenant;
    if (listeners.length === LISTENERS_MAX) return;
    const subscription = new Subscription({ patterns: types, isGuest });
    const [sequence, after] = from === null ? [] : model.cursors[from % model.cursors.length];
    await subscription.open(tenant, after ?? 'now');
    if (after)
      for (const event of model.events)
        if (event.sequence > sequence) subscription.hear(event, model);
    listeners.push(subscription);
    if (isGuest) await tenant.settle([subscription]);
  },

  async leave(tenant, { which }) {
    const [gone] = tenant.listeners.splice(which, 1);
    if (!gone) return;
    await tenant.settle([gone]);
    await gone.listener.close();
  },

  async restart(tenant, { signal }) {
    await tenant.settle(tenant.listeners.filter(({ isGuest }) => isGuest));
    await tenant.home.restart(signal);
    for (const each of tenant.listeners) {
      await each.listener.closed;
      await each.open(tenant, each.position);
    }
  },
};

const plain = (given) => JSON.parse(JSON.stringify(given));

/** The record of a slot: that of its id, or one of those whose ids the server made. */
function recordAt(found, number) {
  if (!found) return undefined;
  const records = [...found.records.values()];
  return found.records.get(idOf(number)) ?? records[number];
}

function checkRecord(tenant, name, record, wished) {
  const found = tenant.model.collections.get(name);
  const { created, updated, ...rest } = record;
  const extra = found.fields.some((field) => field.name === 'extra') ? { extra: '' } : {};
  assert.deepEqual(rest, {
    collectionId: found.id,
    collectionName: name,
    id: record.id,
    ...plain(wished),
    ...extra,
  });
  assert.match(record.id, /^[a-z0-9]{15}$/);
  assert.match(created, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.equal(updated, created);
}

/* --- the runs --------------------------------------------------------------------------------- */

class Home {
  answers = 0;
  late = 0;
  events = 0;
  operations = 0;
  tenants = 0;

  static async open(t) {
    const home = new Home();
    const folder = await temporaryFolder(t);
    home.start = () => startServer(t, { folder });
    home.server = await home.start();
    home.token = await operatorToken(home.server);
    return home;
  }

  async restart(signal) {
    await this.server.stop(signal);
    this.server = await this.start();
  }

  async play(steps) {
    const tenant = new Tenant(this, `model-${++this.tenants}`);
    await tenant.begin();
    try {
      const first = { do: 'createCollection', collection: NAMES[0] };
      for (const step of [first, ...steps]) {
        await acts[step.do](tenant, step);
        this.operations++;
      }
      await this.compareAll(tenant);
    } finally {
      await tenant.end();
    }
  }

  /** At the end: every record, every event, and no event too many anywhere. */
  async compareAll(tenant) {
    for (const name of tenant.model.collections.keys())
      await acts.list(tenant, { collection: name, sort: '', perPage: 500 });
    await tenant.settle();
    await sleep(20);
    await tenant.settle();
    const [, after] = tenant.model.cursors[0];
    const { events } = await tenant.feedRest(after);
    assert.deepEqual(events, tenant.model.events);
  }
}

test('patterns of types are those of the model', () => {
  assert.ok(patternMatches('*', 'posts.created') && !patternMatches('*', '_collections.created'));
  assert.ok(patternMatches('posts.*', 'posts.created') && !patternMatches('posts.*', 'post.created'));
  assert.ok(patternMatches('*.deleted', 'posts.deleted'));
});

test('a tenant does what a model of it does, over restarts and kills', async (t) => {
  const repeated = process.env.BAKEND_SEED;
  const first = Number(repeated ?? Math.floor(Math.random() * 2 ** 31)) | 0;
  const home = await Home.open(t);
  const property = fc.asyncProperty(script, (steps) => home.play(steps));
  t.diagnostic(`seeds from ${first} on`);
  const until = Date.now() + DURATION_MS;
  let runs = 0;
  do {
    const seed = (first + runs) | 0;
    await fc.assert(property, {
      seed,
      numRuns: 1,
      interruptAfterTimeLimit: SHRINK_MS,
      errorWithCause: true,
      reporter(details) {
        if (!details.failed) return;
        const report = fc.defaultReportMessage(details);
        throw new Error(`BAKEND_SEED=${seed} repeats it\n${report}`, {
          cause: details.errorInstance,
        });
      },
    });
    runs++;
  } while (!repeated && Date.now() < until);
  promise(
    t,
    'model check',
    `${runs} runs, ${home.operations} operations, ${home.answers} answers and ` +
      `${home.events} realtime events compared, 0 differences`,
  );
});
