/** Superusers, made and signed in the way an operator does it. */
import { runWell } from './program.mjs';

export const email = 'operator@example.com';
export const password = 'correct horse 1';

/** Makes a superuser with `bakend superuser create`, through the running server. */
export async function createSuperuser(
  server,
  { tenant, email: who = email, password: secret = password } = {},
) {
  const named = tenant ? ['--tenant', tenant] : [];
  await runWell(['superuser', 'create', who, '--data', server.data, ...named], {
    input: `${secret}\n`,
  });
}

/** Signs in over HTTP; resolves with the token. */
export async function signIn(
  server,
  { tenant, email: who = email, password: secret = password } = {},
) {
  const answer = await server.request(
    'POST',
    '/api/collections/_superusers/auth-with-password',
    { identity: who, password: secret },
    { tenant },
  );
  if (answer.status !== 200) throw new Error(`cannot sign in: ${answer.status} ${answer.text}`);
  return answer.body.token;
}

/** Both at once. */
export async function operatorToken(server) {
  await createSuperuser(server);
  return signIn(server);
}
