/** Collections and records, as an operator and an app make them. */

export const recordsPath = (collection, id) =>
  `/api/collections/${collection}/records${id === undefined ? '' : `/${id}`}`;

/** Rules that let everybody do everything. */
export const open = { listRule: '', viewRule: '', createRule: '', updateRule: '', deleteRule: '' };

export async function createCollection(server, token, definition) {
  const answer = await server.request(
    'POST',
    '/api/collections',
    { type: 'base', ...definition },
    { token },
  );
  if (answer.status !== 200)
    throw new Error(`cannot create ${definition.name}: ${answer.status} ${answer.text}`);
  return answer.body;
}

export async function createRecord(server, token, collection, record) {
  const answer = await server.request('POST', recordsPath(collection), record, { token });
  if (answer.status !== 200)
    throw new Error(`cannot create in ${collection}: ${answer.status} ${answer.text}`);
  return answer.body;
}

/** Every record, by cursor. */
export async function listAll(server, token, collection, { perPage = 1000, query = '' } = {}) {
  const items = [];
  for (let cursor = '', isFirst = true; isFirst || cursor !== ''; isFirst = false) {
    const answer = await server.request(
      'GET',
      `${recordsPath(collection)}?cursor=${cursor}&perPage=${perPage}${query}`,
      undefined,
      { token },
    );
    if (answer.status !== 200)
      throw new Error(`cannot list ${collection}: ${answer.status} ${answer.text}`);
    items.push(...answer.body.items);
    cursor = answer.body.nextCursor;
  }
  return items;
}
