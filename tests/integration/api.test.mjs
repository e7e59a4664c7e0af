/**
 * What the api says about itself (its OpenAPI document, its figures) and how it says no.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import SwaggerParser from '@apidevtools/swagger-parser';
import { startServer, temporaryFolder } from './support/program.mjs';
import { createCollection, open, recordsPath } from './support/records.mjs';
import { createSuperuser, operatorToken, signIn } from './support/superuser.mjs';

const things = {
  name: 'things',
  ...open,
  fields: [{ name: 'title', type: 'text', required: true }],
};

test('the OpenAPI document', async (t) => {
  const server = await startServer(t);
  const { status, body: document } = await server.request('GET', '/api/openapi.json');
  assert.equal(status, 200);
  const operations = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({
      name: `${method} ${path}`,
      method,
      ...operation,
    })),
  );

  await t.test('is valid by the schema of OpenAPI 3.1', async () => {
    assert.equal(document.openapi, '3.1.0');
    await SwaggerParser.validate(structuredClone(document));
  });

  await t.test('gives no method a body that may not have one', () => {
    for (const { name, method, requestBody } of operations)
      if (['get', 'head', 'delete'].includes(method)) assert.equal(requestBody, undefined, name);
  });

  await t.test('explains every parameter of a query', () => {
    for (const { name, parameters } of operations)
      for (const parameter of parameters.filter((each) => each.in === 'query')) {
        assert.ok(parameter.description, `${name}: ${parameter.name}`);
        assert.ok(parameter.schema.type, `${name}: ${parameter.name}`);
      }
  });

  await t.test('names defaults', () => {
    const defaultOf = (path, name) =>
      document.paths[path].get.parameters.find((each) => each.name === name).schema.default;
    assert.equal(defaultOf('/api/collections/{collection}/records', 'perPage'), 30);
    assert.equal(defaultOf('/api/logs', 'skipTotal'), false);
    assert.equal(defaultOf('/api/events', 'limit'), 100);
    assert.equal(defaultOf('/api/events', 'types'), '*');
  });

  await t.test('says what an answer of a list and an error look like', () => {
    const list = document.paths['/api/collections/{collection}/records'].get;
    const { $ref } = list.responses['2XX'].content['application/json'].schema;
    assert.equal($ref, '#/components/schemas/List');
    for (const { name, responses } of operations)
      assert.equal(
        responses.default.content['application/json'].schema.$ref,
        '#/components/schemas/Error',
        name,
      );
  });
});

test('the page of figures has no series twice and is for operators', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  const { status, text } = await server.request('GET', '/metrics', undefined, { token });
  assert.equal(status, 200);
  const series = text
    .split('\n')
    .filter((line) => line && !line.startsWith('#'))
    .map((line) => line.slice(0, line.lastIndexOf(' ')));
  const twice = series.filter((each, index) => series.indexOf(each) !== index);
  assert.deepEqual(twice, []);

  const made = await server.request('POST', '/api/tenants', { name: 'acme' }, { token });
  assert.ok(made.status < 300, made.text);
  const who = { tenant: 'acme', email: 'their@example.com' };
  await createSuperuser(server, who);
  const theirs = await signIn(server, who);
  assert.equal((await server.request('GET', '/metrics', undefined, { token: theirs })).status, 403);
  assert.equal((await server.request('GET', '/metrics')).status, 401);
});

test('a path that a route has is not a collection, whatever the method', async (t) => {
  const server = await startServer(t);
  const { status, body } = await server.request('POST', '/metrics', {});
  assert.equal(status, 404);
  assert.equal(body.message, "The requested resource wasn't found: this path has no POST.");
});

test('a collection that is missing', async (t) => {
  const server = await startServer(t);
  const long = await server.request('GET', recordsPath('nothing'));
  assert.equal(long.status, 404);
  assert.equal(
    long.body.message,
    'Missing collection context: there is no collection "nothing".',
  );
  const short = await server.request('GET', '/nothing');
  assert.equal(short.status, 404);
  assert.equal(short.body.message, "The requested resource wasn't found.");
});

test('413 names the limit', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  await createCollection(server, token, things);
  const title = 'x'.repeat(33554432);
  const { status, body } = await server.request('POST', recordsPath('things'), { title });
  assert.equal(status, 413);
  assert.equal(body.message, 'The body may have at most 33554432 bytes.');
});

test('email in place of identity is a missing identity', async (t) => {
  const server = await startServer(t);
  const { status, body } = await server.request(
    'POST',
    '/api/collections/_superusers/auth-with-password',
    { email: 'a@example.com', password: 'whatever' },
  );
  assert.equal(status, 400);
  assert.deepEqual(body.data, {
    identity: { code: 'validation_required', message: 'Cannot be blank.' },
  });
});

test('a token whose record cannot be read now does not make a guest', async (t) => {
  const folder = await temporaryFolder(t);
  const first = await startServer(t, { folder });
  const token = await operatorToken(first);
  await createCollection(first, token, { ...things, listRule: '' });
  await first.stop();
  const server = await startServer(t, {
    folder,
    env: { BAKEND_FAILPOINT: 'auth.credentials_read:error@1' },
  });
  assert.equal(
    (await server.request('GET', recordsPath('things'), undefined, { token })).status,
    500,
  );
  assert.equal(
    (await server.request('GET', '/api/collections', undefined, { token })).status,
    200,
  );
});
