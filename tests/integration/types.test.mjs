/**
 * `bakend types`: what it prints is TypeScript that the compiler takes under --strict together with
 * the SDK's own types, and that finds the slips that it is there to find.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { symlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import PocketBase from 'pocketbase';
import { addNeighbours, canary } from './support/neighbours.mjs';
import { runWell, startServer, temporaryFolder } from './support/program.mjs';
import { createSuperuser, email, password } from './support/superuser.mjs';

const modules = fileURLToPath(new URL('./node_modules', import.meta.url));
const compiler = join(
  dirname(createRequire(import.meta.url).resolve('typescript/package.json')),
  'bin/tsc',
);

async function connect(server) {
  await createSuperuser(server);
  const pb = new PocketBase(server.url);
  await pb.collection('_superusers').authWithPassword(email, password);
  return pb;
}

/** Every type of field, relations to and fro, and names that types cannot show apart. */
async function addCollections(pb) {
  const users = await pb.collections.getOne('users');
  const tags = await pb.collections.create({
    name: 'tags',
    fields: [{ name: 'name', type: 'text', required: true }],
  });
  const posts = await pb.collections.create({
    name: 'posts',
    fields: [
      { name: 'title', type: 'text', required: true },
      { name: 'body', type: 'editor' },
      { name: 'state', type: 'select', values: ['draft', 'it\'s "out"'], required: true },
      { name: 'mood', type: 'select', values: ['good', 'bad'] },
      { name: 'colours', type: 'select', values: ['red', 'green', 'blue'], maxSelect: 3 },
      { name: 'views', type: 'number' },
      { name: 'is_public', type: 'bool' },
      { name: 'site', type: 'url' },
      { name: 'contact', type: 'email' },
      { name: 'day', type: 'date' },
      { name: 'place', type: 'geoPoint' },
      { name: 'cover', type: 'file', maxSelect: 1 },
      { name: 'attachments', type: 'file', maxSelect: 5 },
      { name: 'meta', type: 'json' },
      { name: 'more_meta', type: 'json' },
      { name: 'notes', type: 'text', hidden: true },
      { name: 'author', type: 'relation', collectionId: users.id, maxSelect: 1 },
      { name: 'tags', type: 'relation', collectionId: tags.id, maxSelect: 10 },
      { name: 'created', type: 'autodate', onCreate: true },
    ],
  });
  await pb.collections.create({
    name: 'covers',
    fields: [{ name: 'post', type: 'relation', collectionId: posts.id, maxSelect: 1 }],
    indexes: ['CREATE UNIQUE INDEX `idx_covers_post` ON `covers` (`post`)'],
  });
  await pb.collections.create({
    name: 'comments',
    fields: [{ name: 'post', type: 'relation', collectionId: posts.id, maxSelect: 1 }],
  });
  const viewQuery = 'SELECT id, title, views FROM posts';
  await pb.collections.create({ name: 'titles', type: 'view', viewQuery });
  for (const name of ['blog_posts', 'blogPosts', '1st'])
    await pb.collections.create({ name, fields: [{ name: '2nd', type: 'text' }] });
}

const good = `
import PocketBase from 'pocketbase';
import type { ListResult, RecordModel, RecordService } from 'pocketbase';
import type {
  BlogPosts2Record, BlogPostsRecord, Collection1stRecord, CollectionRecords, Expanded, PostsCreate,
  PostsRecord, PostsUpdate, StrictPocketBase, TypedPocketBase, UsersCreate, UsersRecord,
} from './bakend';

const pb = new PocketBase('http://127.0.0.1:8090') as TypedPocketBase;
const plain: PocketBase = pb;
const service: RecordService<PostsRecord> = pb.collection('posts');
const anywhere: RecordService<RecordModel> = plain.collection('posts');

export async function read(id: string): Promise<void> {
  const list: ListResult<PostsRecord> = await pb.collection('posts').getList(1, 20);
  const post = list.items[0]!;
  const title: string = post.title;
  const state: 'draft' | 'it\\'s "out"' = post.state;
  const mood: 'good' | 'bad' | '' = post.mood;
  const colours: Array<'red' | 'green' | 'blue'> = post.colours;
  const views: number = post.views;
  const isPublic: boolean = post.is_public;
  const longitude: number = post.place.lon;
  const notes: string | undefined = post.notes;
  const author: string = post.author;
  const cover1: string = post.cover;
  const attachments: string[] = post.attachments;
  const url: string = pb.files.getURL(post, attachments[0] ?? cover1);
  const tags: string[] = post.tags;
  const kind: 'posts' = post.collectionName;
  const model: RecordModel = post;

  const full = await pb
    .collection('posts')
    .getOne<Expanded<PostsRecord, 'author' | 'tags' | 'comments_via_post' | 'covers_via_post'>>(id);
  const email: string | undefined = full.expand.author.email;
  const names: string[] = full.expand.tags.map((tag) => tag.name);
  const commentIds: string[] = full.expand.comments_via_post.map((comment) => comment.id);
  const cover: string = full.expand.covers_via_post.post;
  const maybe: UsersRecord | undefined = post.expand?.author;

  const shaped = await pb.collection('posts').getOne<PostsRecord<{ size: number }, string[]>>(id);
  const size: number | undefined = shaped.meta?.size;
  const words: string[] | null = shaped.more_meta;

  const login = await pb.collection('users').authWithPassword('a@example.com', 'x');
  const verified: boolean = login.record.verified;
  await pb.collection('posts').subscribe('*', (event) => {
    const changed: string = event.record.title;
    void changed;
  });
  const first: BlogPostsRecord | BlogPosts2Record = await pb.collection('blog_posts').getOne(id);
  const odd: Collection1stRecord = await pb.collection('1st').getOne(id);
  const second: string = odd['2nd'] + first['2nd'];
  const each: keyof CollectionRecords = 'posts';
  const seen: number = (await pb.collection('titles').getOne(id)).views;
  void [seen, title, state, mood, colours, views, isPublic, longitude, notes, author, tags, kind, model];
  void [url, email, names, commentIds, cover, maybe, size, words, verified, second, each];
}

export async function write(id: string): Promise<void> {
  const created = { title: 'x', state: 'draft', tags: [id], meta: { a: 1 } } satisfies PostsCreate;
  await service.create(created);
  const changed: PostsUpdate = {
    'views+': 1, 'tags+': id, '+tags': [id], 'tags-': [id], 'colours+': 'red', mood: '',
    day: new Date(), author: null, cover: new Blob(['x']), 'attachments+': [new Blob(['y'])],
    'attachments-': 'old.txt', 'cover-': ['c.png'],
  };
  await anywhere.update(id, changed);
  const user: UsersCreate = { email: 'b@example.com', password: 'x', passwordConfirm: 'x' };
  await pb.collection('users').create(user);

  const strict = new PocketBase('http://127.0.0.1:8090') as StrictPocketBase;
  const made: PostsRecord = await strict.collection('posts').create({ title: 'x', state: 'draft' });
  await strict.collection('posts').update(made.id, { 'views-': 2 });
  await strict.collection('posts').delete(made.id);
  await strict.collection('users').authRefresh();
}
`;

const head = `
import PocketBase from 'pocketbase';
import type { PostsCreate, StrictPocketBase, TypedPocketBase } from './bakend';
const pb = new PocketBase() as TypedPocketBase;
const strict = new PocketBase() as StrictPocketBase;
void pb, strict;
`;

/** Each of these alone must be refused. */
const slips = {
  'a field that is not there': `(await pb.collection('posts').getOne('x')).titel;`,
  'a choice that is not there': `(await pb.collection('posts').getOne('x')).mood === 'so so';`,
  'a list taken for one': `const t: string = (await pb.collection('posts').getOne('x')).tags;`,
  'a password in a record': `(await pb.collection('users').getOne('x')).password;`,
  'an expand that is not there': `(await pb.collection('posts').getOne('x')).expand?.nobody;`,
  'json of a shape not said': `(await pb.collection('posts').getOne('x')).meta.size;`,
  'a required field left out': `const c: PostsCreate = { title: 'x' };`,
  'a wrong choice in an input': `const c: PostsCreate = { title: 'x', state: 'gone' };`,
  'a modifier of the wrong kind': `strict.collection('posts').update('x', { 'title+': 'y' });`,
  'a wrong type in an input': `strict.collection('posts').create({ title: 1, state: 'draft' });`,
  'a record made in a view': `strict.collection('titles').create({});`,
  'a collection that is not there': `strict.collection('postss');`,
};

async function compile(folder, files) {
  const config = {
    compilerOptions: {
      strict: true,
      noEmit: true,
      target: 'es2022',
      module: 'esnext',
      moduleResolution: 'bundler',
      lib: ['es2022', 'dom'],
      types: [],
    },
    files,
  };
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config));
  return new Promise((resolve) => {
    execFile(process.execPath, [compiler, '-p', folder], { cwd: folder }, (error, stdout) =>
      resolve({ code: error ? error.code : 0, stdout }),
    );
  });
}

test('what types prints passes tsc --strict with the SDK, and finds slips', async (t) => {
  const server = await startServer(t);
  const pb = await connect(server);
  await addNeighbours(server, pb.authStore.token);
  await addCollections(pb);
  const folder = await temporaryFolder(t);
  await symlink(modules, join(folder, 'node_modules'));
  const text = await runWell(['types', '--data', server.data]);
  await writeFile(join(folder, 'bakend.d.ts'), text);

  await writeFile(join(folder, 'good.ts'), good);
  const files = ['bakend.d.ts', 'good.ts'];
  for (const [i, slip] of Object.values(slips).entries()) {
    await writeFile(join(folder, `slip-${i}.ts`), `${head}${slip}\nexport {};\n`);
    files.push(`slip-${i}.ts`);
  }
  const { stdout } = await compile(folder, files);
  const errors = stdout.split('\n').filter((line) => /error TS/.test(line));
  assert.deepEqual(errors.filter((line) => !line.startsWith('slip-')), []);
  Object.keys(slips).forEach((name, i) => {
    const own = errors.filter((line) => line.startsWith(`slip-${i}.ts`));
    assert.equal(own.length, 1, `${name}: ${own.join('\n')}`);
  });
});

test('types are the same running and stopped, and those of one tenant', async (t) => {
  const server = await startServer(t);
  const pb = await connect(server);
  await addNeighbours(server, pb.authStore.token);
  await pb.collections.create({ name: 'zebras', fields: [{ name: 'name', type: 'text' }] });
  const running = await runWell(['types', '--data', server.data]);
  assert.match(running, /export interface ZebrasRecord \{/);
  assert.doesNotMatch(running, /BooksRecord/);
  assert.ok(!running.includes(canary));
  const other = await runWell(['types', '--data', server.data, '--tenant', 'left']);
  assert.match(other, /export interface BooksRecord \{/);
  assert.doesNotMatch(other, /ZebrasRecord/);
  await server.stop();
  assert.equal(await runWell(['types', '--data', server.data]), running);
});
