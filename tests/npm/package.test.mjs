// The packed package: its contents, its types, and pages that use it in the ways that need nothing but what is installed here anyway.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { assert, root, useBrowser, visit } from "../browser/harness.mjs";
import { bundle, pack, project, works } from "./lab.mjs";

useBrowser();

const app = (folder) => cpSync(join(root, "tests", "npm", "fixtures", "app.js"), join(folder, "app.js"));
const installed = (folder, ...path) => join(folder, "node_modules", "shirube", ...path);
const tool = (name, ...args) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, "node_modules", name), ...args], { cwd: root, encoding: "utf8" });
  assert.equal(status, 0, `${name}\n${stdout}\n${stderr}`);
};

test("every path that package.json exports is in the tarball, and sources are not", () => {
  const folder = project("types");
  const { exports } = JSON.parse(readFileSync(installed(folder, "package.json"), "utf8"));
  const targets = Object.values(exports).flatMap((target) => (typeof target === "string" ? [target] : Object.values(target)));
  for (const target of targets.filter((path) => !path.includes("*"))) assert.ok(existsSync(installed(folder, target)), target);
  const { files } = JSON.parse(readFileSync(installed(folder, "model", "manifest.json"), "utf8"));
  for (const { path, bytes } of files) assert.equal(statSync(installed(folder, "model", path)).size, bytes, path);
  assert.ok(existsSync(installed(folder, "README.md")));
  assert.ok(!existsSync(installed(folder, "src")));
  assert.ok(statSync(pack()).size < 16e6, "the tarball stays small");
});

test("the code that a page loads stays within its budget", () => {
  const folder = project("types");
  // The worker searches by words itself: this is all code before the first hits.
  for (const [path, most] of [["dist/shirube.js", 9_500], ["dist/ui.js", 25_000], ["dist/worker.js", 30_000]]) {
    const bytes = gzipSync(readFileSync(installed(folder, path))).length;
    assert.ok(bytes <= most, `${path}: ${bytes}`);
  }
});

test("publint finds nothing to mend", async () => {
  const { publint } = await import("publint");
  const { messages } = await publint({ pkgDir: join(root, "pkg"), strict: true });
  assert.deepEqual(messages, []);
});

test("the types are right for every way of resolving them (attw)", () => {
  tool("@arethetypeswrong/cli/dist/index.js", pack(), "--profile", "esm-only", "--exclude-entrypoints", "ui.css", "shirube_wasm_bg.wasm", "shirube_relaxed_bg.wasm", "starlight/Search.astro");
});

for (const [module, moduleResolution] of [["ESNext", "Bundler"], ["NodeNext", "NodeNext"]]) {
  test(`users' TypeScript compiles (${moduleResolution})`, () => {
    const folder = project("types");
    const options = { module, moduleResolution, target: "ES2022", lib: ["ES2022", "DOM", "DOM.Iterable"], types: [], strict: true, exactOptionalPropertyTypes: true, noEmit: true };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions: options, include: ["index.ts"] }));
    tool("typescript/bin/tsc", "-p", folder);
  });
}

test("importing the package on a server touches no browser object", () => {
  const folder = project("types");
  const script = 'const a = await import("shirube"); const b = await import("shirube/ui"); if (!a.Shirube || !b.ShirubeSearch) process.exit(3);';
  const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { cwd: folder, encoding: "utf8" });
  assert.equal(status, 0, stderr);
});

test("a plain script tag is enough, under a strict CSP", async () => {
  const folder = project("tag");
  app(folder);
  await works(folder);
});

test("the folder that `shirube build` writes is searched with two lines and no attribute", async () => {
  const folder = project("two-lines");
  const out = join(folder, "shirube");
  cpSync(installed(folder, "dist"), out, { recursive: true });
  cpSync(installed(folder, "model"), join(out, "model"), { recursive: true });
  cpSync(bundle, out, { recursive: true });
  await visit({ folder }, async (page, { url, requests }) => {
    await page.goto(url);
    await page.locator("#query").fill("所有権");
    await page.waitForFunction(() => document.querySelector("shirube-search").state === "done", undefined, { timeout: 60_000 });
    assert.ok((await page.locator("#list a.row").count()) > 0);
    assert.deepEqual(requests.filter((path) => !path.startsWith("/shirube/") && path !== "/"), [], "everything comes from that folder");
  });
});

test("the slim entry looks for no file beside itself: engine, worker and model come from the folder that `shirube build` writes", async () => {
  const folder = project("two-lines");
  const out = join(folder, "shirube");
  cpSync(installed(folder, "dist"), out, { recursive: true });
  cpSync(installed(folder, "model"), join(out, "model"), { recursive: true });
  cpSync(bundle, out, { recursive: true });
  const slim = readFileSync(installed(folder, "dist", "slim.js"), "utf8");
  assert.ok(!slim.includes("import.meta"), "nothing for a bundler to follow");
  await visit({ folder, roots: { "/code/": installed(folder, "dist") } }, async (page, { url, requests }) => {
    await page.goto(url);
    const [kind, n] = await page.evaluate(async () => {
      const { Shirube } = await import("/code/slim.js");
      const shirube = await Shirube.load({ bundle: "/shirube/" });
      const { hits } = await shirube.search("所有権");
      const { kind } = shirube.status.thread;
      shirube.dispose();
      return [kind, hits.length];
    });
    assert.deepEqual([kind, n], ["worker", 10]);
    assert.deepEqual(requests.filter((path) => path.startsWith("/code/")), ["/code/slim.js"]);
  });
});

test("サービスワーカーの一覧は、ページが読むコードをすべて、中身で見分けて挙げる", async () => {
  const folder = project("two-lines");
  const out = join(folder, "shirube");
  cpSync(installed(folder, "dist"), out, { recursive: true });
  cpSync(bundle, out, { recursive: true });
  const { precache } = await import(installed(folder, "offline.mjs"));
  const list = await precache(out, { base: "/shirube/" });
  for (const name of ["ui.js", "shirube.js", "worker.js", "shirube_wasm_bg.wasm", "shirube_relaxed_bg.wasm"]) assert.ok(list.some(({ url }) => url === `/shirube/${name}`), name);
  assert.ok(!list.some(({ url }) => /codes|shirube\.json/.test(url)), "data is kept by the package itself");
  writeFileSync(join(out, "ui.js"), "// changed");
  const again = await precache(out, { base: "/shirube/" });
  assert.deepEqual(again.filter(({ url, revision }) => list.find((old) => old.url === url).revision !== revision).map(({ url }) => url), ["/shirube/ui.js"]);
  assert.ok((await precache(out, { all: true })).some(({ url }) => url === "shirube.json"));
  await assert.rejects(precache(join(out, "codes")), /holds no shirube\.js/);
});

test("ひとつのスクリプトにまとめれば、file:// から開いたページでも通信なしで検索できる", async () => {
  const folder = project("two-lines");
  const { inline } = await import(installed(folder, "inline.mjs"));
  writeFileSync(join(folder, "search.js"), await inline(bundle));
  writeFileSync(join(folder, "book.html"), '<!doctype html><html lang="ja"><meta charset="utf-8"><title>本</title><link rel="icon" href="data:,"><script src="search.js"></script><shirube-search></shirube-search></html>');
  await visit({}, async (page) => {
    const asked = [];
    page.on("request", (request) => asked.push(request.url()));
    await page.goto(pathToFileURL(join(folder, "book.html")).href);
    await page.locator("#query").fill("再レンダリングを減らしたい");
    await page.waitForFunction(() => document.querySelector("shirube-search").state === "done", undefined, { timeout: 60_000 });
    assert.ok((await page.locator("#list a.row").count()) > 0);
    assert.deepEqual(asked.filter((url) => !/^file:.*\/(book\.html|search\.js)$|^data:/.test(url)), [], "nothing else is asked for");
  });
  await assert.rejects(inline(folder), /is no bundle/);
});

test("a page built by Vite works without any setting", async () => {
  const folder = project("vite");
  app(folder);
  const { build } = await import("vite");
  await build({ root: folder, logLevel: "error" });
  await works(join(folder, "dist"));
});

test("a page built by esbuild works with assetBase and model", async () => {
  const folder = project("esbuild");
  app(folder);
  const { build } = await import("esbuild");
  await build({ absWorkingDir: folder, entryPoints: ["main.js"], outdir: "out", bundle: true, splitting: true, format: "esm", minify: true, logLevel: "error" });
  cpSync(installed(folder), join(folder, "shirube"), { recursive: true });
  await works(folder);
});
