/** Reading the change feed to its end, with the account of every page checked on the way. */
import assert from 'node:assert/strict';

/**
 * All events behind a cursor (or from the start). Fails when the numbers of a page do not add up.
 * @returns {Promise<{events: object[], next: string, first: number, last: number}>} first and last:
 * of the range
 */
export async function readFeed(server, token, { after = 'start', query = '', limit = 1000 } = {}) {
  const events = [];
  let next = after,
    last,
    first;
  for (let hasMore = true; hasMore;) {
    const path = `/api/events?after=${encodeURIComponent(next)}&limit=${limit}${query}`;
    const answer = await server.request('GET', path, undefined, { token });
    assert.equal(answer.status, 200, answer.text);
    const page = answer.body;
    checkAccount(page);
    if (last !== undefined)
      assert.equal(page.firstSequence, last + 1, 'a page begins where the one before ended');
    first ??= page.firstSequence;
    last = page.lastSequence;
    events.push(...page.events);
    ({ next, hasMore } = page);
  }
  return { events, next, first, last };
}

/**
 * The promise of each page: its range holds what it shows and what it skipped, and nothing else.
 */
export function checkAccount(page) {
  assert.equal(
    page.lastSequence - page.firstSequence + 1,
    page.events.length + page.skipped,
    `the range ${page.firstSequence}…${page.lastSequence} is ${page.events.length} events and ${page.skipped} skipped`,
  );
  assert.equal(typeof page.next, 'string');
  assert.ok(page.next.length > 0, 'next is always given');
  for (const event of page.events)
    assert.ok(event.sequence >= page.firstSequence && event.sequence <= page.lastSequence);
}

/** Fails unless the numbers go up by one from `from`. */
export function checkContiguous(events, from) {
  events.forEach((event, index) =>
    assert.equal(event.sequence, from + index, 'the numbers have no gap'),
  );
}
