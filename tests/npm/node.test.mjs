// `npx shirube` as users get it: the packed tarball, installed; held against the native command byte for byte, then opened in Chromium.
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { before, test } from "node:test";
import { assert, root, useBrowser, visit } from "../browser/harness.mjs";
import { project } from "./lab.mjs";

useBrowser();

const generated = join(root, "crates", "site", "tests", "fixtures");
const native = join(root, "target", "debug", "shirube");
const TAGS = '<link rel="icon" href="data:,"><script type="module" src="/shirube/ui.js"></script><shirube-search id="box" meaning="eager"></shirube-search>';

let folder;
let shipped;
before(() => {
  folder = project("node-build");
  shipped = join(folder, "node_modules", "shirube");
  assert.ok(existsSync(native), "target/debug/shirube is not built: run `cargo build`");
});

/** Pages that real generators wrote, one that leads elsewhere, and a first page with the two tags. */
function site(name, pages = ["docusaurus", "mdbook", "sphinx", "vitepress"]) {
  const at = join(folder, name);
  rmSync(at, { recursive: true, force: true });
  for (const page of pages) cpSync(join(generated, page, "page.html"), join(at, page, "index.html"));
  mkdirSync(at, { recursive: true });
  writeFileSync(join(at, "old.html"), '<meta http-equiv="refresh" content="0; url=/">');
  return at;
}

const page = (n, more = "") =>
  `<!doctype html><html lang="ja"><meta charset="utf-8"><title>頁${n}</title>${TAGS}<main><h1>第${n}章 部品${n}</h1><p>これは${n}番目の頁です。部品は状態を持ちます。${more}</p><h2 id="use">使い方${n}</h2><p>値が変わると、画面が描き直されます。${n}回までです。</p></main></html>`;

const commands = { npm: () => join(folder, "node_modules", ".bin", "shirube"), native: () => native };

/** Runs one of the two commands in its own copy of `folder`/`name`. */
function shirube(which, name, ...args) {
  const cwd = join(folder, which);
  mkdirSync(cwd, { recursive: true });
  if (existsSync(join(folder, name)) && !existsSync(join(cwd, name))) cpSync(join(folder, name), join(cwd, name), { recursive: true });
  return spawnSync(commands[which](), args, { cwd, encoding: "utf8" });
}

const both = (name, ...args) => ({ npm: shirube("npm", name, ...args), native: shirube("native", name, ...args) });

/** `shirube build NAME`; the native command is told where the package is that the other one lies in. */
const buildBoth = (name, ...args) => ({ npm: shirube("npm", name, "build", name, ...args), native: shirube("native", name, "build", name, "--package", shipped, ...args) });

const timeless = (text) => text.replace(/^ {2}\d+\.\d s$/m, "  … s");

const tree = (at) => Object.fromEntries(readdirSync(at, { recursive: true }).map(String).filter((path) => statSync(join(at, path)).isFile()).sort().map((path) => [path, readFileSync(join(at, path))]));

function assertSameTrees(name, more = []) {
  const [a, b] = ["npm", "native"].map((copy) => tree(join(folder, copy, name)));
  assert.deepEqual(Object.keys(a), Object.keys(b));
  for (const path of Object.keys(a)) assert.ok(a[path].equals(b[path]), `${path} differs`);
  for (const path of more) assert.ok(path in a, path);
}

function assertSame({ npm, native }, status = 0) {
  assert.equal(npm.status, status, npm.stderr);
  assert.equal(timeless(npm.stdout), timeless(native.stdout));
  assert.equal(npm.stderr, native.stderr);
  assert.equal(native.status, status);
}

for (const copy of ["npm", "native"]) before(() => rmSync(join(folder, copy), { recursive: true, force: true }));

test("npx shirube build writes the same folder as the native command, byte for byte, and says the same", () => {
  site("same");
  const said = buildBoth("same");
  assertSame(said);
  assertSameTrees("same", ["shirube/shirube.json", "shirube/ui.js", "shirube/worker.js", "shirube/shirube_wasm_bg.wasm", "shirube/model/manifest.json"]);
  assert.match(said.npm.stdout, /^same: \d+ pages, \d+ sections/);
  assert.match(said.npm.stdout, /left out: 1 redirects \(old\.html\)/);
  assert.match(said.npm.stdout, /download, first visit: code \d+\.\d KiB \(gzip\) and index .* for words, then .* for meaning/);
  assert.match(said.npm.stdout, /download, a query: .* by a word .* by a sentence/);
});

test("a second run encodes what changed, removes what is stale, leaves the owner's files alone, and is the same as the native one", () => {
  const first = join(folder, "same", "docusaurus", "index.html");
  assert.ok(existsSync(first));
  for (const copy of ["npm", "native"]) {
    const at = join(folder, copy, "same");
    writeFileSync(join(at, "shirube", "mine.txt"), "mine");
    writeFileSync(join(at, "shirube", "codes", "0123456789abcdef.bin"), "left by an earlier build");
    writeFileSync(join(at, "shirube", "chunk-OLDOLD12.js"), "of an earlier version");
    writeFileSync(join(at, "new.html"), page(1));
    rmSync(join(at, "vitepress"), { recursive: true });
  }
  const said = buildBoth("same");
  assertSame(said);
  assertSameTrees("same", ["shirube/mine.txt"]);
  assert.match(said.npm.stdout, /\d+ passages were known already/);
  assert.match(said.npm.stdout, /\d+ files of the earlier bundle were removed/);
  const now = Object.keys(tree(join(folder, "npm", "same", "shirube")));
  for (const gone of ["codes/0123456789abcdef.bin", "chunk-OLDOLD12.js"]) assert.ok(!now.includes(gone), gone);
  assert.ok(!now.some((path) => path.endsWith(".part")));
});

test("--pwa lists the code for a service worker and --single-file writes one script, both as the native command does", () => {
  const flags = ["--pwa", "--single-file", "--base", "/docs/"];
  const said = buildBoth("same", ...flags);
  assertSame(said);
  assertSameTrees("same", ["shirube/precache.json", "shirube/search.js"]);
  assert.match(said.npm.stdout, /precache\.json: \d+ files for a service worker\n {2}search\.js: [\d.]+ MiB, everything in one script/);
  const at = join(folder, "npm", "same", "shirube");
  const listed = JSON.parse(readFileSync(join(at, "precache.json"), "utf8"));
  for (const { url, revision } of listed) {
    assert.ok(url.startsWith("/docs/shirube/") && !/search\.js|gpu/.test(url), url);
    assert.equal(revision, createHash("sha256").update(readFileSync(join(at, url.slice("/docs/shirube/".length)))).digest("hex").slice(0, 16));
  }
  // The list and the script are no part of what they hold: a second run writes the same.
  const before = tree(at);
  buildBoth("same", ...flags);
  for (const path of ["precache.json", "search.js"]) assert.ok(tree(at)[path].equals(before[path]), path);
  const without = shirube("native", "same", "build", "same", "--model", join(shipped, "model"), "--out", "elsewhere", "--single-file");
  assert.equal(without.status, 1);
  assert.match(without.stderr, /add --package DIR/);
});

test("a damaged earlier bundle is not built upon, and both say why", () => {
  for (const copy of ["npm", "native"]) {
    const at = join(folder, copy, "same", "shirube");
    const [codes] = readdirSync(join(at, "codes"));
    writeFileSync(join(at, "codes", codes), "damaged");
  }
  const said = buildBoth("same");
  assertSame(said);
  assert.match(said.npm.stdout, /the earlier bundle was not built upon: codes\//);
  assertSameTrees("same");
});

test("threads do not change the bundle", () => {
  const at = join(folder, "many");
  mkdirSync(at, { recursive: true });
  for (let n = 0; n < 120; n += 1) writeFileSync(join(at, `${n}.html`), page(n, n % 7 === 0 ? "長い説明が続きます。".repeat(40) : ""));
  const flags = ["--pool", "2", "--codec", "bits2", "--name", "多", "--base", "/docs/", "--clean-urls"];
  const { npm, native } = both("many", "build", "many", "--model", join(shipped, "model"), ...flags, "--fresh");
  assert.equal(npm.status, 0, npm.stderr);
  assert.equal(native.status, 0, native.stderr);
  const bundle = Object.keys(tree(join(folder, "native", "many", "shirube")));
  for (const path of bundle) assert.ok(readFileSync(join(folder, "npm", "many", "shirube", path)).equals(readFileSync(join(folder, "native", "many", "shirube", path))), path);
});

test("Markdown and JSON Lines are read as the native command reads them", () => {
  const at = join(folder, "notes");
  mkdirSync(join(at, "draft"), { recursive: true });
  writeFileSync(join(at, "a.md"), "---\ntags: [状態]\n---\n# 題\n\n本文です。\n\n## 節 {#s}\n\n節の本文です。\n");
  writeFileSync(join(at, "draft", "b.md"), "---\ndraft: true\n---\n# 下書き\n\n下書きです。\n");
  assertSame(buildBoth("notes"));
  assertSameTrees("notes");
  const lines = ["npm", "native"].map((copy) => join(folder, copy, "sections.jsonl"));
  for (const path of lines) writeFileSync(path, '{"id":"a","title":"題","text":"本文です。","url":"p"}\n{"id":"b"}\n');
  const said = both("sections.jsonl", "build", "sections.jsonl", "--model", join(shipped, "model"), "--out", "lines", "--quiet");
  assert.equal(said.npm.status, 0, said.npm.stderr);
  const entries = ["npm", "native"].map((copy) => readFileSync(join(folder, copy, "lines", "shirube.json"), "utf8"));
  assert.equal(entries[0], entries[1]);
});

test("search and inspect say of a bundle what the native command says, word for word", () => {
  const at = join(folder, "asked");
  mkdirSync(at, { recursive: true });
  for (let n = 0; n < 12; n += 1) writeFileSync(join(at, `${n}.html`), page(n));
  const build = shirube("npm", "asked", "build", "asked", "--quiet");
  assert.equal(build.status, 0, build.stderr);
  const bundle = join(folder, "npm", "asked", "shirube");
  const untimed = (text) => text.replace(/in [\d.]+ ms \(.*$/m, "in … ms").replace(/"(\w+_ms)": ?[\d.e-]+/g, '"$1":0');
  const ask = (...args) => {
    const { npm, native } = both("asked", ...args);
    assert.equal(npm.status, native.status, npm.stderr);
    assert.equal(npm.stderr, native.stderr);
    return [untimed(npm.stdout), untimed(native.stdout)];
  };
  for (const args of [["-k", "3"], ["--words"], ["--lexical-weight", "0"]]) {
    const [npm, native] = ask("search", bundle, "画面が描き直される回数", ...args);
    assert.match(npm, /^ 1\. \S+ +第/);
    // Another processor's instructions round another way.
    const rounded = (text) => text.replace(/\d+\.\d{3,4}/g, (digits) => Number(digits).toFixed(2)).replace(/, [^,]*$/, "");
    assert.equal(rounded(npm), rounded(native), args.join(" "));
  }
  const [npm, native] = ask("inspect", bundle);
  assert.equal(npm, native);
  assert.match(npm, /every file has the length and SHA-256/);
  const [why] = ask("inspect", bundle, "画面が描き直される回数", "-k", "1");
  assert.match(why, /score \d.*meaning \(MaxSim\) \d.*words \(BM25\)/);
  assert.match(why, /cosine +\d\.\d+ +画面 ~ 画面/);
  const [json] = ask("search", bundle, "部品", "--json", "-k", "1");
  assert.equal(JSON.parse(json).hits.length, 1);
  const wrong = both("asked", "search", "asked", "部品");
  assert.match(wrong.npm.stderr, /asked: not a bundle, it has no shirube\.json; make one with `shirube build`/);
  assert.equal(wrong.npm.stderr, wrong.native.stderr);
  assert.equal(wrong.npm.status, 1);
});

test("errors are those of the native command: text, place and exit code", () => {
  site("empty", []);
  const model = ["--model", join(shipped, "model")];
  const cases = [
    [1, /1 redirects \(old\.html\)[\s\S]*error: empty: nothing to search was found/, "build", "empty", ...model],
    [1, /"\.\.x" is no CSS selector/, "build", "empty", "--root", "..x", ...model],
    [1, /error: nothing to build from: name a folder/, "build", ...model],
    [1, /--out DIR is needed: nothing\.jsonl/, "build", "nothing.jsonl", ...model],
    [1, /empty: not a model folder, it has no manifest\.json/, "build", "empty", "--model", "empty"],
    [2, /invalid value '9' for '--pool <N>': 9 is not in 1\.\.=4/, "build", "empty", "--pool", "9"],
    [2, /the following required arguments were not provided/, "build", "empty", "--serve"],
    [2, /unexpected argument '--nonsense'/, "build", "--nonsense"],
  ];
  for (const [status, message, ...args] of cases) {
    const { npm, native } = both("empty", ...args);
    assert.match(npm.stderr, message);
    assert.equal(npm.status, status, args.join(" "));
    // Usage lines differ by the flags that only one of them has.
    if (status === 1) assert.equal(npm.stderr, native.stderr, args.join(" "));
    assert.equal(native.status, status);
  }
  assert.ok(!existsSync(join(folder, "npm", "empty", "shirube")), "nothing is written");
  const missing = both("empty", "build", "absent.jsonl", "--out", "x", ...model);
  assert.match(missing.npm.stderr, /error: absent\.jsonl: /);
  assert.equal(missing.npm.status, 1);
});

test("settings come from flags, variables and the file in that order", () => {
  const at = join(folder, "settings");
  cpSync(site("settings-site", ["mdbook"]), join(at, "dist"), { recursive: true });
  writeFileSync(join(at, "shirube.toml"), "source = 'dist'\nname = '名'\npool = 1\n");
  const made = (env, ...args) => {
    const { status, stderr } = spawnSync(join(folder, "node_modules", ".bin", "shirube"), ["build", "--no-assets", ...args], { cwd: at, encoding: "utf8", env: { ...process.env, ...env } });
    assert.equal(status, 0, stderr);
    const entry = JSON.parse(readFileSync(join(at, "dist", "shirube", "shirube.json"), "utf8"));
    return [entry.name, entry.codec.pool_factor];
  };
  assert.deepEqual(made({}), ["名", 1]);
  assert.deepEqual(made({ SHIRUBE_POOL: "3" }), ["名", 3]);
  assert.deepEqual(made({ SHIRUBE_POOL: "3" }, "--pool", "4", "--name", "別"), ["別", 4]);
  writeFileSync(join(at, "shirube.toml"), "basis = '/'\n");
  const wrong = spawnSync(join(folder, "node_modules", ".bin", "shirube"), ["build"], { cwd: at, encoding: "utf8" });
  assert.equal(wrong.status, 1);
  assert.match(wrong.stderr, /error: shirube\.toml: [\s\S]*basis/);
});

test("the folder it wrote is searched in Chromium by words and by meaning, and a first visit loads what was predicted", async () => {
  const at = join(folder, "visited");
  rmSync(at, { recursive: true, force: true });
  mkdirSync(at, { recursive: true });
  for (let n = 0; n < 6; n += 1) writeFileSync(join(at, n === 0 ? "index.html" : `${n}.html`), page(n));
  const { build } = await import(join(shipped, "node", "build.mjs"));
  const stages = [];
  const { bundle, text } = await build({ source: at }, { progress: ({ stage }) => stages.push(stage) });
  assert.match(text, /6 pages, 12 sections/);
  assert.ok(["reading", "encoding", "centroids", "packing"].every((stage) => stages.includes(stage)), stages.join());
  await visit({ folder: at }, async (page, { url, requests }) => {
    await page.goto(url);
    await page.locator("#box").evaluate((box) => box.setAttribute("meaning", "never"));
    await page.locator("#box").evaluate((box) => box.preload());
    await page.waitForFunction(() => document.querySelector("#box").state === "ready", undefined, { timeout: 60_000 });
    const loaded = [...new Set(requests)].filter((path) => path.startsWith("/shirube/")).map((path) => path.slice("/shirube/".length));
    const data = loaded.filter((path) => !/\.(js|wasm|css)$/.test(path));
    assert.equal(data.reduce((sum, path) => sum + statSync(join(at, "shirube", path)).size, 0), bundle.download.words_start, data.join());
    const { wasm } = await import(join(shipped, "node", "wasm.mjs"));
    const { gzipBytes, isPageCode } = wasm();
    const code = loaded.filter((path) => /\.(js|wasm)$/.test(path));
    assert.ok(code.every((path) => isPageCode(path)), code.join());
    const sum = (paths) => paths.reduce((bytes, path) => bytes + gzipBytes(readFileSync(join(at, "shirube", path))), 0);
    assert.equal(sum(code), bundle.download.code, code.join());
    requests.length = 0;
    await page.locator("#box").evaluate((box) => box.loadMeaning());
    await page.waitForFunction(() => document.querySelector("#box").engine.status.meaning.state === "ready", undefined, { timeout: 60_000 });
    const more = requests.filter((path) => path.endsWith(".wasm")).map((path) => path.slice("/shirube/".length));
    assert.equal(sum(more), bundle.download.meaning_code, more.join());
    const weights = requests.filter((path) => /\.safetensors$|tokenizer\.bin$/.test(path));
    assert.equal(weights.reduce((bytes, path) => bytes + statSync(join(at, path)).size, 0), bundle.download.model, weights.join());
  });
  await visit({ folder: at }, async (page, { url }) => {
    await page.goto(url);
    await page.locator("#query").fill("画面を描き直す回数");
    await page.waitForFunction(() => document.querySelector("#box").state === "done", undefined, { timeout: 60_000 });
    const hits = await page.locator("#box").evaluate((box) => box.shown.hits.map((hit) => hit.section.url));
    assert.ok(hits.length > 0 && hits[0].includes("#use"), hits.join());
  });
});

test("shirube serve hands out a folder and nothing beside it; --watch builds again when a page changes", async () => {
  const at = site("watched", ["mdbook"]);
  const cli = spawn(join(folder, "node_modules", ".bin", "shirube"), ["build", "watched", "--no-assets", "--watch", "--serve", "18080"], { cwd: folder });
  let said = "";
  cli.stdout.on("data", (chunk) => (said += chunk));
  cli.stderr.on("data", (chunk) => (said += chunk));
  const until = async (what) => {
    for (let n = 0; n < 600; n += 1) {
      const found = await what();
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`waited in vain; it said:\n${said}`);
  };
  try {
    const [, url] = await until(() => /at (http:\S+)/.exec(said));
    const get = async (path) => {
      const response = await fetch(`${url}${path}`);
      return [response.status, response.headers.get("content-type")];
    };
    assert.deepEqual(await get("shirube/shirube.json"), [200, "application/json; charset=utf-8"]);
    assert.deepEqual(await get("mdbook/"), [200, "text/html; charset=utf-8"]);
    assert.deepEqual(await get("old"), [200, "text/html; charset=utf-8"]);
    for (const outside of ["nothing", "%2e%2e/package.json", "..%2fpackage.json", "%ff"]) assert.equal((await get(outside))[0], 404, outside);
    const entry = join(at, "shirube", "shirube.json");
    const pages = () => JSON.parse(readFileSync(entry, "utf8")).counts.pages;
    assert.equal(pages(), 1);
    // Not written in place: the watcher may look in between.
    writeFileSync(join(folder, "aside.html"), page(7));
    renameSync(join(folder, "aside.html"), join(at, "seven.html"));
    await until(() => pages() === 2);
  } finally {
    cli.kill();
  }
});
