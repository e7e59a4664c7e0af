/**
 * Two other tenants that hold data, beside which a test runs: a collection of the same name as those that
 * tests make, with records and events, all of which hold a canary. No answer to a request that does not
 * name one of them may ever hold it.
 */
import assert from 'node:assert/strict';

export const canary = 'canary-of-a-neighbour';
const names = ['left', 'right'];
const collections = ['posts', 'books', 'notes'];

async function ask(server, tenant, token, path, body) {
  const answer = await server.request('POST', path, body, { token, tenant });
  assert.equal(answer.status, 200, answer.text);
  return answer.body;
}

/** Makes them, and from now on looks at every answer of this server. */
export async function addNeighbours(server, token) {
  for (const name of names) {
    await ask(server, undefined, token, '/api/tenants', { name });
    for (const collection of collections) {
      await ask(server, name, token, '/api/collections', {
        name: collection,
        listRule: '',
        viewRule: '',
        fields: [{ name: 'title', type: 'text' }],
      });
      const path = `/api/collections/${collection}/records`;
      for (let i = 0; i < 3; i++)
        await ask(server, name, token, path, { title: `${canary} ${name} ${i}` });
    }
  }
  const request = server.request.bind(server);
  server.request = async (method, path, body, options = {}) => {
    const answer = await request(method, path, body, options);
    if (!names.includes(options.tenant))
      assert.ok(!answer.text.includes(canary), `${method} ${path} shows a neighbour's data`);
    return answer;
  };
}
