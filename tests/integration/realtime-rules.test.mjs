/**
 * Who is told of what, where rules are expressions: over WebSocket and over the contract's streams,
 * live and in replays. Values that only some may see hold canaries, and everything that anybody was
 * sent is searched for them.
 */
import assert from 'node:assert/strict';
import { EventSource } from 'eventsource';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import PocketBase from 'pocketbase';
import { operator } from './support/operator.mjs';
import { Listener } from './support/realtime.mjs';
import { recordsPath } from './support/records.mjs';

globalThis.EventSource = EventSource;
const PASSWORD = 'correct horse 42';
const PATIENCE_MS = 10_000;
const text = (name, more = {}) => ({ name, type: 'text', ...more });

async function until(holds, what) {
  for (let waited = 0; waited < PATIENCE_MS && !holds(); waited += 10) await sleep(10);
  await sleep(50);
  assert.ok(holds(), what);
}

/** ann and bob, a guest and a superuser, each with a WebSocket. */
async function withPeople(t, body) {
  const api = await operator(t);
  const people = {};
  const clients = [];
  for (const name of ['ann', 'bob']) {
    const record = { email: `${name}@canary.example`, password: PASSWORD, passwordConfirm: PASSWORD };
    const user = await api.create('users', record);
    const path = '/api/collections/users/auth-with-password';
    const answer = await api.post(
      path,
      { identity: record.email, password: PASSWORD },
      { token: '' },
    );
    assert.equal(answer.status, 200, answer.text);
    people[name] = { id: user.id, token: answer.body.token };
  }
  people.guest = { token: '' };
  people.root = { token: api.token };
  for (const person of Object.values(people)) {
    person.listener = await Listener.connect(api.server, { token: person.token });
    person.pb = new PocketBase(api.server.url);
    person.pb.autoCancellation(false);
    person.pb.authStore.save(person.token, null);
    clients.push(person.pb);
  }
  try {
    await body({ api, ...people, people });
  } finally {
    for (const client of clients) client.realtime.disconnect();
    for (const { listener } of Object.values(people)) await listener.close();
  }
}

const told = ({ listener }) =>
  listener.events.map(({ event }) => `${event.type} ${event.payload?.title ?? '-'}`);

test('a list rule decides who is told, and who is told that it is gone', (t) =>
  withPeople(t, async ({ api, ann, bob, guest, root }) => {
    await api.define({
      name: 'notes',
      listRule: 'owner != "" && owner = @request.auth.id',
      viewRule: 'owner != "" && owner = @request.auth.id',
      fields: [text('title'), text('owner'), text('secret', { hidden: true })],
    });
    for (const { listener } of [ann, bob, guest, root]) await listener.subscribe({ types: ['notes.*'] });
    const note = await api.create('notes', { title: 'one', owner: ann.id, secret: 'canary-hidden' });
    const at = recordsPath('notes', note.id);
    await api.patch(at, { title: 'two', owner: bob.id });
    await api.patch(at, { title: 'three' });
    await api.remove(at);
    await root.listener.until(4);
    await ann.listener.until(2);
    await bob.listener.until(3);
    await guest.listener.until(0);
    assert.deepEqual(told(ann), ['notes.created one', 'notes.deleted -']);
    assert.deepEqual(told(bob), ['notes.updated two', 'notes.updated three', 'notes.deleted three']);
    const [, left] = ann.listener.events;
    assert.equal('payload' in left.event, false);
    assert.equal('previous' in left.event, false);
    assert.equal(left.event.subject, `notes/${note.id}`);
    assert.equal(left.event.sequence, root.listener.events[1].event.sequence);
    assert.equal('previous' in bob.listener.events[0].event, false, 'what it was before is not his');
    assert.deepEqual(bob.listener.events[1].event.previous.title, 'two');
    for (const { listener } of [ann, bob])
      assert.equal(JSON.stringify(listener.messages).includes('canary-hidden'), false);
    assert.ok(JSON.stringify(root.listener.messages).includes('canary-hidden'));

    /* The same from the journal, judged as of now. */
    const [{ cursor }] = root.listener.events;
    const again = await Listener.connect(api.server, { token: bob.token });
    await again.subscribe({ types: ['notes.*'], after: cursor });
    assert.deepEqual(await again.until(3), bob.listener.events);
    await again.close();
    const leaver = await Listener.connect(api.server, { token: ann.token });
    await leaver.subscribe({ types: ['notes.deleted'], after: 'start' });
    assert.deepEqual(await leaver.until(1), [left]);
    await leaver.close();
  }));

test('a rule over other collections is judged by a reader, in order', (t) =>
  withPeople(t, async ({ api, ann, bob, guest, root }) => {
    const open = { listRule: '', viewRule: '', createRule: null };
    const teams = await api.define({ name: 'teams', fields: [text('member')] });
    await api.define({
      name: 'tasks',
      listRule: 'team.member = @request.auth.id',
      viewRule: '',
      fields: [text('title'), { name: 'team', type: 'relation', collectionId: teams.id, maxSelect: 1 }],
    });
    await api.define({ name: 'news', ...open, fields: [text('title')] });
    const [ours, theirs] = [
      await api.create('teams', { member: ann.id }),
      await api.create('teams', { member: bob.id }),
    ];
    for (const { listener } of [ann, bob, guest, root])
      await listener.subscribe({ types: ['tasks.*', 'news.*'] });
    const viewer = await Listener.connect(api.server);
    for (let i = 0; i < 60; i++) {
      await api.create('tasks', { title: `${i}`, team: (i % 2 === 0 ? ours : theirs).id });
      await api.create('news', { title: `n${i}` });
    }
    await root.listener.until(120);
    await guest.listener.until(60);
    for (const [person, parity] of [
      [ann, 0],
      [bob, 1],
    ]) {
      await person.listener.until(90);
      const expected = [];
      for (let i = 0; i < 60; i++) {
        if (i % 2 === parity) expected.push(`tasks.created ${i}`);
        expected.push(`news.created n${i}`);
      }
      assert.deepEqual(told(person), expected);
      assert.deepEqual(
        person.listener.sequences,
        [...person.listener.sequences].sort((a, b) => a - b),
      );
    }
    /* Moved to another team: gone for one, there for the other. */
    const moved = root.listener.events[0].event;
    await viewer.subscribe({ subject: moved.subject });
    await api.patch(`/api/collections/tasks/records/${moved.payload.id}`, { team: theirs.id });
    await ann.listener.until(91);
    await bob.listener.until(91);
    await viewer.until(1);
    assert.equal(told(ann).at(-1), 'tasks.deleted -');
    assert.equal(told(bob).at(-1), 'tasks.updated 0');
    await viewer.close();
    const again = await Listener.connect(api.server, { token: ann.token });
    await again.subscribe({ types: ['tasks.*', 'news.*'], after: 'start' });
    await again.until(91);
    assert.deepEqual(again.sequences, ann.listener.sequences);
    await again.close();
    const { text: figures } = await api.get('/metrics');
    assert.match(figures ?? '', /bakend_realtime_rules_asked_total\{of="tables"\} [1-9]/);
  }));

test('a rule that says nothing of who asks is asked once, and one of equal askers once', (t) =>
  withPeople(t, async ({ api, ann, people }) => {
    const figure = async () => {
      const { text: figures } = await api.get('/metrics');
      return Number(figures.match(/rules_asked_total\{of="memory"\} (\d+)/)[1]);
    };
    await api.define({ name: 'same', listRule: 'title != "x"', viewRule: '', fields: [text('title')] });
    await api.define({
      name: 'signed',
      listRule: '@request.auth.id != ""',
      viewRule: '',
      fields: [text('title')],
    });
    const more = [];
    for (let i = 0; i < 5; i++) more.push(await Listener.connect(api.server, { token: ann.token }));
    const all = [...more, ...Object.values(people).map(({ listener }) => listener)];
    for (const listener of all) await listener.subscribe({ types: ['same.*', 'signed.*'] });
    let before = await figure();
    await api.create('same', { title: 'a' });
    for (const listener of all) await listener.until(1);
    assert.equal((await figure()) - before, 1);
    before = await figure();
    await api.create('signed', { title: 'a' });
    for (const listener of more) await listener.until(2);
    assert.equal((await figure()) - before, 3, 'ann, bob and the guest');
    for (const listener of more) await listener.close();
  }));

test('an address that is not shown is in no frame', (t) =>
  withPeople(t, async ({ api, ann, bob, guest, root }) => {
    await api.patch('/api/collections/users', { listRule: '', viewRule: '' });
    const streams = {};
    for (const [name, person] of Object.entries({ ann, bob, guest, root })) {
      await person.listener.subscribe({ types: ['users.*'] });
      await person.listener.subscribe({ types: ['users.*'], filter: 'payload.email ~ "canary"' });
      streams[name] = [];
      await person.pb.collection('users').subscribe('*', (each) => streams[name].push(each));
    }
    const at = recordsPath('users', ann.id);
    await api.patch(at, { name: 'Ann' });
    await ann.listener.until(1);
    assert.equal(ann.listener.events[0].event.payload.email, 'ann@canary.example', 'her own');
    await until(() => streams.ann.length === 1, 'ann');
    assert.equal(streams.ann[0].record.email, 'ann@canary.example');
    /* Another address ends her token. */
    await api.patch(at, { email: 'other@canary.example' });
    for (const { listener } of [bob, guest, root]) await listener.until(2);
    for (const name of ['bob', 'guest']) await until(() => streams[name].length === 2, name);
    const sent = (person, name) => JSON.stringify([person.listener.messages, streams[name]]);
    for (const [name, person] of Object.entries({ bob, guest }))
      assert.equal(sent(person, name).includes('canary.example'), false, name);
    assert.ok(sent(root, 'root').includes('canary.example'));
    await api.patch(at, { emailVisibility: true });
    for (const { listener } of [bob, guest]) await listener.until(3);
    for (const name of ['bob', 'guest']) await until(() => streams[name].length === 3, name);
    assert.equal(streams.guest[2].record.email, 'other@canary.example');
    /* A filter sees what the frames show. */
    const blind = await Listener.connect(api.server);
    await blind.subscribe({ types: ['users.*'], filter: 'payload.email ~ "canary"', after: 'start' });
    await blind.until(1);
    await blind.close();
  }));

test('options of a stream: filter, expand, fields, headers', (t) =>
  withPeople(t, async ({ api, ann, guest }) => {
    const teams = await api.define({
      name: 'teams',
      listRule: '',
      viewRule: 'name != "closed"',
      fields: [text('name'), text('secret', { hidden: true })],
    });
    await api.define({
      name: 'tasks',
      listRule: 'title != "keyed" || @request.headers.x_key = "open"',
      viewRule: '',
      fields: [text('title'), { name: 'team', type: 'relation', collectionId: teams.id, maxSelect: 1 }],
    });
    const seen = { filtered: [], expanded: [], picked: [], keyed: [], wrong: [], hidden: [] };
    const subscribe = (person, name, options) =>
      person.pb.collection('tasks').subscribe('*', (each) => seen[name].push(each), options);
    await subscribe(guest, 'filtered', { filter: 'title ~ "yes" && team.name = "red"' });
    await subscribe(guest, 'expanded', { expand: 'team' });
    await subscribe(guest, 'picked', { fields: 'title:excerpt(3),expand.team.name', expand: 'team' });
    await subscribe(ann, 'keyed', { headers: { 'X-Key': 'open' } });
    await subscribe(guest, 'wrong', { filter: 'title ~' });
    await subscribe(guest, 'hidden', { filter: 'team.secret = "canary"' });
    const red = await api.create('teams', { name: 'red', secret: 'canary' });
    const closed = await api.create('teams', { name: 'closed', secret: 'canary' });
    await api.create('tasks', { title: 'yes', team: red.id });
    await api.create('tasks', { title: 'no', team: closed.id });
    await api.create('tasks', { title: 'keyed', team: red.id });
    await until(() => seen.keyed.length === 3, 'the key opens');
    await until(() => seen.expanded.length === 2, 'two without the key');
    assert.deepEqual(
      seen.filtered.map(({ record }) => record.title),
      ['yes'],
    );
    assert.equal(seen.expanded[0].record.expand.team.name, 'red');
    assert.equal('secret' in seen.expanded[0].record.expand.team, false);
    assert.equal(seen.expanded[1].record.expand?.team, undefined);
    assert.deepEqual(seen.picked[0].record, { title: 'yes', expand: { team: { name: 'red' } } });
    assert.equal(seen.wrong.length + seen.hidden.length, 0);
    assert.deepEqual(Object.keys(seen.expanded[0]).sort(), ['action', 'record']);
  }));

test('a change of the rule holds for the next event; who is signed in for the one after', (t) =>
  withPeople(t, async ({ api, ann, bob }) => {
    await api.define({
      name: 'posts',
      listRule: '@request.auth.name = "writer"',
      viewRule: null,
      fields: [text('title')],
    });
    for (const { listener } of [ann, bob]) await listener.subscribe({ types: ['posts.*'] });
    await api.create('posts', { title: '1' });
    await api.patch(recordsPath('users', ann.id), { name: 'writer' });
    await api.create('posts', { title: '2' });
    await ann.listener.until(1);
    await api.patch('/api/collections/posts', { listRule: '@request.auth.id != ""' });
    await api.create('posts', { title: '3' });
    await ann.listener.until(2);
    await bob.listener.until(1);
    assert.deepEqual(told(ann), ['posts.created 2', 'posts.created 3']);
    await api.patch('/api/collections/posts', { listRule: null });
    await api.create('posts', { title: '4' });
    await ann.listener.until(2);
  }));

test('filters over events: WebSocket', (t) =>
  withPeople(t, async ({ api, guest, root }) => {
    await api.define({
      name: 'sales',
      listRule: '',
      viewRule: '',
      fields: [text('title'), { name: 'total', type: 'number' }],
    });
    const filter = 'type = "sales.created" && payload.total >= 50 // large';
    await guest.listener.subscribe({ types: ['sales.*'], filter });
    await root.listener.subscribe({ filter: 'previous.total < 50 && payload.total >= 50' });
    const wrong = await guest.listener.ask({ op: 'subscribe', filter: 'payload.total >' });
    assert.equal(wrong.error.code, 'validation_invalid_filter');
    assert.match(wrong.error.message, /^filter: at \d+: /);
    const small = await api.create('sales', { title: 'small', total: 5 });
    await api.create('sales', { title: 'large', total: 50 });
    await api.patch(recordsPath('sales', small.id), { total: 60 });
    await guest.listener.until(1);
    await root.listener.until(1);
    assert.deepEqual(told(guest), ['sales.created large']);
    assert.deepEqual(told(root), ['sales.updated small']);
    const again = await Listener.connect(api.server);
    await again.subscribe({ types: ['sales.*'], filter, after: 'start' });
    await again.until(1);
    await again.ask({ op: 'unsubscribe', filter: 'type = "other"' });
    await api.create('sales', { title: 'more', total: 70 });
    await again.until(2);
    await again.ask({ op: 'unsubscribe', filter });
    await api.create('sales', { title: 'most', total: 80 });
    await again.until(2);
    await again.close();
  }));

test('since brings to a stream what its rule and its options show', (t) =>
  withPeople(t, async ({ api, ann, bob }) => {
    const teams = await api.define({
      name: 'teams',
      viewRule: '',
      fields: [text('name'), text('member')],
    });
    await api.define({
      name: 'tasks',
      listRule: 'team.member = @request.auth.id',
      viewRule: null,
      fields: [text('title'), { name: 'team', type: 'relation', collectionId: teams.id, maxSelect: 1 }],
    });
    const ours = await api.create('teams', { name: 'ours', member: ann.id });
    const theirs = await api.create('teams', { name: 'theirs', member: bob.id });
    for (let i = 0; i < 40; i++)
      await api.create('tasks', { title: `${i}`, team: (i % 2 === 0 ? ours : theirs).id });
    const seen = { ann: [], bob: [] };
    const options = { query: { since: 'start', expand: 'team', filter: 'title !~ "3"' } };
    for (const [name, { pb }] of Object.entries({ ann, bob }))
      await pb.collection('tasks').subscribe('*', (each) => seen[name].push(each), options);
    await api.create('tasks', { title: 'last', team: ours.id });
    const kept = Array.from({ length: 40 }, (_, i) => `${i}`).filter((i) => !i.includes('3'));
    const wanted = kept.filter((i) => Number(i) % 2 === 0);
    await until(() => seen.ann.length === wanted.length + 1, 'ann');
    assert.deepEqual(
      seen.ann.map(({ record }) => record.title),
      [...wanted, 'last'],
    );
    assert.ok(seen.ann.every(({ record }) => record.expand.team.name === 'ours'));
    assert.ok(seen.ann.every(({ cursor }) => cursor.length === 27));
    assert.equal(seen.bob.length, kept.length - wanted.length);
  }));

test('who could see a record until a hidden field changed is told that it is gone', (t) =>
  withPeople(t, async ({ api, ann, bob }) => {
    await api.define({
      name: 'notes',
      listRule: 'team != "" && team ~ @request.auth.id',
      fields: [text('title'), text('team', { hidden: true })],
    });
    for (const { listener } of [ann, bob]) await listener.subscribe({ types: ['notes.*'] });
    const note = await api.create('notes', { title: 'one', team: ann.id });
    await api.patch(recordsPath('notes', note.id), { team: bob.id });
    await api.patch(recordsPath('notes', note.id), { team: '' });
    await ann.listener.until(2);
    await bob.listener.until(2);
    assert.deepEqual(told(ann), ['notes.created one', 'notes.deleted -']);
    assert.deepEqual(told(bob), ['notes.updated one', 'notes.deleted -']);
    assert.ok(!ann.listener.messages.some((each) => JSON.stringify(each).includes(bob.id)));
  }));

/** Rooms take their members and messages along. */
async function defineRooms(api) {
  const owned = { type: 'relation', cascadeDelete: true, required: true };
  const rooms = await api.define({ name: 'rooms', fields: [text('title')] });
  await api.define({
    name: 'members',
    fields: [text('user'), { ...owned, name: 'room', collectionId: rooms.id }],
    indexes: ['CREATE INDEX members_room ON members (room)'],
  });
  const rules = {
    asked: '@collection.members.room ?= room && @collection.members.user ?= @request.auth.id',
    walked: 'room.members_via_room.user ?= @request.auth.id',
    related: 'room.title = "open" && @request.auth.id != ""',
  };
  for (const [name, listRule] of Object.entries(rules))
    await api.define({
      name,
      listRule,
      fields: [text('title'), { ...owned, name: 'room', collectionId: rooms.id }],
    });
  return Object.keys(rules);
}

test('what went in the same commit is still there for the rule of a deletion', (t) =>
  withPeople(t, async ({ api, ann, bob, guest }) => {
    const names = await defineRooms(api);
    const room = await api.create('rooms', { title: 'open' });
    await api.create('members', { user: ann.id, room: room.id });
    for (const name of names) await api.create(name, { title: name, room: room.id });
    const streamed = [];
    for (const name of names)
      await ann.pb.collection(name).subscribe('*', ({ action }) => streamed.push(`${name} ${action}`));
    for (const { listener } of [ann, bob, guest])
      await listener.subscribe({ types: names.map((name) => `${name}.*`) });
    await api.remove(recordsPath('rooms', room.id));
    await ann.listener.until(3);
    await bob.listener.until(1);
    await guest.listener.until(0);
    assert.deepEqual(told(ann).sort(), names.map((name) => `${name}.deleted ${name}`).sort());
    assert.deepEqual(told(bob), ['related.deleted related']);
    await until(() => streamed.length === 3, 'streams hear of all three');
    assert.deepEqual(streamed.sort(), names.map((name) => `${name} delete`).sort());
  }));
