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

/** A read has a deadline, which a loaded machine may miss: then half a page is asked for. */
const isTooSlow = ({ status, text }) => status === 400 && text.includes('took too long');

/** Every record, by cursor; or those up to the first page that has one for which isEnough holds. */
export async function listAll(
  server,
  token,
  collection,
  { perPage = 500, query = '', isEnough = () => false } = {},
) {
  const items = [];
  for (let cursor = '', isFirst = true; isFirst || cursor !== '';) {
    const path = `${recordsPath(collection)}?cursor=${cursor}&perPage=${perPage}${query}`;
    const answer = await server.request('GET', path, undefined, { token });
    if (isTooSlow(answer) && perPage > 1) {
      perPage >>= 1;
      continue;
    }
    if (answer.status !== 200)
      throw new Error(`cannot list ${collection}: ${answer.status} ${answer.text}`);
    items.push(...answer.body.items);
    cursor = answer.body.items.some(isEnough) ? '' : answer.body.nextCursor;
    isFirst = false;
  }
  return items;
}
