/**
 * Ordinary traffic, as a thread of its own, so that what else a test does to the server does not
 * show in the latencies: a few clients that keep their connections, write, read and list.
 *
 * As a module: measure(server, ms) resolves with the latencies, the failures and the cuts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { requestText, Wire } from '../../support/wire.mjs';

const CLIENTS = 4;
const PAUSE_MS = 5;

async function client(port, until, findings) {
  const wire = await Wire.open(port);
  let id = null;
  for (let i = 0; Date.now() < until; i++) {
    const request =
      i % 3 === 0
        ? requestText('POST', '/things', { title: 'ordinary' })
        : requestText('GET', i % 3 === 1 ? `/things/${id}` : '/things?perPage=5&skipTotal=1');
    const began = performance.now();
    wire.write(request);
    try {
      const { status, json } = await wire.answer();
      findings.latencies.push(performance.now() - began);
      if (status !== 200) findings.failures.push(status);
      if (i % 3 === 0) id = json.id;
    } catch (error) {
      findings.failures.push(error.message);
      break;
    }
    await sleep(PAUSE_MS);
  }
  wire.destroy();
}

async function run({ port, ms }) {
  const findings = { latencies: [], failures: [] };
  const until = Date.now() + ms;
  await Promise.all(Array.from({ length: CLIENTS }, () => client(port, until, findings)));
  parentPort.postMessage(findings);
}

/** @returns {Promise<{p50: number, p99: number, count: number, failures: any[]}>} */
export function measure(server, ms) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: { port: server.port, ms } });
    worker.once('error', reject);
    worker.once('message', ({ latencies, failures }) => {
      latencies.sort((a, b) => a - b);
      const at = (share) => latencies[Math.floor(latencies.length * share)] ?? Infinity;
      resolve({ p50: at(0.5), p99: at(0.99), count: latencies.length, failures });
    });
  });
}

if (!isMainThread && workerData?.port) await run(workerData);
