/** What PocketBase answers, we answer: accounts, and what chance asks. See support/contract.mjs. */
import { replayContract } from './support/contract.mjs';

await replayContract({ isLarge: true });
