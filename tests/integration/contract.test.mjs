/** What PocketBase answers, we answer: each part of the API by hand. See support/contract.mjs. */
import { replayContract } from './support/contract.mjs';

await replayContract({ isLarge: false });
