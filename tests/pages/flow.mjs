// A person goes through all pages of a gateway that runs: two programs ask to be let in, one is, and is revoked. Each page that
// comes is looked at. See run.sh.
//
// flow.mjs [--pictures TO] [--small]. Exits with 1 if axe finds anything, or if a page or an answer is not the one that is to come.
import assert from "node:assert/strict";
import { GATE, Gateway, PASSWORD, Program, Site } from "./gateway.mjs";
import { Looks, launch, windows } from "./browser.mjs";

const flags = process.argv.slice(2);
const looks = new Looks(flags.includes("--pictures") ? flags[flags.indexOf("--pictures") + 1] : null);
// What the documents show of these; look.mjs has the others.
const shown = ["sign-in", "consent-unverified", "passing-on", "connections", "error-redirect"];

const app = await Site.start(["app.example"]);
const machine = await Site.start([]);
const redirect = "https://app.example/callback";
const gate = await Gateway.start({ Reports: { redirectUris: [redirect] } });
const browser = await launch([...gate.rules, ...app.rules]);
try {
  const stranger = await gate.register("Notes", redirect);
  const local = await gate.register("Claude Code", `http://${machine.address}/callback`);
  for (const window of windows(flags.includes("--small"))) {
    await walk(window, { stranger, local, known: new Program(gate, "Reports", redirect) });
  }
} finally {
  await browser.close();
  gate.stop();
  app.stop();
  machine.stop();
}
looks.end("pages of a gateway");

async function walk(window, { stranger, local, known }) {
  const context = await browser.newContext({ ...window.options, ignoreHTTPSErrors: true });
  const page = await context.newPage();
  looks.watch(page, window.name);
  // Looks at the page that is there, which has this title.
  const look = async (name, title) => {
    await until(async () => await page.title() === `${title} · MCP at Example`, () => `${name} ${window.name}`);
    await page.waitForLoadState();
    const isShown = window.picture && shown.includes(name);
    await looks.at(page, `${name} ${window.name}`, isShown ? `${name}-${window.picture}` : null);
  };
  const press = (label) => page.getByRole("button", { name: label, exact: true }).click();
  const signIn = async (user, password) => {
    await page.getByLabel("Name").fill(user);
    await page.getByLabel("Password").fill(password);
    await press("Sign in");
  };

  // Nobody is sent anywhere as long as it is not known who asks.
  await page.goto(new Program(gate, "nobody", redirect).authorize());
  await look("error-unknown-client", "This program is not known here.");
  await page.goto(local.authorize({ redirect_uri: "http://127.0.0.1:4096/mcp/oauth/callback" }));
  await look("error-redirect", "This program asks to be answered at an address that it did not name before.");
  await page.goto(`${GATE}/oauth/consent`);
  await look("error-over", "This request is over.");

  // Sign in, and say no.
  await page.goto(local.authorize({ resource: `${GATE}/db/mcp`, scope: "server:db tag:reports" }));
  await look("sign-in", "Sign in");
  await signIn("nobody", "a guess");
  await page.getByRole("alert").waitFor();
  await look("sign-in-refused", "Sign in");
  await signIn("alice", PASSWORD);
  await look("consent-unverified", "Let Claude Code in?");
  await press("Deny");
  await look("passing-on-local", "Back to your program");

  // Say yes: to one of whom nobody knows who it is, and to one of the config.
  const before = app.codes().length;
  await page.goto(stranger.authorize());
  await look("consent-site", "Let Notes in?");
  await press("Approve");
  await look("passing-on", "Back to your program");
  await page.goto(known.authorize());
  await look("consent-config", "Let Reports in?");
  await press("Approve");
  await look("passing-on-config", "Back to your program");
  await until(() => app.codes().length >= before + 2, () => "codes");
  const [first, second] = app.codes().slice(before);
  const { status, tokens } = await stranger.redeem(first);
  assert.deepEqual([status, await stranger.list(tokens.access_token)], [200, 200]);
  assert.equal((await known.redeem(second)).status, 200);

  // See what was let in, and take it back.
  await page.goto(`${GATE}/oauth`);
  await look("connections", "Your connections");
  await page.getByRole("button", { name: "Revoke Notes" }).click();
  await page.getByRole("status").waitFor();
  await look("connections-revoked", "Your connections");
  assert.equal(await stranger.list(tokens.access_token), 401);
  await page.getByRole("button", { name: "Revoke Reports" }).click();
  await page.getByText("No program has been let in.").waitFor();
  await look("connections-empty", "Your connections");
  await press("Sign out");
  await page.getByLabel("Name").waitFor();
  await look("signed-out", "Sign in");
  await context.close();
}

// Waits for what comes soon.
async function until(is, what) {
  for (let tries = 0; !await is(); tries += 1) {
    if (tries > 400) throw new Error(`this does not come: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
