/**
 * Providers of accounts elsewhere: a certified one (`oidc-provider`), and a stage on which answers are
 * whatever a test says; both on loopback.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const client = { id: 'the-client', secret: 'a client secret: +&%=' };

/** Listens until the test has ended, whoever is still connected. */
export async function listen(t, handler) {
  const server = createServer(handler);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

/* --- a real one -------------------------------------------------------------------------------- */

/**
 * Signs everybody in as `people.current`, without a form.
 * @param {import('node:test').TestContext} t
 * @param {{redirectURL: string, method?: string}} options method: where it takes the client's secret
 */
export async function startProvider(t, { redirectURL, method = 'client_secret_basic' }) {
  const people = { current: { sub: 'nobody' }, all: new Map() };
  let handle;
  const issuer = await listen(t, (request, response) => handle(request, response));
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: client.id,
        client_secret: client.secret,
        redirect_uris: [redirectURL],
        token_endpoint_auth_method: method,
      },
    ],
    claims: {
      openid: ['sub'],
      email: ['email', 'email_verified'],
      profile: ['name', 'picture', 'preferred_username'],
    },
    conformIdTokenClaims: false,
    cookies: { keys: ['of a test'] },
    features: { devInteractions: { enabled: false } },
    findAccount: (_, id) => ({ accountId: id, claims: () => people.all.get(id) }),
    interactions: { url: (_, { uid }) => `/interaction/${uid}` },
    async loadExistingGrant(context) {
      const grant = new context.oidc.provider.Grant({
        clientId: context.oidc.client.clientId,
        accountId: context.oidc.session.accountId,
      });
      grant.addOIDCScope('openid email profile');
      await grant.save();
      return grant;
    },
    pkce: { required: () => true },
    renderError(context, { error, error_description: text }) {
      context.type = 'text';
      context.body = `${error}: ${text}`;
    },
  });
  const answer = provider.callback();
  handle = (request, response) => {
    if (!request.url.startsWith('/interaction/')) return answer(request, response);
    const { current } = people;
    people.all.set(current.sub, current);
    return provider.interactionFinished(request, response, { login: { accountId: current.sub } });
  };
  const config = {
    clientId: client.id,
    clientSecret: client.secret,
    authURL: `${issuer}/auth`,
    tokenURL: `${issuer}/token`,
  };
  return { issuer, people, config, userInfoURL: `${issuer}/me` };
}

/** Node 18 has them in one line, and a comma in each date. */
const cookieLines = (headers) =>
  headers.getSetCookie?.() ?? (headers.get('set-cookie') ?? '').split(/, (?=[^;,=]+=)/).filter(Boolean);

/**
 * What a browser does that is sent to `url`: follows redirects, with cookies, until it would go to `end`.
 * @returns {Promise<URL>} where that is
 */
export async function follow(url, end) {
  const cookies = new Map();
  for (let hops = 0; hops < 10; hops++) {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const answer = await fetch(url, { redirect: 'manual', headers: { cookie } });
    const location = answer.headers.get('location');
    if (!location) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
    for (const line of cookieLines(answer.headers)) {
      const [, name, value] = /^([^=]*)=([^;]*)/.exec(line);
      cookies.set(name, value);
    }
    url = new URL(location, url).href;
    if (url.startsWith(end)) return new URL(url);
  }
  throw new Error('too many redirects');
}

/* --- a stage ----------------------------------------------------------------------------------- */

/** An unsigned JSON Web Token with the head of one that is signed. */
export function idToken(claims, head = { alg: 'RS256', typ: 'JWT' }) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part(head)}.${part(claims)}.${Buffer.from('a signature').toString('base64url')}`;
}

/**
 * Answers what the play of a code says: `stage.play(code, {token, user, emails})`, each an object (sent
 * as JSON) or a function of request, response and what was posted.
 */
export async function startStage(t) {
  const plays = new Map();
  const asked = [];
  const give = (what, request, response, body) => {
    if (typeof what === 'function') return what(request, response, body);
    response.writeHead(what === undefined ? 404 : 200, { 'content-type': 'application/json' });
    return response.end(JSON.stringify(what ?? {}));
  };
  const url = await listen(t, async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    const body = new URLSearchParams(text);
    const step = request.url.split('/')[1].split('?')[0];
    const bearer = /^Bearer access-(.*)$/.exec(request.headers.authorization ?? '')?.[1];
    const code = step === 'token' ? body.get('code') : bearer;
    asked.push({ step: request.url, code, headers: request.headers, body });
    const play = plays.get(code) ?? {};
    if (step === 'token' && play.token === undefined)
      return give({ access_token: `access-${code}`, expires_in: 3600 }, request, response);
    if (step === 'token' && typeof play.token === 'object')
      return give({ access_token: `access-${code}`, ...play.token }, request, response);
    return give(
      request.url.endsWith('/emails') ? play.emails : play[step],
      request,
      response,
      body,
    );
  });
  return {
    url,
    asked,
    play: (code, play) => plays.set(code, play),
    config: {
      clientId: client.id,
      clientSecret: client.secret,
      authURL: `${url}/auth`,
      tokenURL: `${url}/token`,
      userInfoURL: `${url}/user`,
    },
  };
}
