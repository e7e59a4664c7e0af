/** A server beside two neighbours, and a feed of several types on it. */
import { addNeighbours } from './neighbours.mjs';
import { startServer } from './program.mjs';
import { createCollection, createRecord, open, recordsPath } from './records.mjs';
import { operatorToken } from './superuser.mjs';

export async function operator(t, options) {
  const server = await startServer(t, options);
  const token = await operatorToken(server);
  await addNeighbours(server, token);
  const as = { token };
  return {
    server,
    token,
    define: (definition) => createCollection(server, token, { ...open, ...definition }),
    create: (collection, record) => createRecord(server, token, collection, record),
    patch: (path, body) => server.request('PATCH', path, body, as),
    remove: (path) => server.request('DELETE', path, undefined, as),
    events: (query = '') => server.request('GET', `/api/events${query}`, undefined, as),
  };
}

export const titled = (name) => ({ name, fields: [{ name: 'title', type: 'text' }] });

/** A server with posts and users, some of each changed: a feed of several types. */
export async function withHistory(t, options) {
  const api = await operator(t, options);
  await api.define(titled('posts'));
  await api.define(titled('people'));
  for (let i = 0; i < 10; i++) {
    const { id } = await api.create('posts', { title: `post ${i}` });
    if (i % 2) await api.create('people', { title: `person ${i}` });
    if (i % 3 === 0) await api.patch(recordsPath('posts', id), { title: `changed ${i}` });
    if (i % 5 === 0) await api.remove(recordsPath('posts', id));
  }
  return api;
}
