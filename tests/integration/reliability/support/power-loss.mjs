/** A server on a disk that can lose its power: see disk.mjs. */
import { access, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { binary, Server } from '../../support/program.mjs';
import { Disk, placesOf } from './disk.mjs';

/* A sync takes time, in which more is written and the power may go. */
const SYNC_US = 500;
const library = join(dirname(binary), 'power_loss.so');

/** Sanitizers want to come first and need not: the library holds nothing of theirs. */
const sanitizerOptions = (name, own) => ({
  [name]: [process.env[name], own].filter(Boolean).join(':'),
});

export class PowerLoss {
  #disk;
  #disks = [];
  #count = 0;

  /** @param {{folder: string, journals: string, random: object, lies?: string}} options */
  static async of({ folder, journals, random, lies }) {
    await access(library).catch(() => {
      throw new Error(`${library} is missing: build with -DBAKEND_TESTS=ON`);
    });
    const power = new PowerLoss();
    Object.assign(power, { folder, journals, random, lies });
    power.#disk = await Disk.of(folder);
    return power;
  }

  get #protocol() {
    return join(this.journals, `protocol-${this.#count}`);
  }

  /** What a program gets whose writes below the folder are to be cut off. */
  environment() {
    this.#count++;
    return {
      ...sanitizerOptions('ASAN_OPTIONS', 'verify_asan_link_order=0'),
      LD_PRELOAD: library,
      POWER_LOSS_ROOT: this.folder,
      POWER_LOSS_PROTOCOL: this.#protocol,
      POWER_LOSS_SYNC_US: String(SYNC_US),
      ...(this.lies ? { POWER_LOSS_LIES: this.lies } : {}),
    };
  }

  /** Before a run that is then to be cut off at so many of its places. */
  async prepareCuts(count) {
    for (let i = 0; i < count; i++) this.#disks.push(await Disk.of(this.folder));
  }

  /**
   * After that run has come to its end: makes the folder what the disk could hold at one place
   * after the other, each drawn from a stretch of its own, and the last one at the end; hands each
   * to `look`, which gets whether it is the end.
   */
  async cutEverywhere(look) {
    const places = await placesOf(this.#protocol);
    const stretch = (places.length - 1) / (this.#disks.length - 1);
    for (const [index, disk] of this.#disks.entries()) {
      const isEnd = index === this.#disks.length - 1;
      const drawn = Math.floor((index + this.random.number()) * stretch);
      await disk.cut(this.#protocol, this.random, isEnd ? Infinity : places[drawn]);
      await look(isEnd);
    }
    await rm(this.#protocol, { force: true });
  }

  start() {
    return new Server(this.folder, [], this.environment());
  }

  /** After the program was killed: the folder becomes what the disk could hold. */
  async cut() {
    const unsynced = await this.#disk.cut(this.#protocol, this.random);
    await rm(this.#protocol, { force: true });
    return unsynced;
  }
}
