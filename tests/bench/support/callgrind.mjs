/** A program under callgrind, and what it counted between its marks. */
import { readFileSync, readdirSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { launch } from './processes.mjs';

/** Those that need a newer processor than x86-64 began with, by the names of glibc 2.36. */
const PLAIN = ['AVX', 'AVX2', 'AVX512F', 'AVX512VL', 'AVX_Fast_Unaligned_Load', 'BMI2', 'ERMS', 'FSRM', 'SSE4_1', 'SSE4_2', 'SSSE3'];
const START_MS = 60_000;
/** The object whose own instructions depend on how threads meet. */
const LEFT_OUT = /\/libuv\.so/;

/** One core, no thread before another's time is up. */
const STEADY = ['taskset', ['--cpu-list', firstCore(), 'chrt', '--batch', '0']];

/**
 * @param {string} folder where the counts go
 * @param {string} mark the function before which they are written; `*` stands for the rest of a name
 */
export function countedRun(folder, name, mark, program, args) {
  const counts = path.join(folder, `${name}.counts`);
  const [command, first] = STEADY;
  /* Under callgrind everything takes fifty times as long, and nobody has said what else the machine does. */
  const words = [...first, 'env', 'BAKEND_TEST_PATIENCE=30', `GLIBC_TUNABLES=glibc.cpu.hwcaps=${PLAIN.map((one) => `-${one}`).join(',')}`,
    'valgrind', '--tool=callgrind', '--quiet', `--dump-before=${mark}`, `--callgrind-out-file=${counts}`, program, ...args.map(String)];
  let child = null;
  return {
    wait: () => execFileSync(command, words, { stdio: 'ignore' }),
    /** Starts it; the port that it names on its first line. */
    port: () => {
      child = launch(command, words, { log: path.join(folder, `${name}.log`) });
      return firstPort(child);
    },
    stop: () => {
      child.kill('SIGTERM');
      return child.gone;
    },
    /** What was counted behind each mark, up to the next: its name, the total and the functions. */
    parts: (names) => readParts(counts, names),
  };
}

function firstPort(child) {
  return new Promise((resolve, reject) => {
    let text = '';
    const patience = setTimeout(() => reject(new Error(`no port after ${START_MS} ms: ${text}`)), START_MS);
    child.once('exit', (code) => reject(new Error(`ended with ${code}: ${text}`)));
    child.stdout.on('data', (data) => {
      text += data;
      const found = text.match(/:(\d+)\s*\n/);
      if (!found) return;
      clearTimeout(patience);
      resolve(Number(found[1]));
    });
  });
}

/** Of those that this process may use. */
function firstCore() {
  return readFileSync('/proc/self/status', 'utf8').match(/Cpus_allowed_list:\s*(\d+)/)[1];
}

/** Part n + 1 is what was counted up to mark n, so that what is behind mark n is in part n + 2. */
function readParts(counts, names) {
  const texts = { ob: new Map(), fn: new Map() };
  const last = readdirSync(path.dirname(counts)).filter((file) => file.startsWith(`${path.basename(counts)}.`)).length;
  if (last < names.length) throw new Error(`${names.length} marks, but callgrind wrote ${last} times: is the mark's function still there?`);
  const parts = [];
  for (let number = 1; number <= names.length; number++) {
    const part = readPart(`${counts}.${number}`, texts);
    if (number > 1) parts.push({ name: names[number - 2], ...part });
  }
  return parts;
}

/**
 * The format is in valgrind's manual, "Callgrind format specification". A name is written out once and is a number
 * from then on, also in the parts that follow. The line behind `calls=` is what the called function cost, which
 * stands at that function as well.
 */
function readPart(file, texts) {
  const functions = new Map();
  let object = '', name = '', isCalled = false, total = 0;
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const named = line.match(/^(c?)(ob|fn)=\((\d+)\)(?: (.*))?$/);
    if (named) {
      const [, called, kind, number, text] = named;
      if (text) texts[kind].set(number, text);
      if (!called && kind === 'ob') object = texts.ob.get(number);
      if (!called && kind === 'fn') name = texts.fn.get(number);
    } else if (line.startsWith('calls=')) {
      isCalled = true;
    } else if (/^[+*\-\d]/.test(line)) {
      const cost = Number(line.split(' ')[1] ?? 0);
      if (!isCalled && !LEFT_OUT.test(object)) {
        const key = `${name} ${path.basename(object)}`;
        functions.set(key, (functions.get(key) ?? 0) + cost);
        total += cost;
      }
      isCalled = false;
    }
  }
  return { total, functions };
}
