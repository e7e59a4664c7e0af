/**
 * What a tenant is, in a page of plain JavaScript: collections with records in the order of their
 * making, and the events that made them. Against it the real one is compared, answer by answer.
 */
import assert from 'node:assert/strict';

const isOfTheHouse = (type) => type.startsWith('_');

/** As docs/modules/changefeed.md says it: `*` leaves out what begins with an underscore. */
export function patternMatches(pattern, type) {
  if (pattern === '*') return !isOfTheHouse(type);
  if (pattern === '_*') return isOfTheHouse(type);
  if (pattern.endsWith('.*')) return type.startsWith(pattern.slice(0, -1));
  if (pattern.startsWith('*.')) return !isOfTheHouse(type) && type.endsWith(pattern.slice(1));
  return pattern === type;
}

export const matchesAny = (patterns, type) => patterns.some((each) => patternMatches(each, type));

/** A list by cursor: the fields with their directions, then the ids. */
export function inOrder(records, sort) {
  const keys = [...sort.split(',').filter(Boolean), 'id'];
  const compare = (left, right) => {
    for (const key of keys) {
      const name = key.replace(/^-/, '');
      const sign = key.startsWith('-') ? -1 : 1;
      if (left[name] !== right[name]) return left[name] < right[name] ? -sign : sign;
    }
    return 0;
  };
  return [...records].sort(compare);
}

export class Model {
  /** name → {id, fields, records: Map of id → record} */
  collections = new Map();
  /** Every event as the feed shows it. */
  events = [];
  /** [sequence, cursor]: positions that the feed has named. */
  cursors = [];
  /** Of an event of a record: the collection that had the name then. One that is made anew may get
   * the same id, and is another one. */
  #makers = new Map();

  constructor(first) {
    this.first = first;
    this.last = first;
  }

  records(name) {
    return [...this.collections.get(name).records.values()];
  }

  after(sequence, patterns) {
    return this.events.filter((each) => each.sequence > sequence && matchesAny(patterns, each.type));
  }

  /** Takes the next event after having held it against what must have happened. */
  append(event, { type, subject, payload, previous }) {
    assert.equal(event.sequence, this.last + 1, 'the numbers have no gap');
    assert.equal(event.type, type);
    if (subject) assert.equal(event.subject, subject);
    if (payload) assert.deepEqual(event.payload, payload, 'the event holds what was answered');
    if (previous) assert.deepEqual(event.previous, previous, 'and what has changed');
    this.last = event.sequence;
    this.events.push(event);
    this.#makers.set(event.sequence, this.collections.get(type.split('.')[0]));
  }

  /** Whether a guest is shown this event, as of now. */
  isShownToGuests({ type, sequence }) {
    const collection = this.collections.get(type.split('.')[0]);
    return collection !== undefined && collection === this.#makers.get(sequence);
  }
}

/** What an event holds of a record: not what its type says already. */
export function payloadOf({ collectionId: _id, collectionName: _name, ...rest }) {
  return rest;
}

/** The values that an update has replaced. */
export const previousOf = (before, after) =>
  Object.fromEntries(Object.entries(before).filter(([name, value]) => after[name] !== value));
