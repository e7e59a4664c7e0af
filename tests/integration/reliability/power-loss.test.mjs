/**
 * The power goes, under load: the server is killed, and its data directory becomes what a disk may
 * hold that was cut off at that moment – all that was synced, and of the rest what chance has left
 * (support/disk.mjs). Then the server starts, and what was acknowledged is there, as after a
 * kill -9 (crash.test.mjs). The same with a disk that lies about its syncs must show a loss: that
 * is what `synchronous=NORMAL` would be, and tells that these tests can see one.
 *
 * The first start and a restore are short, and what matters in them is over in an instant: they run
 * once to their end, and their protocol is cut off at one place after the other.
 *
 * BAKEND_LONG=1: 200 rounds instead of 20.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { readFeed } from '../support/feed.mjs';
import { binary, Server, startServer, temporaryFolder } from '../support/program.mjs';
import { promise } from '../support/promise.mjs';
import { createRandom } from '../support/random.mjs';
import { createCollection, createRecord, listAll, open } from '../support/records.mjs';
import { operatorToken } from '../support/superuser.mjs';
import { Bed, loadScenarios } from './support/bed.mjs';
import { PowerLoss } from './support/power-loss.mjs';

const isLong = process.env.BAKEND_LONG === '1';
const ROUNDS = isLong ? 200 : 20;
/* Places of one run, from its beginning to its end. */
const START_ROUNDS = isLong ? 200 : 12;
const RESTORE_ROUNDS = isLong ? 200 : 16;
const LIE_ROUNDS_MAX = 10;
/** A start is cut off, too, in one of so many rounds. */
const CUT_STARTS = 4;
/** And one life in so many ends idle, with the checkpoint that comes after a second. */
const IDLE_LIVES = 8;
const IDLE_MS = 1000;
const LOG_MS = 500;

/** Kills what is still there when something is thrown: nothing outlives a test. */
async function ending(server, action) {
  try {
    return await action();
  } catch (error) {
    if (server.isRunning) await server.stop('SIGKILL');
    throw error;
  }
}

/**
 * A life under load that ends with the power: in the midst of it, or (isIdle) about when a server
 * without work empties its log.
 */
async function live(bed, power, server, { ms, isIdle = false }) {
  await ending(server, () => bed.startLoad(server));
  await sleep(ms);
  if (isIdle) {
    await bed.load.stop();
    await sleep(power.random.between(IDLE_MS - 60, IDLE_MS + 100));
  }
  await server.stop('SIGKILL');
  await bed.endLoad();
  return power.cut();
}

/** Starts the server, after starts that were cut off themselves, and holds it against the bed. */
async function comeBack(bed, power, { cutStarts = 0 } = {}) {
  for (let count = 0; count < cutStarts; count++) {
    const server = power.start();
    await sleep(power.random.between(0, 120));
    await server.stop('SIGKILL');
    await power.cut();
  }
  const server = power.start();
  return ending(server, async () => {
    await server.ready();
    return { server, findings: await bed.check(server) };
  });
}

async function makeBed(t, { random, scenarios, lies }) {
  const folder = await temporaryFolder(t),
    journals = await temporaryFolder(t);
  const power = await PowerLoss.of({ folder, journals, random, lies });
  const bed = new Bed({ random, scenarios: await loadScenarios(scenarios), journals });
  const server = power.start();
  await ending(server, async () => {
    await server.ready();
    await bed.setUp(server);
  });
  return { bed, power, folder, server };
}

/**
 * What is wrong with the directory. A copy of it is looked at: SQLite removes a log that nobody
 * uses, and makes another, and the disk, which knows files by their inodes, would not hear of what
 * is written to that one.
 */
async function checkCopy(bed, folder, copies) {
  const copy = join(copies, 'copy');
  await cp(folder, copy, { recursive: true, filter: (path) => !path.endsWith('.sock') });
  const findings = await bed.checkFolder(copy);
  await rm(copy, { recursive: true });
  return findings;
}

/** With what the server says of it, whose log has a thread of its own. */
async function isFine(server, findings) {
  if (findings.count > 0) await sleep(LOG_MS);
  const said = server.log.filter((line) => /"level":"(warn|error)"/.test(line)).join('\n');
  assert.equal(findings.count, 0, `${findings}\n${said}`);
  assert.ok(!server.log.some((line) => line.includes('epoch_renewed')), 'the epoch stays');
}

test(`${ROUNDS} power cuts under load lose, repeat and resurrect nothing`, async (t) => {
  const random = createRandom(t);
  const { bed, power, folder, server: first } = await makeBed(t, { random });
  const copies = await temporaryFolder(t);
  let server = first;
  const unsynced = { names: 0, files: 0, bytes: 0 };
  for (let round = 1; round <= ROUNDS; round++) {
    const life = { ms: random.between(50, 700), isIdle: random.below(IDLE_LIVES) === 0 };
    const left = await live(bed, power, server, life);
    for (const key of Object.keys(unsynced)) unsynced[key] += left[key];
    if (round % 5 === 0) assert.equal((await checkCopy(bed, folder, copies)).toString(), '');
    const cutStarts = random.below(CUT_STARTS) === 0 ? random.between(1, 3) : 0;
    const back = await comeBack(bed, power, { cutStarts });
    server = back.server;
    await ending(server, () => isFine(server, back.findings));
  }
  await ending(server, async () => isFine(server, await bed.checkAll(server)));
  await server.stop('SIGKILL');
  await power.cut();
  assert.equal((await checkCopy(bed, folder, copies)).toString(), '');
  const { ok, failed, unknown } = bed.counts;
  assert.ok(ok > ROUNDS, 'the load has written something');
  assert.ok(unknown > 0, 'the cuts have hit requests in flight');
  assert.ok(unsynced.bytes > 0 && unsynced.names > 0, 'something was left to chance');
  promise(
    t,
    'power loss',
    `${ROUNDS} cuts, ${ok} acknowledged, ${failed} refused, ${unknown} unanswered, ` +
      `${(unsynced.bytes / 1e6).toFixed(1)} MB and ${unsynced.names} names left to chance: ` +
      '0 lost, 0 resurrected',
  );
});

test(`${START_ROUNDS} power cuts in the first start leave a directory that starts`, async (t) => {
  const folder = await temporaryFolder(t),
    journals = await temporaryFolder(t);
  const power = await PowerLoss.of({ folder, journals, random: createRandom(t) });
  await power.prepareCuts(START_ROUNDS);
  const first = power.start();
  await ending(first, () => first.ready());
  await first.stop('SIGKILL');
  await power.cutEverywhere(async () => {
    const again = new Server(folder, []);
    await ending(again, async () => {
      await again.ready();
      await operatorToken(again);
    });
    await again.stop();
  });
  promise(t, 'power loss in the first start', `${START_ROUNDS} cuts: the next start is right`);
});

/** A stopped directory with a backup, and what differs between then and now. */
async function makeBackup(t) {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, { folder });
  const token = await operatorToken(server);
  await createCollection(server, token, {
    name: 'posts',
    ...open,
    fields: [{ name: 'title', type: 'text' }],
  });
  await createRecord(server, token, 'posts', { title: 'before' });
  const made = await server.request('POST', '/api/backups', { name: 'b.zip' }, { token });
  assert.equal(made.status, 204, made.text);
  await createRecord(server, token, 'posts', { title: 'after' });
  await server.stop();
  return { folder, token, backup: join(folder, 'data/tenants/default/backups/b.zip') };
}

/** Restores, on a disk that writes all of it down. */
async function restore(power, folder) {
  const backup = join(folder, 'data/tenants/default/backups/b.zip');
  const child = spawn(binary, ['restore', backup, '--data', join(folder, 'data')], {
    cwd: folder,
    env: { ...process.env, ...power.environment() },
    stdio: 'ignore',
  });
  const code = await new Promise((resolve) => child.on('close', resolve));
  assert.equal(code, 0, 'the restore ended well');
}

/** The event comes right after the start; it is waited for when it has to come. */
async function isRestoreTold(server, token, mustBe) {
  for (let tries = 0; ; tries++) {
    const { events } = await readFeed(server, token);
    const isTold = events.some(({ type }) => type === 'backup.restored');
    if (isTold || !mustBe || tries === 100) return isTold;
    await sleep(50);
  }
}

test(`${RESTORE_ROUNDS} power cuts in a restore leave the old state or the new one`, async (t) => {
  const { folder, token } = await makeBackup(t);
  const journals = await temporaryFolder(t);
  const power = await PowerLoss.of({ folder, journals, random: createRandom(t) });
  let oldCount = 0,
    newCount = 0;
  await power.prepareCuts(RESTORE_ROUNDS);
  await restore(power, folder);
  await power.cutEverywhere(async (isDone) => {
    const server = await startServer(t, { folder });
    const titles = (await listAll(server, token, 'posts')).map(({ title }) => title).sort();
    const isNew = titles.join() === 'before';
    if (!isNew) assert.deepEqual(titles, ['after', 'before'], 'all of one state');
    assert.ok(isNew || !isDone, 'a restore that was said to be done is');
    assert.equal(await isRestoreTold(server, token, isNew), isNew, 'a restore is told');
    const { body } = await server.request('GET', '/api/backups', undefined, { token });
    assert.deepEqual(body.map(({ key }) => key), ['b.zip'], 'the backup is still there');
    await server.stop();
    if (isNew) newCount++;
    else oldCount++;
  });
  promise(
    t,
    'power loss in a restore',
    `${RESTORE_ROUNDS} cuts: ${oldCount} the old state, ${newCount} the new one, 0 a mixture`,
  );
});

const countLost = (bed, server) =>
  bed.check(server).then(
    ({ lost }) => lost.length,
    () => 'much',
  );

/** The first life in which something is lost on a disk that lies about these files. */
async function findLoss(t, { lies, scenarios }) {
  const random = createRandom(t);
  for (let round = 1; round <= LIE_ROUNDS_MAX; round++) {
    const { bed, power, server } = await makeBed(t, { random, scenarios, lies });
    await live(bed, power, server, { ms: random.between(400, 1000) });
    const again = power.start();
    const isUp = await again.ready().then(
      () => true,
      () => false,
    );
    /* When not even the superuser is left, what has to be asked for cannot be. */
    const lost = isUp ? await countLost(bed, again) : 'all';
    if (again.isRunning) await again.stop('SIGKILL');
    if (lost !== 0) return `${lost} lost in cut ${round}`;
  }
  return null;
}

test('a disk that lies about the log loses what was acknowledged: a loss is seen', async (t) => {
  const loss = await findLoss(t, { lies: '-wal', scenarios: ['records'] });
  assert.ok(loss, 'without syncs of the log something is lost');
  promise(t, 'power loss, control without syncs', loss);
});

test('a disk that lies about a directory loses a backup: a loss is seen', async (t) => {
  const loss = await findLoss(t, { lies: '/backups', scenarios: ['backups'] });
  assert.ok(loss, 'without a sync of its directory a backup is lost');
  promise(t, 'power loss, control without syncs of names', loss);
});
