/**
 * Who sees what, through every door: role × rule × field × door, generated; roles are people and API
 * keys. Each value that only some may see holds a canary of its own; whatever a role was sent, through
 * any door, is searched for all of them. Nobody is sent one that is not theirs, and everybody is sent
 * theirs. What may not be seen cannot be asked for either: no filter, no order and no total tells it.
 *
 * Run against servers with one fault each (a door that forgets the rule, or shows hidden fields), it
 * fails for every one of them.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { operator } from './support/operator.mjs';
import { Listener } from './support/realtime.mjs';
import { recordsPath } from './support/records.mjs';

const PASSWORD = 'correct horse 42';
const PATIENCE_MS = 15_000;

/** Rule → whether ann, bob and guests see a record of that owner. */
const RULES = {
  nobody: { rule: null, sees: () => false },
  all: { rule: '', sees: () => true },
  own: {
    rule: 'owner != "" && owner = @request.auth.id',
    sees: (role, owner) => role === owner,
  },
  team: { rule: 'team.members.id ?= @request.auth.id', sees: (role, owner) => role === owner },
};
/** API keys and what they may. Where a scope says nothing they are shown what guests are. */
const KEYS = {
  reader: ['records:read'],
  writer: ['records:write'],
  feeder: ['events:read'],
  single: ['records:read:vault_nobody'],
};
const ROLES = ['guest', 'ann', 'bob', 'admin', ...Object.keys(KEYS)];
const OWNERS = ['ann', 'bob'];
const vault = (rule) => `vault_${rule}`;

const isShown = (role, name, owner) =>
  role === 'admin' ||
  role === 'reader' ||
  (role === 'single' && name === 'nobody') ||
  RULES[name].sees(role, owner);

/** All canaries: the text, where it is, and who may see it. */
class Canaries {
  all = [];

  put(where, readers) {
    const text = `canary${String(this.all.length).padStart(4, '0')}bird`;
    this.all.push({ text, where, readers });
    return text;
  }
}

/** Someone at the server: keeps every byte that was sent to them. */
class Person {
  received = '';

  constructor(server, role, token) {
    Object.assign(this, { server, role, token });
  }

  async ask(method, path, body, headers) {
    const answer = await this.server.request(method, path, body, { token: this.token, headers });
    this.received += answer.text;
    return answer;
  }

  /** For what an answer tells beside its bytes. */
  async look(path) {
    return this.server.request('GET', path, undefined, { token: this.token });
  }

  async counts(path) {
    const answer = await this.look(path);
    return answer.status === 200 ? answer.body.items.length : 0;
  }
}

/* --- the world ------------------------------------------------------------------------------------ */

async function createUsers(api, canaries) {
  await api.patch('/api/collections/users', { listRule: '', viewRule: '' });
  const ids = {};
  for (const name of OWNERS) {
    const isOpen = name === 'bob';
    const readers = isOpen ? ROLES : [name, 'admin', 'feeder'];
    const email = `${canaries.put(`email of ${name}`, readers)}@example.com`;
    const secret = { password: PASSWORD, passwordConfirm: PASSWORD };
    ids[name] = await api.create('users', { email, emailVisibility: isOpen, ...secret });
  }
  const secret = { password: PASSWORD, passwordConfirm: PASSWORD };
  const last = canaries.put('the last email', ['admin', 'feeder']);
  ids.last = await api.create('users', { email: `${last}@example.com`, ...secret });
  ids.last.text = last;
  return ids;
}

async function createVaults(api, users, canaries) {
  const relation = (name, collectionId, maxSelect = 1) => ({
    name,
    type: 'relation',
    collectionId,
    maxSelect,
  });
  const collections = await api.get('/api/collections/users');
  const usersId = collections.body.id;
  const open = { listRule: '', viewRule: '' };
  const fields = [relation('members', usersId, 5)];
  const teams = await api.define({ name: 'teams', ...open, fields });
  const teamOf = {};
  for (const owner of OWNERS)
    teamOf[owner] = await api.create('teams', { members: [users[owner].id] });
  const records = [];
  const links = [];
  for (const [name, { rule }] of Object.entries(RULES)) {
    const all = { listRule: rule, viewRule: rule, createRule: rule, updateRule: rule };
    const made = await api.define({
      name: vault(name),
      ...all,
      fields: [
        { name: 'title', type: 'text' },
        { name: 'data', type: 'json' },
        { name: 'secret', type: 'text', hidden: true },
        relation('owner', usersId),
        relation('team', teams.id),
      ],
    });
    links.push(relation(name, made.id));
    for (const owner of OWNERS) {
      const readers = ROLES.filter((role) => isShown(role, name, owner));
      const at = `${vault(name)} of ${owner}`;
      const values = {
        /* Who writes a record is answered with it: by then its data is another one. */
        title: canaries.put(`title in ${at}`, [...readers, 'writer', 'feeder']),
        data: { note: canaries.put(`data in ${at}`, [...readers, 'feeder']) },
        secret: canaries.put(`secret in ${at}`, ['admin']),
      };
      const owned = { owner: users[owner].id, team: teamOf[owner].id };
      records.push({
        rule: name,
        owner,
        values,
        readers,
        ...(await api.create(vault(name), { ...values, ...owned })),
      });
    }
  }
  await api.define({ name: 'links', ...open, fields: links });
  for (const owner of OWNERS) {
    const ofOwner = records.filter((record) => record.owner === owner);
    await api.create('links', Object.fromEntries(ofOwner.map(({ rule, id }) => [rule, id])));
  }
  return records;
}

/* --- doors ---------------------------------------------------------------------------------------- */

const expands = [
  ...Object.keys(RULES),
  ...Object.keys(RULES).flatMap((rule) => [`${rule}.owner`, `${rule}.team.members`]),
];
const backs = Object.keys(RULES).map((rule) => `${vault(rule)}_via_team`);

async function throughRest(person, records) {
  for (const rule of Object.keys(RULES)) {
    const path = recordsPath(vault(rule));
    for (const query of [
      '',
      '?fields=*,secret,data.note',
      '?expand=owner,team.members',
      '?cursor=',
    ])
      await person.ask('GET', path + query);
    for (const sort of ['title', '-data.note', 'owner.email', 'secret', '@random'])
      await person.ask('GET', `${path}?sort=${sort}&fields=id,title`);
  }
  for (const { rule, id } of records) await person.ask('GET', recordsPath(vault(rule), id));
  await person.ask('GET', `${recordsPath('links')}?expand=${expands.join(',')}`);
  await person.ask('GET', `${recordsPath('teams')}?expand=members,${backs.join(',')}`);
  await person.ask('GET', `${recordsPath('users')}?fields=*,email,tokenKey,password`);
  for (const path of ['/api/collections', '/api/logs', '/api/settings', '/metrics'])
    await person.ask('GET', path);
}

async function throughWrites(person, records) {
  for (const { rule, id } of records)
    await person.ask('PATCH', recordsPath(vault(rule), id), { data: { other: 1 } });
  for (const { rule, owner } of records)
    await person.ask('POST', recordsPath(vault(rule)), { title: 'x', owner });
  for (const { rule, id } of records) {
    const url = `${recordsPath(vault(rule), id)}?expand=owner`;
    const requests = [{ method: 'PATCH', url, body: { data: {} } }];
    await person.ask('POST', '/api/batch', { requests });
  }
}

async function throughFeeds(person, canaries) {
  for (const accept of ['application/json', 'application/cloudevents-batch+json']) {
    const path = '/api/events?types=*,_*&limit=1000';
    const { text: bytes } = await person.ask('GET', path, undefined, { accept });
    for (const { text, where } of canaries.all)
      if (where.startsWith('secret'))
        assert.ok(!bytes.includes(text), `no event has what is hidden: ${where}`);
  }
  for (const rule of Object.keys(RULES))
    await person.ask('GET', `/api/collections/${vault(rule)}/snapshot`);
}

/** Both kinds of realtime, while everything is changed by the administrator. */
async function throughRealtime(api, people, records, change) {
  const closers = [];
  for (const person of people) {
    const socket = await Listener.connect(api.server, { token: person.token });
    const wishes = [
      { types: ['*'] },
      ...records.map(({ rule, id }) => ({ subject: `${vault(rule)}/${id}` })),
    ];
    for (const wish of wishes) await socket.ask({ op: 'subscribe', ...wish });
    const replay = await Listener.connect(api.server, { token: person.token });
    await replay.ask({ op: 'subscribe', types: ['*'], after: 'start' });
    const stream = await openStream(person, records);
    closers.push(async () => {
      for (const each of [socket, replay]) {
        person.received += JSON.stringify(each.messages);
        await each.close();
      }
      person.received += stream.text;
      stream.abort();
    });
  }
  await change();
  await sleep(1500);
  for (const close of closers) await close();
}

async function openStream(person, records) {
  const controller = new AbortController();
  const headers = person.token ? { authorization: person.token } : {};
  const answer = await fetch(`${person.server.url}/api/realtime`, {
    signal: controller.signal,
    headers,
  });
  const stream = { text: '', abort: () => controller.abort() };
  (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of answer.body) stream.text += decoder.decode(chunk, { stream: true });
  })().catch(() => {});
  for (let waited = 0; !/"clientId":"([^"]+)"/.test(stream.text); waited += 10) {
    assert.ok(waited < PATIENCE_MS, 'the stream says who it is');
    await sleep(10);
  }
  const [, clientId] = /"clientId":"([^"]+)"/.exec(stream.text);
  const options = encodeURIComponent(JSON.stringify({ query: { expand: 'owner,team.members' } }));
  const subscriptions = [
    'users/*',
    ...Object.keys(RULES).flatMap((rule) => [
      `${vault(rule)}/*`,
      `${vault(rule)}/*?options=${options}`,
    ]),
    ...records.map(({ rule, id }) => `${vault(rule)}/${id}`),
  ];
  const answered = await person.server.request(
    'POST',
    '/api/realtime',
    { clientId, subscriptions },
    { token: person.token },
  );
  assert.equal(answered.status, 204, answered.text);
  return stream;
}

/* --- asking without being told -------------------------------------------------------------------- */

async function probe(person, records) {
  for (const { rule, owner, values, readers } of records) {
    const questions = [
      [recordsPath(vault(rule)), 'title', values.title, readers],
      [recordsPath(vault(rule)), 'data.note', values.data.note, readers],
      [recordsPath(vault(rule)), 'secret', values.secret, ['admin']],
      [recordsPath('links'), `${rule}.title`, values.title, readers],
      [recordsPath('links'), `${rule}.secret`, values.secret, ['admin']],
      [recordsPath('teams'), `${vault(rule)}_via_team.title`, values.title, readers],
      [recordsPath('teams'), `${vault(rule)}_via_team.secret`, values.secret, ['admin']],
    ];
    for (const [path, name, text, who] of questions) {
      if (who.includes(person.role)) continue;
      for (const operator of ['~', '?~']) {
        const filter = encodeURIComponent(`${name} ${operator} "${text}"`);
        const told = await person.counts(`${path}?filter=${filter}`);
        assert.equal(told, 0, `${person.role}: ${name} of ${owner} in ${path} by ${operator}`);
      }
    }
  }
}

/** No order tells what is hidden: a path to it is refused, and addresses that are not shown are alike. */
async function probeOrders(person, users) {
  if (person.role === 'admin') return;
  const refused = ['all', 'own'].flatMap((rule) => [
    `${recordsPath(vault(rule))}?sort=secret`,
    `${recordsPath('links')}?sort=${rule}.secret`,
    `${recordsPath('links')}?sort=-${rule}.secret`,
  ]);
  for (const path of refused) {
    const { status, text } = await person.look(path);
    assert.equal(status, 400, `${person.role}: ${path}: ${text}`);
  }
  for (const rule of ['all', 'own'])
    for (const [sort, place] of [['owner.email', -1], ['-owner.email', 0]]) {
      const { status, text, body } = await person.look(`${recordsPath(vault(rule))}?sort=${sort}`);
      assert.equal(status, 200, text);
      const owners = body.items.map(({ owner }) => owner);
      if (rule === 'all') assert.ok(owners.includes(users.bob.id), text);
      if (owners.includes(users.bob.id))
        assert.equal(owners.at(place), users.bob.id, `${person.role}: only his address is shown`);
    }
  const { body } = await person.look(`${recordsPath('users')}?sort=email`);
  assert.equal(body.items.at(-1).id, users.bob.id, `${person.role}: only his address is shown`);
}

async function probeAddresses(person, users) {
  const questions = [[recordsPath('users'), 'email', users.last.text]];
  if (person.role !== 'ann') {
    const [text] = users.ann.email.split('@');
    questions.push(
      [recordsPath('users'), 'email', text],
      [recordsPath(vault('all')), 'owner.email', text],
      [recordsPath('teams'), 'members.email', text],
    );
  }
  if (person.role === 'admin') return;
  for (const [path, name, text] of questions)
    for (const operator of ['~', '?~']) {
      const filter = encodeURIComponent(`${name} ${operator} "${text}"`);
      assert.equal(await person.counts(`${path}?filter=${filter}`), 0, `${person.role}: ${path}`);
    }
}

/** Totals are of what is seen. */
async function probeTotals(person) {
  for (const rule of Object.keys(RULES)) {
    const seen = await person.counts(`${recordsPath(vault(rule))}?perPage=500`);
    const { status, body } = await person.look(`${recordsPath(vault(rule))}?perPage=1`);
    if (status === 200) assert.equal(body.totalItems, seen, `${person.role}: total of ${rule}`);
  }
}

/* --- the test ------------------------------------------------------------------------------------- */

test('nobody is sent what is not theirs, through any door', async (t) => {
  const api = await operator(t);
  const canaries = new Canaries();
  const settings = { batch: { enabled: true, maxRequests: 50, timeout: 3 } };
  assert.equal((await api.patch('/api/settings', settings)).status, 200);
  const users = await createUsers(api, canaries);
  const records = await createVaults(api, users, canaries);
  const people = [];
  for (const role of ROLES)
    people.push(new Person(api.server, role, await tokenOf(api, users, role)));

  await throughRealtime(api, people, records, async () => {
    for (const { rule, id, values } of records) {
      const answer = await api.patch(recordsPath(vault(rule), id), {
        data: values.data,
        title: `${values.title}!`,
      });
      assert.equal(answer.status, 200, answer.text);
    }
    for (const owner of OWNERS)
      await api.patch(recordsPath('users', users[owner].id), { name: `${owner} again` });
    await handOver(api, users, canaries);
  });
  const doors = people.map(({ received }) => received.length);
  assert.ok(
    doors.every((length) => length > 0),
    'realtime said something to everybody',
  );
  for (const person of people) {
    await throughRest(person, records);
    await throughFeeds(person, canaries);
  }
  for (const person of people) {
    await probe(person, records);
    await probeOrders(person, users);
    await probeAddresses(person, users);
    await probeTotals(person);
  }
  for (const person of people) if (person.role !== 'admin') await throughWrites(person, records);

  for (const person of people)
    await t.test(`${person.role} is sent theirs and nothing else`, () => {
      for (const { text, where, readers } of canaries.all)
        assert.equal(
          person.received.includes(text),
          readers.includes(person.role),
          `${where}: ${text}`,
        );
      assert.doesNotMatch(person.received, /"(tokenKey|passwordHash)":"|\$argon2/);
      assert.ok(!person.received.includes(PASSWORD), 'the password');
    });
});

/** What was ann's becomes bob's: he is not told what it was before, nor she what it is now. */
async function handOver(api, users, canaries) {
  const all = ['admin', 'reader', 'feeder'];
  const before = canaries.put('title before it is handed over', ['ann', ...all]);
  const after = canaries.put('title after that', ['bob', ...all]);
  const { id } = await api.create(vault('own'), { title: before, owner: users.ann.id });
  const change = { title: after, owner: users.bob.id };
  const answer = await api.patch(recordsPath(vault('own'), id), change);
  assert.equal(answer.status, 200, answer.text);
}

async function tokenOf(api, users, role) {
  if (role === 'guest') return undefined;
  if (role === 'admin') return api.token;
  if (KEYS[role]) {
    const made = await api.post('/api/api-keys', { name: role, scopes: KEYS[role] });
    assert.equal(made.status, 200, made.text);
    return made.body.key;
  }
  const path = `/api/collections/users/impersonate/${users[role].id}`;
  const answer = await api.post(path, { duration: 3600 });
  assert.equal(answer.status, 200, answer.text);
  return answer.body.token;
}
