// node login.mjs sdk|client ERA DOCUMENT URL...
// Logs in at each URL, lists the tools, calls `echo` (for which its user may have to be asked once more), refreshes its tokens and
// calls again; prints what it saw as one JSON list. DOCUMENT is the URL of the document that says what this client is; if it is empty, the client registers.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

import { authorization, prepare } from './connect.mjs';

const [library, era, document, ...urls] = process.argv.slice(2);
const { auth, UnauthorizedError } = authorization(library);

// Where the browser comes back to, with the answer to the latest question.
let answered;
const listener = createServer((request, response) => {
  answered(new URL(request.url, 'http://127.0.0.1').searchParams);
  response.end('Done.');
}).listen(0, '127.0.0.1');
await once(listener, 'listening');
const redirectUrl = `http://127.0.0.1:${listener.address().port}/callback`;

// Who this client is, for all places; what it has of one is kept apart.
let information;

function provider() {
  let tokens, verifier, discovery;
  const state = randomUUID();
  return {
    redirectUrl,
    clientMetadataUrl: document || undefined,
    clientMetadata: {
      client_name: `interop ${library}`,
      redirect_uris: [redirectUrl],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
    },
    state: () => state,
    clientInformation: () => information,
    saveClientInformation: (saved) => void (information = saved),
    tokens: () => tokens,
    saveTokens: (saved) => void (tokens = saved),
    codeVerifier: () => verifier,
    saveCodeVerifier: (saved) => void (verifier = saved),
    discoveryState: () => discovery,
    saveDiscoveryState: (saved) => void (discovery = saved),
    async redirectToAuthorization(url) {
      const answer = new Promise((resolve) => (answered = resolve));
      const [program, ...more] = process.env.BROWSER.split(' ');
      const browser = spawn(program, [...more, url.href], { stdio: ['ignore', 'ignore', 'inherit'] });
      const failed = once(browser, 'exit').then(([code]) => code === 0 || Promise.reject(new Error('nobody was let in')));
      this.answer = await Promise.race([answer, failed.then(() => answer)]);
      if (this.answer.get('state') !== state) throw new Error('the answer is to another question');
    },
  };
}

/** Changes the answer that its user brought for tokens. */
async function finish(connection, { answer }) {
  await connection.finishAuth(library === 'client' ? answer : answer.get('code'));
}

/** Does something, once more if it takes another question to its user. */
async function asking(connection, authProvider, act) {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
  }
  await finish(connection, authProvider);
  return act();
}

async function visit(url) {
  const authProvider = provider();
  const transport = new URL(url).pathname.endsWith('/sse') ? 'sse' : 'http';
  const first = prepare(library, url, transport, era, { authProvider });
  try {
    await first.connect();
    throw new Error('it was let in without a token');
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
  }
  await finish(first.connection, authProvider);
  const seen = [];
  const tokens = [];
  // Once with what it has by its code, and once with what it has by its refresh token.
  for (const _ of ['code', 'refresh']) {
    const { client, connection, connect } = prepare(library, url, transport, era, { authProvider });
    await connect();
    const { tools } = await client.listTools();
    const name = tools.map((tool) => tool.name).find((name) => name.endsWith('echo'));
    const call = () => client.callTool({ name, arguments: { message: 'over the wire' } });
    const { content } = await asking(connection, authProvider, call);
    seen.push({ tool: name, text: content[0].text });
    await client.close();
    tokens.push(authProvider.tokens());
    if (tokens.length === 1 && (await auth(authProvider, { serverUrl: url })) !== 'AUTHORIZED') {
      throw new Error('it could not refresh');
    }
  }
  const [before, after] = tokens;
  const refreshed = before.access_token !== after.access_token;
  return { url, seen, refreshed, scope: after.scope, client: information.client_id };
}

const visits = [];
for (const url of urls) visits.push(await visit(url));
console.log(JSON.stringify(visits));
listener.close();
listener.closeAllConnections();
