/**
 * The real program: run once for a command, or kept running as a server in a folder of its own.
 *
 * BAKEND names the binary; without it the build of the preset `dev` is taken. Servers listen on
 * port 0 of 127.0.0.1; only processes started here are ever signalled, and each must end with the
 * expected status.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const READY_MS = 30_000;
const END_MS = 30_000;
const LOG_MS = 5_000;

export const binary =
  process.env.BAKEND ?? fileURLToPath(new URL('../../../build/dev/bakend', import.meta.url));

/** Our environment without options of the program, so that none leaks into a test. */
function environment(extra = {}) {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('BAKEND'));
  return { ...Object.fromEntries(own), ...extra };
}

/**
 * What each test has to undo, undone last to first: a server stops before its folder goes. All of
 * it is undone whatever fails of it, or a server left running would keep the file from its end.
 */
const undoings = new WeakMap();

function undoAfter(t, undo) {
  if (!undoings.has(t)) {
    undoings.set(t, []);
    t.after(async () => {
      const failed = [];
      for (const each of undoings.get(t).reverse())
        await each().catch((error) => failed.push(error));
      if (failed.length > 0) throw failed[0];
    });
  }
  undoings.get(t).push(undo);
}

/** A folder that is removed after the test. */
export async function temporaryFolder(t) {
  const folder = await mkdtemp(join(tmpdir(), 'bakend-test-'));
  undoAfter(t, () => rm(folder, { recursive: true, force: true }));
  return folder;
}

/**
 * Runs a command to its end.
 * @param {string[]} args
 * @param {{cwd?: string, env?: object, input?: string}} [options]
 * @returns {Promise<{code: number|null, signal: string|null, stdout: string, stderr: string}>}
 */
export function run(args, { cwd, env, input = '' } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(binary, args, { cwd, env: environment(env) });
    const timer = setTimeout(() => child.kill('SIGKILL'), END_MS);
    let stdout = '',
      stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout, stderr });
    });
  });
}

/** Runs a server that is expected not to start; resolves as run() does. */
export function runServer(folder, { args = [], env } = {}) {
  const own = ['--listen', '127.0.0.1:0', '--data', join(folder, 'data'), '--app', folder];
  return run(['serve', ...own, ...args], { cwd: folder, env });
}

/** Runs a command and fails unless it ends with 0; resolves with its standard output. */
export async function runWell(args, options) {
  const { code, signal, stdout, stderr } = await run(args, options);
  if (code !== 0)
    throw new Error(`bakend ${args.join(' ')}: ended with ${code ?? signal}\n${stdout}${stderr}`);
  return stdout;
}

export class Server {
  #child;
  #ended;
  #isKilled = false;
  /** Standard error, line by line. */
  log = [];
  stdout = '';
  url = '';

  constructor(folder, args, env) {
    this.folder = folder;
    this.data = join(folder, 'data');
    const all = ['serve', '--listen', '127.0.0.1:0', '--data', this.data, '--app', folder, ...args];
    this.#child = spawn(binary, all, {
      cwd: folder,
      env: environment(env),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#ended = new Promise((resolve) => {
      this.#child.on('error', ({ code }) => resolve({ code, signal: null }));
      this.#child.on('close', (code, signal) => resolve({ code, signal }));
    });
    let rest = '';
    this.#child.stderr.setEncoding('utf8').on('data', (text) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      this.log.push(...lines);
    });
  }

  get pid() {
    return this.#child.pid;
  }
  get ended() {
    return this.#ended;
  }
  get socketPath() {
    return join(this.data, 'bakend.sock');
  }
  get port() {
    return Number(new URL(this.url).port);
  }

  /** Resolves when the ready line was printed. */
  async ready() {
    const line = new Promise((resolve) => {
      this.#child.stdout.setEncoding('utf8').on('data', (text) => {
        this.stdout += text;
        if (this.stdout.includes('\n')) resolve();
      });
    });
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error('the server is not ready')), READY_MS);
    });
    const early = this.#ended.then(({ code, signal }) => {
      throw new Error(`the server ended with ${code ?? signal}\n${this.log.join('\n')}`);
    });
    try {
      await Promise.race([line, early, late]);
    } finally {
      clearTimeout(timer);
    }
    const found = /^bakend ready (http:\/\/\S+)\n$/.exec(this.stdout);
    if (!found) throw new Error(`not the ready line: ${JSON.stringify(this.stdout)}`);
    this.url = found[1];
    return this;
  }

  /** Waits for a line of the log that holds all of these texts; the log has a thread of its own. */
  async logged(...texts) {
    for (let waited = 0; waited < LOG_MS; waited += 20) {
      const line = this.log.find((each) => texts.every((text) => each.includes(text)));
      if (line) return JSON.parse(line);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`not in the log: ${texts.join(' ')}\n${this.log.join('\n')}`);
  }

  get isRunning() {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  signal(name) {
    if (name === 'SIGKILL') this.#isKilled = true;
    this.#child.kill(name);
  }

  /** From now on it is right that SIGKILL ends it: BAKEND_FAILPOINT told it to. */
  expectKill() {
    this.#isKilled = true;
  }

  /** Ends it, unless it has ended, and fails unless it ended as it should: by SIGKILL or with 0. */
  async stop(signal = 'SIGTERM') {
    if (this.isRunning) this.signal(signal);
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_MS);
    const end = await this.#ended;
    clearTimeout(timer);
    const isRight = this.#isKilled ? end.signal === 'SIGKILL' : end.code === 0;
    if (!isRight)
      throw new Error(`the server ended with ${end.code ?? end.signal}\n${this.log.join('\n')}`);
    return end;
  }

  /** Waits for an end by SIGKILL that the program has dealt itself, at a failpoint. */
  async killed() {
    const timer = setTimeout(() => this.#child.kill('SIGABRT'), END_MS);
    const end = await this.#ended;
    clearTimeout(timer);
    this.#isKilled = true;
    return end;
  }

  /**
   * One request. A body that is not a string is sent as JSON.
   * @param {string} method
   * @param {string} path
   * @param {any} [body]
   * @param {{token?: string, tenant?: string, headers?: object}} [options]
   * @returns {Promise<{status: number, headers: Headers, body: any, text: string}>}
   *   body: parsed when it is JSON
   */
  async request(method, path, body, { token, tenant, headers = {} } = {}) {
    const all = { ...headers };
    if (token) all.authorization = token;
    if (tenant) all['x-bakend-tenant'] = tenant;
    if (body !== undefined) all['content-type'] ??= 'application/json';
    const payload = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
    const answer = await fetch(this.url + path, { method, headers: all, body: payload });
    const text = await answer.text();
    const isJson = (answer.headers.get('content-type') ?? '').startsWith('application/json');
    return {
      status: answer.status,
      headers: answer.headers,
      text,
      body: isJson && text ? JSON.parse(text) : text,
    };
  }
}

/**
 * Starts a server and stops it after the test.
 * @param {import('node:test').TestContext} t
 * @param {{folder?: string, args?: string[], env?: object}} [options]
 *   folder: one that the caller owns
 */
export async function startServer(t, { folder, args = [], env } = {}) {
  const server = new Server(folder ?? (await temporaryFolder(t)), args, env);
  undoAfter(t, () => server.stop());
  return server.ready();
}
