// Pages of others try what they can on somebody who is signed in at a gateway that runs, in the browser that this person has: to
// be let in without a word, to have the consent page in a frame, to sign the person in as somebody else or out, to revoke. None of
// that may do anything, and no code may come. Then the person says yes, and one comes: so it is not the attempts that are
// broken. See run.sh. Exits with 1 if anything is not so. With --small, each is tried in one way.
import { GATE, Gateway, PASSWORD, Site } from "./gateway.mjs";
import { launch } from "./browser.mjs";

// One of the same site, to which browsers give more: cookies go with what it sends, and frames have them. It is to
// `mcp.example.com` as the site of one customer is to that of another. And one of another site.
const EVIL = ["evil.example.com", "evil.example"];

const isSmall = process.argv.includes("--small");
const types = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"].slice(0, isSmall ? 1 : 3);
const frames = (target) => [
  `<iframe src="${target}"></iframe>`, `<object data="${target}"></object>`, `<embed src="${target}">`,
].slice(0, isSmall ? 1 : 3);

let attempts = 0;
const wrong = [];
let html = "";
const evil = await Site.start(EVIL, (url) => (url.startsWith("/page") ? html : null));
const gate = await Gateway.start();
const browser = await launch([...gate.rules, ...evil.rules]);
try {
  const options = { ignoreHTTPSErrors: true };
  const [victim, attacker] = [await browser.newContext(options), await browser.newContext(options)];
  // The attacker has an account, and a program of its own that is answered at its site.
  const programs = [];
  for (const host of EVIL) programs.push(await gate.register("Calendar", `https://${host}/callback`));
  const bobs = await attacker.newPage();
  await bobs.goto(programs[0].authorize());
  const bobsSignIn = await fields(bobs);
  await signIn(bobs, "bob");
  const bobsConsent = await fields(bobs);

  // The victim is signed in, has let something in before, and has a question open: that of the attacker's program.
  const page = await victim.newPage();
  await page.goto(`${GATE}/oauth/login`);
  await signIn(page, "alice");
  const calm = await gate.register("A program of hers", "https://evil.example/hers");
  await page.goto(calm.authorize());
  await page.getByRole("button", { name: "Approve" }).click();
  await until(() => evil.codes().length === 1, "her own code");
  const { tokens } = await calm.redeem(evil.codes()[0]);
  await page.goto(`${GATE}/oauth`);
  const revocation = await page.locator("form[action^='/oauth/grants/']").evaluate((form) => ({
    action: form.getAttribute("action"), account: form.elements.account.value,
  }));
  const open = await victim.newPage();
  await open.goto(programs[0].authorize());
  const question = await fields(open);
  evil.seen.length = 0;

  for (const [at, host] of EVIL.entries()) {
    const from = `https://${host}`;
    const answers = [
      // What the attacker knows: nothing, what its own browser was given, and (it cannot) what that of the victim was.
      ["nothing", {}],
      ["its own request", { flow: bobsConsent.flow }],
      ["its own page", bobsConsent],
      ["its own page of the sign-in", bobsSignIn],
      ["the request of the victim", { flow: question.flow }],
      ["the request of the victim, its own field", { flow: question.flow, csrf: bobsConsent.csrf }],
      ["all of the victim's page", question],
    ];
    for (const [what, known] of answers) {
      const form = { ...known, "scope:mcp": "on", "scope:offline_access": "on", answer: "approve" };
      for (const type of types) {
        await attack(`${from} sends the consent with ${what} as ${type}`, from, posting("/oauth/consent", form, type));
      }
      await attack(`${from} fetches the consent with ${what}`, from, fetching("/oauth/consent", form));
      await attack(`${from} sends the consent with ${what} to a frame`, from, posting("/oauth/consent", form, "", "frame"));
    }
    for (const [what, target] of [
      ["the consent", programs[at].authorize()],
      ["the consent, without a question", programs[at].authorize({ prompt: "none" })],
      ["the page of connections", `${GATE}/oauth`],
      ["the page of the sign-in", `${GATE}/oauth/login`],
    ]) {
      for (const frame of frames(escaped(target))) {
        await attack(`${from} frames ${what} by ${frame.slice(0, 4)}`, from, frame, async (at) => {
          const framed = at.frames().filter((other) => other !== at.mainFrame());
          const texts = await Promise.all(framed.map((other) => other.locator("body").innerText().catch(() => "")));
          return texts.some((text) => /Approve|Sign in|Your connections|Let .* in/.test(text)) && "it is shown";
        });
      }
    }
    // A link is all that may be followed. Nobody is let in by it, whatever it says.
    for (const more of [{}, { prompt: "none" }, { answer: "approve", "scope:mcp": "on" }]) {
      await attack(`${from} links to /authorize with ${JSON.stringify(more)}`, from, leading(programs[at].authorize(more)));
    }
    for (const known of [{}, { csrf: bobsSignIn.csrf }, bobsSignIn, { csrf: bobsConsent.csrf }]) {
      for (const type of types) {
        const form = { ...known, username: "bob", password: PASSWORD };
        const what = `${from} signs the victim in as bob with ${Object.keys(known)} as ${type}`;
        await attack(what, from, posting("/oauth/login", form, type));
      }
    }
    const json = { [`{"username":"bob","password":"${PASSWORD}","x":"`]: '"}', [`{"userId":"bob","password":"${PASSWORD}","x":"`]: '"}' };
    for (const [path, [name, value]] of [["/auth/login", Object.entries(json)[0]], ["/auth", Object.entries(json)[1]]]) {
      await attack(`${from} signs the victim in at ${path}`, from, posting(path, { [name]: value }, "text/plain"));
    }
    for (const known of [{}, { csrf: bobsConsent.csrf }]) {
      await attack(`${from} signs the victim out`, from, posting("/oauth/logout", known));
      const form = { ...known, account: revocation.account };
      await attack(`${from} revokes what the victim let in`, from, posting(revocation.action, form));
    }
    for (const [path, form] of [["/authorize", {}], ["/oauth", {}]]) {
      await attack(`${from} sends a form to ${path}`, from, posting(path, form));
    }
  }

  // Consent without a sign-in: with the fields of the sign-in page, from that page itself.
  for (const csrf of ["", "its own"]) {
    const stranger = await browser.newContext(options);
    const at = await stranger.newPage();
    await at.goto(programs[0].authorize());
    const known = await fields(at);
    const form = { ...known, csrf: csrf && known.csrf, "scope:mcp": "on", answer: "approve" };
    const answered = at.waitForResponse((response) => response.url() === `${GATE}/oauth/consent`);
    // By the protocol: no script of the page may do so, and none is there.
    await at.evaluate(([form, entries]) => {
      document.title = "sent";
      document.body.innerHTML = form;
      for (const [name, value] of entries) document.forms[0].elements[name].value = value;
      document.forms[0].submit();
    }, [formOf("/oauth/consent", form), Object.entries(form)]);
    const status = (await answered).status();
    // The page before it, and what Chromium calls one that it has no title of yet.
    const isOld = (title) => title === "sent" || title.startsWith("Loading ");
    await until(async () => !isOld(await at.title().catch(() => "sent")), "the page behind the form");
    const [title, text] = [await at.title(), at.url() + await at.content()];
    const is = text.includes("code=") ? "a code came" : title.startsWith("Sign in") ? null : `${status}, and then: ${title}`;
    note(`consent without a sign-in, with ${csrf || "no"} field`, is);
    await stranger.close();
  }

  // The same browser, the same question: now its owner says yes.
  await open.getByRole("button", { name: "Approve" }).click();
  const came = until(() => evil.codes().length === 1, "the code once the victim approves");
  await came.catch((error) => wrong.push(error.message));
  const [code] = evil.codes();
  if (code && (await programs[0].redeem(code)).status !== 200) wrong.push("the code of the victim's own consent is no good");

  // Has the victim see a page of `from`, and looks at what has become of it all.
  async function attack(what, from, body, look = async () => null) {
    html = `<!doctype html><title>${from}</title>${body}`;
    const at = await victim.newPage();
    const answers = [];
    at.on("response", (response) => answers.push(response));
    // What a form, a frame or a script of the page asks for comes, or is kept back by the browser.
    const is = (request) => request.url().startsWith(GATE);
    const asked = Promise.race(["requestfinished", "requestfailed"].map((event) => at.waitForEvent(event, is)));
    await at.goto(`${from}/page`, { waitUntil: "commit" });
    await asked;
    // A browser that was led to what answers 204 stays where it is, and no load ends.
    await at.waitForLoadState("load", { timeout: 1000 }).catch(() => null);
    const seen = await look(at);
    for (const answer of answers.filter((answer) => answer.url().startsWith(GATE))) {
      const text = await answer.text().catch(() => "") + (answer.headers().location ?? "");
      if (text.includes("code=")) wrong.push(`${what}: the answer has a code`);
    }
    note(what, seen || await state());
    await at.close();
  }

  // What the victim is, if anything has changed.
  async function state() {
    await page.goto(`${GATE}/oauth`);
    const text = await page.locator("body").innerText();
    if (!text.includes("Signed in as alice")) return `the victim is not signed in as herself: ${text.slice(0, 60)}`;
    if (!text.includes("A program of hers")) return "what the victim let in is gone";
    if (text.includes("Calendar")) return "the program of the attacker is in";
    return await calm.list(tokens.access_token) === 200 ? null : "what the victim let in is revoked";
  }

  function note(what, is) {
    attempts += 1;
    if (is) wrong.push(`${what}: ${is}`);
    for (const code of evil.codes()) wrong.push(`${what}: a code came: ${code.length} characters`);
    evil.seen.length = 0;
  }
} finally {
  await browser.close();
  gate.stop();
  evil.stop();
}
wrong.forEach((what) => console.error(what));
console.log(`${attempts} attempts of other pages: ${wrong.length} faults${wrong.length ? "" : ", 0 accepted, 0 codes; and one code once the owner said yes"}`);
process.exit(wrong.length ? 1 : 0);

// The hidden fields of the page that is there.
function fields(page) {
  return page.locator("main form").first().evaluate((form) => ({ csrf: form.elements.csrf.value, flow: form.elements.flow.value }));
}

async function signIn(page, user) {
  await page.getByLabel("Name").fill(user);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await until(async () => !(await page.title()).startsWith("Sign in"), `the sign-in of ${user}`);
  await page.waitForLoadState();
}

function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll('"', "&quot;");
}

function formOf(path, form, type = "application/x-www-form-urlencoded", to = "_self") {
  const inputs = Object.entries(form).map(([name, value]) => `<input name="${escaped(name)}" value="${escaped(value)}">`);
  return `<form method="post" action="${GATE}${path}" enctype="${type}" target="${to}">${inputs.join("")}</form>`;
}

// A page that sends a form as soon as it is there.
function posting(path, form, type, to) {
  const frame = to ? `<iframe name="${to}"></iframe>` : "";
  return `${frame}${formOf(path, form, type, to)}<script>document.forms[0].submit()</script>`;
}

// A page that sends the same by a script, with all cookies that go along.
function fetching(path, form) {
  const body = new URLSearchParams(form).toString();
  return `<script>
    for (const mode of ["no-cors", "cors"]) {
      fetch("${GATE}${path}", { method: "POST", mode, credentials: "include", body: "${body}",
        headers: { "Content-Type": "application/x-www-form-urlencoded" } }).catch(() => null);
    }
  </script>`;
}

function leading(target) {
  return `<script>location = ${JSON.stringify(target)}</script>`;
}

async function until(is, what) {
  for (let tries = 0; !await is(); tries += 1) {
    if (tries > 400) throw new Error(`this does not come: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
