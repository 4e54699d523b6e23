// A browser that sees the pages, and what is looked at in each of them.
import { readFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// Starts one. `rules` say where names lead: nothing goes to a network.
export function launch(rules = []) {
  const mapped = [...rules, "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"].join(", ");
  return chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb", `--host-resolver-rules=${mapped}`],
  });
}

// The windows in which pages are looked at: narrow and wide; light, dark and forced colours.
export function windows(isSmall) {
  const themes = isSmall ? [["dark"]] : [["light"], ["dark"], ["light", "active"]];
  const widths = isSmall ? [360] : [360, 1280];
  return themes.flatMap(([colorScheme, forcedColors]) => widths.map((width) => ({
    name: `at ${width} px, ${forcedColors ? "forced colours" : colorScheme}`,
    picture: forcedColors ? null : `${width}-${colorScheme}`,
    options: {
      viewport: { width, height: width < 640 ? 640 : 720 },
      colorScheme,
      forcedColors: forcedColors ?? "none",
      reducedMotion: "reduce",
    },
  })));
}

// Looks at pages, and keeps what is wrong with them.
export class Looks {
  faults = [];
  count = 0;

  // Pictures go to the directory `to`, if there is one.
  constructor(to) {
    this.to = to;
    if (to) mkdirSync(to, { recursive: true });
  }

  // What breaks the policy of a page is a fault.
  watch(page, where) {
    page.on("console", (message) => {
      if (message.text().includes("Content Security Policy")) this.faults.push(`${where}: ${message.text()}`);
    });
  }

  async at(page, where, picture) {
    const fault = (what) => this.faults.push(`${where}: ${what}`);
    const spilled = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (spilled > 0) fault(`${spilled} px wider than the window`);
    const low = await page.evaluate(() => [...document.querySelectorAll("button, .button, input:not([type=hidden])")]
      .filter((element) => element.checkVisibility() && element.type !== "checkbox" && element.getBoundingClientRect().height < 36)
      .map((element) => element.outerHTML));
    low.forEach((element) => fault(`too low: ${element}`));
    if (this.to && picture) await page.screenshot({ path: join(this.to, `${picture}.png`), fullPage: true });
    // By the protocol, which the policy of the page does not hold back.
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    }));
    for (const { id, help, nodes } of violations) {
      fault(`${id}: ${help}: ${nodes.map((node) => node.html).join(" ")}`);
    }
    this.count += 1;
  }

  // Says what was seen, and ends the process.
  end(what) {
    this.faults.forEach((fault) => console.error(fault));
    console.log(`${this.count} looks at ${what}: ${this.faults.length} violations`);
    process.exit(this.faults.length ? 1 : 0);
  }
}
