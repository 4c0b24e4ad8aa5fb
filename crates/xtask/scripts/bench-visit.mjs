// `npm run bench -- visit`: what a visitor waits for and fetches on a line of 1.6 Mbit/s and 150 ms, in Chromium.
//
// The site is `<shirube-search>` over the documentation corpus (1,478 pages; `--bundle DIR` takes another bundle), with the package's files beside the bundle as
// `shirube build --package` puts them. The server itself is the slow line: every answer begins 150 ms after its request, and all of them share 1.6 Mbit/s; that
// holds for workers too, which Chromium's own throttling leaves out. Text and WebAssembly go as gzip, over HTTP/2. Left out: the time to connect, and the page's own content.
//
// Times are medians over cold visits, each a new profile; typing begins as soon as the search box is there. Bytes are those of bodies as sent.
import { X509Certificate, createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createSecureServer } from "node:http2";
import { tmpdir } from "node:os";
import { extname, join, relative } from "node:path";
import { gzipSync } from "node:zlib";
import { chromium } from "playwright-core";
import { buildAll } from "./build.mjs";
import { ensureChromium, root, run, say } from "./lib.mjs";

const BYTES_A_SECOND = 200_000;
const LATENCY_MS = 150;
const WORDS = ["サーバー", "状態管理", "useState", "コンポーネント", "エラー処理"];
const SENTENCES = ["再レンダリングを減らしたいときはどうすればよいですか", "配列から条件に合うものだけ取り出す方法", "所有権を渡さずに値を使うにはどうするのか", "画面の幅によって表示を切り替えたい", "コンポーネントの間で状態を共有するにはどうすればよいか"];
const FLAGS = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps"];
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".json": "application/json", ".wasm": "application/wasm", ".css": "text/css" };

const page = (meaning) => `<!doctype html><html lang="ja"><head><meta charset="utf-8"><title>Visit</title><link rel="icon" href="data:,">
<script type="module" src="/shirube/ui.js"></script></head><body><shirube-search bundle="/shirube/" meaning="${meaning}"></shirube-search></body></html>`;

/** A certificate for this run: browsers speak HTTP/2, as hosts of static files do, only over TLS. */
function certificate() {
  const folder = mkdtempSync(join(tmpdir(), "shirube-visit-"));
  try {
    const [key, cert] = ["key.pem", "cert.pem"].map((name) => join(folder, name));
    run("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert], { stdio: "ignore" });
    return { key: readFileSync(key), cert: readFileSync(cert) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The site behind a slow line. `sent` lists the answers since it was emptied. */
async function slowSite(bundle, pair) {
  const sent = [];
  const line = { slow: true, freeAt: 0 };
  const bodies = new Map();
  const body = (path) => {
    if (path.startsWith("/page-")) return Buffer.from(page(path.slice(6, -5)));
    const name = path.replace(/^\/shirube\//, "");
    const file = [join(bundle, name), join(root, "pkg", "dist", name), join(root, "pkg", name)].find((file) => existsSync(file));
    return file && readFileSync(file);
  };
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const server = createSecureServer(pair, async (request, response) => {
    const path = new URL(request.url, "http://localhost").pathname;
    const asked = performance.now();
    const type = TYPES[extname(path)];
    if (!bodies.has(path)) bodies.set(path, ((bytes) => bytes && (type ? gzipSync(bytes) : bytes))(body(path)));
    const bytes = bodies.get(path);
    if (line.slow) await wait(LATENCY_MS);
    if (!bytes) {
      sent.push({ path, bytes: 0, status: 404, asked, done: performance.now() });
      response.writeHead(404).end();
      return;
    }
    const tag = `"${bytes.length}"`;
    // Names with a hash never change; others are asked for again, as hosts of static files do.
    const cached = /[.\/][0-9a-f]{16}\.bin$/.test(path) ? "max-age=31536000, immutable" : "no-cache";
    const headers = { etag: tag, "cache-control": cached, "content-type": type ?? "application/octet-stream", ...(type && { "content-encoding": "gzip" }) };
    if (request.headers["if-none-match"] === tag) {
      sent.push({ path, bytes: 0, status: 304, asked, done: performance.now() });
      response.writeHead(304, headers).end();
      return;
    }
    const range = type ? null : /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    const part = range ? bytes.subarray(Number(range[1]), Number(range[2]) + 1) : bytes;
    if (range) headers["content-range"] = `bytes ${range[1]}-${range[2]}/${bytes.length}`;
    const answer = { path, bytes: part.length, status: range ? 206 : 200, asked, done: asked };
    sent.push(answer);
    response.writeHead(range ? 206 : 200, { ...headers, "content-length": part.length });
    for (let at = 0; at < part.length; at += 4096) {
      const piece = part.subarray(at, at + 4096);
      if (line.slow) {
        line.freeAt = Math.max(line.freeAt, performance.now()) + (1000 * piece.length) / BYTES_A_SECOND;
        await wait(line.freeAt - performance.now());
      }
      response.write(piece);
    }
    answer.done = performance.now();
    response.end();
  });
  // Open sessions would keep this process alive.
  const sessions = new Set();
  server.on("session", (session) => (sessions.add(session), session.on("close", () => sessions.delete(session))));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `https://localhost:${server.address().port}/`, sent, line, close: () => (sessions.forEach((session) => session.destroy()), server.close()) };
}

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const isCode = (path) => /\.(js|wasm)$/.test(path);
const isQuery = (path) => /\/(lexical|sections|codes|ivf)\//.test(path);
const isModel = (path) => path.includes("/model/");
const sum = (sent, which) => sent.filter(({ path }) => which(path)).reduce((total, { bytes }) => total + bytes, 0);

/** Prints answers in the order they began. */
function list(sent) {
  const ms = (time) => String(Math.round(time - sent[0].asked)).padStart(5);
  for (const { path, bytes, asked, done } of sent) console.log(`  ${String(bytes).padStart(7)} ${ms(asked)} ${ms(done)}   ${path}`);
}

/** Types `query` as soon as there is a box; milliseconds since the navigation began, at the box and at the first hits. */
async function firstHits(tab, address, query) {
  await tab.goto(address, { waitUntil: "commit" });
  return tab.evaluate(async (query) => {
    await customElements.whenDefined("shirube-search");
    const element = document.querySelector("shirube-search");
    const box = performance.now();
    const input = element.shadowRoot.querySelector("input");
    const found = new Promise((resolve, reject) => {
      // The first hits end the wait; what is fetched for the list below them counts as bytes.
      let ms;
      element.addEventListener("shirube-result", ({ detail }) => {
        ms ??= performance.now();
        if (!detail.more) resolve({ ms, hits: detail.hits.length });
      });
      element.addEventListener("shirube-error", ({ detail }) => reject(new Error(String(detail?.message))), { once: true });
    });
    input.focus();
    input.value = query;
    input.dispatchEvent(new InputEvent("input", { bubbles: true }));
    return { box, ...(await found) };
  }, query);
}

export async function benchVisit({ quick = false, bundle } = {}) {
  await buildAll();
  const folder = bundle ?? join(root, "target", "bench", "site", "native-bundle");
  if (!existsSync(join(folder, "shirube.json"))) {
    if (bundle) throw new Error(`${bundle} holds no shirube.json`);
    const { benchSite } = await import("./bench-site.mjs");
    await benchSite({ only: "native" });
  }
  const { counts, name } = JSON.parse(readFileSync(join(folder, "shirube.json"), "utf8"));
  say(`${relative(root, folder)}: ${counts.pages} pages, ${counts.documents} passages (${name})`);
  const pair = certificate();
  const site = await slowSite(folder, pair);
  // This one certificate is trusted, so that the browser caches as on any site.
  const known = createHash("sha256").update(new X509Certificate(pair.cert).publicKey.export({ type: "spki", format: "der" })).digest("base64");
  const browser = await chromium.launch({ executablePath: ensureChromium(), headless: true, args: [...FLAGS, `--ignore-certificate-errors-spki-list=${known}`] });
  const cold = async (query) => {
    const context = await browser.newContext();
    site.sent.length = 0;
    try {
      const tab = await context.newPage();
      const times = await firstHits(tab, `${site.url}page-never.html`, query);
      const sent = [...site.sent];
      if (times.hits === 0) throw new Error(`${query} found nothing`);
      return { ...times, requests: sent.length, code: sum(sent, isCode), index: sum(sent, (path) => path.startsWith("/shirube/") && !isCode(path) && !isQuery(path)), query: sum(sent, isQuery), sent };
    } finally {
      await context.close();
    }
  };
  try {
    // The first visit compiles and fills what the machine itself caches.
    const { sent } = await cold(WORDS[0]);
    console.log("    bytes asked  sent   (milliseconds after the page was asked for)");
    list(sent);
    const take = (list) => (quick ? list.slice(0, 2) : list);
    const [byWord, bySentence] = [[], []];
    for (const query of take(WORDS)) byWord.push(await cold(query));
    for (const query of take(SENTENCES)) bySentence.push(await cold(query));
    // The second visit: what the first kept is there.
    const again = [];
    const context = await browser.newContext();
    const ready = async () => {
      const tab = await context.newPage();
      site.sent.length = 0;
      await tab.goto(`${site.url}page-eager.html`, { waitUntil: "commit" });
      const ms = await tab.evaluate(async () => {
        await customElements.whenDefined("shirube-search");
        const element = document.querySelector("shirube-search");
        const meaning = new Promise((resolve, reject) => element.addEventListener("shirube-meaning", ({ detail }) => (detail?.state === "ready" ? resolve(performance.now()) : reject(new Error(String(detail?.error?.message)))), { once: true }));
        element.shadowRoot.querySelector("input").focus();
        return meaning;
      });
      const sent = [...site.sent];
      await tab.close();
      return { ms, sent, code: sum(sent, isCode), model: sum(sent, isModel), index: sum(sent, (path) => path.startsWith("/shirube/") && !isCode(path) && !isModel(path)), requests: sent.length };
    };
    site.line.slow = false;
    const first = await ready();
    site.line.slow = true;
    for (let i = 0; i < (quick ? 1 : 3); i++) again.push(await ready());
    await context.close();
    console.log("  a second visit");
    list(again.at(-1).sent);

    const kb = (bytes) => (bytes / 1000).toFixed(1);
    const of = (list, name) => median(list.map((each) => each[name]));
    const rows = [
      ["first hits by a word, from the box", `${Math.round(median(byWord.map(({ ms, box }) => ms - box)))} ms`, "1500 ms"],
      ["first hits by a word, from the navigation", `${Math.round(of(byWord, "ms"))} ms`, "1500 ms"],
      ["the search box is there", `${Math.round(of(byWord, "box"))} ms`, ""],
      ["code", `${kb(of(byWord, "code"))} kB`, ""],
      ["code and index before the first query", `${kb(of(byWord, "code") + of(byWord, "index"))} kB`, "150 kB"],
      ["a query by a word, most", `${kb(of(byWord, "query"))} kB, ${kb(Math.max(...byWord.map((each) => each.query)))} kB`, "60 kB"],
      ["a query by a sentence, most", `${kb(of(bySentence, "query"))} kB, ${kb(Math.max(...bySentence.map((each) => each.query)))} kB`, "120 kB"],
      ["first hits by a sentence", `${Math.round(of(bySentence, "ms"))} ms`, ""],
      ["first visit until meaning is ready, bytes", `${kb(first.code + first.model + first.index)} kB`, ""],
      ["second visit: code and model", `${kb(of(again, "code") + of(again, "model"))} kB, ${of(again, "requests")} requests`, "0 kB"],
      ["second visit: meaning ready, from the navigation", `${Math.round(of(again, "ms"))} ms`, "1000 ms"],
    ];
    console.log(`\n| | median | goal |\n|---|---|---|\n${rows.map((row) => `| ${row.join(" | ")} |`).join("\n")}\n`);
    console.log(`ratio first-hits-vs-goal ${(of(byWord, "ms") / 1500).toFixed(2)}`);
    console.log(`ratio code-and-index-vs-goal ${((of(byWord, "code") + of(byWord, "index")) / 150_000).toFixed(2)}`);
    console.log(`ratio word-bytes-vs-goal ${(of(byWord, "query") / 60_000).toFixed(2)}`);
    console.log(`ratio sentence-bytes-vs-goal ${(of(bySentence, "query") / 120_000).toFixed(2)}`);
    console.log(`ratio second-visit-ms-vs-goal ${(of(again, "ms") / 1000).toFixed(2)}`);
  } finally {
    await browser.close();
    site.close();
  }
}
