/** Whether a zip is whole: every entry, against its checksum. */
import { inflateRawSync } from 'node:zlib';

const END = 0x06054b50,
  ENTRY = 0x02014b50,
  LOCAL = 0x04034b50;
const END_BYTES = 22;

const table = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crcOf(bytes) {
  let crc = ~0;
  for (const byte of bytes) crc = (crc >>> 8) ^ table[(crc ^ byte) & 0xff];
  return ~crc >>> 0;
}

/** The 64-bit form keeps the place of an entry in an extra field; small files do not need it. */
function checkEntry(bytes, at) {
  if (bytes.readUInt32LE(at) !== ENTRY) return 'no entry where there should be one';
  const local = bytes.readUInt32LE(at + 42);
  if (bytes.readUInt32LE(local) !== LOCAL) return 'an entry without its head';
  const start = local + 30 + bytes.readUInt16LE(local + 26) + bytes.readUInt16LE(local + 28);
  const packed = bytes.subarray(start, start + bytes.readUInt32LE(at + 20));
  return crcOf(inflateRawSync(packed)) === bytes.readUInt32LE(at + 16)
    ? 'whole'
    : 'a checksum is wrong';
}

/** 'whole', or what is wrong. */
export function stateOfZip(bytes) {
  const end = bytes.length - END_BYTES;
  if (end < 0 || bytes.readUInt32LE(end) !== END) return 'the end is missing';
  let at = bytes.readUInt32LE(end + 16);
  try {
    for (let left = bytes.readUInt16LE(end + 10); left > 0; left--) {
      const state = checkEntry(bytes, at);
      if (state !== 'whole') return state;
      at += 46 + [28, 30, 32].reduce((sum, place) => sum + bytes.readUInt16LE(at + place), 0);
    }
  } catch (error) {
    return error.message;
  }
  return 'whole';
}
