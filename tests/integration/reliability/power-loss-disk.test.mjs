/**
 * The disk of the power-loss tests (support/disk.mjs, tests/support/power_loss), held against what
 * it is to do: what was synced is always there, and of all the rest every outcome comes up.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { temporaryFolder } from '../support/program.mjs';
import { createRandom } from '../support/random.mjs';
import { Disk } from './support/disk.mjs';
import { PowerLoss } from './support/power-loss.mjs';

const CUTS = 120;
const SECTORS = 4,
  BYTES = SECTORS * 512;

/** Run under the library: everything is synced, and then something is done that is not. */
const program = `
const fs = require('node:fs');
const [folder] = process.argv.slice(1);
const at = (name) => folder + '/' + name;
const sync = (path) => {
  const file = fs.openSync(path, 'r');
  fs.fsyncSync(file);
  fs.closeSync(file);
};
for (const name of ['kept', 'changed', 'named', 'removed', 'cut', 'again']) {
  fs.writeFileSync(at(name), 'A'.repeat(${BYTES}));
  sync(at(name));
}
fs.mkdirSync(at('folder'));
sync(folder);
const again = fs.openSync(at('again'), 'r+');
fs.writeSync(again, 'B'.repeat(${BYTES}), 0);
fs.fdatasyncSync(again);
const changed = fs.openSync(at('changed'), 'r+');
fs.writeSync(changed, 'B'.repeat(${BYTES}), 0);
fs.renameSync(at('named'), at('renamed'));
fs.unlinkSync(at('removed'));
fs.truncateSync(at('cut'), 700);
fs.writeFileSync(at('made'), 'A'.repeat(${BYTES}));
sync(at('made'));
fs.writeFileSync(at('folder/within'), 'A');
fs.mkdirSync(at('folder/below'));
sync(at('folder'));
fs.writeFileSync(at('folder/below/deep'), 'A');
sync(at('folder/below/deep'));
sync(at('folder/below'));
`;

/** What is there after a cut, in short. */
async function look(folder) {
  const names = new Set(await readdir(folder));
  const read = (name) => readFile(join(folder, name), 'latin1').catch(() => null);
  const changed = await read('changed');
  return {
    kept: await read('kept'),
    again: await read('again'),
    sectors: Array.from({ length: SECTORS }, (_, index) => changed[index * 512]).join(''),
    naming: [names.has('named'), names.has('renamed')].join(),
    isRemoved: !names.has('removed'),
    cutSize: (await read('cut')).length,
    made: await read('made'),
    within: await read('folder/within'),
    deep: await read('folder/below/deep'),
  };
}

test(`${CUTS} cuts of one protocol: what is synced is there, the rest in every way`, async (t) => {
  const random = createRandom(t);
  const live = await temporaryFolder(t),
    journals = await temporaryFolder(t);
  const power = await PowerLoss.of({ folder: live, journals, random });
  const env = { ...process.env, ...power.environment() };
  await promisify(execFile)(process.execPath, ['-e', program, live], { env });
  const seen = [];
  for (let cut = 0; cut < CUTS; cut++) {
    for (const name of await readdir(live)) await rm(join(live, name), { recursive: true });
    const disk = await Disk.of(live);
    await disk.cut(env.POWER_LOSS_PROTOCOL, random);
    seen.push(await look(live));
  }

  const whole = 'A'.repeat(BYTES);
  for (const { kept, again, naming, cutSize, made, within, deep } of seen) {
    assert.equal(kept, whole, 'what is synced is there');
    assert.equal(again, 'B'.repeat(BYTES), 'also what was written over it');
    assert.ok(['true,false', 'false,true'].includes(naming), `one of both names: ${naming}`);
    assert.ok([700, BYTES].includes(cutSize), `one of both sizes: ${cutSize}`);
    assert.ok(made === null || made === whole, 'a synced file is whole, when it has its name');
    assert.ok(within === '' || within === '\0' || within === 'A', 'a synced name is there');
    assert.equal(deep, 'A', 'what is synced all the way down is there');
  }
  for (const name of ['naming', 'isRemoved', 'cutSize', 'made', 'within']) {
    const ways = new Set(seen.map((each) => each[name]));
    assert.ok(ways.size >= 2, `${name} comes in one way only: ${[...ways]}`);
  }
  const torn = new Set(seen.map(({ sectors }) => sectors));
  assert.ok(torn.size > SECTORS && torn.has('AAAA') && torn.has('BBBB'), `sectors: ${[...torn]}`);
});
