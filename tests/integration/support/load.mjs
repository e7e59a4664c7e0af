/**
 * A write load that can be held against what the server kept.
 *
 * Workers, one connection each, create, change and delete records, one request at a time; each
 * worker owns its records, so what must be there is known without asking. Before a request leaves,
 * and when its answer has come, a line goes to the load's own journal and is on disk before
 * anything else happens:
 *
 *   {"request":7,"kind":"create","id":"…","value":1}        then one of
 *   {"answer":7,"status":200}     ok: it must be there, once, with one event
 *   {"answer":7,"status":400}     failed: it must not be there
 *   nothing                       unknown: the server died first; it may be there, but whole
 */
import { open, readFile } from 'node:fs/promises';
import { Closed, requestText, Wire } from './wire.mjs';

/** Lines on disk: who appends waits for the fsync that covers the line; one fsync covers many. */
export class Journal {
  #file;
  #lines = [];
  #waiting = [];
  #isFlushing = false;

  static async open(path) {
    const journal = new Journal();
    journal.#file = await open(path, 'a');
    journal.path = path;
    return journal;
  }

  append(line) {
    this.#lines.push(`${JSON.stringify(line)}\n`);
    const onDisk = new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    if (!this.#isFlushing) this.#flush();
    return onDisk;
  }

  async #flush() {
    this.#isFlushing = true;
    while (this.#lines.length) {
      const text = this.#lines.splice(0).join('');
      const waiting = this.#waiting.splice(0);
      try {
        await this.#file.write(text);
        await this.#file.datasync();
        for (const each of waiting) each.resolve();
      } catch (error) {
        for (const each of waiting) each.reject(error);
      }
    }
    this.#isFlushing = false;
  }

  close() {
    return this.#file.close();
  }
}

/** Every request of a journal with its outcome, in the order sent. */
export async function readJournal(path) {
  const requests = new Map();
  for (const line of (await readFile(path, 'utf8')).split('\n').filter(Boolean)) {
    const { request, answer, status, ...rest } = JSON.parse(line);
    if (request !== undefined)
      requests.set(request, { number: request, ...rest, outcome: 'unknown' });
    else Object.assign(requests.get(answer), { status, outcome: status < 300 ? 'ok' : 'failed' });
  }
  return [...requests.values()];
}

const recordId = (number) => `w${String(number).padStart(14, '0')}`;

/** What goes over the wire for an operation. `broken` lacks the required title. */
function bytesOf({ kind, id, value }, { collection, token }) {
  const base = `/api/collections/${collection}/records`;
  const headers = { Authorization: token };
  switch (kind) {
    case 'create':
      return requestText('POST', base, { id, title: `title ${id}`, value }, headers);
    case 'broken':
      return requestText('POST', base, { id, value }, headers);
    case 'update':
      return requestText('PATCH', `${base}/${id}`, { value }, headers);
    case 'delete':
      return requestText('DELETE', `${base}/${id}`, undefined, headers);
  }
}

class Worker {
  /** Own records: id → value. */
  #records = new Map();
  constructor(load, index) {
    this.load = load;
    this.index = index;
  }

  #choose() {
    const { random } = this.load;
    const dice = random.number(),
      ids = [...this.#records.keys()];
    if (dice < 0.05) return { kind: 'broken', id: recordId(this.load.nextId++), value: 0 };
    if (ids.length === 0 || dice < 0.55)
      return { kind: 'create', id: recordId(this.load.nextId++), value: 1 };
    const id = ids[random.below(ids.length)];
    if (dice < 0.8) return { kind: 'update', id, value: this.#records.get(id) + 1 };
    return { kind: 'delete', id };
  }

  #apply({ kind, id, value }) {
    if (kind === 'delete') this.#records.delete(id);
    else this.#records.set(id, value);
  }

  /** Until the load is stopped or the connection breaks. */
  async run() {
    const { load } = this;
    const wire = await Wire.open(load.port).catch(() => null);
    if (!wire) return;
    try {
      while (!load.isStopped) {
        const operation = this.#choose(),
          number = load.nextRequest++;
        await load.journal.append({ request: number, ...operation });
        wire.write(bytesOf(operation, load));
        const { status } = await wire.answer();
        await load.journal.append({ answer: number, status });
        load.answered++;
        if (status < 300) this.#apply(operation);
      }
    } catch (error) {
      if (!(error instanceof Closed)) throw error;
    } finally {
      wire.destroy();
    }
  }
}

/** The load over several lives of a server; ids and request numbers go on. */
export class Load {
  nextId = 1;
  nextRequest = 1;
  answered = 0;
  constructor({ random, collection, connections }) {
    Object.assign(this, { random, collection, connections });
  }

  /**
   * Runs until stop() is called or the server is gone; each run has workers and records of its own.
   */
  start({ port, token, journal }) {
    Object.assign(this, { port, token, journal, isStopped: false });
    const workers = Array.from({ length: this.connections }, (_, index) => new Worker(this, index));
    this.finished = Promise.all(workers.map((worker) => worker.run()));
  }

  stop() {
    this.isStopped = true;
    return this.finished;
  }
}
