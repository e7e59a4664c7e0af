/** Load and what it costs: wrk, sockets, and what the kernel says of a process. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { launchProgram } from './processes.mjs';

/** Longer than the slowest answer that is measured: a list with totals under load. */
const ANSWER_SECONDS = 30;

/** One wrk run: requests a second, latency percentiles in ms, and the server's CPU in µs a request. */
export function load({ folder, options }, target, connections, where, body = null, token = null) {
  const script = path.join(folder, `load-${body ? 'post' : 'get'}.lua`);
  writeFileSync(script, `${posting(body)}${signing(token)}
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format("FIGURES %d %d %d %d %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
  io.write(string.format("ERRORS %d %d %d %d %d\\n", errors.status, errors.timeout, errors.connect, errors.read, errors.write))
end`);
  const before = cpuSeconds(target.child.pid);
  const text = wrk(target, connections, options.seconds, script, where);
  const used = cpuSeconds(target.child.pid) - before;
  const [requests, duration, p50, p95, p99] = text.match(/FIGURES (.*)/)[1].split(' ').map(Number);
  const failures = text.match(/ERRORS (.*)/)[1].split(' ').map(Number);
  const errors = failures.reduce((sum, one) => sum + one, 0);
  if (errors > 0) {
    const error = new Error(`${target.name}: ${where}: ${errors} requests failed\n${text}`);
    throw Object.assign(error, { reason: `${errors} of ${requests} requests failed (${reasonsOf(failures)})` });
  }
  return { rate: requests / (duration / 1e6), p50: p50 / 1000, p95: p95 / 1000, p99: p99 / 1000, cpu: (used * 1e6) / requests };
}

const FAILURES = ['refused', 'out of time', 'not connected', 'not read', 'not written'];

const reasonsOf = (failures) => FAILURES.flatMap((name, i) => (failures[i] > 0 ? [`${failures[i]} ${name}`] : [])).join(', ');

/** Sends the request until count of them have been answered, and at most 64 more. */
export function repeat({ folder }, target, count, where, body, token = null) {
  const script = path.join(folder, 'repeat.lua');
  writeFileSync(script, `${posting(body)}${signing(token)}
local left = ${count}
response = function(status)
  left = left - 1
  if status < 200 or status > 299 then os.exit(1) end
  if left == 0 then os.exit(0) end
end`);
  wrk(target, 64, 3600, script, where);
}

function posting(body) {
  return body ? `wrk.method="POST" wrk.headers["Content-Type"]="application/json" wrk.body='${body}'` : '';
}

function signing(token) {
  return token ? ` wrk.headers["Authorization"]="${token}"` : '';
}

function wrk(target, connections, seconds, script, where) {
  return execFileSync('wrk', ['-t1', `-c${connections}`, `-d${seconds}s`, `--timeout=${ANSWER_SECONDS}s`, '-s', script,
    `http://127.0.0.1:${target.port}${where}`], { encoding: 'utf8', timeout: (seconds + 2 * ANSWER_SECONDS) * 1000 });
}

export function summary(runs) {
  return Object.fromEntries(Object.keys(runs[0]).map((key) => [key, median(runs.map((run) => run[key]))]));
}

export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/* --- sockets -------------------------------------------------------------------------------------- */

/** WebSocket clients that stay open and do what they are told, a line each. */
export class Sockets {
  static async open(server, count) {
    const sockets = new Sockets();
    sockets.server = server;
    sockets.child = launchProgram('websocket_load', server.port, count);
    sockets.lines = readline.createInterface({ input: sockets.child.stdout })[Symbol.asyncIterator]();
    await sockets.answer('open');
    return sockets;
  }

  async subscribe(types) {
    this.child.stdin.write(`subscribe ${types}\n`);
    await this.answer('subscribed');
  }

  /** Events to all: frames a second, delays in ms, the server's CPU in µs a frame. */
  async fanOut({ where, seconds, intervalMs = 0, burst = 1, count }) {
    const before = cpuSeconds(this.server.child.pid);
    this.child.stdin.write(`fanout ${where} ${seconds} ${intervalMs} ${burst}\n`);
    const [rate, flow, p50, p95, p99, longest, events, bytes] = (await this.answer('fanout')).map(Number);
    const used = cpuSeconds(this.server.child.pid) - before;
    return { rate, flow, p50, p95, p99, longest, events, bytes, cpu: (used * 1e6) / (events * count) };
  }

  async answer(expected) {
    const { value, done } = await this.lines.next();
    const [word, ...rest] = (value ?? '').split(' ');
    if (done || word !== expected) throw new Error(`websocket_load on ${this.server.name}: ${value ?? 'ended'}`);
    return rest;
  }

  async close() {
    this.child.stdin.end();
    await this.child.gone;
  }
}

/* --- what the kernel says ------------------------------------------------------------------------ */

/** Of the process and its children, in seconds. */
export function cpuSeconds(pid) {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
  return [pid, ...children].reduce((sum, one) => {
    const fields = readFileSync(`/proc/${one}/stat`, 'utf8').split(') ')[1].split(' ');
    return sum + (Number(fields[11]) + Number(fields[12])) / 100;
  }, 0);
}

/** In MiB. */
export function memoryOf(pid) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const read = (name) => Number(status.match(new RegExp(`${name}:\\s+(\\d+)`))[1]) / 1024;
  return { rss: read('VmRSS'), anonymous: read('RssAnon'), peak: read('VmHWM') };
}

/** Of a processor's time that it has used, all threads. */
export function ticksOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return Number(fields[11]) + Number(fields[12]);
}
