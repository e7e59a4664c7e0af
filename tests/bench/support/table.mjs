/**
 * A page of figures: rows with what was measured, their ratios to what was measured beside them, and the targets
 * of those.
 */
import os from 'node:os';

export class Table {
  /** @param {{title: string, note: string}} page the note says what holds for all of its rows */
  constructor({ title, note }) {
    this.title = title;
    this.note = note;
    this.rows = [];
  }

  /**
   * @param {{rate?: number, p50?: number, p95?: number, p99?: number, cpu?: number, reason?: string}} figures a
   * second, ms and µs; or why there are none
   * @param {[string, number, string][]} ratios what it is, its value, its target
   */
  row(name, figures, ratios = []) {
    this.rows.push({ name, figures, ratios });
    console.error(`${name}: ${figures.reason ?? number(figures.rate)} ${ratios.map(([label, value, goal]) => `${label} ${number(value)} ${goal}`).join('; ')}`);
  }

  render({ words, rounds, seconds }) {
    const cpus = os.cpus();
    const lines = [
      `# ${this.title}`, '',
      `Made by \`scripts/bench ${words.join(' ')}\` on ${new Date().toISOString().slice(0, 10)}: ${cpus.length} cores (${cpus[0].model.trim()}), the load generator on the same cores, ${rounds} interleaved rounds of ${seconds} s, medians. ${this.note}`, '',
      '| what | a second | p50 ms | p95 ms | p99 ms | server µs | ratio | target |', '| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |',
    ];
    for (const { name, figures, ratios } of this.rows) {
      const [first = ['', undefined, ''], ...more] = ratios;
      const { rate, p50, p95, p99, cpu, reason } = figures;
      lines.push(`| ${name}${reason ? `: *${reason}*` : ''} | ${number(rate)} | ${number(p50)} | ${number(p95)} | ${number(p99)} | ${number(cpu)} | ${number(first[1])} ${first[0]} | ${first[2]} |`);
      for (const [label, value, goal] of more) lines.push(`| | | | | | | ${number(value)} ${label} | ${goal} |`);
    }
    return `${lines.join('\n')}\n`;
  }
}

/** 10⁵ of 100,000. */
export const powerOf = (size) => `10${[...String(Math.round(Math.log10(size)))].map((digit) => '⁰¹²³⁴⁵⁶⁷⁸⁹'[digit]).join('')}`;

function number(value) {
  if (value === undefined || Number.isNaN(value)) return '';
  if (value >= 1000) return Math.round(value).toLocaleString('en-US');
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
