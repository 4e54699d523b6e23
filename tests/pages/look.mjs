// Looks at samples of each page: also of those for which it takes more than one machine to come to them. See run.sh.
//
// look.mjs DIRECTORY [--pictures TO] [--small]: DIRECTORY holds responses as NAME.http. Exits with 1 if axe finds anything.
import { readFileSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { Looks, launch, windows } from "./browser.mjs";

const [directory, ...flags] = process.argv.slice(2);
const looks = new Looks(flags.includes("--pictures") ? flags[flags.indexOf("--pictures") + 1] : null);
// What the documents show of these; flow.mjs has the others.
const shown = ["consent", "sign-in-idp", "to-idp", "connect", "connect-approve"];

// Under which the pages are served to the browser: nothing goes to a network.
const origin = "https://mcp.example.com";

function response(file) {
  const [head, ...rest] = readFileSync(file, "utf8").split("\r\n\r\n");
  const [status, ...fields] = head.split("\r\n");
  const headers = Object.fromEntries(fields.map((field) => field.split(/: (.*)/s).slice(0, 2)));
  return { status: Number(status), headers, body: rest.join("\r\n\r\n") };
}

const files = readdirSync(directory).filter((name) => name.endsWith(".http")).sort();
if (!files.length) throw new Error(`no pages in ${directory}`);
const browser = await launch();
for (const window of windows(flags.includes("--small"))) {
  const context = await browser.newContext(window.options);
  for (const file of files) {
    const name = basename(file, ".http");
    const where = `${name} ${window.name}`;
    const page = await context.newPage();
    looks.watch(page, where);
    const served = response(join(directory, file));
    let isServed = false;
    await page.route("**", (route) => {
      // What a page leads on to is not there.
      if (isServed || !route.request().isNavigationRequest()) return route.abort();
      isServed = true;
      return route.fulfill(served);
    });
    // The page that leads on is looked at as it is before it does.
    served.body = served.body.replace(/<meta http-equiv="refresh"[^>]*>/, "");
    await page.goto(`${origin}/${name}`, { waitUntil: "load" });
    const isShown = window.picture && shown.includes(name);
    await looks.at(page, where, isShown ? `${name}-${window.picture}` : null);
    await page.close();
  }
  await context.close();
}
await browser.close();
looks.end(`samples of ${files.length} pages`);
