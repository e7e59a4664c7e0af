/**
 * What PocketBase 0.39.7 answers, we answer: scenarios of tests/contract, whose answers were
 * recorded (scripts/record-contract), are run against the real program. Two files share them, so
 * that neither takes long.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Replay, loadAnswers, loadScenarios } from '../../contract/replay.mjs';
import { operator } from './operator.mjs';
import { email, password } from './superuser.mjs';

const LARGE = new Set(['accounts', 'corners', 'filters', 'random-rules']);

export async function replayContract({ isLarge }) {
  const scenarios = await loadScenarios();
  for (const scenario of scenarios.filter(({ name }) => LARGE.has(name) === isLarge))
    test(`the contract: ${scenario.name}`, async (t) => {
      const recorded = await loadAnswers(scenario);
      const { server } = await operator(t);
      const replay = new Replay({ url: server.url, email, password });
      const given = await replay.run(scenario);
      assert.deepEqual(
        given.map(({ name }) => name),
        Object.keys(recorded),
        'the steps have changed: record the answers again',
      );
      for (const { name, answer } of given)
        await t.test(name, () => assert.deepEqual(answer, recorded[name]));
    });
}
