/**
 * Work is done when it is due: in tenants that are closed, after a kill, without data/instance.db, and
 * whatever somebody does to the clock. Each task is a mail of a tenant without a mail server, so that a
 * file in the tenant's folder tells that it was done, and no request has to open the tenant.
 *
 * Tasks and schedules are written into the database of a stopped program: so their times are what the
 * test wants.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { access, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { run, runWell, startServer, temporaryFolder } from './support/program.mjs';
import { promise } from './support/promise.mjs';
import { operatorToken, signIn } from './support/superuser.mjs';
import { preload } from './reliability/support/machine.mjs';

const HOUR_MS = 3600_000;
const DAY_MS = 24 * HOUR_MS;
const TEN_YEARS_MS = 3652 * DAY_MS;
const PATIENCE_MS = 20_000;
const SETTLE_MS = 1500; /* in which what should not happen would have */
const few = ['--open-tenants-max', '2'];
const isLong = process.env.BAKEND_LONG === '1';
/* Of the clock of a program that runs. Ten years ahead is where the next one starts, too. */
const shortLeaps = [HOUR_MS, -TEN_YEARS_MS];
const leaps = isLong ? [HOUR_MS, -HOUR_MS, TEN_YEARS_MS, -TEN_YEARS_MS] : shortLeaps;
const delayMs = 2000 + 1250 * leaps.length; /* so that the last leap is before it is over */

/* --- the database of a stopped program -------------------------------------------------------- */

const script = `
import sqlite3, sys, json
database = sqlite3.connect(sys.argv[1])
for text, values in json.loads(sys.argv[2]):
    rows = database.execute(text, values).fetchall()
database.commit()
print(json.dumps(rows))
`;

async function change(data, file, statements) {
  const args = ['-c', script, join(data, file), JSON.stringify(statements)];
  return JSON.parse((await promisify(execFile)('python3', args)).stdout);
}

const timeText = (ms) => new Date(ms).toISOString().replace('T', ' ');
const mail = JSON.stringify({ to: ['somebody@example.com'], subject: 'it is time', text: 'now' });
let idCount = 0;

/** The id of a task that was added at a time. */
function idAt(ms) {
  const time = (ms - Date.UTC(2020, 0, 1)).toString(36).padStart(8, '0');
  return time + String(++idCount).padStart(7, '0');
}

/** A task that was added at a time, and is due so long after it. */
const addTask = (data, tenant, addedMs, delayMs) => {
  const id = idAt(addedMs);
  const times = [timeText(addedMs + delayMs), timeText(addedMs), timeText(addedMs)];
  return change(data, `tenants/${tenant}/data.db`, [
    [
      `INSERT INTO _work (id, kind, lane, state, payload, due, created, updated)
       VALUES (?, 'mail', 'mail', 'waiting', 'null', ?, ?, ?)`,
      [id, ...times],
    ],
    ['INSERT INTO _work_secrets (id, payload) VALUES (?, ?)', [id, mail]],
  ]);
};

/** A daily schedule whose last time was missed. */
const addSchedule = (data, tenant) =>
  change(data, `tenants/${tenant}/data.db`, [
    [
      `INSERT INTO _schedules (name, kind, lane, payload, expression, is_of_kind, next, last)
       VALUES ('daily', 'mail', '', ?, '0 3 * * *', 0, 1, 0)`,
      [mail],
    ],
  ]);

/** What instance.db says of a tenant. */
const rowOf = async (data, tenant) =>
  (await change(data, 'instance.db', [['SELECT due FROM tenants WHERE name = ?', [tenant]]]))[0];

/* --- what was done ---------------------------------------------------------------------------- */

async function mailsOf(data, tenant) {
  const folder = tenant === 'default' ? join(data, 'mail') : join(data, 'tenants', tenant, 'mail');
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => name.endsWith('.eml')).map((name) => join(folder, name));
}

/** Resolves with the time at which the last of them was written: that of the system's clock. */
async function waitForMails(data, tenant, count) {
  const until = Date.now() + PATIENCE_MS;
  while ((await mailsOf(data, tenant)).length < count) {
    assert.ok(Date.now() < until, `${tenant} has not done its work`);
    await sleep(20);
  }
  const files = await Promise.all((await mailsOf(data, tenant)).map((path) => stat(path)));
  return Math.round(Math.max(...files.map(({ mtimeMs }) => mtimeMs)));
}

const exists = (path) => access(path).then(
  () => true,
  () => false,
);

/** A stopped program with tenants that have a database and nothing to do. */
async function prepare(t, names, options) {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, { folder, ...options });
  const token = await operatorToken(server);
  for (const name of names) {
    const { status, text } = await server.request('POST', '/api/tenants', { name }, { token });
    assert.equal(status, 200, text);
    const path = '/api/collections';
    assert.equal((await server.request('GET', path, undefined, { token, tenant: name })).status, 200);
  }
  await server.stop();
  return { folder, data: join(folder, 'data') };
}

/** Whoever changes a database by hand removes the file that says when it is due. */
const forget = (data) => rm(join(data, 'instance.db'));

describe('work is done when it is due', { concurrency: true }, () => {
  it('in tenants that are closed, one after the other where few may be open', async (t) => {
    const names = ['one', 'two', 'three', 'idle'];
    const { folder, data } = await prepare(t, names);
    const dueMs = Date.now() + 3000;
    await addTask(data, 'one', Date.now(), 3000);
    await addSchedule(data, 'two');
    await addTask(data, 'three', Date.now() - DAY_MS, HOUR_MS);
    await forget(data);
    const server = await startServer(t, { folder, args: few });
    await waitForMails(data, 'two', 1);
    await waitForMails(data, 'three', 1);
    const doneMs = await waitForMails(data, 'one', 1);
    assert.ok(doneMs >= dueMs, `${dueMs - doneMs} ms early`);
    await server.stop();
    const [due] = await rowOf(data, 'two');
    assert.ok(due > Date.now() && due <= Date.now() + DAY_MS, 'the next time of its schedule');
    assert.ok((await rowOf(data, 'idle'))[0] > Date.now() + TEN_YEARS_MS, 'never');
    const again = await startServer(t, { folder, args: few });
    await sleep(SETTLE_MS);
    await again.stop();
    for (const name of ['one', 'two', 'three'])
      assert.equal((await mailsOf(data, name)).length, 1, name);
    promise(t, 'closed tenant', `opened and done ${doneMs - dueMs} ms after its task was due`);
  });

  it('after a kill', async (t) => {
    const { folder, data } = await prepare(t, ['one', 'two']);
    const dueMs = Date.now() + 3000;
    await addTask(data, 'one', Date.now(), 3000);
    await addTask(data, 'two', Date.now(), 3500);
    await forget(data);
    const server = await startServer(t, { folder, args: few });
    await sleep(500);
    await server.stop('SIGKILL');
    const early = await mailsOf(data, 'one');
    if (Date.now() < dueMs) assert.deepEqual(early, []);
    await sleep(Math.max(0, dueMs + 500 - Date.now()));
    await startServer(t, { folder, args: few });
    await waitForMails(data, 'one', 1);
    await waitForMails(data, 'two', 1);
  });

  it('when instance.db is damaged, which doctor tells', async (t) => {
    const { folder, data } = await prepare(t, ['one']);
    const file = join(data, 'instance.db');
    const sound = await runWell(['doctor', '--data', data]);
    assert.match(sound, /ok +\S*instance\.db: whole/);
    await addTask(data, 'one', Date.now(), 0);
    const bytes = await readFile(file);
    bytes.fill(0x55, 0, 200);
    await writeFile(file, bytes);
    const { code, stdout } = await run(['doctor', '--data', data]);
    assert.equal(code, 0, stdout);
    assert.match(stdout, /warning +\S*instance\.db: damaged/);
    const server = await startServer(t, { folder });
    await waitForMails(data, 'one', 1);
    await server.logged('instance_damaged');
    assert.ok(await exists(`${file}.damaged`));
    assert.equal((await stat(file)).mode & 0o777, 0o600);
  });

  it('in a database that was restored from a backup', async (t) => {
    const { folder, data } = await prepare(t, ['one']);
    await addTask(data, 'one', Date.now(), 0);
    const archive = join(folder, 'one.zip');
    await runWell(['backup', archive, '--data', data, '--tenant', 'one']);
    await change(data, 'tenants/one/data.db', [['DELETE FROM _work', []]]);
    await runWell(['restore', archive, '--data', data, '--tenant', 'one']);
    assert.ok(!(await exists(join(data, 'instance.db'))), 'what it said is not true any more');
    await startServer(t, { folder });
    await waitForMails(data, 'one', 1);
  });

  it('whatever is done to the clock, in a process and over restarts', async (t) => {
    const { folder, data } = await prepare(t, []);
    const clock = join(folder, 'clock');
    const setClock = async (ms) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigInt64LE(BigInt(ms / 1000));
      await writeFile(clock, bytes, { flag: 'r+' }); // mapped: it must not be empty in between
    };
    await writeFile(clock, Buffer.alloc(8));
    const env = { ...(await preload(t, 'moved_clock')), BAKEND_TEST_CLOCK: clock };
    const dueMs = Date.now() + delayMs;
    await addSchedule(data, 'default');
    await addTask(data, 'default', Date.now(), delayMs);
    /* Ten years from now the mails are old, and would not be there to be counted. */
    await change(data, 'tenants/default/data.db', [
      ['INSERT INTO _work_lanes (name) VALUES (?)', ['mail-files']],
    ]);

    const server = await startServer(t, { folder, env });
    await waitForMails(data, 'default', 1);
    for (const leapMs of leaps) {
      await setClock(leapMs);
      await sleep(1200);
    }
    const early = await mailsOf(data, 'default');
    if (Date.now() < dueMs) assert.equal(early.length, 1);
    const doneMs = await waitForMails(data, 'default', 2);
    assert.ok(doneMs >= dueMs, `${dueMs - doneMs} ms early`);
    await server.logged('clock_doubted');
    await setClock(0);
    await server.stop();

    await setClock(TEN_YEARS_MS);
    const ahead = await startServer(t, { folder, env });
    await waitForMails(data, 'default', 3);
    await sleep(SETTLE_MS);
    await ahead.stop();
    assert.equal((await mailsOf(data, 'default')).length, 3, 'ten years of days are one');
    await addTask(data, 'default', Date.now() + TEN_YEARS_MS, 2000);

    await setClock(0);
    const backMs = Date.now();
    const back = await startServer(t, { folder, env });
    const repairedMs = await waitForMails(data, 'default', 4);
    assert.ok(repairedMs - backMs >= 2000, 'it has the delay that it was given');
    const token = await signIn(back);
    const { body } = await back.request('GET', '/api/crons', undefined, { token });
    const next = Date.parse(body.find(({ id }) => id === 'daily').next.replace(' ', 'T'));
    assert.ok(next > Date.now() && next <= Date.now() + DAY_MS, `${new Date(next)}`);
    promise(t, isLong ? 'clock ±1 h, ±10 y' : 'clock +1 h, ±10 y', `a delayed task ${doneMs - dueMs} ms late, one task for ten years`);
  });
});
