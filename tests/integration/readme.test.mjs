/**
 * The walk-through of the README, run as it is written: the address of the server is put in, the
 * program lies where the README has it, and curl is told to be quiet and to fail when it is
 * refused.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { binary, startServer } from './support/program.mjs';

const execute = promisify(execFile);
const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');

/** The fenced blocks of a language below a heading. */
function blocksBelow(heading, language) {
  const section = readme.split(/^## /m).find((part) => part.startsWith(`${heading}\n`));
  assert.ok(section, `the README has a section ${heading}`);
  return [...section.matchAll(/^```(\w+)\n(.*?)^```/gms)]
    .filter(([, found]) => found === language)
    .map(([, , text]) => text);
}

test('the walk-through of the README works as written', async (t) => {
  const blocks = blocksBelow('Try it', 'sh');
  assert.ok(blocks.length >= 2, 'one block starts the server, the next ones use it');
  assert.match(blocks[0], /scripts\/run/);
  const walk = blocks.slice(1).join('\n');
  const server = await startServer(t);
  await mkdir(join(server.folder, 'build/release'), { recursive: true });
  await symlink(binary, join(server.folder, 'build/release/bakend'));

  /* The server of the README has the default address; ours has one that the system chose. */
  const script = walk.replaceAll('localhost:8090', `127.0.0.1:${server.port}`);
  assert.notEqual(script, walk);
  const commands = script.replaceAll(
    /^curl /gm,
    'echo; curl --silent --show-error --fail-with-body ',
  );
  const { stdout } = await execute('bash', ['-euo', 'pipefail', '-c', commands], {
    cwd: server.folder,
  });
  const answers = stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));

  await t.test('it makes a collection', () => assert.equal(answers[0].name, 'posts'));
  await t.test('it makes a record', () => {
    assert.equal(answers[1].title, 'Hello');
    assert.match(answers[1].id, /^[a-z0-9]{15}$/);
  });
  await t.test('it reads what happened, in the shape that the README shows', () => {
    const [json] = blocksBelow('Try it', 'json');
    const shown = JSON.parse(json);
    const page = answers[2];
    assert.deepEqual(Object.keys(page), Object.keys(shown));
    assert.equal(page.events.length, 1);
    assert.deepEqual(Object.keys(page.events[0]), Object.keys(shown.events[0]));
    const [event] = page.events,
      [wanted] = shown.events;
    for (const key of ['type', 'source', 'tenant', 'actor', 'version'])
      assert.equal(event[key], wanted[key], key);
    assert.deepEqual(event.payload, { ...wanted.payload, id: answers[1].id });
    for (const key of ['firstSequence', 'lastSequence', 'skipped', 'hasMore'])
      assert.equal(page[key], shown[key], key);
    assert.equal(event.sequence, wanted.sequence);
  });
});

test('the commands that the README names are there', async () => {
  const { stdout } = await execute(binary, ['help']);
  for (const name of ['serve', 'superuser', 'config', 'doctor', 'backup', 'restore', 'help'])
    assert.match(stdout, new RegExp(`\\b${name}\\b`));
});
