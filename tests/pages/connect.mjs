// People connect their own accounts at a server whose authorization server others wrote, in a browser: oidc-provider, which registers
// the gateway, shows pages of its own, changes its refresh tokens each time, and takes back what it gave. See run.sh.
//
// connect.mjs. Exits with 1 if a call does not go out with the account of whom it is for, or one goes out that is for nobody.
import assert from "node:assert/strict";
import http from "node:http";
import { Provider } from "oidc-provider";
import { launch } from "./browser.mjs";
import { GATE, Gateway, PASSWORD, Site } from "./gateway.mjs";
import { Kept } from "./kept.mjs";

const REDIRECT = "https://app.example/callback";
// A token is refreshed from a minute before its end.
const TOKEN_TTL = 70;
const PATIENCE = 90_000;

// The server's authorization server.
class Issuer {
  static async start(resource) {
    const issuer = new Issuer();
    issuer.server = http.createServer((request, response) => issuer.answer(request, response));
    await new Promise((resolve) => issuer.server.listen(0, "127.0.0.1", resolve));
    issuer.url = `http://127.0.0.1:${issuer.server.address().port}`;
    issuer.provider = new Provider(issuer.url, {
      adapter: Kept,
      clientBasedCORS: () => false,
      claims: { openid: ["sub"], email: ["email"] },
      findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@tickets.example` }) }),
      cookies: { keys: ["a-key-of-cookies"] },
      scopes: ["openid", "offline_access", "tickets"],
      pkce: { required: () => true },
      rotateRefreshToken: true,
      issueRefreshToken: () => true,
      ttl: { AccessToken: TOKEN_TTL },
      features: {
        registration: { enabled: true },
        revocation: { enabled: true },
        resourceIndicators: {
          enabled: true,
          defaultResource: () => resource(),
          useGrantedResource: () => true,
          getResourceServerInfo: () => ({ scope: "tickets", accessTokenFormat: "opaque", accessTokenTTL: TOKEN_TTL }),
        },
      },
    });
    issuer.answer = issuer.provider.callback();
    return issuer;
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

// An MCP server for which each of its callers has an account.
class Tickets {
  // Tokens that were taken, and how often one was not.
  tokens = new Set();
  refused = 0;

  static async start() {
    const tickets = new Tickets();
    tickets.server = http.createServer((request, response) => tickets.answer(request, response));
    await new Promise((resolve) => tickets.server.listen(0, "127.0.0.1", resolve));
    tickets.origin = `http://127.0.0.1:${tickets.server.address().port}`;
    tickets.url = `${tickets.origin}/mcp`;
    tickets.issuer = await Issuer.start(() => tickets.url);
    return tickets;
  }

  async answer(request, response) {
    const send = (status, body, fields = {}) => {
      response.writeHead(status, { "Content-Type": "application/json", ...fields });
      response.end(JSON.stringify(body));
    };
    const metadata = "/.well-known/oauth-protected-resource";
    if (request.url.startsWith(metadata)) {
      return send(200, { resource: this.url, authorization_servers: [this.issuer.url], scopes_supported: ["tickets"] });
    }
    let text = "";
    for await (const part of request.setEncoding("utf8")) text += part;
    const token = request.headers.authorization?.replace(/^Bearer /, "");
    const found = token && await this.issuer.provider.AccessToken.find(token);
    if (!found?.accountId || ![found.aud].flat().includes(this.url)) {
      this.refused += 1;
      return send(401, {}, { "WWW-Authenticate": `Bearer resource_metadata="${this.origin}${metadata}/mcp", scope="tickets"` });
    }
    this.tokens.add(token);
    const { id, method } = JSON.parse(text);
    if (id === undefined) return send(202, {});
    const results = {
      initialize: { protocolVersion: "2025-11-25", capabilities: { tools: {} }, serverInfo: { name: "tickets", version: "1" } },
      "tools/list": { tools: [{ name: "whoami", inputSchema: { type: "object" } }] },
      "tools/call": { content: [{ type: "text", text: `${found.accountId} of the tickets` }] },
    };
    return send(200, { jsonrpc: "2.0", id, result: results[method] ?? {} });
  }

  stop() {
    this.issuer.stop();
    this.server.closeAllConnections();
    this.server.close();
  }
}

// Somebody with a browser of their own, who has let a program in.
class Person {
  static async begin(name, program) {
    const person = new Person();
    Object.assign(person, { name, program });
    person.page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
    await person.page.goto(program.authorize({ resource: `${GATE}/tickets/mcp`, scope: "mcp offline_access" }));
    await person.signIn();
    const gone = person.page.waitForRequest((request) => request.url().startsWith(REDIRECT));
    await person.press("Approve");
    // There is a server to connect to first, which can wait.
    await Promise.race([gone, person.press("Skip").catch(() => {})]);
    const code = new URL((await gone).url()).searchParams.get("code");
    const { status, tokens } = await program.redeem(code);
    assert.equal(status, 200);
    person.token = tokens.access_token;
    return person;
  }

  press(label) {
    return this.page.getByRole("button", { name: label, exact: true }).click();
  }

  async signIn() {
    await this.page.getByLabel("Name").fill(this.name);
    await this.page.getByLabel("Password").fill(PASSWORD);
    await this.press("Sign in");
  }

  // Connects to the tickets with this account there.
  async connect(account) {
    await this.page.goto(`${GATE}/oauth/authorize?server_id=tickets`);
    await this.press("Connect");
    await this.page.waitForURL((url) => url.origin === tickets.issuer.url && url.pathname.startsWith("/interaction/"));
    if (await this.page.locator("input[name=login]").isVisible()) {
      await this.page.locator("input[name=login]").fill(account);
      await this.page.locator("input[name=password]").fill("any");
      await this.page.getByRole("button", { name: "Sign-in" }).click();
      await this.page.waitForURL((url) => url.origin === GATE || url.pathname.startsWith("/interaction/"));
    }
    const agree = this.page.getByRole("button", { name: "Continue", exact: true });
    if (new URL(this.page.url()).origin !== GATE) await agree.click();
    // Nothing is kept before it was shown what came.
    await this.page.waitForURL(`${GATE}/**`);
    await this.press("Approve");
    await this.page.waitForURL(`${GATE}/oauth/success*`);
  }

  async call() {
    const body = JSON.stringify({ jsonrpc: "2.0", id: 7, method: "tools/call", params: { name: "whoami", arguments: {} } });
    const fields = {
      Authorization: `Bearer ${this.token}`, Accept: "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25",
    };
    const { status, text } = await gate.send("POST", "/tickets/mcp", { type: "application/json", fields, body });
    assert.equal(status, 200, text);
    return JSON.parse(text).result;
  }

  async says() {
    const { isError, content } = await this.call();
    assert.ok(!isError, JSON.stringify(content));
    return content[0].text;
  }
}

const tickets = await Tickets.start();
const app = await Site.start(["app.example"]);
const gate = await Gateway.start({}, {}, {
  tickets: { url: tickets.url, upstreamAuth: { kind: "user_oauth", displayName: "Tickets", allowPrivateIssuers: true } },
});
const browser = await launch([...gate.rules, ...app.rules]);
try {
  const notes = await gate.register("Notes", REDIRECT);
  const [alice, bob] = [await Person.begin("alice", notes), await Person.begin("bob", notes)];

  // Nobody has connected: nothing went to the server, and each is told where to.
  for (const person of [alice, bob]) {
    const { isError, content } = await person.call();
    assert.equal(isError, true);
    assert.match(content[0].text, /\/oauth\/authorize\?server_id=tickets/);
  }
  assert.equal(tickets.tokens.size, 0);

  // Each connects an account of their own, which has another name there, and calls with it.
  await alice.connect("ann");
  await bob.connect("ben");
  assert.equal(await alice.says(), "ann of the tickets");
  assert.equal(await bob.says(), "ben of the tickets");

  // Tokens end, and others come.
  const before = tickets.tokens.size;
  await soon("another token of each", async () => {
    assert.equal(await alice.says(), "ann of the tickets");
    assert.equal(await bob.says(), "ben of the tickets");
    return tickets.tokens.size >= before + 2;
  });

  // What was given is taken back: the one of whom it was is asked to connect again, and nobody else notices.
  Kept.revoke("ann");
  const { isError, content } = await alice.call();
  assert.equal(isError, true, JSON.stringify(content));
  assert.equal(await bob.says(), "ben of the tickets");
  await alice.page.goto(`${GATE}/oauth`);
  await alice.page.getByText("Reconnect").first().waitFor();
  await alice.connect("ann");
  assert.equal(await alice.says(), "ann of the tickets");

  // Somebody disconnects.
  await bob.page.goto(`${GATE}/oauth`);
  await bob.press("Disconnect Tickets");
  await bob.page.getByText("Awaiting OAuth").first().waitFor();
  assert.equal((await bob.call()).isError, true);
  assert.equal(await alice.says(), "ann of the tickets");
  console.log("accounts of oidc-provider behind the gateway: as they should be");
} finally {
  await browser.close();
  [gate, app, tickets].forEach((each) => each.stop());
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
