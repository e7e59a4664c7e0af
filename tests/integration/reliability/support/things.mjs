/** A server with the open collection `things`, and what was made in it. */
import { startServer } from '../../support/program.mjs';
import { createCollection, listAll, open } from '../../support/records.mjs';
import { addNeighbours } from '../../support/neighbours.mjs';
import { operatorToken } from '../../support/superuser.mjs';

export async function startThings(t, options) {
  const server = await startServer(t, options);
  const token = await operatorToken(server);
  await addNeighbours(server, token);
  await createCollection(server, token, {
    name: 'things',
    ...open,
    fields: [
      { name: 'title', type: 'text', required: true, max: 5000 },
      { name: 'j', type: 'json', maxSize: 30_000_000 },
    ],
  });
  return {
    server,
    token,
    /** How many there are of each title. */
    async count() {
      const counts = {};
      for (const { title } of await listAll(server, token, 'things', { query: '&fields=id,title' }))
        counts[title] = (counts[title] ?? 0) + 1;
      return counts;
    },
  };
}
