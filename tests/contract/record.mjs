/** Asks a real PocketBase and keeps what it answers: see scripts/record-contract. */
import { writeFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { Replay, answersUrl, loadScenarios } from './replay.mjs';

const [url, email, only = ''] = process.argv.slice(2);
const password = (await text(process.stdin)).trim();
for (const scenario of await loadScenarios()) {
  if (!scenario.name.includes(only)) continue;
  const names = scenario.steps.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice) throw new Error(`${scenario.name}: two steps are called "${twice}"`);
  const answers = await new Replay({ url, email, password }).run(scenario);
  const lines = answers.map(
    ({ name, answer }) => `  ${JSON.stringify(name)}: ${JSON.stringify(answer)}`,
  );
  await writeFile(answersUrl(scenario), `{\n${lines.join(',\n')}\n}\n`);
  console.log(`${scenario.name}: ${answers.length} answers`);
}
