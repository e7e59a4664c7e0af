/** Who may do what: each rule by each role, at every door. */
import { id } from '../replay.mjs';

const rules = {
  nobody: null,
  everybody: '',
  signed: '@request.auth.id != ""',
  own: 'owner = @request.auth.id',
  shared: 'owner = @request.auth.id || readers.id ?= @request.auth.id',
  role: '@request.auth.role = "editor"',
  team: '@request.auth.team.name = "red" && isOut = true',
  listed: '@collection.rec_teams.members ?= @request.auth.id',
  named: '@request.auth.collectionName = "rec_people" && @request.auth.verified = false',
  method: '@request.method = "GET" || @request.headers.x_key = "open"',
  query: '@request.query.key = "open"',
  body: '@request.body.title:isset = false || @request.body.title != "bad"',
  length: 'readers:length > 1 && title:lower ~ "t"',
};
const roles = ['guest', 'ann', 'bob', 'super'];
const people = [
  {
    id: id('recpersonann'),
    email: 'rec.ann@example.com',
    password: '1234567890',
    passwordConfirm: '1234567890',
    role: 'editor',
    team: id('recteamred'),
  },
  {
    id: id('recpersonbob'),
    email: 'rec.bob@example.com',
    password: '1234567890',
    passwordConfirm: '1234567890',
    role: '',
    team: id('recteamblue'),
  },
];
const records = (name, n) =>
  `/api/collections/rec_of_${name}/records${n ? `/${id(`rec${name}${n}`)}` : ''}`;
const rows = (name) => [
  {
    id: id(`rec${name}1`),
    title: 'Ta',
    owner: id('recpersonann'),
    readers: [id('recpersonbob')],
    isOut: true,
  },
  { id: id(`rec${name}2`), title: 'Tb', owner: id('recpersonbob'), readers: [], isOut: false },
  {
    id: id(`rec${name}3`),
    title: 'c',
    owner: '',
    readers: [id('recpersonann'), id('recpersonbob')],
    isOut: true,
  },
];

const stepsOf = (name) =>
  roles.flatMap((as) => {
    const title = (text) => `${name}: ${as} ${text}`;
    return [
      {
        name: title('lists'),
        as,
        path: `${records(name)}?fields=title,owner&sort=title,owner&perPage=100`,
      },
      {
        name: title('lists with a key'),
        as,
        path: `${records(name)}?fields=title,owner&sort=title,owner&perPage=100&key=open`,
        headers: { 'X-Key': 'open' },
      },
      {
        name: title('lists with a filter'),
        as,
        path: `${records(name)}?fields=title,owner&sort=title,owner&perPage=100&filter=${encodeURIComponent('owner.role = "editor"')}`,
      },
      ...[1, 2, 3].map((n) => ({
        name: title(`views ${n}`),
        as,
        path: `${records(name, n)}?fields=id`,
      })),
      {
        name: title('creates'),
        as,
        method: 'POST',
        path: records(name),
        body: { title: 'bad', owner: id('recpersonann') },
        pick: ['title'],
      },
      {
        name: title('creates its own'),
        as,
        method: 'POST',
        path: records(name),
        body: {
          title: 'Tgood',
          owner: as === 'bob' ? id('recpersonbob') : id('recpersonann'),
          readers: [id('recpersonann'), id('recpersonbob')],
        },
        pick: ['title'],
      },
      {
        name: title('creates what is wrong'),
        as,
        method: 'POST',
        path: records(name),
        body: { title: 'x'.repeat(30) },
      },
      ...[1, 2, 3].map((n) => ({
        name: title(`updates ${n}`),
        as,
        method: 'PATCH',
        path: records(name, n),
        body: { title: 'T2' },
        pick: ['id', 'title'],
      })),
      {
        name: title('gives it away'),
        as,
        method: 'PATCH',
        path: records(name, 1),
        body: { owner: id('recpersonann'), title: 'Ta' },
        pick: ['id', 'owner'],
      },
      {
        name: title('deletes what is missing'),
        as,
        method: 'DELETE',
        path: `${records(name)}/missing00000000`,
      },
    ];
  });

export default {
  collections: [
    {
      name: 'rec_teams',
      listRule: '',
      viewRule: '',
      fields: [
        { name: 'name', type: 'text' },
        { name: 'members', type: 'json' },
      ],
    },
    {
      name: 'rec_people',
      type: 'auth',
      listRule: 'id = @request.auth.id',
      viewRule: '',
      fields: [
        { name: 'role', type: 'text' },
        { name: 'team', type: 'relation', collectionId: '{collection rec_teams}', maxSelect: 1 },
      ],
    },
    ...Object.entries(rules).map(([name, rule]) => ({
      name: `rec_of_${name}`,
      listRule: rule,
      viewRule: rule,
      createRule: rule,
      updateRule: rule,
      deleteRule: rule,
      fields: [
        { name: 'title', type: 'text', max: 20 },
        { name: 'owner', type: 'relation', collectionId: '{collection rec_people}', maxSelect: 1 },
        {
          name: 'readers',
          type: 'relation',
          collectionId: '{collection rec_people}',
          maxSelect: 5,
        },
        { name: 'isOut', type: 'bool' },
      ],
    })),
  ],
  records: {
    rec_teams: [
      { id: id('recteamred'), name: 'red', members: id('recpersonann') },
      { id: id('recteamblue'), name: 'blue', members: 'nobody' },
    ],
    rec_people: people,
    ...Object.fromEntries(Object.keys(rules).map((name) => [`rec_of_${name}`, rows(name)])),
  },
  users: {
    ann: { collection: 'rec_people', identity: 'rec.ann@example.com', password: '1234567890' },
    bob: { collection: 'rec_people', identity: 'rec.bob@example.com', password: '1234567890' },
  },
  steps: [
    ...Object.keys(rules).flatMap(stepsOf),
    ...Object.keys(rules).flatMap((name) => [
      ...['guest', 'bob', 'ann'].map((as) => ({
        name: `${name}: ${as} deletes`,
        as,
        method: 'DELETE',
        path: records(name, 3),
      })),
      {
        name: `${name}: what is left`,
        as: 'super',
        path: `${records(name)}?fields=title,owner,isOut&sort=title,owner&perPage=100`,
      },
    ]),
    ...roles.map((as) => ({
      name: `people: ${as} lists`,
      as,
      path: '/api/collections/rec_people/records?sort=id',
    })),
    ...roles.map((as) => ({
      name: `people: ${as} views ann`,
      as,
      path: `/api/collections/rec_people/records/${id('recpersonann')}?expand=team`,
    })),
    ...roles.map((as) => ({
      name: `people: ${as} sorts by address`,
      as,
      path: '/api/collections/rec_people/records?sort=email&fields=id,email',
    })),
    ...roles.map((as) => ({
      name: `people: ${as} filters by address`,
      as,
      path: `/api/collections/rec_people/records?filter=${encodeURIComponent('email ~ "rec."')}&fields=id,email`,
    })),
    ...roles.map((as) => ({
      name: `people: ${as} is expanded`,
      as,
      path: `${records('everybody', 1)}?expand=owner,readers&fields=id,expand`,
    })),
    ...roles.map((as) => ({
      name: `people: ${as} updates ann`,
      as,
      method: 'PATCH',
      path: `/api/collections/rec_people/records/${id('recpersonann')}`,
      body: { role: 'boss' },
    })),
  ],
};
