// People log in by identity providers that others wrote, in a browser: oidc-provider, which shows pages of its own, changes its keys
// and takes somebody out, and oauth2-mock-server, which lets everybody in. The latter is an issuer of tokens, too. See run.sh.
//
// idp.mjs. Exits with 1 if somebody who is known is not let in, or somebody who is not known is.
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import http from "node:http";
import { OAuth2Server } from "oauth2-mock-server";
import { Provider } from "oidc-provider";
import { launch } from "./browser.mjs";
import { GATE, Gateway, Site } from "./gateway.mjs";
import { Kept } from "./kept.mjs";

const CLIENT = { clientId: "the-gateway", clientSecret: "idp-secret-0123456789abcdef" };
const REDIRECT = "https://app.example/callback";
const SCOPE = "mcp offline_access";
// Keys that are not known are asked for again 30 s after those before, and people a minute after they were.
const PATIENCE = 90_000;

// An oidc-provider, with accounts that come and go.
class Idp {
  accounts = new Set(["alice", "carol"]);
  // How often it was asked for tokens.
  asked = 0;

  static async start() {
    const idp = new Idp();
    idp.server = http.createServer((request, response) => {
      if (request.url === "/token") idp.asked += 1;
      idp.answer(request, response);
    });
    await new Promise((resolve) => idp.server.listen(0, "127.0.0.1", resolve));
    idp.issuer = `http://127.0.0.1:${idp.server.address().port}`;
    idp.changeKeys();
    return idp;
  }

  changeKeys() {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const key = { ...privateKey.export({ format: "jwk" }), use: "sig", alg: "ES256" };
    const provider = new Provider(this.issuer, {
      clients: [{
        client_id: CLIENT.clientId,
        client_secret: CLIENT.clientSecret,
        redirect_uris: [`${GATE}/oauth/callback`],
        grant_types: ["authorization_code", "refresh_token"],
        id_token_signed_response_alg: "ES256",
      }],
      jwks: { keys: [key] },
      adapter: Kept,
      claims: { openid: ["sub"], email: ["email", "email_verified"] },
      findAccount: (_, id) => this.accounts.has(id) ? {
        accountId: id,
        claims: () => ({ sub: id, email: `${id}@corp.example`, email_verified: true }),
      } : undefined,
      cookies: { keys: ["a-key-of-cookies"] },
      pkce: { required: () => true },
    });
    this.answer = provider.callback();
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

const idp = await Idp.start();
const mock = new OAuth2Server();
await mock.issuer.keys.generate("RS256");
await mock.start(0, "127.0.0.1");
// No name leads anywhere in these browsers.
mock.issuer.url = mock.issuer.url.replace("localhost", "127.0.0.1");
mock.service.on("beforeTokenSigning", ({ header, payload }) => {
  if (payload.aud === CLIENT.clientId) Object.assign(payload, { email: "bob@corp.example", email_verified: true });
  else Object.assign(header, { typ: "at+jwt" }), payload.sub ??= "a-machine";
});
const app = await Site.start(["app.example"]);
const domains = { allowedDomains: ["corp.example"] };
const of = (issuer, more) => ({ provider: "oidc", issuer, recheck: "1m", ...more });
const gate = await Gateway.start({}, { ...domains, idp: of(idp.issuer, CLIENT) });
const mocked = await Gateway.start({}, {
  ...domains,
  idp: of(mock.issuer.url, { clientId: CLIENT.clientId }),
  issuers: { mock: { issuer: mock.issuer.url, audiences: ["the-tools"] } },
});
const browser = await launch([...gate.rules, ...app.rules]);
const other = await launch([...mocked.rules, ...app.rules]);
try {
  await Promise.all([byOidcProvider(), byMock()]);
  console.log("people of oidc-provider and oauth2-mock-server: as they should be");
} finally {
  await Promise.all([browser, other].map((each) => each.close()));
  [gate, mocked, app, idp].forEach((each) => each.stop());
  await mock.stop();
}

async function byOidcProvider() {
  const program = await gate.register("Notes", REDIRECT);
  let page = await opened(browser);
  await page.goto(program.authorize({ scope: SCOPE }));
  // Before any hop it is said who asks, and where the answer goes.
  await page.getByText("app.example").first().waitFor();
  await signIn(page, "alice");
  await page.getByText("alice@corp.example").first().waitFor();
  let tokens = await letIn(page, program);

  // Its keys change: whoever logs in then is known by the new ones, and whoever is asked about.
  idp.changeKeys();
  const before = idp.asked;
  await soon("a login by new keys", async () => {
    page = await opened(browser);
    await page.goto(program.authorize({ scope: SCOPE }));
    await signIn(page, "carol");
    return isAsked(page);
  });
  const logins = idp.asked - before;
  await soon("a refresh for which it is asked", async () => {
    const { status, tokens: next } = await refreshed(program, tokens);
    assert.equal(status, 200);
    tokens = next;
    return idp.asked > before + logins;
  });
  assert.equal(await program.list(tokens.access_token), 200);

  // She leaves: what she let in ends when the provider is asked.
  idp.accounts.delete("alice");
  await soon("the end of what she let in", async () => {
    const { status, tokens: next } = await refreshed(program, tokens);
    if (status === 200) tokens = next;
    else assert.equal(next.error, "invalid_grant");
    return status === 400;
  });
  assert.equal(await program.list(tokens.access_token), 401);
}

async function byMock() {
  const program = await mocked.register("Notes", REDIRECT);
  const page = await opened(other);
  await page.goto(program.authorize({ scope: SCOPE }));
  await goOn(page);
  await page.getByText("bob@corp.example").first().waitFor();
  await letIn(page, program);

  // As an issuer: of its tokens, those for the gateway are taken.
  const token = async (aud) => {
    const body = new URLSearchParams({ grant_type: "client_credentials", scope: "mcp", aud });
    const response = await fetch(`${mock.issuer.url}/token`, { method: "POST", body });
    return (await response.json()).access_token;
  };
  assert.equal(await program.list(await token("the-tools")), 200);
  assert.equal(await program.list(await token("other-tools")), 401);
}

// A page for somebody who has no cookies.
async function opened(browser) {
  return (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
}

// From the page of the gateway to the provider.
async function goOn(page) {
  await page.getByRole("button", { name: /^Continue with / }).click();
}

// From the page of the gateway to those of oidc-provider, and back.
async function signIn(page, name) {
  await goOn(page);
  await page.locator("input[name=login]").fill(name);
  await page.locator("input[name=password]").fill("any");
  await page.getByRole("button", { name: "Sign-in" }).click();
  await page.waitForURL((url) => url.origin === GATE || url.pathname.startsWith("/interaction/"));
  const agree = page.getByRole("button", { name: "Continue", exact: true });
  if (new URL(page.url()).origin !== GATE) await agree.click();
  await page.waitForURL(`${GATE}/**`);
}

// Whether the gateway asks whether a program is to be let in.
function isAsked(page) {
  return page.getByRole("button", { name: "Approve", exact: true }).isVisible();
}

// Approves, and has the program redeem its code.
async function letIn(page, program) {
  const gone = page.waitForRequest((request) => request.url().startsWith(REDIRECT));
  await page.getByRole("button", { name: "Approve", exact: true }).click();
  const { status, tokens } = await program.redeem(new URL((await gone).url()).searchParams.get("code"));
  assert.equal(status, 200);
  assert.equal(await program.list(tokens.access_token), 200);
  return tokens;
}

async function refreshed(program, tokens) {
  const body = new URLSearchParams({
    grant_type: "refresh_token", client_id: program.id, refresh_token: tokens.refresh_token,
  }).toString();
  const { status, text } = await program.gate.send("POST", "/token", { type: "application/x-www-form-urlencoded", body });
  return { status, tokens: JSON.parse(text) };
}

// Waits for what comes soon.
async function soon(what, is) {
  for (const until = Date.now() + PATIENCE; ;) {
    const found = await is();
    if (found) return found;
    if (Date.now() > until) throw new Error(`this does not come: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
