// Looks at each page of the gateway in headless Chromium: at 360 and 1280 px, in light and in dark. See run.sh.
//
// look.mjs DIRECTORY [--pictures TO] [--small]: DIRECTORY holds responses as NAME.http. Exits with 1 if axe finds anything.
import { readFileSync, readdirSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { chromium } from "playwright-core";

const [directory, ...flags] = process.argv.slice(2);
const to = flags.includes("--pictures") ? flags[flags.indexOf("--pictures") + 1] : null;
const isSmall = flags.includes("--small");
// Of each kind of page, what the documents show.
const shown = ["sign-in", "consent", "consent-unverified", "passing-on", "connections", "error-redirect"];
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

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
if (to) mkdirSync(to, { recursive: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb"],
});
let looks = 0;
const faults = [];
const widths = isSmall ? [360] : [360, 1280];
const themes = isSmall ? [["dark"]] : [["light"], ["dark"], ["light", "active"]];
for (const [colorScheme, forcedColors] of themes) {
  for (const width of widths) {
    const context = await browser.newContext({
      viewport: { width, height: width < 640 ? 640 : 720 },
      colorScheme,
      forcedColors: forcedColors ?? "none",
      reducedMotion: "reduce",
    });
    for (const file of files) {
      const name = basename(file, ".http");
      const where = `${name} at ${width} px, ${forcedColors ? "forced colours" : colorScheme}`;
      const page = await context.newPage();
      page.on("console", (message) => {
        if (message.text().includes("Content Security Policy")) faults.push(`${where}: ${message.text()}`);
      });
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
      const spilled = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (spilled > 0) faults.push(`${where}: ${spilled} px wider than the window`);
      const low = await page.evaluate(() => [...document.querySelectorAll("button, .button, input:not([type=hidden])")]
        .filter((element) => element.checkVisibility() && element.type !== "checkbox" && element.getBoundingClientRect().height < 36)
        .map((element) => element.outerHTML));
      low.forEach((element) => faults.push(`${where}: too low: ${element}`));
      if (to && !forcedColors && shown.includes(name)) {
        await page.screenshot({ path: join(to, `${name}-${width}-${colorScheme}.png`), fullPage: true });
      }
      // By the protocol, which the policy of the page does not hold back.
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => axe.run(document, {
        runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
      }));
      for (const { id, help, nodes } of violations) {
        faults.push(`${where}: ${id}: ${help}: ${nodes.map((node) => node.html).join(" ")}`);
      }
      looks += 1;
      await page.close();
    }
    await context.close();
  }
}
await browser.close();
faults.forEach((fault) => console.error(fault));
console.log(`${looks} looks at ${files.length} pages: ${faults.length} violations`);
process.exit(faults.length ? 1 : 0);
