// A gateway as its users run it, the web sites around it, and a program that asks for tokens.
import { spawn, execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

// Where the gateway is, as far as its clients know. Browsers find it at 127.0.0.1, as `rules` says.
export const GATE = "https://mcp.example.com";
export const PASSWORD = "password123";
// Two hashes of it that cost next to nothing to compare, as in tests/support/src/users.rs.
const HASHES = [
  "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$rqReNQSuNpi+3YF2W7U7W9ByJ6959j7LZ/qa31zY2Gg",
  "$argon2id$v=19$m=8,t=1,p=1$dGxhc3RsYXM$WCfLW1pGZmr0ovSvvA5pSc9MUfNZ/tcw1PIHRYcFMUg",
];

export class Gateway {
  // Starts the program that SLUICEGATE_BIN names; `clients` are those that its config names, `auth` is what it has beside, and
  // `servers` are there beside its own, or in their place.
  static async start(clients = {}, auth = {}, servers = {}) {
    const gate = new Gateway();
    gate.directory = mkdtempSync(join(tmpdir(), "sluicegate-pages-"));
    const file = join(gate.directory, "sluicegate.json");
    const [cert, key] = certificate(gate.directory, ["mcp.example.com"]);
    const hello = (tags) => ({ inline: { tools: [{ name: "hello", description: "Says hello", command: "true" }] }, tags });
    writeFileSync(file, JSON.stringify({
      proxy: {
        name: "MCP at Example",
        baseUrl: GATE,
        addr: "127.0.0.1:0",
        tls: { cert, key },
        auth: {
          kind: "oauth",
          storage: "memory",
          users: { alice: { passwordHash: HASHES[0] }, bob: { passwordHash: HASHES[1] } },
          clients,
          ...auth,
        },
        shutdownGrace: "1s",
        log: { format: "json" },
      },
      mcpServers: { db: hello(["reports"]), docs: hello([]), tickets: hello([]), ...servers },
    }), { mode: 0o600 });
    gate.process = spawn(process.env.SLUICEGATE_BIN, ["serve", file], { stdio: ["ignore", "pipe", "inherit"] });
    // However this ends.
    process.once("exit", () => gate.process.kill());
    gate.address = await new Promise((resolve, reject) => {
      gate.process.once("exit", (code) => reject(new Error(`the gateway ended with ${code}`)));
      // All of it is read, so that the log never waits.
      createInterface({ input: gate.process.stdout }).on("line", (line) => {
        const said = JSON.parse(line);
        if (said.msg === "Listening") resolve(said.addr);
      });
    });
    gate.rules = [`MAP mcp.example.com:443 ${gate.address}`];
    return gate;
  }

  stop() {
    this.process.removeAllListeners("exit");
    this.process.kill();
    rmSync(this.directory, { recursive: true });
  }

  // What a program sends, which keeps no cookie.
  send(method, path, { type, fields = {}, body = "" } = {}) {
    const [host, port] = this.address.split(":");
    const headers = { ...fields, Host: "mcp.example.com", "Content-Length": Buffer.byteLength(body) };
    if (type) headers["Content-Type"] = type;
    const options = { host, port, method, path, headers, servername: "mcp.example.com", rejectUnauthorized: false };
    return new Promise((resolve, reject) => {
      const request = https.request(options, async (response) => {
        let text = "";
        for await (const part of response.setEncoding("utf8")) text += part;
        resolve({ status: response.statusCode, headers: response.headers, text });
      });
      request.on("error", reject);
      request.end(body);
    });
  }

  // A program that registers, and is answered at `redirect`.
  async register(name, redirect) {
    const body = JSON.stringify({ client_name: name, redirect_uris: [redirect] });
    const { status, text } = await this.send("POST", "/register", { type: "application/json", body });
    if (status !== 201) throw new Error(`not registered: ${status} ${text}`);
    return new Program(this, JSON.parse(text).client_id, redirect);
  }
}

export class Program {
  constructor(gate, id, redirect) {
    Object.assign(this, { gate, id, redirect });
    this.verifier = randomBytes(32).toString("base64url");
  }

  // Where it sends its user.
  authorize(more = {}) {
    return `${GATE}/authorize?${new URLSearchParams({
      response_type: "code",
      client_id: this.id,
      redirect_uri: this.redirect,
      code_challenge: createHash("sha256").update(this.verifier).digest("base64url"),
      code_challenge_method: "S256",
      state: "a-state",
      scope: "mcp offline_access",
      resource: `${GATE}/mcp`,
      ...more,
    })}`;
  }

  // Its tokens for a code.
  async redeem(code) {
    const body = new URLSearchParams({
      grant_type: "authorization_code", client_id: this.id, code, code_verifier: this.verifier, redirect_uri: this.redirect,
    }).toString();
    const { status, text } = await this.gate.send("POST", "/token", { type: "application/x-www-form-urlencoded", body });
    return { status, tokens: JSON.parse(text) };
  }

  // Lists tools with a token, and returns the status.
  async list(token) {
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "initialize", params: {
      protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "pages", version: "0" },
    } });
    const fields = { Authorization: `Bearer ${token}`, Accept: "application/json, text/event-stream" };
    return (await this.gate.send("POST", "/mcp", { type: "application/json", fields, body })).status;
  }
}

// A web site at these hosts, or, if there are none, a program that listens on this machine. `answer` gets each request, and returns
// HTML, or nothing: a browser then stays where it is.
export class Site {
  // What was asked for, path and query.
  seen = [];

  static async start(hosts, answer = () => null) {
    const site = new Site();
    const handle = (request, response) => {
      site.seen.push(request.url);
      const html = answer(request.url);
      response.writeHead(html === null ? 204 : 200, { "Content-Type": "text/html" });
      response.end(html ?? "");
    };
    site.server = hosts.length ? https.createServer(identity(hosts), handle) : http.createServer(handle);
    await new Promise((resolve) => site.server.listen(0, "127.0.0.1", resolve));
    site.address = `127.0.0.1:${site.server.address().port}`;
    site.rules = hosts.map((host) => `MAP ${host}:443 ${site.address}`);
    return site;
  }

  // Codes that came here.
  codes() {
    return this.seen.map((url) => new URL(url, "https://site.example").searchParams.get("code")).filter(Boolean);
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

function identity(hosts) {
  const directory = mkdtempSync(join(tmpdir(), "sluicegate-site-"));
  const [cert, key] = certificate(directory, hosts).map((file) => readFileSync(file));
  rmSync(directory, { recursive: true });
  return { cert, key };
}

// A certificate that nobody vouches for.
function certificate(directory, hosts) {
  const [cert, key] = ["cert.pem", "key.pem"].map((name) => join(directory, name));
  execFileSync("openssl", [
    "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN=pages",
    "-addext", `subjectAltName=${hosts.map((host) => `DNS:${host}`).join(",")}`, "-keyout", key, "-out", cert,
  ], { stdio: "ignore" });
  return [cert, key];
}
