/**
 * What a test of an unfriendly machine needs of the machine: libraries that are preloaded into the
 * program, a small disk, and what a process has used of its core.
 */
import { execFile } from 'node:child_process';
import { mkdir, open as openFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { binary, temporaryFolder } from '../../support/program.mjs';

const execute = promisify(execFile);
export const isLong = process.env.BAKEND_LONG === '1';
const TICKS_PER_SECOND = 100;

/** The sanitizer that the program is linked with must stand before what is preloaded. */
async function sanitizerOf(program) {
  const { stdout } = await execute('ldd', [program]);
  return /(\/\S*lib[at]san\S*)/.exec(stdout)?.[1];
}

/**
 * Builds a library of this folder.
 * @param {string} name of its source: 'hung_disk'
 * @returns {Promise<object>} the environment that preloads it
 */
export async function preload(t, name) {
  const source = fileURLToPath(new URL(`${name}.c`, import.meta.url));
  const library = join(await temporaryFolder(t), `${name}.so`);
  await execute('gcc', ['-std=gnu11', '-O1', '-shared', '-fPIC', '-o', library, source]);
  const sanitizer = await sanitizerOf(binary);
  return { LD_PRELOAD: sanitizer ? `${sanitizer}:${library}` : library };
}

/** A folder on a file system of its own of so many MiB; null when that is not possible here. */
export async function smallDisk(t, mebibytes) {
  const disk = join(await temporaryFolder(t), 'disk');
  await mkdir(disk);
  const options = `size=${mebibytes}m,mode=700`;
  try {
    await execute('mount', ['-t', 'tmpfs', '-o', options, 'bakend-test', disk]);
  } catch {
    return null;
  }
  return { disk, unmount: () => execute('umount', [disk]) };
}

/** Takes all the room that is left; resolves with the path of what takes it. */
export async function fillUp(disk) {
  const path = join(disk, 'ballast');
  const file = await openFile(path, 'a');
  try {
    for (const block = Buffer.alloc(4096, 1); ;) await file.write(block);
  } catch (error) {
    if (error.code !== 'ENOSPC') throw error;
  }
  await file.close();
  return path;
}

/** Seconds of a core that a process has used. */
export async function coreSeconds(pid) {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
