/**
 * The test bed: scenarios under load, whatever happens to the server meanwhile.
 *
 * A SCENARIO is one file in scenarios/, found by itself: a new module adds a file and changes
 * nothing else, and every driver (kill -9, power loss …) runs it beside all the others. It exports
 *
 *   name
 *   workers                how many do its operations at once, each on keys of its own
 *   pauseMs                between two operations of a worker (optional)
 *   keepsKeys              whether workers go on with the keys of earlier lives of the server
 *   async setUp(api)       once in a new data directory (optional); api: {server, token}
 *   choose(worker, random) the next operation, of worker.mine (key → value) and worker.newKey():
 *     kind, key, value     what it does to which key, and the key's value when it is done, null
 *                          when the key is gone; no key: nothing that has to be kept
 *     send                 [method, path, body, headers], the last two optional
 *     refusal              the status, when it has to be refused
 *     mayFail              statuses that are right too, and change nothing (optional); so is 503
 *     answered(answer)     after an answer below 300 (optional)
 *   async settle(api, own) after a restart: waits until what follows by itself has come (optional);
 *                          own: its requests of the last life, with their outcome
 *   async observe(api, wanted)
 *                          → Map key → value: what there is. wanted: key → the values it may have,
 *                          of all keys that operations of this life named; others are left out
 *   eventOf                kind → the type of the event that it makes (optional)
 *   keyOf(event)           which key an event is of, or undefined (with eventOf)
 *   valueIn(event)         the value it tells, when it tells one (optional)
 *   tellsLater             the event follows the effect in a transaction of its own (optional)
 *   async check(api, report)
 *                          what else must hold, at every restart (optional)
 *   checkFile              SQL of which every row is something wrong, for the database file of the
 *                          stopped server (optional)
 *
 * What is held against the server after each restart: of every key the value that was acknowledged
 * (lost: it is not there), or, when the last request got no answer, one of the two; nothing of what
 * was refused (resurrected); of every acknowledged operation one event, in order, of every refused
 * one none; numbers of events without a gap, and no change to what was read before.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { checkContiguous, readFeed } from '../../support/feed.mjs';
import { Journal, Load, readJournal } from '../../support/load.mjs';
import { run } from '../../support/program.mjs';
import { operatorToken } from '../../support/superuser.mjs';

/** `*` leaves out the types that begin with an underscore. */
const EVERY_TYPE = '&types=*,_*';

/** Come again: a change of the schema was in the way twice. It changes nothing. */
const BUSY = 503;

const scenariosFolder = new URL('./scenarios/', import.meta.url);

/** Every scenario there is, or those named: by the test, or in BAKEND_SCENARIOS (a,b). */
export async function loadScenarios(names = process.env.BAKEND_SCENARIOS?.split(',')) {
  const files = (await readdir(scenariosFolder)).filter((name) => name.endsWith('.mjs')).sort();
  const modules = await Promise.all(files.map((name) => import(new URL(name, scenariosFolder))));
  const scenarios = modules.map((module) => module.default);
  return names ? scenarios.filter(({ name }) => names.includes(name)) : scenarios;
}

/** What was found wrong, by kind. */
export class Findings {
  lost = [];
  resurrected = [];
  wrong = [];
  get count() {
    return this.lost.length + this.resurrected.length + this.wrong.length;
  }
  toString() {
    const show = (kind) => this[kind].slice(0, 10).map((text) => `${kind}: ${text}`);
    return ['lost', 'resurrected', 'wrong'].flatMap(show).join('\n');
  }
}

/** What the requests of a life let the server have of a key. */
class Expectation {
  applied = [];
  refused = [];
  unknown = null;
  constructor(before) {
    this.before = before;
  }
  get acknowledged() {
    return this.applied.length ? this.applied.at(-1).value : this.before;
  }
  get values() {
    return this.unknown ? [this.acknowledged, this.unknown.value] : [this.acknowledged];
  }
}

const show = (value) => (value === null ? 'nothing' : JSON.stringify(value));

export class Bed {
  counts = { ok: 0, failed: 0, unknown: 0 };
  /** Scenario → Map key → value, as it must be now. */
  #models = new Map();
  #journal;
  #life = 0;
  #feed = { next: 'start', last: 0 };

  /** @param {{random: object, scenarios: object[], journals: string}} options journals: a folder */
  constructor({ random, scenarios, journals }) {
    Object.assign(this, { random, scenarios, journals });
    this.load = new Load({ random, scenarios });
    for (const scenario of scenarios) this.#models.set(scenario, new Map());
  }

  /** A superuser, and what the scenarios need, at a server that has nothing yet. */
  async setUp(server) {
    this.token = await operatorToken(server);
    for (const scenario of this.scenarios) await scenario.setUp?.({ server, token: this.token });
    this.#feed = await readFeed(server, this.token, { query: EVERY_TYPE });
    checkContiguous(this.#feed.events, 1);
  }

  async startLoad(server) {
    this.#journal = await Journal.open(join(this.journals, `${++this.#life}.jsonl`));
    this.load.reports = [];
    this.load.start({
      port: server.port,
      token: this.token,
      journal: this.#journal,
      keysOf: (scenario) => (scenario.keepsKeys ? this.#models.get(scenario) : new Map()),
    });
  }

  /** After the server is gone. */
  async endLoad() {
    await this.load.stop();
    await this.#journal.close();
  }

  /** Holds what the server has, started again, against the journal of the last life. */
  async check(server) {
    const findings = new Findings(),
      api = { server, token: this.token };
    const requests = await readJournal(this.#journal.path);
    for (const { outcome } of requests) this.counts[outcome]++;
    findings.wrong.push(...this.load.reports);
    const ownOf = ({ name }) => requests.filter(({ scenario }) => scenario === name);
    for (const scenario of this.scenarios) await scenario.settle?.(api, ownOf(scenario));
    const events = await this.#readEvents(server, findings);
    for (const scenario of this.scenarios) {
      await this.#checkScenario(scenario, { api, own: ownOf(scenario), events, findings });
    }
    return findings;
  }

  async #readEvents(server, findings) {
    const before = this.#feed;
    try {
      this.#feed = await readFeed(server, this.token, { after: before.next, query: EVERY_TYPE });
      checkContiguous(this.#feed.events, before.last + 1);
      return this.#feed.events;
    } catch (error) {
      findings.wrong.push(`the feed: ${error.message}`);
      return null;
    }
  }

  #expectations(scenario, requests, findings) {
    const expectations = new Map(),
      model = this.#models.get(scenario);
    for (const request of requests) {
      const { key, outcome, status, refusal, mayFail = [] } = request;
      if (outcome === 'failed' && ![refusal, BUSY, ...mayFail].includes(status))
        findings.wrong.push(`${scenario.name}: ${request.kind} ${key ?? ''} got ${status}`);
      if (refusal && outcome === 'ok')
        findings.wrong.push(`${scenario.name}: ${request.kind} ${key} was not refused`);
      if (key === undefined) continue;
      if (!expectations.has(key)) expectations.set(key, new Expectation(model.get(key) ?? null));
      const expected = expectations.get(key);
      assert.equal(expected.unknown, null, 'nothing follows a request without an answer');
      if (outcome === 'ok') expected.applied.push(request);
      else if (outcome === 'failed' || refusal) expected.refused.push(request);
      else expected.unknown = request;
    }
    return expectations;
  }

  async #checkScenario(scenario, { api, own, events, findings }) {
    const model = this.#models.get(scenario);
    const expectations = this.#expectations(scenario, own, findings);
    const wanted = new Map([...expectations].map(([key, { values }]) => [key, values]));
    const observed = await scenario.observe(api, wanted);
    for (const [key, expected] of expectations) {
      const value = observed.get(key) ?? null;
      this.#checkValue(scenario, key, expected, value, findings);
      if (value === null) model.delete(key);
      else model.set(key, value);
    }
    for (const key of observed.keys())
      if (!expectations.has(key) && !model.has(key))
        findings.resurrected.push(`${scenario.name}: ${key} is there, and nobody made it`);
    if (scenario.eventOf && events)
      this.#checkEvents(scenario, { expectations, observed, events, findings });
    await scenario.check?.(api, (text) => findings.wrong.push(`${scenario.name}: ${text}`));
  }

  #checkValue(scenario, key, { values, acknowledged, refused }, value, findings) {
    if (values.includes(value)) return;
    const text = `${scenario.name}: ${key} has ${show(value)} instead of ${show(acknowledged)}`;
    const isOfRefused = refused.some((request) => request.value === value);
    if (isOfRefused) findings.resurrected.push(text);
    else findings.lost.push(text);
  }

  #checkEvents(scenario, { expectations, observed, events, findings }) {
    const byKey = new Map();
    for (const event of events) {
      const key = scenario.keyOf(event);
      if (key !== undefined) byKey.set(key, [...(byKey.get(key) ?? []), event]);
    }
    for (const [key, expected] of expectations) {
      const own = byKey.get(key) ?? [];
      byKey.delete(key);
      const value = observed.get(key) ?? null;
      this.#checkEventsOf(scenario, { key, expected, own, value, findings });
    }
    for (const [key, [{ type }]] of byKey)
      findings.resurrected.push(`${scenario.name}: ${type} of ${key}, which nobody asked for`);
  }

  /** One event for each operation, in order; for the one without an answer if it was done. */
  #checkEventsOf(scenario, { key, expected, own, value, findings }) {
    const tell = ({ kind, value }) => {
      const type = scenario.eventOf[kind];
      return type ? [scenario.valueIn ? `${type} ${show(value)}` : type] : [];
    };
    const found = own.map((event) =>
      scenario.valueIn ? `${event.type} ${show(scenario.valueIn(event))}` : event.type,
    );
    const least = expected.applied.flatMap(tell);
    const most = expected.unknown ? [...least, ...tell(expected.unknown)] : least;
    const text = `${scenario.name}: ${key} has the events [${found}] instead of [${least}]`;
    const isLeast = found.join() === least.join(),
      isMost = found.join() === most.join();
    if (!isLeast && !isMost) {
      if (found.length < least.length) findings.lost.push(text);
      else findings.resurrected.push(text);
    } else if (most.length > least.length && !scenario.tellsLater) {
      const isDone = value !== expected.acknowledged;
      if (isDone !== isMost && expected.unknown.value !== expected.acknowledged)
        findings.wrong.push(`${text}, and the value ${show(value)}`);
    }
  }

  /** At the end: the journal from its first event on, and all keys that were ever made. */
  async checkAll(server) {
    const findings = new Findings(),
      api = { server, token: this.token };
    await this.#readEvents(server, findings); /* of those who signed in since */
    const whole = await readFeed(server, this.token, { query: '&types=nothing.at_all' });
    if (whole.first !== 1 || whole.last !== this.#feed.last)
      findings.wrong.push(`the feed goes from ${whole.first} to ${whole.last}`);
    for (const scenario of this.scenarios) {
      const model = this.#models.get(scenario);
      const wanted = new Map([...model].map(([key, value]) => [key, [value]]));
      const observed = await scenario.observe(api, wanted);
      for (const [key, value] of model)
        if ((observed.get(key) ?? null) !== value)
          findings.lost.push(`${scenario.name}: ${key} has ${show(observed.get(key) ?? null)}`);
      for (const key of observed.keys())
        if (!model.has(key)) findings.resurrected.push(`${scenario.name}: ${key} is there`);
    }
    return findings;
  }

  get eventCount() {
    return this.#feed.last;
  }

  /** The directory of a stopped server: `bakend doctor`, and the file as SQLite sees it. */
  async checkFolder(folder) {
    const findings = new Findings(),
      data = join(folder, 'data');
    const doctor = ['doctor', '--json', '--data', data];
    const { code, stdout, stderr } = await run(doctor, { cwd: folder });
    if (code !== 0 || JSON.parse(stdout).problems !== 0)
      findings.wrong.push(`doctor: ${stdout}${stderr}`);
    const queries = this.scenarios.flatMap(({ checkFile }) => checkFile ?? []);
    const file = join(data, 'tenants', 'default', 'data.db');
    for (const text of await askFile(file, ['PRAGMA integrity_check', ...queries]))
      if (text !== 'ok') findings.wrong.push(`${file}: ${text}`);
    return findings;
  }
}

const script = `
import sqlite3, sys
database = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)
for query in sys.argv[2:]:
    for row in database.execute(query):
        print(*row)
`;

/** The rows of queries, as lines. */
async function askFile(file, queries) {
  const { stdout } = await promisify(execFile)('python3', ['-c', script, file, ...queries]);
  return stdout.split('\n').filter(Boolean);
}
