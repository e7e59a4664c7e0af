/** The command line and the life of the process: options, start, refusals, signals. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { run, runServer, runWell, startServer, temporaryFolder } from './support/program.mjs';
import { operatorToken, signIn } from './support/superuser.mjs';

const mode = async (path) => (await stat(path)).mode & 0o777;

/* --- words and options ------------------------------------------------------------------------ */

test('help lists every command and explains one', async () => {
  const all = await runWell(['help']);
  for (const name of [
    'serve',
    'config',
    'version',
    'help',
    'doctor',
    'backup',
    'restore',
    'superuser',
  ])
    assert.match(all, new RegExp(`^  ${name} `, 'm'));
  assert.match(await runWell(['help', 'serve']), /--listen ADDRESS:PORT/);
  assert.match(await runWell(['backup', '--help']), /^usage: bakend backup/);
});

test('help says ranges, units and where a password comes from', async () => {
  const serve = await runWell(['help', 'serve']);
  assert.match(serve, /--writers COUNT .* \(2; 1 to 4\)/);
  assert.match(serve, /--tail-max-bytes BYTES .* \(4MiB; 64KiB to 1TiB\)/);
  assert.match(serve, /TIME takes ms, s, m, h, d or w/);
  const superuser = await runWell(['help', 'superuser']);
  assert.match(superuser, /standard\s+input/);
  assert.match(superuser, /--tenant/);
  const list = await runWell(['help']);
  assert.match(list, /^ {2}restore +Replaces .* kept\.$/m);
});

test('wrong usage ends with 2 and says what is right', async () => {
  const cases = [
    [[], /bakend serve/],
    [['nope'], /unknown command nope/],
    [['serve', '--lisen', '1'], /unknown option --lisen: did you mean --listen\?/],
    [['serve', '--writers', '9'], /--writers: "9" must be from 1 to 4/],
    [['serve', '--writers'], /--writers needs a value/],
    [['serve', '--log-level', 'loud'], /--log-level: "loud" must be debug/],
    [['serve', '--listen', 'here'], /--listen: "here" must be an address and a port/],
    [['serve', 'now'], /unexpected argument now/],
    [['backup', 'a', 'b'], /^usage: bakend backup/m],
    [['backup', '--tenant', 'A B'], /--tenant needs the name of a tenant/],
    [['serve', '--config', 'missing.json'], /--config: there is no file missing\.json: name one/],
    [['serve', '--nonsense', '1'], /unknown option --nonsense: see `bakend help serve`/],
    [['backup', '--dta', 'x'], /unknown option --dta: did you mean --data\?/],
    [['serve', '--open-tenants-max', '1'], /must be from 2 to 10000/],
    [['config', '--cors-origins', 'app.example.com'], /--cors-origins: .* origins separated/],
    [['config', '--cors-origins', 'https://a.example/path'], /--cors-origins/],
    [['config', '--tenant-domain', 'https://example.com'], /--tenant-domain: .* must be a domain/],
    [['config', '--trusted-proxies', '10.0.0.0/33'], /--trusted-proxies: .* must be addresses/],
  ];
  for (const [args, message] of cases) {
    const { code, stderr } = await run(args, { cwd: '/tmp' });
    assert.equal(code, 2, `${args.join(' ')}: ${stderr}`);
    assert.match(stderr, message);
  }
});

test('config shows each value and where it came from, the strongest place first', async (t) => {
  const folder = await temporaryFolder(t);
  await writeFile(
    join(folder, 'bakend.json'),
    JSON.stringify({
      writers: 1,
      readers: 3,
      corsOrigins: ['https://a.example', 'https://b.example'],
    }),
  );
  const env = { BAKEND_READERS: '4', BAKEND_QUEUE_MAX: '100' };
  const shown = JSON.parse(
    await runWell(['config', '--json', '--queue-max', '200'], { cwd: folder, env }),
  );
  assert.deepEqual(shown.queueMax, { value: 200, origin: 'flag', from: '--queue-max' });
  assert.deepEqual(shown.readers, { value: 4, origin: 'environment', from: 'BAKEND_READERS' });
  assert.deepEqual(shown.writers, { value: 1, origin: 'file', from: 'bakend.json' });
  assert.equal(shown.corsOrigins.value, 'https://a.example,https://b.example');
  assert.equal(shown.retentionMaxAge.origin, 'default');
  assert.match(await runWell(['config'], { cwd: folder, env }), /^readers +4 +BAKEND_READERS$/m);
});

test('a slip in the file or the environment is found, also where a flag wins', async (t) => {
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, 'bakend.json'), '{"writer": 1}');
  let result = await run(['config'], { cwd: folder });
  assert.equal(result.code, 2);
  assert.match(result.stderr, /unknown key writer in bakend\.json: did you mean writers\?/);
  await writeFile(join(folder, 'bakend.json'), '{"queue-max": 100}');
  result = await run(['config'], { cwd: folder });
  assert.match(result.stderr, /unknown key queue-max in bakend\.json: did you mean queueMax\?/);
  await writeFile(join(folder, 'bakend.json'), '{"writers": 77}');
  result = await run(['config', '--writers', '2'], { cwd: folder });
  assert.match(result.stderr, /writers in bakend\.json: "77" must be from 1 to 4/);
  result = await run(['config'], { cwd: '/tmp', env: { BAKEND_LISTENN: 'x' } });
  assert.match(result.stderr, /BAKEND_LISTENN.*did you mean BAKEND_LISTEN\?/);
});

test('no collection takes a word that the server answers itself', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  for (const name of ['api', 'metrics', 'Metrics']) {
    const answer = await server.request(
      'POST',
      '/api/collections',
      { name, type: 'base' },
      { token },
    );
    assert.equal(answer.status, 400, name);
    assert.ok(answer.body.data.name, answer.text);
  }
});

/* --- start ------------------------------------------------------------------------------------ */

test('the data directory and all in it are private', async (t) => {
  const server = await startServer(t);
  assert.equal(await mode(server.data), 0o700);
  assert.equal(await mode(join(server.data, 'instance.key')), 0o600);
  assert.equal(await mode(join(server.data, 'tenants')), 0o700);
  assert.equal(await mode(join(server.data, 'tenants/default')), 0o700);
  assert.equal(await mode(join(server.data, 'tenants/default/data.db')), 0o600);
  assert.equal(await mode(server.socketPath), 0o600);
  assert.match(await readFile(join(server.data, 'instance.key'), 'utf8'), /^[A-Za-z0-9_-]{43}\n$/);
});

test('the instance key survives a restart and is refused when others may read it', async (t) => {
  const folder = await temporaryFolder(t);
  const first = await startServer(t, { folder });
  const path = join(first.data, 'instance.key');
  const key = await readFile(path, 'utf8');
  await first.stop();
  const second = await startServer(t, { folder });
  assert.equal(await readFile(path, 'utf8'), key);
  await second.stop();
  await chmod(path, 0o644);
  const { code, stderr } = await run(['serve', '--data', first.data, '--listen', '127.0.0.1:0'], {
    cwd: folder,
  });
  assert.equal(code, 1);
  assert.match(stderr, /instance\.key can be read by others.*chmod 600/);
});

test('a second start on the same directory is refused and names the process', async (t) => {
  const server = await startServer(t);
  const { code, stderr } = await run(['serve', '--data', server.data, '--listen', '127.0.0.1:0'], {
    cwd: server.folder,
  });
  assert.equal(code, 1);
  assert.match(stderr, new RegExp(`\\b${server.pid}\\b`));
  assert.equal((await server.request('GET', '/api/nope')).status, 404);
});

test('a taken port is a failure that names it', async (t) => {
  const server = await startServer(t);
  const folder = await temporaryFolder(t);
  const { code, stderr } = await run(['serve', '--listen', `127.0.0.1:${server.port}`], {
    cwd: folder,
  });
  assert.equal(code, 1);
  assert.match(stderr, new RegExp(String(server.port)));
});

test('a damaged database is refused and left as it is', async (t) => {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, { folder });
  await server.stop();
  const path = join(server.data, 'tenants/default/data.db');
  const damaged = Buffer.from(await readFile(path)).fill('x', 0, 4096);
  await writeFile(path, damaged);
  const { code, stderr } = await run(['serve', '--data', server.data, '--listen', '127.0.0.1:0'], {
    cwd: folder,
  });
  assert.equal(code, 1);
  assert.match(stderr, /damaged/);
  assert.ok(damaged.equals(await readFile(path)));
});

test('after kill -9 the next start replaces the socket and goes on', async (t) => {
  const folder = await temporaryFolder(t);
  const first = await startServer(t, { folder });
  await first.stop('SIGKILL');
  const second = await startServer(t, { folder });
  assert.equal((await second.request('GET', '/api/nope')).status, 404);
});

/* --- the control socket ----------------------------------------------------------------------- */

/** GET over the control socket; resolves with the status. */
function askControl(server, path) {
  return new Promise((resolve, reject) => {
    http
      .get({ socketPath: server.socketPath, path }, (answer) => {
        answer.resume();
        answer.on('end', () => resolve(answer.statusCode));
      })
      .on('error', reject);
  });
}

test('the control socket asks as the system, the port as a guest', async (t) => {
  const server = await startServer(t);
  assert.equal((await server.request('GET', '/api/backups')).status, 401);
  assert.equal(await askControl(server, '/api/backups'), 200);
});

/* --- the end ---------------------------------------------------------------------------------- */

/** A request whose body has only half arrived. */
async function halfRequest(server) {
  const socket = net.connect(server.port, '127.0.0.1');
  let received = '';
  socket.setEncoding('utf8').on('data', (text) => {
    received += text;
  });
  socket.on('error', () => {});
  const closed = new Promise((resolve) => socket.on('close', resolve));
  socket.write(
    'POST /api/collections/nope/records HTTP/1.1\r\nHost: x\r\n' +
      'Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{',
  );
  await sleep(200);
  return { socket, closed, received: () => received };
}

test('SIGTERM lets a request in flight finish', async (t) => {
  const server = await startServer(t);
  const request = await halfRequest(server);
  server.signal('SIGTERM');
  await sleep(200);
  request.socket.write('}');
  await request.closed;
  assert.match(request.received(), /^HTTP\/1\.1 404 /);
  assert.equal((await server.ended).code, 0);
});

test('SIGTERM refuses new connections', async (t) => {
  const server = await startServer(t);
  const request = await halfRequest(server);
  server.signal('SIGTERM');
  await sleep(200);
  await assert.rejects(server.request('GET', '/api/nope'));
  request.socket.destroy();
  assert.equal((await server.ended).code, 0);
});

test('a second signal cuts what is in flight', async (t) => {
  const server = await startServer(t, { args: ['--drain-timeout', '60s'] });
  const request = await halfRequest(server);
  server.signal('SIGTERM');
  await sleep(200);
  server.signal('SIGINT');
  await request.closed;
  assert.equal((await server.ended).code, 0);
});

test('the drain ends at its timeout', async (t) => {
  const server = await startServer(t, { args: ['--drain-timeout', '300ms'] });
  const request = await halfRequest(server);
  const start = Date.now();
  server.signal('SIGTERM');
  await request.closed;
  assert.ok(Date.now() - start >= 250);
  assert.equal((await server.ended).code, 0);
});

/* --- doctor ----------------------------------------------------------------------------------- */

test('doctor finds a sound directory sound, stopped and running', async (t) => {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, { folder });
  const running = JSON.parse(await runWell(['doctor', '--data', server.data, '--json']));
  assert.equal(running.problems, 0);
  await server.stop();
  const stopped = JSON.parse(await runWell(['doctor', '--data', server.data, '--json']));
  assert.equal(stopped.problems, 0);
  assert.ok(stopped.findings.some(({ finding }) => finding.startsWith('whole')));
});

test('doctor names what is wrong and what to do', async (t) => {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, { folder });
  await server.stop();
  await chmod(join(server.data, 'instance.key'), 0o640);
  await chmod(join(server.data, 'tenants/default'), 0o755);
  const path = join(server.data, 'tenants/default/data.db');
  await writeFile(path, Buffer.from(await readFile(path)).fill('x', 0, 100));
  const { code, stdout } = await run(['doctor', '--data', server.data]);
  assert.equal(code, 1);
  assert.match(stdout, /instance\.key/);
  assert.match(stdout, /chmod 700 .*tenants\/default/);
  assert.match(stdout, /bakend restore FILE/);
  const missing = await run(['doctor', '--data', join(folder, 'elsewhere')]);
  assert.equal(missing.code, 1);
  assert.match(missing.stdout, /no such directory/);
});

test('a command that works on files is refused while a server runs', async (t) => {
  const server = await startServer(t);
  await mkdir(join(server.folder, 'x'));
  const { code, stderr } = await run(['restore', 'x.zip', '--data', server.data]);
  assert.equal(code, 1);
  assert.match(stderr, /a server runs on .*: stop it first/);
});

test('a slip in --data is an error, and nothing is made', async (t) => {
  const folder = await temporaryFolder(t);
  const missing = join(folder, 'missing');
  const foreign = join(folder, 'foreign');
  await mkdir(foreign);
  await writeFile(join(folder, 'file'), 'text');
  for (const command of [['superuser', 'list'], ['superuser', 'create', 'a@b.co'], ['backup']])
    for (const place of [missing, foreign, join(folder, 'file')]) {
      const { code, stderr } = await run([...command, '--data', place], { input: 'long enough 1\n' });
      assert.equal(code, 1);
      assert.match(stderr, /no data directory at .*--data/);
    }
  for (const place of [missing, foreign, join(folder, 'file')]) {
    const { code, stdout } = await run(['doctor', '--data', place]);
    assert.equal(code, 1);
    assert.match(stdout, /1 problem, 0 warnings/);
  }
  const { code, stderr } = await run(['serve', '--data', join(folder, 'file')]);
  assert.equal(code, 1);
  assert.match(stderr, /is a file/);
  assert.doesNotMatch(stderr, /in use/);
  assert.deepEqual((await readdir(folder)).sort(), ['file', 'foreign']);
  assert.deepEqual(await readdir(foreign), []);
});

test('a restore begins a data directory only in an empty one, and leaves that empty when it fails', async (t) => {
  const folder = await temporaryFolder(t);
  const [missing, foreign, empty] = ['missing', 'foreign', 'empty'].map((name) => join(folder, name));
  const file = join(folder, 'one.zip');
  const server = await startServer(t, { folder });
  await runWell(['backup', file, '--data', server.data]);
  await server.stop();
  await mkdir(foreign);
  await writeFile(join(foreign, 'letter.txt'), 'dear');
  await mkdir(empty);
  const restore = (archive, place, ...args) => run(['restore', archive, '--data', place, ...args]);

  const slip = await restore(file, join(missing, 'data'));
  assert.deepEqual([slip.code, /there is no directory .*--data/.test(slip.stderr)], [1, true]);
  const other = await restore(file, foreign);
  assert.deepEqual([other.code, /is not a data directory/.test(other.stderr)], [1, true]);
  assert.equal((await restore(join(folder, 'none.zip'), empty)).code, 1);
  assert.equal((await restore(file, empty, '--tenant', 'acme')).code, 1);
  assert.equal((await restore(file, empty, '--nonsense')).code, 2);
  assert.deepEqual(await readdir(empty), []);
  assert.deepEqual(await readdir(foreign), ['letter.txt']);
  assert.ok(!(await readdir(folder)).includes('missing'));

  assert.equal((await restore(file, empty)).code, 0);
  assert.ok((await readdir(join(empty, 'tenants/default'))).includes('data.db'));
});

test('a server that cannot listen leaves no new data directory, and an old one as it was', async (t) => {
  const folder = await temporaryFolder(t);
  const taken = net.createServer().listen(0, '127.0.0.1');
  t.after(() => taken.close());
  await once(taken, 'listening');
  const listen = `127.0.0.1:${taken.address().port}`;
  const serve = (data) => run(['serve', '--listen', listen, '--app', folder, '--data', data]);

  const fresh = await serve(join(folder, 'deep/er/data'));
  assert.deepEqual([fresh.code, /in use/.test(fresh.stderr)], [1, true], fresh.stderr);
  assert.deepEqual(await readdir(folder), []);

  const server = await startServer(t, { folder });
  await operatorToken(server);
  await server.stop();
  const before = await readdir(server.data);
  const old = await serve(server.data);
  assert.deepEqual([old.code, /in use/.test(old.stderr)], [1, true], old.stderr);
  assert.deepEqual(await readdir(server.data), before);
  const again = await startServer(t, { folder });
  await signIn(again);
});

test('a database that is gone is not replaced by an empty one', async (t) => {
  const folder = await temporaryFolder(t);
  const first = await startServer(t, { folder });
  const token = await operatorToken(first);
  for (const name of ['acme', 'gone']) {
    await first.request('POST', '/api/tenants', { name }, { token });
    assert.equal((await first.request('GET', '/api/logs', undefined, { token, tenant: name })).status, 200);
  }
  await first.stop();
  const tenants = join(first.data, 'tenants');
  const databases = async (name) =>
    (await readdir(join(tenants, name))).filter((each) => each.startsWith('data.db'));
  for (const each of await databases('gone'))
    await rename(join(tenants, 'gone', each), join(folder, `gone-${each}`));
  await writeFile(join(tenants, 'gone/kept'), '');
  const second = await startServer(t, { folder });
  const again = await signIn(second);
  const answer = await second.request('GET', '/api/collections', undefined, {
    token: again,
    tenant: 'gone',
  });
  assert.equal(answer.status, 503);
  assert.match(answer.body.message, /database of the tenant "gone" is damaged.*operator/);
  assert.ok(!answer.text.includes(folder), 'no paths');
  const backup = await run(['backup', '--data', second.data, '--tenant', 'gone']);
  assert.equal(backup.code, 1);
  assert.match(backup.stderr, /^bakend: .*damaged.*doctor/);
  assert.ok(!backup.stderr.includes('{'), 'no JSON');
  await second.stop();
  assert.deepEqual(await databases('gone'), []);

  for (const each of await databases('default'))
    await rename(join(tenants, 'default', each), join(folder, each));
  const third = await runServer(folder);
  assert.equal(third.code, 1);
  assert.match(third.stderr, /data\.db is missing, though this tenant was in use: .*restore/);
  assert.equal((await run(['superuser', 'list', '--data', first.data])).code, 1);
  assert.equal((await run(['doctor', '--data', first.data])).code, 1);
  await rm(join(tenants, 'default'), { recursive: true });
  assert.equal((await runServer(folder)).code, 1, 'the other tenants were made through default');
  assert.deepEqual((await readdir(tenants)).sort(), ['acme', 'default', 'gone']);
  assert.deepEqual(await databases('default'), []);
});
