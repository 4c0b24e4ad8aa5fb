// What stays on the reader's disk, and what happens when little or nothing can.
import { test } from "node:test";
import { assert, ask, hits, modelManifest, ready, useBrowser, visit } from "./harness.mjs";

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
