/**
 * A write load that can be held against what the server kept.
 *
 * Workers, one connection each, do the operations of scenarios, one request at a time
 * (reliability/support/bed.mjs says what a scenario is). Each worker owns its keys, so what must be
 * there is known without asking. Before a request leaves, and when its answer has come, a line goes
 * to the load's own journal and is on disk before anything else happens:
 *
 *   {"request":7,"scenario":"records","kind":"created","key":"…","value":1}     then one of
 *   {"answer":7,"status":200}     ok: it must be there, once, with one event
 *   {"answer":7,"status":400}     failed: it must not be there
 *   nothing                       unknown: the server died first; it may be there, but whole
 */
import { open, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
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

class Worker {
  /** Own keys: key → value, null for one that is not there. */
  mine;
  /** What an earlier answer of this life told: for the scenario. */
  memory = {};
  constructor(load, scenario, mine) {
    Object.assign(this, { load, scenario, mine });
  }

  /** A key that no life of the server has seen. */
  newKey(format = (digits) => digits) {
    return format(String(this.load.nextKey++).padStart(10, '0'));
  }

  /** Something wrong that only the worker can see. */
  report(text) {
    this.load.reports.push(`${this.scenario.name}: ${text}`);
  }

  async #do(wire) {
    const { load, scenario } = this;
    const operation = scenario.choose(this, load.random);
    const { send, answered, ...journaled } = operation;
    const { key, value } = operation;
    const number = load.nextRequest++;
    await load.journal.append({ request: number, scenario: scenario.name, ...journaled });
    const [method, path, body, headers] = send;
    wire.write(requestText(method, path, body, { Authorization: load.token, ...headers }));
    const answer = await wire.answer();
    await load.journal.append({ answer: number, status: answer.status });
    load.answered++;
    if (answer.status >= 300) return;
    if (key !== undefined) this.mine.set(key, value);
    answered?.(answer);
  }

  /** Until the load is stopped or the connection breaks. */
  async run() {
    const wire = await Wire.open(this.load.port).catch(() => null);
    if (!wire) return;
    try {
      while (!this.load.isStopped) {
        await this.#do(wire);
        if (this.scenario.pauseMs) await sleep(this.scenario.pauseMs);
      }
    } catch (error) {
      if (!(error instanceof Closed)) throw error;
    } finally {
      wire.destroy();
    }
  }
}

/** The load over several lives of a server; numbers of keys and requests go on. */
export class Load {
  nextKey = 1;
  nextRequest = 1;
  answered = 0;
  reports = [];
  constructor({ random, scenarios }) {
    Object.assign(this, { random, scenarios });
  }

  /**
   * Runs until stop() is called or the server is gone.
   * @param {{port: number, token: string, journal: Journal, keysOf: Function}} options keysOf: what
   * a scenario has from earlier lives, key → value
   */
  start({ port, token, journal, keysOf }) {
    Object.assign(this, { port, token, journal, isStopped: false });
    const workers = this.scenarios.flatMap((scenario) => {
      const entries = [...keysOf(scenario)];
      return Array.from({ length: scenario.workers }, (_, index) => {
        const mine = entries.filter((_entry, place) => place % scenario.workers === index);
        return new Worker(this, scenario, new Map(mine));
      });
    });
    this.finished = Promise.all(workers.map((worker) => worker.run()));
  }

  stop() {
    this.isStopped = true;
    return this.finished;
  }
}
