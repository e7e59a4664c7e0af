/** The program that is measured, the programs of this folder, and the processes that a run has to end. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { existsSync, openSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');
export const BAKEND = process.env.BAKEND ?? path.join(ROOT, 'build/release/bakend');
const PROGRAMS = path.join(path.dirname(BAKEND), 'bench');

const running = new Set();

/** A process that prints much has to be silent: while a load runs nobody reads. */
export function launch(file, args, { log = null, isSilent = false } = {}) {
  const output = isSilent ? ['ignore', 'ignore'] : ['pipe', log ? openSync(log, 'a') : 'inherit'];
  const child = spawn(file, args, { stdio: ['pipe', ...output] });
  running.add(child);
  child.stdin.on('error', () => {});
  child.gone = new Promise((resolve) => child.once('exit', (code) => { running.delete(child); resolve(code); }));
  return child;
}

export function endAll() {
  for (const child of running) child.kill('SIGKILL');
}

export function programPath(name) {
  return path.join(PROGRAMS, name);
}

export function hasProgram(name) {
  return existsSync(path.join(PROGRAMS, name));
}

/** Runs a program of this folder to its end; what it prints. */
export function program(name, ...args) {
  return execFileSync(path.join(PROGRAMS, name), args.map(String), { encoding: 'utf8' }).trim();
}

/** The same with something to read. */
export function programWith(input, name, ...args) {
  return execFileSync(path.join(PROGRAMS, name), args.map(String), { input, encoding: 'utf8' }).trim();
}

/** The same beside other work. */
export async function programBeside(name, ...args) {
  return (await promisify(execFile)(path.join(PROGRAMS, name), args.map(String))).stdout.trim();
}

export function launchProgram(name, ...args) {
  return launch(path.join(PROGRAMS, name), args.map(String));
}
