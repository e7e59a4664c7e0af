/** An operator at a server, and what is wrong with an answer. */
import assert from 'node:assert/strict';
import { addNeighbours } from './neighbours.mjs';
import { startServer } from './program.mjs';
import { createCollection, createRecord } from './records.mjs';
import { operatorToken } from './superuser.mjs';

/** A server of the test's own, beside whose tenant two others hold data, and requests as its superuser. */
export async function operator(t, options) {
  const server = await startServer(t, options);
  const token = await operatorToken(server);
  await addNeighbours(server, token);
  return {
    server,
    token,
    define: (definition) => createCollection(server, token, definition),
    create: (collection, record) => createRecord(server, token, collection, record),
    get: (path, options) => server.request('GET', path, undefined, { token, ...options }),
    post: (path, body, options) => server.request('POST', path, body, { token, ...options }),
    patch: (path, body, options) => server.request('PATCH', path, body, { token, ...options }),
    remove: (path, options) => server.request('DELETE', path, undefined, { token, ...options }),
  };
}

/** The error shape, and for each field its code: nothing more, nothing less. */
export function assertProblems(answer, codes, message) {
  assert.equal(answer.status, 400, answer.text);
  assert.deepEqual(Object.keys(answer.body).sort(), ['data', 'message', 'requestId', 'status']);
  assert.equal(answer.body.status, 400);
  if (message) assert.equal(answer.body.message, message);
  assert.deepEqual(
    Object.fromEntries(Object.entries(answer.body.data).map(([field, { code }]) => [field, code])),
    codes,
  );
  for (const problem of Object.values(answer.body.data))
    assert.match(problem.message, /^\S.*\.$/, 'a sentence');
}

export function assertRefused(answer, status) {
  assert.equal(answer.status, status, answer.text);
  assert.equal(answer.body.status, status);
  assert.deepEqual(answer.body.data, {});
  assert.equal(typeof answer.body.message, 'string');
}
