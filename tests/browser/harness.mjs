// What the browser tests share: one Chromium, one server whose answers a test can damage, pages whose console must stay empty.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before } from "node:test";
import { chromium } from "playwright-core";
import { ensureChromium, root } from "../../crates/xtask/scripts/lib.mjs";
import { serve } from "../../crates/xtask/scripts/serve.mjs";

export const site = join(root, "www", "dist");
export { assert, root };

/** Chromium without anything that would talk to the outside or draw on a screen. */
export const FLAGS = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-default-apps",
  "--disable-domain-reliability",
];

let browser;

/** Starts Chromium once for a test file, with further flags. */
export function useBrowser(flags = []) {
  before(async () => {
    assert.ok(existsSync(join(site, "index.html")), "www/dist is not built: run `npm run build`");
    browser = await chromium.launch({ executablePath: ensureChromium(), headless: true, args: [...FLAGS, ...flags] });
  });
  after(() => browser?.close());
}

/**
 * Runs `action` on a fresh visitor: own caches, own service worker, own server.
 * `requests` are the paths asked for, `asked` the same with their ranges; without `ranges` the server knows none.
 * `damage(path)` may return `{ status, type, body }` in place of a file, or `{ delay }` in milliseconds.
 * `pages` are documents by path, or `{ html, csp }`. `expected` lists console messages that the scenario itself causes; any other error or warning fails the test.
 */
export async function visit({ damage, expected = [], folder = site, roots = {}, pages = {}, ranges = true, ...context }, action) {
  const requests = [];
  const asked = [];
  const change = { now: damage };
  const server = await serve(folder, {
    ranges,
    hook: async (path, request, response) => {
      requests.push(path);
      asked.push({ path, range: request.headers.range });
      if (path === "/blank.html") {
        response.writeHead(200, { "content-type": "text/html" }).end('<!doctype html><title>blank</title><link rel="icon" href="data:,">');
        return true;
      }
      if (pages[path]) {
        const { html, csp } = typeof pages[path] === "string" ? { html: pages[path] } : pages[path];
        response.writeHead(200, { "content-type": "text/html; charset=utf-8", ...(csp && { "content-security-policy": csp }) }).end(html);
        return true;
      }
      for (const [prefix, other] of Object.entries(roots)) {
        if (!path.startsWith(prefix)) continue;
        const file = join(other, path.slice(prefix.length));
        if (!existsSync(file)) return false;
        const type = file.endsWith(".js") ? "text/javascript" : file.endsWith(".wasm") ? "application/wasm" : "application/octet-stream";
        response.writeHead(200, { "content-type": type, "cache-control": "no-store" }).end(readFileSync(file));
        return true;
      }
      const answer = change.now?.(path);
      if (!answer) return false;
      if (answer.delay) await new Promise((resolve) => setTimeout(resolve, answer.delay));
      if (answer.body === undefined && answer.status === undefined) return false;
      response
        .writeHead(answer.status ?? 200, { "content-type": answer.type ?? "application/octet-stream", "cache-control": "no-store" })
        .end(answer.body ?? "");
      return true;
    },
  });
  const visitor = await browser.newContext({ viewport: { width: 1100, height: 900 }, locale: "ja-JP", ...context });
  const noise = [];
  const open = async () => {
    const page = await visitor.newPage();
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) noise.push(message.text());
    });
    page.on("pageerror", (error) => noise.push(String(error)));
    return page;
  };
  try {
    const page = await open();
    await action(page, { url: server.url, requests, asked, context: visitor, open, damage: (now) => (change.now = now), close: server.close });
    // Chromium remarks so itself where a page's own thread asks for a GPU and there is none.
    const unexpected = noise.filter((text) => text !== "No available adapters." && !expected.some((pattern) => pattern.test(text)));
    assert.deepEqual(unexpected, [], "the console must stay empty");
  } finally {
    await visitor.close();
    await server.close();
  }
}

/** Waits until the page can search by words and by meaning. */
export async function ready(page) {
  await page.waitForFunction(
    () => {
      const { engine } = document.querySelector("shirube-search") ?? {};
      return engine && (engine.status.meaning?.state ?? "ready") === "ready";
    },
    undefined,
    { timeout: 60_000 },
  );
  await page.waitForSelector("#facts:not([hidden])");
}

/** Puts a query into the search element and waits for its results. */
export async function ask(page, query) {
  await page.locator("#query").fill(query);
  await settled(page, query);
}

/** Waits until the results on view are those of `query`, all stages included. */
export async function settled(page, query) {
  const start = [...query].slice(0, 20).join("");
  await page.waitForFunction(
    (text) => {
      const search = document.querySelector("shirube-search") ?? document.querySelector("shirube-modal")?.search;
      return search?.state === "done" && search.shown?.query.startsWith(text);
    },
    start,
    { timeout: 30_000 },
  );
}

/** The hits on view, best first. */
export function hits(page) {
  return page.evaluate(() =>
    (document.querySelector("shirube-search").shown?.hits ?? []).map(({ document: number, score, section }) => ({
      id: section.id,
      document: number,
      score,
      href: section.url && new URL(section.url, location.href).href,
      heading: [section.title, ...section.headings].join(" "),
    })),
  );
}

/** The rows on view, from top to bottom. */
export function rows(page) {
  return page.$$eval("#list a.row", (all) =>
    all.map((row) => ({
      id: row.dataset.id,
      href: row.getAttribute("href"),
      sub: row.classList.contains("sub"),
      title: row.querySelector(".title").textContent,
      text: row.textContent,
      excerpt: row.querySelector(".excerpt").textContent,
      passage: row.querySelector(".passage")?.textContent ?? "",
      marks: [...row.querySelectorAll("mark")].map((mark) => mark.textContent),
      badges: [...row.querySelectorAll(".badge")].map((badge) => badge.textContent),
      selected: row.getAttribute("aria-selected") === "true",
      top: row.getBoundingClientRect().top,
    })),
  );
}

/** The bundle's entry, to name its files in tests. */
export function bundleEntry() {
  return JSON.parse(readFileSync(join(site, "bundle", "shirube.json"), "utf8"));
}

/** The model's manifest. */
export function modelManifest() {
  return JSON.parse(readFileSync(join(site, "model", "manifest.json"), "utf8"));
}
