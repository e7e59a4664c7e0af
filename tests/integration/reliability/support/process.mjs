/** What a server takes of the machine, as /proc and its own figures tell. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/* Not the promise of readFile: in Node 18 that ends at the first page of a file of /proc. */
const status = ({ pid }) => readFileSync(`/proc/${pid}/status`, 'utf8');
const mebibytes = (text, name) => Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(text)[1]) / 1024;

export const residentMebibytes = (server) => mebibytes(status(server), 'VmRSS');
export const peakMebibytes = (server) => mebibytes(status(server), 'VmHWM');
export const descriptorCount = ({ pid }) => readdirSync(`/proc/${pid}/fd`).length;

/** A sanitizer keeps what was freed for a while, so memory tells nothing. */
export const isInstrumented = ({ pid }) =>
  readFileSync(`/proc/${pid}/maps`, 'utf8').includes('san.so');

/** The value of a metric without labels. */
export async function figure(server, token, name) {
  const { text } = await server.request('GET', '/metrics', undefined, { token });
  const found = new RegExp(`^${name} (\\S+)$`, 'm').exec(text);
  if (!found) throw new Error(`no metric ${name}`);
  return Number(found[1]);
}

/** Waits until isTrue() holds; false when it does not in time. */
export async function comes(isTrue, timeoutMs = 20_000) {
  for (const until = Date.now() + timeoutMs; Date.now() < until; await sleep(20))
    if (await isTrue()) return true;
  return false;
}
