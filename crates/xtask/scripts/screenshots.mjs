// Makes the pictures of the README from the built page: `npm run build && npm run screenshots`.
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { ensureChromium, root, say } from "./lib.mjs";
import { serve } from "./serve.mjs";

const QUESTION = "再レンダリングを減らしたい";
const LIMIT_BYTES = 300 * 1024;

const SHOTS = [
  { name: "results", query: QUESTION, viewport: { width: 1000, height: 860 } },
  { name: "start", query: "", viewport: { width: 1000, height: 720 } },
  { name: "dark", query: "所有権を渡さずに値を使う", viewport: { width: 1000, height: 860 }, colorScheme: "dark" },
  { name: "phone", query: QUESTION, viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 1.5 },
];

const folder = join(root, "docs", "images");
mkdirSync(folder, { recursive: true });
const server = await serve(join(root, "www", "dist"));
const browser = await chromium.launch({ executablePath: ensureChromium(), args: ["--no-sandbox", "--hide-scrollbars"] });
try {
  for (const { name, query, ...look } of SHOTS) {
    const context = await browser.newContext({ locale: "ja-JP", ...look });
    const page = await context.newPage();
    await page.goto(`${server.url}?q=${encodeURIComponent(query)}`);
    await page.waitForSelector("#facts:not([hidden])", { timeout: 60_000 });
    if (query) await page.waitForSelector("shirube-search[state=done]");
    await page.waitForTimeout(400);
    const path = join(folder, `${name}.png`);
    await page.screenshot({ path });
    const { size } = statSync(path);
    say(`docs/images/${name}.png ${Math.round(size / 1024)} kB`);
    if (size > LIMIT_BYTES) throw new Error(`${name}.png is larger than ${LIMIT_BYTES / 1024} kB`);
    await context.close();
  }
} finally {
  await browser.close();
  await server.close();
}
