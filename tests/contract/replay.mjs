/**
 * Runs a scenario against a server and makes its answers comparable.
 *
 * A scenario is data: collections, records and users to begin with, and steps, which are requests.
 * What PocketBase 0.39.7 answered to each step is kept in answers/, so that a test needs no other
 * server than ours; scripts/record-contract asks a real one again.
 *
 * `makes` names collections that its steps make. Ids of records are the scenario's own. What a server makes up is named instead: `<id>`,
 * `<collection NAME>`, `<field>`, `<now>`, `<token>`. The message of a whole error is
 * left out (ours say more), those of its fields are not.
 */
import { readFile, readdir } from 'node:fs/promises';

const TIME = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z$/;
const TOKEN = /^eyJ[\w-]+\.[\w-]+\.[\w-]+$/;
const INDEX_OF_AUTH = /`idx_(tokenKey|email)_[a-z0-9]{10}`/;
const FIELD_OF_VIEW = /^_clone_\w{4}$/;
const GENERATED_ID = /^[a-z0-9]{15}$/;
const NOW_MS = 15 * 60 * 1000;
const REQUEST_MS = 30_000;
const BOUNDARY = 'a-boundary-of-the-scenario';

/** A record's id of 15 characters that begins with the text. */
export const id = (text) => text.padEnd(15, '0');

export async function loadScenarios() {
  const names = await readdir(new URL('scenarios/', import.meta.url));
  const all = [];
  for (const name of names.filter((each) => each.endsWith('.mjs')).sort()) {
    const { default: scenario } = await import(new URL(`scenarios/${name}`, import.meta.url));
    all.push({ ...scenario, name: name.replace(/\.mjs$/, '') });
  }
  return all;
}

export const answersUrl = (scenario) => new URL(`answers/${scenario.name}.json`, import.meta.url);

export async function loadAnswers(scenario) {
  return JSON.parse(await readFile(answersUrl(scenario), 'utf8'));
}

/** Values as the parts of a form: [[key, text or {name, type, text}]]. */
function multipart(parts) {
  const lines = parts.map(([key, value]) => {
    const isFile = typeof value === 'object';
    const name = isFile ? `; filename="${value.name}"\r\nContent-Type: ${value.type}` : '';
    const head = `--${BOUNDARY}\r\nContent-Disposition: form-data; name="${key}"${name}`;
    return `${head}\r\n\r\n${isFile ? value.text : value}\r\n`;
  });
  return `${lines.join('')}--${BOUNDARY}--\r\n`;
}

function bodyOf({ body, form, raw, type }) {
  if (form) return [multipart(form), `multipart/form-data; boundary=${BOUNDARY}`];
  if (raw !== undefined) return [raw, type];
  if (body === undefined) return [undefined, undefined];
  return [JSON.stringify(body), 'application/json'];
}

class Names {
  #collections = new Map();
  #chosen = new Set();

  /** Texts that the scenario has chosen are never renamed. */
  choose(value) {
    if (typeof value === 'string')
      for (const word of value.split(/[^A-Za-z0-9]+/)) this.#chosen.add(word);
    else if (value && typeof value === 'object')
      for (const [key, each] of Object.entries(value)) {
        this.choose(key);
        this.choose(each);
      }
  }

  collection({ id: text, name }) {
    this.#collections.set(text, `<collection ${name}>`);
  }

  #text(text, key) {
    if (this.#collections.has(text)) return this.#collections.get(text);
    if (TIME.test(text) && Math.abs(Date.parse(text.replace(' ', 'T')) - Date.now()) < NOW_MS)
      return '<now>';
    if (TOKEN.test(text)) return '<token>';
    if (INDEX_OF_AUTH.test(text)) return text.replace(INDEX_OF_AUTH, '`idx_$1_<random>`');
    if (FIELD_OF_VIEW.test(text)) return '<field>';
    return key === 'id' && !this.#chosen.has(text) && GENERATED_ID.test(text) ? '<id>' : text;
  }

  apply(value, key = '') {
    if (typeof value === 'string') return this.#text(value, key);
    if (Array.isArray(value)) return value.map((each) => this.apply(each, key));
    if (!value || typeof value !== 'object') return value === 0 ? 0 : value; // -0 is no JSON of its own
    const entries = Object.entries(value).map(([name, each]) => [name, this.apply(each, name)]);
    return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
  }
}

/** Problems that are told in the words of a parser or a database: ours are others. */
const OWN_WORDS = new Set([
  'validation_invalid_index_expression',
  'validation_invalid_rule',
  'validation_invalid_regex',
  'validation_collections_import_failure',
]);

function withoutWords(problems) {
  if (!problems || typeof problems !== 'object' || Array.isArray(problems)) return problems;
  if (OWN_WORDS.has(problems.code)) return { code: problems.code };
  const entries = Object.entries(problems).map(([key, each]) => [key, withoutWords(each)]);
  return Object.fromEntries(entries);
}

function withoutMessages(body) {
  if (!body || typeof body !== 'object') return body;
  const { message, requestId, ...rest } = { ...body, data: withoutWords(body.data) };
  if (rest.data?.requests)
    for (const each of Object.values(rest.data.requests))
      if (each.response) each.response = withoutMessages(each.response);
  return rest;
}

export class Replay {
  #url;
  #tokens = {};
  #names = new Names();

  /** @param {{url: string, email: string, password: string}} server with a superuser */
  constructor({ url, email, password }) {
    this.#url = url;
    this.credentials = { identity: email, password };
  }

  async #ask({ method = 'GET', path, as = 'guest', headers = {}, ...rest }) {
    const [body, type] = bodyOf(rest);
    const all = { ...headers };
    if (type) all['Content-Type'] = type;
    if (as !== 'guest') all.Authorization = this.#tokens[as];
    const signal = AbortSignal.timeout(REQUEST_MS);
    const init = { method, headers: all, body: body && Buffer.from(body, 'utf8'), signal };
    const response = await fetch(this.#url + path, init);
    const text = await response.text();
    const isJson = (response.headers.get('content-type') ?? '').startsWith('application/json');
    return { status: response.status, body: isJson && text ? JSON.parse(text) : text };
  }

  async #must(request) {
    const answer = await this.#ask(request);
    if (answer.status >= 300)
      throw new Error(`${request.method} ${request.path}: ${JSON.stringify(answer)}`);
    return answer.body;
  }

  async #login(name, collection, credentials) {
    const path = `/api/collections/${collection}/auth-with-password`;
    const body = await this.#must({ method: 'POST', path, body: credentials });
    this.#tokens[name] = body.token;
  }

  async #clear(scenario) {
    const names = [...scenario.collections.map(({ name }) => name), ...(scenario.makes ?? [])];
    for (const name of names.reverse())
      await this.#ask({ method: 'DELETE', path: `/api/collections/${name}`, as: 'super' });
  }

  /** The ids of collections are put in for `{collection NAME}`. */
  #fill(value) {
    const text = JSON.stringify(value);
    const filled = text.replace(/\{collection (\w+)\}/g, (_, name) => this.collections[name]);
    return JSON.parse(filled);
  }

  async #prepare({ collections, records = {}, users = {}, settings }) {
    this.collections = {};
    for (const definition of collections) {
      const made = await this.#must({
        method: 'POST',
        path: '/api/collections',
        as: 'super',
        body: this.#fill({ type: 'base', ...definition }),
      });
      this.collections[made.name] = made.id;
      this.#names.collection(made);
    }
    if (settings)
      await this.#must({ method: 'PATCH', path: '/api/settings', as: 'super', body: settings });
    for (const [collection, all] of Object.entries(records))
      for (const body of all) {
        const path = `/api/collections/${collection}/records`;
        await this.#must({ method: 'POST', path, as: 'super', body });
      }
    for (const [name, { collection, identity, password }] of Object.entries(users))
      await this.#login(name, collection, { identity, password });
  }

  /** @returns {Promise<{name: string, answer: object}[]>} one of each step */
  async run(scenario) {
    this.#names.choose([scenario.records ?? {}, scenario.steps]);
    await this.#login('super', '_superusers', this.credentials);
    await this.#clear(scenario);
    const answers = [];
    try {
      await this.#prepare(scenario);
      for (const step of scenario.steps) {
        const { status, body } = await this.#ask(this.#fill(step));
        let shown = this.#names.apply(body);
        if (status >= 400) shown = withoutMessages(shown);
        if (step.pick && status < 300) shown = step.pick.map((key) => shown[key]);
        answers.push({ name: step.name, answer: { status, body: shown } });
      }
    } finally {
      await this.#clear(scenario);
    }
    return answers;
  }
}
