/**
 * What a disk holds when its power is cut.
 *
 * A Disk knows a directory as it is on the disk, and what a program preloaded with power_loss.so
 * has done to it since (tests/support/power_loss/power_loss.c writes that down). cut() decides, by
 * a seed, what else had reached the disk, and makes the directory so.
 *
 * The model is the one that POSIX promises, which is less than ext4 or XFS keep:
 *   contents   What was written or truncated before a sync of the file began is there when that
 *              sync has ended. Of what came later each sector of 512 bytes holds the state after
 *              any of the writes to it, on its own. A sector behind the end of a file may be zeros.
 *              Truncations that were not synced are kept or lost, in their order; where one is
 *              lost, so is what was written behind its end after it.
 *   names      Created, renamed and removed names are there when each directory that they are in
 *              has been synced after. Others are kept or lost, each on its own: but a rename as a
 *              whole, and one that builds on another (the same name, the same file) only with it.
 *              A sync of a file does not keep its name.
 *   *-shm      SQLite's shared memory, of which there is no protocol: as it was, or gone.
 */
import { lstat, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';

const SECTOR = 512;
const RECORD_BYTES = 40;
const KINDS = [
  ...['', 'write', 'truncate', 'syncBegin', 'syncEnd', 'create', 'rename', 'remove', 'link'],
  'content',
];
const RENAME_EXCHANGE = 2;
const TYPE_MASK = 0o170000,
  DIRECTORY_TYPE = 0o040000;

/** The records of a protocol; one that the kill has cut off is left out. */
function* recordsOf(bytes) {
  for (let at = 0; at + RECORD_BYTES <= bytes.length; ) {
    const dataLength = Number(bytes.readBigUInt64LE(at + 24));
    const nameLength = bytes.readUInt32LE(at + 32),
      otherLength = bytes.readUInt32LE(at + 36);
    const names = at + RECORD_BYTES,
      others = names + nameLength,
      data = others + otherLength;
    if (data + dataLength > bytes.length) return;
    yield {
      kind: KINDS[bytes.readUInt32LE(at)],
      mode: bytes.readUInt32LE(at + 4),
      inode: bytes.readBigUInt64LE(at + 8),
      offset: Number(bytes.readBigUInt64LE(at + 16)),
      name: bytes.toString('utf8', names, others),
      otherName: bytes.toString('utf8', others, data),
      data: bytes.subarray(data, data + dataLength),
    };
    at = data + dataLength;
  }
}

async function readProtocol(path) {
  return [...recordsOf(await readFile(path).catch(() => Buffer.alloc(0)))];
}

/**
 * Where a cut makes a difference: behind each record that is not just one more write.
 * @returns {Promise<number[]>} so many records come before each of these places; all, at the end
 */
export async function placesOf(path) {
  const records = await readProtocol(path);
  const places = records.flatMap(({ kind }, index) => (kind === 'write' ? [] : [index + 1]));
  return [0, ...places, records.length];
}

/* --- files ------------------------------------------------------------------------------------ */

/** Bytes that grow, with zeros where nothing was written. */
class Content {
  #bytes;
  constructor(bytes = Buffer.alloc(0)) {
    this.#bytes = bytes;
    this.size = bytes.length;
  }
  get bytes() {
    return this.#bytes.subarray(0, this.size);
  }
  write(offset, data) {
    this.resize(Math.max(this.size, offset + data.length));
    data.copy(this.#bytes, offset);
  }
  resize(size) {
    if (size < this.size) this.#bytes.fill(0, size, this.size);
    if (size > this.#bytes.length) {
      const grown = Buffer.alloc(Math.max(size, 2 * this.#bytes.length));
      this.#bytes.copy(grown, 0, 0, this.size);
      this.#bytes = grown;
    }
    this.size = size;
  }
}

class File {
  /** What is not synced: {data, offset} or {size}, in order. */
  pending = [];
  constructor(mode, bytes) {
    this.mode = mode;
    this.content = new Content(bytes);
  }

  /** The first so many are on the disk. */
  sync(count) {
    for (const { data, offset, size } of this.pending.splice(0, count))
      if (data) this.content.write(offset, data);
      else this.content.resize(size);
  }

  /** Decides about what is not synced. */
  cut(random) {
    const dice = random.number();
    if (dice < 0.8) this.#keepSome(random, dice < 0.6 ? null : dice < 0.7);
    else if (dice < 0.9) this.sync(this.pending.length);
    this.pending = [];
  }

  /** How many of the truncations are kept: the place of the first that is lost. */
  #firstLost(random) {
    const places = this.pending.flatMap(({ data }, place) => (data ? [] : [place]));
    return [...places, Infinity][random.below(places.length + 1)];
  }

  /**
   * Each sector is as after any of the operations on it.
   * @param {boolean|null} isEarly null: any, with the same chance; else mostly the first or last
   */
  #keepSome(random, isEarly) {
    const lost = this.#firstLost(random);
    const bound = lost === Infinity ? Infinity : this.pending[lost].size;
    const ends = new Map();
    const endOf = ({ from, to }) => {
      if (isEarly !== null && random.number() < 0.9) return isEarly ? from : to;
      return from + random.below(to - from + 1);
    };
    for (const [sector, places] of this.#touched(lost, bound))
      ends.set(sector, places.list[endOf(places)] ?? Infinity);
    this.pending.forEach(({ data, offset, size }, place) => {
      if (!data) {
        if (place < lost) this.content.resize(size);
        return;
      }
      for (let at = offset; at < offset + data.length; ) {
        const sector = Math.floor(at / SECTOR);
        const end = Math.min((sector + 1) * SECTOR, offset + data.length);
        if (place < ends.get(sector))
          this.content.write(at, data.subarray(at - offset, end - offset));
        at = end;
      }
    });
    const last = this.pending.findLast?.(({ data }) => data) ?? null;
    if (last && lost === Infinity && random.number() < 0.25)
      this.content.resize(Math.max(this.content.size, last.offset + last.data.length));
  }

  /**
   * For each sector the places of the operations that wrote to it, and from which to which of them
   * its state may be: not before a truncation that is kept, and not behind one that is lost.
   */
  #touched(lost, bound) {
    const touched = new Map();
    this.pending.forEach(({ data, offset, size }, place) => {
      if (!data) {
        if (place < lost)
          for (const [sector, places] of touched)
            if ((sector + 1) * SECTOR > size) places.from = places.list.length;
        return;
      }
      const lastSector = Math.floor((offset + data.length - 1) / SECTOR);
      for (let sector = Math.floor(offset / SECTOR); sector <= lastSector; sector++) {
        let places = touched.get(sector);
        if (!places) touched.set(sector, (places = { list: [], from: 0, to: 0 }));
        places.list.push(place);
        if (place < lost || (sector + 1) * SECTOR <= bound) places.to = places.list.length;
      }
    });
    return touched;
  }
}

/* --- names ------------------------------------------------------------------------------------ */

class Directory {
  /** As the program sees it, and as it is on the disk: name → File or Directory. */
  now = new Map();
  durable = new Map();
  constructor(mode) {
    this.mode = mode;
  }
}

/** Changes of names that are not durable: each sets names of directories to what they stand for. */
class Names {
  #changes = [];

  /** @param {{directory: Directory, name: string, to: File|Directory|undefined}[]} sets */
  change(sets) {
    const objects = new Set();
    for (const { directory, name, to } of sets) {
      if (directory.now.has(name)) objects.add(directory.now.get(name));
      if (to) objects.add(to);
    }
    for (const { directory, name, to } of sets)
      if (to) directory.now.set(name, to);
      else directory.now.delete(name);
    this.#changes.push({ sets, objects, unsynced: new Set(sets.map((set) => set.directory)) });
  }

  get count() {
    return this.#changes.length;
  }

  #isBuiltOn(change, earlier) {
    return (
      [...change.objects].some((object) => earlier.objects.has(object)) ||
      change.sets.some(({ directory, name }) =>
        earlier.sets.some((set) => set.directory === directory && set.name === name),
      )
    );
  }

  #keep(change) {
    const place = this.#changes.indexOf(change);
    if (place < 0) return;
    for (const earlier of this.#changes.slice(0, place))
      if (this.#isBuiltOn(change, earlier)) this.#keep(earlier);
    for (const { directory, name, to } of change.sets)
      if (to) directory.durable.set(name, to);
      else directory.durable.delete(name);
    this.#changes.splice(this.#changes.indexOf(change), 1);
  }

  /** The directory is synced, as far as these changes go. */
  sync(directory, changes) {
    for (const change of changes) {
      change.unsynced.delete(directory);
      if (change.unsynced.size === 0) this.#keep(change);
    }
  }

  list() {
    return [...this.#changes];
  }

  /** Decides about what is not synced. */
  cut(random) {
    const lost = [];
    for (const change of this.list())
      if (random.number() < 0.5 && !lost.some((earlier) => this.#isBuiltOn(change, earlier)))
        this.#keep(change);
      else lost.push(change);
    this.#changes = [];
  }
}

/* --- the disk --------------------------------------------------------------------------------- */

export class Disk {
  #names = new Names();
  #byInode = new Map();
  #syncs = new Map();
  #root;

  constructor(folder) {
    this.folder = folder;
  }

  /** Takes the folder for what is on the disk. */
  static async of(folder) {
    const disk = new Disk(folder);
    disk.#root = await disk.#take(folder);
    return disk;
  }

  async #take(path) {
    const facts = await lstat(path, { bigint: true });
    const mode = Number(facts.mode);
    let object = null;
    if (facts.isFile()) object = new File(mode, await readFile(path));
    else if (facts.isDirectory()) {
      object = new Directory(mode);
      for (const name of await readdir(path)) {
        const within = await this.#take(join(path, name));
        if (within) object.durable.set(name, within);
      }
      object.now = new Map(object.durable);
    }
    if (object) this.#byInode.set(facts.ino, object);
    return object;
  }

  /** The directory that holds a path, and the name in it; null: not ours. */
  #place(path) {
    const parts = relative(this.folder, path).split('/');
    let directory = this.#root;
    for (const part of parts.slice(0, -1)) {
      directory = directory.now.get(part);
      if (!(directory instanceof Directory)) return null;
    }
    return { directory, name: parts.at(-1) };
  }

  #create({ name: path, inode, mode }) {
    const place = this.#place(path);
    if (!place) return;
    const isDirectory = (mode & TYPE_MASK) === DIRECTORY_TYPE;
    const object = isDirectory ? new Directory(mode) : new File(mode);
    this.#byInode.set(inode, object);
    this.#names.change([{ ...place, to: object }]);
  }

  #rename({ name, otherName, offset: flags }) {
    const from = this.#place(name),
      to = this.#place(otherName);
    const moved = from?.directory.now.get(from.name);
    if (!moved || !to) return;
    const back = flags === RENAME_EXCHANGE ? to.directory.now.get(to.name) : undefined;
    this.#names.change([
      { ...from, to: back },
      { ...to, to: moved },
    ]);
  }

  #remove({ name }) {
    const place = this.#place(name);
    if (place?.directory.now.has(place.name)) this.#names.change([{ ...place, to: undefined }]);
  }

  #link({ name, otherName }) {
    const object = this.#place(name)?.directory.now.get(this.#place(name).name),
      to = this.#place(otherName);
    if (object && to) this.#names.change([{ ...to, to: object }]);
  }

  #syncBegin({ inode, offset: number }) {
    const object = this.#byInode.get(inode);
    if (object instanceof File)
      this.#syncs.set(number, { file: object, last: object.pending.at(-1) });
    else if (object instanceof Directory)
      this.#syncs.set(number, { directory: object, changes: this.#names.list() });
  }

  #syncEnd({ offset: number }) {
    const sync = this.#syncs.get(number);
    this.#syncs.delete(number);
    /* Another sync may have ended meanwhile, and have taken some. */
    if (sync?.file) sync.file.sync(sync.file.pending.lastIndexOf(sync.last) + 1);
    else if (sync) this.#names.sync(sync.directory, sync.changes);
  }

  #apply(record) {
    switch (record.kind) {
      case 'create':
        return this.#create(record);
      case 'rename':
        return this.#rename(record);
      case 'remove':
        return this.#remove(record);
      case 'link':
        return this.#link(record);
      case 'syncBegin':
        return this.#syncBegin(record);
      case 'syncEnd':
        return this.#syncEnd(record);
    }
    const file = this.#byInode.get(record.inode);
    /* What is not known could not be lost, or would be without a reason. */
    if (!(file instanceof File)) throw new Error('somebody else has made a file that is written');
    if (record.kind === 'write') file.pending.push({ data: record.data, offset: record.offset });
    else if (record.kind === 'truncate') file.pending.push({ size: record.offset });
    else file.pending.push({ size: 0 });
  }

  /**
   * The power is cut: the folder becomes what the disk could hold. Resolves with how much was not
   * durable.
   * @param {number} [until] only so many records of the protocol had been written by then
   */
  async cut(protocol, random, until = Infinity) {
    const records = await readProtocol(protocol);
    for (const record of records.slice(0, until)) this.#apply(record);
    const unsynced = { names: this.#names.count, files: 0, bytes: 0 };
    this.#names.cut(random);
    for (const object of new Set(this.#byInode.values())) {
      if (!(object instanceof File) || object.pending.length === 0) continue;
      unsynced.files++;
      for (const { data } of object.pending) unsynced.bytes += data?.length ?? 0;
      object.cut(random);
    }
    await this.#keepSharedMemory(this.#root, this.folder, random);
    await this.#put();
    return unsynced;
  }

  async #keepSharedMemory(directory, path, random) {
    for (const [name, object] of directory.durable) {
      if (object instanceof Directory)
        await this.#keepSharedMemory(object, join(path, name), random);
      else if (name.endsWith('-shm')) {
        const bytes = await readFile(join(path, name)).catch(() => null);
        if (bytes && random.number() < 0.5) object.content = new Content(bytes);
        else directory.durable.delete(name);
      }
    }
  }

  async #put() {
    for (const name of await readdir(this.folder))
      await rm(join(this.folder, name), { recursive: true });
    this.#byInode.clear();
    this.#syncs.clear();
    await this.#putWithin(this.#root, this.folder);
  }

  async #putWithin(directory, path) {
    this.#byInode.set((await lstat(path, { bigint: true })).ino, directory);
    directory.now = new Map(directory.durable);
    for (const [name, object] of directory.durable) {
      const within = join(path, name);
      if (object instanceof Directory) {
        await mkdir(within, { mode: object.mode & 0o7777 });
        await this.#putWithin(object, within);
      } else {
        await writeFile(within, object.content.bytes, { mode: object.mode & 0o7777 });
        this.#byInode.set((await lstat(within, { bigint: true })).ino, object);
      }
    }
  }
}
