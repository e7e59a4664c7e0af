/**
 * The corpus of hostile requests, tests/hostile/http, one a file:
 *
 *   CL.TE: why it is here, in a sentence.
 *   expect: 200 400 close        the statuses of the answers in their order, interim ones too;
 *   created: 1                   then whether the connection ends: close, or goes on: open
 *
 *   POST /things HTTP/1.1\r\n    the bytes: the ends of the lines are not part of them, and
 *   X: \*1000{y}\r\n             \r \n \t \0 \\ \xNN stand for bytes, \*N{…} for N times the same
 *
 * `created` is the number of records that it makes, 0 when it is not told.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../../../hostile/http', import.meta.url));
const bytes = { r: '\r', n: '\n', t: '\t', 0: '\0', '\\': '\\' };

function unescape(text) {
  return text
    .replace(/\\\*(\d+)\{([^}]*)\}/g, (_, count, each) => each.repeat(Number(count)))
    .replace(/\\(?:x([0-9a-f]{2})|(.))/g, (_, hex, letter) => {
      if (hex) return String.fromCharCode(parseInt(hex, 16));
      if (!(letter in bytes)) throw new Error(`unknown escape \\${letter}`);
      return bytes[letter];
    });
}

function read(path) {
  const name = relative(folder, path).replace(/\.txt$/, '');
  const text = readFileSync(path, 'latin1');
  const at = text.indexOf('\n\n');
  const [why, ...lines] = text.slice(0, at).split('\n');
  const fields = Object.fromEntries(lines.map((line) => line.split(': ')));
  const expected = fields.expect.split(' ');
  const end = expected.pop();
  if (!['open', 'close'].includes(end)) throw new Error(`${name}: how does it end?`);
  return {
    name,
    why,
    statuses: expected.map(Number),
    isClosed: end === 'close',
    created: Number(fields.created ?? 0),
    data: Buffer.from(unescape(text.slice(at + 2).replaceAll('\n', '')), 'latin1'),
  };
}

/** All of it, by name. */
export function readCorpus() {
  return readdirSync(folder, { withFileTypes: true })
    .filter((each) => each.isDirectory())
    .flatMap(({ name }) => readdirSync(join(folder, name)).map((file) => join(folder, name, file)))
    .sort()
    .map(read);
}
