// The three journeys that readers and owners of a site make, sentence by sentence: what they type, and what they see. The package is the packed tarball, installed.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { before, test } from "node:test";
import { assert, useBrowser, visit } from "../browser/harness.mjs";
import { project } from "./lab.mjs";

useBrowser();

let folder;
before(() => (folder = project("node-build")));

const PAGES = {
  "index.html": ["React の手引き", "入門", "<p>部品を組み合わせて画面を作ります。</p>"],
  "memo.html": ["memo", "使い方", "<p>props が変わっていない部品の再レンダーをスキップできます。値を比べ、同じなら前の結果を使います。</p><h2 id='cost'>費用</h2><p>比べることにも時間がかかります。</p>"],
  "state.html": ["状態", "状態とは", "<p>値が変わると、画面が描き直されます。状態は部品ごとに持ちます。</p><h2 id='share'>状態を共有する</h2><p>親の部品に状態を持ち上げ、子へ渡します。</p>"],
  "effect.html": ["エフェクト", "外と同期する", "<p>通信やタイマーなど、画面の外のものと同期させます。</p>"],
};

/** A site as a generator leaves it, with Pagefind's marks and, where `tags` are given, these in each head. */
function site(name, tags = "", pages = PAGES) {
  const at = join(folder, name);
  rmSync(at, { recursive: true, force: true });
  mkdirSync(at, { recursive: true });
  for (const [path, [title, heading, body]] of Object.entries(pages)) {
    const html = `<!doctype html><html lang="ja"><head><meta charset="utf-8"><title>${title}</title><link rel="icon" href="data:,">${tags}</head><body><nav>目次 案内</nav>
<main data-pagefind-body><span data-pagefind-filter="版">v3</span><h1>${title}</h1><h2 id="first">${heading}</h2>${body}<p data-pagefind-ignore>広告です。</p></main></body></html>`;
    writeFileSync(join(at, path), html);
  }
  return at;
}

/** Types a command in the folder. */
const npx = (...args) => spawnSync(join(folder, "node_modules", ".bin", "shirube"), args, { cwd: folder, encoding: "utf8" });

test("サイトの持ち主は、命令ひとつと二行で検索を置き、読み手は語、意味の順に見つける", async (t) => {
  const tags = '<script type="module" src="/shirube/ui.js"></script><script type="module">document.body.append(document.createElement("shirube-trigger"))</script>';
  const at = site("dist", tags);
  await t.test("npx shirube build ./dist と打つと、読んだもの、大きさ、読み手が読み込む量がわかる", () => {
    const { status, stdout, stderr } = npx("build", "./dist");
    assert.equal(status, 0, stderr);
    assert.match(stdout, /4 pages, \d+ sections/);
    assert.match(stdout, /on your pages: <script type="module" src="\/shirube\/ui\.js"><\/script> <shirube-trigger>/);
    assert.match(stdout, /codes [\d.]+ \w+, .*sections [\d.]+ \w+/);
    assert.match(stdout, /download, first visit: code .* for words, then .* for meaning/);
    assert.match(stdout, /download, a query: .* by a word .* by a sentence/);
  });
  await t.test("一頁だけ直して打ち直すと、その頁の節だけを読み直す", () => {
    writeFileSync(join(at, "effect.html"), readFileSync(join(at, "effect.html"), "utf8").replace("タイマー", "時計"));
    const { stdout } = npx("build", "./dist");
    const known = Number(/(\d+) passages were known already/.exec(stdout)?.[1]);
    const all = Number(/(\d+) sections/.exec(stdout)[1]);
    assert.ok(known > 0 && known < all && all - known <= 2, stdout);
  });
  await t.test("何も見つからない所では、理由を言って失敗する", () => {
    mkdirSync(join(folder, "nothing"), { recursive: true });
    const { status, stderr } = npx("build", "./nothing");
    assert.notEqual(status, 0);
    assert.match(stderr, /nothing to search was found/);
  });
  // The model takes its time, as on a slow line.
  const slow = (path) => (path.endsWith(".safetensors") ? { delay: 1500 } : undefined);
  await visit({ folder: at, damage: slow }, async (page, { url, requests }) => {
    const modal = page.locator("shirube-modal").first();
    const shown = () => modal.evaluate(({ search }) => search.shown?.hits.map(({ section }) => section.url) ?? []);
    await t.test("開いただけでは、検索のための索引もモデルも読み込まない", async () => {
      await page.goto(`${url}index.html`);
      await page.locator("shirube-trigger").waitFor();
      assert.deepEqual(requests.filter((path) => /\.(bin|json|safetensors|wasm)$/.test(path)), []);
    });
    await t.test("Ctrl+K を押して「再レンダリングを減らしたい」と打つと、まず語で見つかる", async () => {
      await page.keyboard.press("Control+k");
      await page.keyboard.insertText("再レンダリングを減らしたい");
      await page.waitForFunction(() => ["words", "done"].includes(document.querySelector("shirube-modal").search.state) && document.querySelector("shirube-modal").search.shown, undefined, { timeout: 60_000 });
      assert.ok((await shown()).length > 0);
    });
    await t.test("意味の検索は大きさを示して準備され、選んだ行は動かない", async () => {
      assert.match(await modal.locator(".progress, .state").allTextContents().then((all) => all.join()), /意味|MB|読み込/);
      await page.keyboard.press("ArrowDown");
      const chosen = () => modal.evaluate(({ search }) => search.shadowRoot.querySelector('[aria-selected="true"]')?.getAttribute("href"));
      const mine = await chosen();
      assert.ok(mine, "a row is chosen");
      await page.waitForFunction(() => document.querySelector("shirube-modal").search.state === "done", undefined, { timeout: 60_000 });
      assert.equal(await chosen(), mine);
      assert.match((await shown())[0], /memo/);
    });
    await t.test("行には題、見出し、印の付いた抜粋、語か意味の札があり、絞り込みは件数を示す", async () => {
      const row = modal.locator("a.row", { hasText: "再レンダー" }).first();
      assert.match(await row.textContent(), /memo/);
      assert.ok((await row.locator("mark, .mark").count()) > 0, "marks");
      assert.match(await row.textContent(), /語|意味/);
      assert.match((await modal.locator(".filters").allTextContents()).join(), /v3/);
      const texts = await modal.evaluate(({ search }) => search.shown.hits.map(({ section }) => section.text).join());
      assert.ok(!/広告|目次/.test(texts), "what is marked as no content is none");
    });
    await t.test("Enter で、その見出しのところが開く", async () => {
      await page.keyboard.press("Enter");
      await page.waitForURL(/\.html#/);
    });
  });
});

test("アプリを作る人は、型のある三行で検索し、進み具合も誤りも手に取れる", async (t) => {
  site("app");
  assert.equal(npx("build", "app").status, 0);
  const shipped = join(folder, "node_modules", "shirube");
  await t.test("import は、サーバーでも何もせずに済む", () => {
    const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", 'await import("shirube"); await import("shirube/ui");'], { cwd: folder, encoding: "utf8" });
    assert.equal(status, 0, stderr);
  });
  await visit({ folder: join(folder, "app"), roots: { "/pkg/": shipped }, expected: [/404/] }, async (page, { url, requests }) => {
    await page.goto(`${url}blank.html`);
    await t.test("import だけでは何も読み込まない", async () => {
      requests.length = 0;
      await page.evaluate(async () => (globalThis.Shirube = (await import("/pkg/dist/shirube.js")).Shirube));
      assert.deepEqual(requests, ["/pkg/dist/shirube.js"]);
    });
    await t.test("for await で、語の結果、意味の結果の順に受け取り、絞り込みもできる", async () => {
      const [stages, states, urls] = await page.evaluate(async () => {
        const states = new Set();
        globalThis.shirube = await globalThis.Shirube.load({ bundle: "/shirube/", meaning: "background", device: "auto", progress_callback: ({ status }) => states.add(status) });
        const stages = [];
        let last;
        for await (const result of globalThis.shirube.search("状態の保存", { filters: { 版: ["v3"] }, limit: 10 })) stages.push((last = result).stage);
        return [stages, [...states], last.hits.map(({ section }) => section.url)];
      });
      assert.deepEqual(stages, ["words", "meaning"]);
      for (const status of ["initiate", "progress", "done", "ready"]) assert.ok(states.includes(status), states.join());
      assert.match(urls[0], /state/);
    });
    await t.test("status は、装置、モデル、バイト数、保存先を言う", async () => {
      const { meaning, model, bundle, cache, device, thread } = await page.evaluate(() => globalThis.shirube.status);
      assert.deepEqual([meaning.state, model.dtype, cache.kind, device.encoder.kind, thread.kind], ["ready", "int8", "cache-storage", "wasm", "worker"]);
      assert.ok(model.bytes > 1e6 && bundle.bytes > 1000);
    });
    await t.test("誤りには符号と治し方があり、中断もできる", async () => {
      const found = await page.evaluate(async () => {
        const code = (promise) => promise.then(() => "none", ({ code, cure }) => [code, cure]);
        const missing = await code(globalThis.Shirube.load({ bundle: "/nowhere/" }));
        const filter = await code(globalThis.shirube.search("状態", { filters: { 色: ["赤"] } }));
        const stop = new AbortController();
        const given = code(globalThis.shirube.search("状態", { signal: stop.signal }).then((result) => result));
        stop.abort();
        return [missing, filter, await given];
      });
      assert.deepEqual(found.map(([code]) => code), ["ASSET_MISSING", "BAD_ARGUMENT", "ABORTED"]);
      assert.ok(found.slice(0, 2).every(([, cure]) => cure.length > 10), JSON.stringify(found));
    });
    await t.test("dispose のあとは、何も残らない", async () => {
      assert.equal(await page.evaluate(async () => (globalThis.shirube.dispose(), globalThis.shirube.search("状態").then(() => "none", ({ code }) => code))), "ABORTED");
    });
  });
});

test("持ち歩く手引きは、一つのファイルでも、網のない所でも検索でき、外へは何も送らない", async (t) => {
  const at = site("book", '<script src="shirube/search.js"></script>');
  for (const path of Object.keys(PAGES)) writeFileSync(join(at, path), readFileSync(join(at, path), "utf8").replace("</body>", '<shirube-search results="inline" meaning="eager"></shirube-search></body>'));
  await t.test("shirube build ./book --single-file --pwa は、大きさを言い、二度打っても同じものを作る", () => {
    const first = npx("build", "./book", "--single-file", "--pwa");
    assert.equal(first.status, 0, first.stderr);
    assert.match(first.stdout, /search\.js: [\d.]+ MiB, everything in one script/);
    const read = (name) => readFileSync(join(at, "shirube", name));
    const before = ["search.js", "precache.json", "shirube.json"].map(read);
    npx("build", "./book", "--single-file", "--pwa", "--fresh");
    ["search.js", "precache.json", "shirube.json"].forEach((name, i) => assert.ok(read(name).equals(before[i]), name));
    for (const { url, revision } of JSON.parse(before[1])) assert.match(`${url} ${revision}`, /^\/shirube\/\S+ [0-9a-f]{16}$/);
  });
  await visit({}, async (page, { context }) => {
    const asked = [];
    page.on("request", (request) => asked.push(request.url()));
    await context.setOffline(true);
    await t.test("index.html を二度押しで開くと、語でも意味でも見つかる", async () => {
      await page.goto(pathToFileURL(join(at, "index.html")).href);
      await page.locator("#query").fill("描き直しを減らす");
      await page.waitForFunction(() => document.querySelector("shirube-search").state === "done" && document.querySelector("shirube-search").shown?.stage === "meaning", undefined, { timeout: 60_000 });
      const urls = await page.evaluate(() => document.querySelector("shirube-search").shown.hits.map(({ section }) => section.url));
      assert.ok(urls.some((url) => /memo|state/.test(url)), urls.join());
    });
    await t.test("読んだのは手もとのファイルだけである", () => {
      assert.deepEqual(asked.filter((url) => !/^(file|data|blob):/.test(url)), []);
    });
  });
});
