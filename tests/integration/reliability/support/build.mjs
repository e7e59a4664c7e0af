/** What kind of program is tested: some figures say nothing under a sanitizer. */
import { readFileSync } from 'node:fs';
import { binary } from '../../support/program.mjs';

/** Whether it was built with the sanitizer of addresses or that of threads. */
export function isSanitized() {
  const bytes = readFileSync(binary);
  return bytes.includes('__asan_init') || bytes.includes('__tsan_init');
}
