/** A plot as SVG: lines over sizes, both axes by powers of ten, and a limit that they should stay below. */

const WIDTH = 860, HEIGHT = 420, LEFT = 60, TOP = 40, BOTTOM = 40, RIGHT = 330;
const COLOURS = ['#4477aa', '#ee6677', '#228833', '#ccbb44', '#66ccee', '#aa3377', '#777777', '#004488', '#bb5566', '#117733', '#998800', '#44aa99', '#882255', '#000000', '#cc6600', '#5555cc', '#00aa66'];

const escape = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
const superscript = (power) => `10${[...String(power)].map((c) => '⁰¹²³⁴⁵⁶⁷⁸⁹'['0123456789'.indexOf(c)] ?? '⁻').join('')}`;

/**
 * @param {{title: string, sizes: number[], limit: number, lines: {name: string, isDashed: boolean, points: (number | undefined)[]}[]}} plotted
 *   points: a value for each size, or none
 */
export function plot({ title, sizes, limit, lines }) {
  const values = lines.flatMap(({ points }) => points).filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(...values, 0.5))), high = Math.ceil(Math.log10(Math.max(...values)));
  const [first, last] = [Math.log10(sizes[0]), Math.log10(sizes.at(-1))];
  const x = (size) => LEFT + ((Math.log10(size) - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + ((high - Math.log10(value)) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    `<text x="${LEFT}" y="22" font-size="14">${escape(title)}</text>`,
  ];
  for (let power = low; power <= high; power++) {
    const at = y(10 ** power).toFixed(1);
    parts.push(`<path d="M${LEFT} ${at}H${WIDTH - RIGHT}" stroke="#dddddd"/>`, `<text x="${LEFT - 8}" y="${at}" text-anchor="end" dominant-baseline="middle">${superscript(power)}</text>`);
  }
  for (const size of sizes) parts.push(`<text x="${x(size)}" y="${HEIGHT - 16}" text-anchor="middle">${superscript(Math.round(Math.log10(size)))}</text>`);
  parts.push(`<path d="M${LEFT} ${y(limit).toFixed(1)}H${WIDTH - RIGHT}" stroke="#cc0000" stroke-dasharray="2 3"/>`);
  for (const [index, { name, isDashed, points }] of lines.entries()) {
    const colour = COLOURS[index % COLOURS.length];
    const known = points.map((value, at) => [sizes[at], value]).filter(([, value]) => value > 0);
    const way = known.map(([size, value], at) => `${at === 0 ? 'M' : 'L'}${x(size).toFixed(1)} ${y(value).toFixed(1)}`).join('');
    const dashes = isDashed ? ' stroke-dasharray="6 4"' : '';
    parts.push(`<path d="${way}" fill="none" stroke="${colour}" stroke-width="2"${dashes}/>`);
    const row = TOP + 10 + index * 20;
    parts.push(`<path d="M${WIDTH - RIGHT + 16} ${row}h22" stroke="${colour}" stroke-width="2"${dashes}/>`, `<text x="${WIDTH - RIGHT + 46}" y="${row + 4}">${escape(name.replaceAll('`', ''))}</text>`);
  }
  return `${[...parts, '</svg>'].join('\n')}\n`;
}
