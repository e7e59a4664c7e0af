/**
 * The cases of WebSocket conformance, with the numbers of the Autobahn suite where it has them:
 *
 *   1 framing · 2 pings and pongs · 3 reserved bits · 4 opcodes · 5 fragmentation · 6 UTF-8 ·
 *   7 closing · 9 sizes · 10 many fragments · 14 masks and lengths (ours)
 *
 * Each: its number, the section of RFC 6455 that it is about, what is sent, and what must come
 * back, in order. One that does not end with a close is closed by the client.
 */
import {
  BINARY,
  CLOSE,
  CONTINUATION,
  FIN,
  PING,
  PONG,
  TEXT,
  bytes,
  close,
  code,
  frame,
  hex,
  last,
  more,
  ping,
  pong,
  start,
  text,
} from './websocket-frames.mjs';

/* What is expected, in order. */
const echo = (payload, isBinary = false) => ({ message: Buffer.from(payload), isBinary });
const answer = (payload = '') => ({ pong: Buffer.from(payload) });
export const ends = (number) => ({ close: number });
const PROTOCOL = ends(1002);
const NOT_TEXT = ends(1007);
const TOO_BIG = ends(1009);

export const cases = [];
const add = (number, section, what, frames, expected = [], only) =>
  cases.push({ number, section, what, frames, expected, only });

/* 1: frames of every length that is coded differently. */
for (const [i, size] of [0, 1, 125, 126, 127, 128, 65535, 65536].entries()) {
  const filler = '*'.repeat(size);
  add(`1.1.${i + 1}`, '5.2', `text of ${size}`, [text(filler)], [echo(filler)]);
  const octets = Buffer.alloc(size, 0xfe);
  add(`1.2.${i + 1}`, '5.2', `binary of ${size}`, [bytes(octets)], [echo(octets, true)]);
}

/* 2: pings and pongs. */
const all = Buffer.from(Array.from({ length: 125 }, (_, i) => 131 + i));
add('2.1', '5.5.2', 'a ping without payload', [ping()], [answer()]);
add('2.2', '5.5.2', 'a ping with text', [ping('Hello')], [answer('Hello')]);
add(
  '2.3',
  '5.5.2',
  'a ping with octets',
  [ping(hex('00fffefdfcfb00ff'))],
  [answer(hex('00fffefdfcfb00ff'))],
);
add('2.4', '5.5', 'a ping of 125', [ping(all)], [answer(all)]);
add('2.5', '5.5', 'a ping of 126', [ping(Buffer.alloc(126))], [PROTOCOL]);
add('2.7', '5.5.3', 'a pong that nobody asked for', [pong()]);
add('2.8', '5.5.3', 'the same with payload', [pong('unsolicited')]);
add('2.9', '5.5.3', 'the same and a ping', [pong('unsolicited'), ping('p')], [answer('p')]);
const ten = Array.from({ length: 10 }, (_, i) => `payload-${i}`);
add('2.10', '5.5.2', 'ten pings', ten.map(ping), ten.map(answer));
add('2.11', '5.5', 'a pong of 126', [pong(Buffer.alloc(126))], [PROTOCOL]);
add(
  '2.12',
  '5.5.2',
  'a ping, a message, a ping',
  [ping('1'), text('m'), ping('2')],
  [answer('1'), echo('m'), answer('2')],
);

/* 3: reserved bits, which only an extension gives a meaning. */
for (let bits = 1; bits <= 7; bits++) {
  const set = bits << 4;
  add(`3.1.${bits}`, '5.2', `bits ${bits} of a text`, [frame(FIN | set | TEXT, 'x')], [PROTOCOL]);
  add(
    `3.2.${bits}`,
    '5.2',
    `bits ${bits} behind a message`,
    [text('m'), frame(FIN | set | TEXT, 'x'), ping()],
    [echo('m'), PROTOCOL],
  );
  add(
    `3.3.${bits}`,
    '5.2',
    `bits ${bits} of a binary`,
    [frame(FIN | set | BINARY, 'x')],
    [PROTOCOL],
  );
  add(`3.4.${bits}`, '5.2', `bits ${bits} of a ping`, [frame(FIN | set | PING)], [PROTOCOL]);
  add(`3.5.${bits}`, '5.2', `bits ${bits} of a pong`, [frame(FIN | set | PONG)], [PROTOCOL]);
  add(`3.6.${bits}`, '5.2', `bits ${bits} of a close`, [frame(FIN | set | CLOSE)], [PROTOCOL]);
  add(
    `3.7.${bits}`,
    '5.2',
    `bits ${bits} of a continuation`,
    [start('a'), frame(FIN | set | CONTINUATION, 'b')],
    [PROTOCOL],
  );
}

/* 4: opcodes that mean nothing. */
for (const opcode of [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]) {
  const part = opcode < 8 ? 1 : 2;
  add(`4.${part}.${opcode}.1`, '5.2', `opcode ${opcode}`, [frame(FIN | opcode)], [PROTOCOL]);
  add(`4.${part}.${opcode}.2`, '5.2', 'with payload', [frame(FIN | opcode, 'x')], [PROTOCOL]);
  add(
    `4.${part}.${opcode}.3`,
    '5.2',
    'behind a message',
    [text('m'), frame(FIN | opcode, 'x'), ping()],
    [echo('m'), PROTOCOL],
  );
  add(`4.${part}.${opcode}.4`, '5.2', 'not final', [frame(opcode, 'x')], [PROTOCOL]);
  add(
    `4.${part}.${opcode}.5`,
    '5.2',
    'in a message',
    [start('a'), frame(FIN | opcode)],
    [PROTOCOL],
  );
}

/* 5: fragments. */
add('5.1', '5.4', 'a ping in two', [frame(PING, 'a'), last('b')], [PROTOCOL]);
add('5.2', '5.4', 'a pong in two', [frame(PONG, 'a'), last('b')], [PROTOCOL]);
add('5.2.1', '5.4', 'a close in two', [frame(CLOSE, code(1000)), last('b')], [PROTOCOL]);
add('5.3', '5.4', 'a text in two', [start('frag1'), last('frag2')], [echo('frag1frag2')]);
add(
  '5.3.1',
  '5.4',
  'a binary in two',
  [frame(BINARY, 'frag1'), last('frag2')],
  [echo('frag1frag2', true)],
);
add(
  '5.3.2',
  '5.4',
  'with empty ones',
  [start(''), more(''), more('a'), more(''), last('')],
  [echo('a')],
);
add('5.3.3', '5.4', 'of nothing', [start(''), last('')], [echo('')]);
add(
  '5.6',
  '5.4',
  'a ping between fragments',
  [start('a'), ping('p'), last('b')],
  [answer('p'), echo('ab')],
);
add('5.6.1', '5.4', 'a pong between fragments', [start('a'), pong('p'), last('b')], [echo('ab')]);
add(
  '5.6.2',
  '5.5.1',
  'a close between fragments',
  [start('a'), close(1000), last('b')],
  [ends(1000)],
);
add('5.9', '5.4', 'a continuation of nothing', [last('x'), text('m')], [PROTOCOL]);
add('5.12', '5.4', 'the same, not final', [more('x'), text('m')], [PROTOCOL]);
add(
  '5.15',
  '5.4',
  'a continuation behind a message',
  [start('a'), last('b'), more('c'), text('d')],
  [echo('ab'), PROTOCOL],
);
add(
  '5.16',
  '5.4',
  'twice a continuation before a message',
  [more('a'), text('b'), last('c')],
  [PROTOCOL],
);
add(
  '5.17',
  '5.4',
  'a whole message behind a final continuation',
  [last('a'), text('b')],
  [PROTOCOL],
);
add('5.18', '5.4', 'a text inside a text', [start('a'), text('b')], [PROTOCOL]);
add('5.18.1', '5.4', 'a binary inside a text', [start('a'), bytes('b')], [PROTOCOL]);
add('5.18.2', '5.4', 'a text begun inside a binary', [frame(BINARY, 'a'), start('b')], [PROTOCOL]);
add(
  '5.19',
  '5.4',
  'five fragments and two pings',
  [start('1'), more('2'), ping('p'), more('3'), more('4'), ping('q'), last('5')],
  [answer('p'), answer('q'), echo('12345')],
);
add(
  '5.20',
  '5.4',
  'two messages of fragments',
  [start('a'), last('b'), frame(BINARY, 'c'), last('d')],
  [echo('ab'), echo('cd', true)],
);
add(
  '5.21',
  '5.5',
  'a ping of 125 between fragments',
  [start('a'), ping(all), last('b')],
  [answer(all), echo('ab')],
);

/* 6: UTF-8. Whole texts first, then each broken one: at once, in two fragments with the cut inside
 * of it, and with no more than the octet that breaks it, which is to be enough. */
const kosme = 'Hello-µ@ßöäüàá-UTF-8!!';
add('6.1.1', '5.6', 'an empty text', [text('')], [echo('')]);
add('6.1.2', '5.6', 'three empty fragments', [start(''), more(''), last('')], [echo('')]);
add('6.1.3', '5.6', 'one in the middle', [start(''), more('middle'), last('')], [echo('middle')]);
add('6.2.1', '8.1', 'text in one', [text(kosme)], [echo(kosme)]);
add(
  '6.2.2',
  '8.1',
  'cut between characters',
  [start('Hello-µ@'), last('ßöä')],
  [echo('Hello-µ@ßöä')],
);
const octetsOf = (value) => [...Buffer.from(value)].map((octet) => Buffer.from([octet]));
const inOctets = (value) => {
  const parts = octetsOf(value);
  return parts.map((part, i) =>
    i === 0 ? start(part) : i < parts.length - 1 ? more(part) : last(part),
  );
};
add('6.2.3', '8.1', 'each octet a fragment', inOctets(kosme), [echo(kosme)]);
add('6.2.4', '8.1', 'the same of κόσμε', inOctets('κόσμε'), [echo('κόσμε')]);
add(
  '6.2.5',
  '8.1',
  'a ping inside a character',
  [start(hex('e282')), ping('p'), last(hex('ac'))],
  [answer('p'), echo('€')],
);
const right = [
  ['00', 'U+0000'],
  ['7f', 'U+007F'],
  ['c280', 'U+0080'],
  ['dfbf', 'U+07FF'],
  ['e0a080', 'U+0800'],
  ['ed9fbf', 'U+D7FF'],
  ['ee8080', 'U+E000'],
  ['efbfbd', 'U+FFFD'],
  ['efbfbe', 'U+FFFE'],
  ['efbfbf', 'U+FFFF'],
  ['f0908080', 'U+10000'],
  ['f09fbfbe', 'U+1FFFE'],
  ['f48fbfbf', 'U+10FFFF'],
  ['efbbbf', 'U+FEFF'],
  ['cebae1bdb9cf83cebcceb5', 'κόσμε'],
];
for (const [i, [digits, what]] of right.entries()) {
  add(`6.5.${i + 1}`, '8.1', what, [text(hex(digits))], [echo(hex(digits))]);
  if (digits.length > 2)
    add(`6.7.${i + 1}`, '8.1', `${what}, each octet a fragment`, inOctets(hex(digits)), [
      echo(hex(digits)),
    ]);
}
/** Octets, and how many of them it takes to see that it is no text. */
const wrong = [
  ['80', 1, 'a lone continuation'],
  ['bf', 1, 'the last one'],
  ['8080', 1, 'two of them'],
  ['c0', 1, 'C0'],
  ['c1bf', 1, 'C1'],
  ['f5', 1, 'F5'],
  ['f880808080', 1, 'five octets'],
  ['fc8080808080', 1, 'six octets'],
  ['fe', 1, 'FE'],
  ['ff', 1, 'FF'],
  ['c0af', 1, 'overlong / in 2'],
  ['e080af', 2, 'overlong / in 3'],
  ['f08080af', 2, 'overlong / in 4'],
  ['e09fbf', 2, 'overlong U+07FF'],
  ['f08fbfbf', 2, 'overlong U+FFFF'],
  ['c080', 1, 'overlong NUL'],
  ['eda080', 2, 'U+D800'],
  ['edadbf', 2, 'U+DB7F'],
  ['edbfbf', 2, 'U+DFFF'],
  ['eda080edb080', 2, 'a pair of surrogates'],
  ['f4908080', 2, 'U+110000'],
  ['c328', 2, 'a lead without its rest'],
  ['e228a1', 2, 'the same of 3'],
  ['e28228', 3, 'the same, the last'],
  ['f0288cbc', 2, 'the same of 4'],
  ['f0908028', 4, 'the last of 4'],
  ['cebae1bdb9cf83cebcceb5eda080656469746564', 13, 'κόσμε and a surrogate'],
  ['cebae1bdb9cf83cebcceb5f4908080656469746564', 13, 'κόσμε and past U+10FFFF'],
];
for (const [i, [digits, enough, what]] of wrong.entries()) {
  const octets = hex(digits);
  add(`6.3.${i + 1}`, '8.1', what, [text(octets)], [NOT_TEXT]);
  add(
    `6.4.${i + 1}`,
    '8.1',
    `${what}, told by its octet ${enough} in the middle of a frame`,
    [frame(FIN | TEXT, octets.subarray(0, enough), { length: octets.length + 1000 })],
    [NOT_TEXT],
  );
  add(
    `6.6.${i + 1}`,
    '8.1',
    `${what}, in the middle of a fragment`,
    [start('ok '), frame(CONTINUATION, octets.subarray(0, enough), { length: 500 })],
    [NOT_TEXT],
  );
  add(
    `6.8.${i + 1}`,
    '8.1',
    `${what}, each octet a fragment`,
    [start(''), ...octetsOf(octets.subarray(0, enough)).map(more)],
    [NOT_TEXT],
  );
}
for (const [i, digits] of ['c3', 'e2', 'e282', 'f0', 'f09f', 'f09f98', 'cebae1bd'].entries()) {
  add(`6.9.${i + 1}`, '8.1', 'text that ends inside a character', [text(hex(digits))], [NOT_TEXT]);
  add(`6.10.${i + 1}`, '8.1', 'the same in fragments', [start(hex(digits)), last('')], [NOT_TEXT]);
}
add(
  '6.11',
  '5.6',
  'binary need be no text',
  [bytes(hex('ff80c0eda080'))],
  [echo(hex('ff80c0eda080'), true)],
);
add('6.12', '5.5.2', 'nor need a ping', [ping(hex('ffc0eda080'))], [answer(hex('ffc0eda080'))]);

/* 7: closing. */
add('7.1.1', '7.1.2', 'a message and a close', [text('m'), close(1000)], [echo('m'), ends(1000)]);
add('7.1.2', '5.5.1', 'two closes', [close(1000), close(1001)], [ends(1000)]);
add('7.1.3', '5.5.1', 'a ping behind a close', [close(1000), ping('p')], [ends(1000)]);
add('7.1.4', '5.5.1', 'a message behind a close', [close(1000), text('m')], [ends(1000)]);
add('7.1.5', '5.5.1', 'a close inside a message', [start('a'), close(1000)], [ends(1000)]);
add(
  '7.1.6',
  '5.5.1',
  'much behind a close',
  [text('m'), close(1000), bytes(Buffer.alloc(60_000)), ping('p'), frame(FIN | 3)],
  [echo('m'), ends(1000)],
);
add('7.3.1', '5.5.1', 'a close without a code', [close()], [ends(undefined)]);
add('7.3.2', '5.5.1', 'a close of one octet', [frame(FIN | CLOSE, 'a')], [PROTOCOL]);
add('7.3.3', '5.5.1', 'a code alone', [close(1000)], [ends(1000)]);
add('7.3.4', '5.5.1', 'a code and a reason', [close(1000, 'Hello World!')], [ends(1000)]);
add('7.3.5', '5.5', 'a reason of 123', [close(1000, '*'.repeat(123))], [ends(1000)]);
add('7.3.6', '5.5', 'a reason of 124', [close(1000, '*'.repeat(124))], [PROTOCOL]);
for (const [i, digits] of ['ff', 'cebae1bdb9cf83cebcceb5eda080', 'c3', 'e282', 'c080'].entries())
  add(`7.5.${i + 1}`, '5.5.1', 'a reason that is no text', [close(1000, hex(digits))], [NOT_TEXT]);
add('7.5.9', '5.5.1', 'a reason in Greek', [close(1000, 'κόσμε')], [ends(1000)]);
const valid = [
  1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3500, 3999, 4000,
  4500, 4999,
];
for (const [i, number] of valid.entries())
  add(`7.7.${i + 1}`, '7.4', `the code ${number}`, [close(number)], [ends(number)]);
const invalid = [
  0, 1, 500, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1100, 1999, 2000, 2999, 5000, 32767, 65535,
];
for (const [i, number] of invalid.entries()) {
  add(`7.9.${i + 1}`, '7.4', `the code ${number}`, [close(number)], [PROTOCOL]);
  add(
    `7.10.${i + 1}`,
    '7.4',
    `the code ${number}, with a reason`,
    [close(number, 'r')],
    [PROTOCOL],
  );
}

/* 9: sizes, each in one frame and in fragments. */
const KIB = 1024;
for (const [i, size] of [64 * KIB, 256 * KIB, 1024 * KIB].entries()) {
  const filler = 'BAsd7&jh23'.repeat(size / 10 + 1).slice(0, size);
  add(`9.1.${i + 1}`, '5.2', `text of ${size}`, [text(filler)], [echo(filler)], 'big');
  add(`9.2.${i + 1}`, '5.2', `binary of ${size}`, [bytes(filler)], [echo(filler, true)], 'big');
  for (const part of [4 * KIB, 60 * KIB]) {
    const parts = [];
    for (let at = 0; at < size; at += part)
      parts.push(
        frame(
          (at ? CONTINUATION : BINARY) | (at + part >= size ? FIN : 0),
          filler.slice(at, at + part),
        ),
      );
    add(
      `9.4.${i + 1}.${part}`,
      '5.4',
      `binary of ${size} in fragments of ${part}`,
      parts,
      [echo(filler, true)],
      'big',
    );
  }
}
const many = Array.from({ length: 500 }, (_, i) => `${i} `.padEnd(64, '*'));
add(
  '9.7.1',
  '5.2',
  '500 messages of 64',
  many.map((each) => text(each)),
  many.map((each) => echo(each)),
);
const ticks = Array.from({ length: 1300 }, (_, i) => 'abcdefghij'[i % 10]);
add(
  '10.1.1',
  '5.4',
  'a text of 1,300 fragments',
  [start(ticks[0]), ...ticks.slice(1, -1).map(more), last(ticks.at(-1))],
  [echo(ticks.join(''))],
);

/* 14: masks and lengths. */
for (const [i, opcode] of [TEXT, BINARY, CLOSE, PING, PONG].entries())
  add(
    `14.1.${i + 1}`,
    '5.1',
    `opcode ${opcode} without a mask`,
    [frame(FIN | opcode, '', { mask: null })],
    [PROTOCOL],
  );
add(
  '14.1.6',
  '5.1',
  'a continuation without a mask',
  [start('a'), frame(FIN, 'b', { mask: null })],
  [PROTOCOL],
);
for (const [i, digits] of ['00000000', 'ffffffff', '00ff00ff', '80000001'].entries())
  add(
    `14.2.${i + 1}`,
    '5.3',
    `the mask ${digits}`,
    [text('Hällo€', { mask: hex(digits) })],
    [echo('Hällo€')],
  );
for (const size of [0, 1, 125])
  add(
    `14.3.${size}`,
    '5.2',
    `${size} coded in 2`,
    [text('x'.repeat(size), { form: 2 })],
    [PROTOCOL],
  );
for (const size of [0, 125, 126, 65535])
  add(
    `14.4.${size}`,
    '5.2',
    `${size} coded in 8`,
    [text('x'.repeat(size), { form: 8 })],
    [PROTOCOL],
  );
for (const [i, length] of [2n ** 63n, 2n ** 63n + 1n, 2n ** 64n - 1n].entries())
  add(`14.5.${i + 1}`, '5.2', `the length ${length}`, [text('', { length })], [PROTOCOL]);
for (const [i, length] of [2n ** 63n - 1n, 2n ** 40n, 2n ** 32n + 5n].entries()) {
  add(`14.6.${i + 1}`, '7.4.1', `the length ${length}`, [text('', { length })], [TOO_BIG]);
  add(
    `14.6.${i + 4}`,
    '7.4.1',
    'the same of a fragment',
    [start('a'), frame(0, '', { length })],
    [TOO_BIG],
  );
}
add(
  '14.7.1',
  '7.4.1',
  'a message one past the limit',
  [text('', { length: 64 * KIB + 1 })],
  [TOO_BIG],
  'realtime',
);
add(
  '14.7.2',
  '7.4.1',
  'fragments one past the limit',
  [start('x'.repeat(40_000)), frame(FIN, '', { length: 64 * KIB - 40_000 + 1 })],
  [TOO_BIG],
  'realtime',
);
add(
  '14.8.1',
  '5.5',
  'a ping that claims 2 octets of length',
  [frame(FIN | PING, '', { form: 2, length: 5 })],
  [PROTOCOL],
);
add(
  '14.8.2',
  '5.5',
  'a close that claims 8',
  [frame(FIN | CLOSE, '', { form: 8, length: 5 })],
  [PROTOCOL],
);
