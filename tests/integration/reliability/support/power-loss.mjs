/** A server on a disk that can lose its power: see disk.mjs. */
import { access, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { binary, Server } from '../../support/program.mjs';
import { Disk } from './disk.mjs';

/* A sync takes time, in which more is written and the power may go. */
const SYNC_US = 500;
const library = join(dirname(binary), 'power_loss.so');

/** Sanitizers want to come first and need not: the library holds nothing of theirs. */
const sanitizerOptions = (name, own) => ({
  [name]: [process.env[name], own].filter(Boolean).join(':'),
});

export class PowerLoss {
  #disk;
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
