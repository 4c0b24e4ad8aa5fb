// What stays on the reader's disk, and what happens when little or nothing can.
import { cpSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { assert, ask, hits, modelManifest, ready, site, useBrowser, visit } from "./harness.mjs";

useBrowser();

const parts = () => modelManifest().files.map(({ path }) => path).filter((path) => path.endsWith(".safetensors"));

test("モデルの読み込みが途中で切れても、届いた部分は二度と読み込まない", async () => {
  const last = parts().at(-1);
  const broken = (path) => (path === `/model/${last}` ? { status: 503 } : undefined);
  await visit({ damage: broken, expected: [/503/] }, async (page, { url, requests, damage }) => {
    await page.goto(url);
    await page.locator(".problem:not([hidden])").or(page.locator(".state", { hasText: "語だけで" })).first().waitFor({ timeout: 60_000 });
    // What was under way when the last part failed has time to arrive.
    await page.waitForTimeout(500);
    const arrived = await page.evaluate(async () => (await (await caches.open("shirube-files-1")).keys()).map(({ url }) => new URL(url).pathname));
    const asked = requests.length;
    damage(undefined);
    await page.reload();
    await ready(page);
    await ask(page, "所有権");
    await page.waitForFunction(() => document.querySelector("shirube-search").shown?.hits.some((hit) => hit.maxsim > 0), undefined, { timeout: 60_000 });
    const again = requests.slice(asked).filter((path) => path.endsWith(".safetensors"));
    assert.ok(again.includes(`/model/${last}`), "the missing part is fetched");
    assert.deepEqual(again.filter((path) => arrived.includes(path)), [], "the others are not");
  });
});

test("モデルを中に持つ索引でも、二度目はモデルも索引も一バイトも読み込まない", async () => {
  // As `shirube build` lays a folder out: elements, bundle and model in one.
  const folder = mkdtempSync(join(tmpdir(), "shirube-storage-"));
  try {
    for (const name of readdirSync(join(site, "shirube"))) cpSync(join(site, "shirube", name), join(folder, "shirube", name), { recursive: true });
    cpSync(join(site, "bundle"), join(folder, "shirube"), { recursive: true });
    cpSync(join(site, "model"), join(folder, "shirube", "model"), { recursive: true });
    const html = '<!doctype html><html lang="ja"><link rel="icon" href="data:,"><title>箱</title><script type="module" src="/shirube/ui.js"></script><shirube-search load="eager" meaning="eager"></shirube-search></html>';
    await visit({ folder, pages: { "/box.html": html } }, async (page, { url, requests }) => {
      const meaning = () => page.waitForFunction(() => document.querySelector("shirube-search")?.engine?.status.meaning.state === "ready", undefined, { timeout: 60_000 });
      await page.goto(`${url}box.html`);
      await meaning();
      // What came goes to the disk in its own time.
      await page.waitForFunction(async () => (await (await caches.open("shirube-files-1")).keys()).filter(({ url }) => url.includes(".safetensors")).length >= 2);
      for (const visit of ["second", "third"]) {
        requests.length = 0;
        await page.reload();
        await meaning();
        assert.deepEqual(requests.filter((path) => /\.(bin|safetensors)$/.test(path)), [], visit);
      }
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("ディスクに空きがなければ、メモリーから検索する", async () => {
  await visit({}, async (page, { url }) => {
    await page.goto(`${url}blank.html`);
    const found = await page.evaluate(async () => {
      Cache.prototype.put = () => Promise.reject(new DOMException("Quota exceeded.", "QuotaExceededError"));
      const { Shirube } = await import("/shirube/shirube.js");
      const shirube = await Shirube.load({ bundle: "/bundle/", worker: false, device: "wasm" });
      const { hits } = await shirube.search("所有権");
      return { hits: hits.length, cache: shirube.status.cache, stored: (await (await caches.open("shirube-files-1")).keys()).length };
    });
    assert.equal(found.hits, 10);
    assert.equal(found.cache.kind, "memory");
    assert.match(found.cache.reason, /Quota exceeded/);
    assert.equal(found.stored, 0);
  });
});

test("保存したファイルが壊れていても、気づいて読み込み直す", async () => {
  await visit({}, async (page, { url, requests }) => {
    await page.goto(url);
    await ready(page);
    await ask(page, "所有権");
    const before = (await hits(page)).map((hit) => hit.id);
    await page.evaluate(async () => {
      const cache = await caches.open("shirube-files-1");
      for (const request of await cache.keys()) {
        if (request.url.includes(".safetensors")) await cache.put(request, new Response(new Uint8Array(1000)));
      }
    });
    const asked = requests.length;
    await page.reload();
    await ready(page);
    await ask(page, "所有権");
    await page.waitForFunction(() => document.querySelector("shirube-search").shown?.hits.some((hit) => hit.maxsim > 0), undefined, { timeout: 60_000 });
    assert.deepEqual((await hits(page)).map((hit) => hit.id), before);
    assert.equal(new Set(requests.slice(asked).filter((path) => path.endsWith(".safetensors"))).size, parts().length);
  });
});

test("モデルが届いたら、ブラウザーに消さないよう頼み、その答えを状態に書く", async () => {
  for (const [granted, agent, asked] of [[true, undefined, 1], [false, undefined, 1], [true, "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", 0]]) {
    await visit(agent ? { userAgent: agent } : {}, async (page, { url }) => {
      await page.addInitScript((granted) => {
        globalThis.asked = 0;
        navigator.storage.persisted = async () => false;
        navigator.storage.persist = async () => ((globalThis.asked += 1), granted);
      }, granted);
      await page.goto(`${url}blank.html`);
      const found = await page.evaluate(async () => {
        const { Shirube } = await import("/shirube/shirube.js");
        const shirube = await Shirube.load({ bundle: "/bundle/" });
        while (shirube.status.cache.persistent === undefined) await new Promise((resolve) => setTimeout(resolve, 10));
        const first = [shirube.status.cache.persistent, globalThis.asked];
        // A page that is to work without a network may ask the reader, too.
        await shirube.keepForOffline();
        const last = shirube.status.cache.persistent;
        shirube.dispose();
        return [...first, last];
      });
      assert.deepEqual(found, [granted && asked > 0, asked, granted]);
    });
  }
});

test("前もって読み込んでおけば、次に開くときは通信も待ち時間もいらない", async () => {
  await visit({}, async (page, { url, requests }) => {
    await page.goto(`${url}blank.html`);
    const status = await page.evaluate(async () => {
      const { Shirube } = await import("/shirube/shirube.js");
      return Shirube.preload({ bundle: "/bundle/", meaning: "background" });
    });
    assert.deepEqual([status.meaning.state, status.model.fromCache], ["ready", false]);
    requests.length = 0;
    const cached = await page.evaluate(async () => {
      const { Shirube } = await import("/shirube/shirube.js");
      const shirube = await Shirube.load({ bundle: "/bundle/" });
      const { model, bundle } = shirube.status;
      shirube.dispose();
      return [model.fromCache, bundle.fromCache];
    });
    assert.deepEqual(cached, [true, true]);
    assert.deepEqual(requests.filter((path) => /\.(safetensors|bin)$/.test(path)), [], "model and index are at hand");
  });
});
