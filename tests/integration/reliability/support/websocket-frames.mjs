/** Frames of a WebSocket client, right ones and wrong ones (RFC 6455, section 5). */
import { createRandom } from '../../support/random.mjs';

export const FIN = 0x80;
export const [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG] = [0, 1, 2, 8, 9, 10];
export const { below } = createRandom({ diagnostic: (line) => console.log(`# ${line}`) });

const randomMask = () => Buffer.from([0, 1, 2, 3].map(() => below(256)));

/** A frame of a client. `length` (claimed) and `form` (bytes of the length) may lie. */
export function frame(first, payload = '', { mask = randomMask(), form, length } = {}) {
  const bytes = Buffer.from(payload);
  const size = BigInt(length ?? bytes.length);
  const taken = form ?? (size > 65535n ? 8 : size > 125n ? 2 : 0);
  const head = Buffer.alloc(2 + taken);
  head[0] = first;
  head[1] = (mask ? 0x80 : 0) | (taken === 8 ? 127 : taken === 2 ? 126 : Number(size));
  if (taken === 2) head.writeUInt16BE(Number(size), 2);
  if (taken === 8) head.writeBigUInt64BE(BigInt.asUintN(64, size), 2);
  if (!mask) return Buffer.concat([head, bytes]);
  return Buffer.concat([head, mask, bytes.map((byte, i) => byte ^ mask[i % 4])]);
}

export const text = (payload, options) => frame(FIN | TEXT, payload, options);
export const bytes = (payload, options) => frame(FIN | BINARY, payload, options);
export const ping = (payload) => frame(FIN | PING, payload);
export const pong = (payload) => frame(FIN | PONG, payload);
export const start = (payload) => frame(TEXT, payload);
export const more = (payload) => frame(CONTINUATION, payload);
export const last = (payload) => frame(FIN | CONTINUATION, payload);
export const code = (number) => Buffer.from([number >> 8, number & 255]);
export const close = (number, reason = '') =>
  frame(
    FIN | CLOSE,
    number === undefined ? '' : Buffer.concat([code(number), Buffer.from(reason)]),
  );
export const hex = (digits) => Buffer.from(digits.replace(/ /g, ''), 'hex');
