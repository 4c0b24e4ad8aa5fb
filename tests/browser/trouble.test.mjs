// Bad files and bad queries: each must end in a message with a cure, never in a broken page.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assert, ask, bundleEntry, hits, modelManifest, ready, settled, site, useBrowser, visit } from "./harness.mjs";

useBrowser();

const codes = () => bundleEntry().files.find((file) => file.kind === "codes").path;
const weights = () => modelManifest().files.find((file) => file.path.endsWith(".safetensors")).path;
const MISSING = [/Failed to load resource: the server responded with a status of 404/];

/** Opens the page and returns the code of the error it shows: the whole search's, or that of meaning while words go on. */
async function trouble(page, url) {
  await page.goto(url);
  await page.waitForFunction(
    () => {
      const search = document.querySelector("shirube-search");
      return search?.state === "failed" || search?.engine?.status.meaning?.state === "failed";
    },
    undefined,
    { timeout: 30_000 },
  );
  if (await page.locator(".problem").isVisible()) {
    assert.ok((await page.locator(".problem p").first().textContent()).length > 0, "the problem has a title");
    assert.ok(await page.locator(".problem button").isVisible(), "it can be tried again");
    return (await page.locator(".problem .detail").textContent()).split(":")[0];
  }
  assert.ok(await page.locator(".ask").isVisible(), "it can be tried again");
  await ask(page, "所有権");
  assert.ok((await hits(page)).length > 0, "words are searched all the same");
  return /[A-Z_]{6,}/.exec(await page.locator(".state").textContent())[0];
}

/** What the page says about the file in trouble. */
const detail = (page) =>
  page.evaluate(() => {
    const root = document.querySelector("shirube-search").shadowRoot;
    return root.querySelector(".problem .detail")?.textContent ?? root.querySelector(".state").title;
  });

/** `damage` that replaces one file of the bundle or the model. */
const instead = (folder, name, change) => (path) => {
  if (path !== `/${folder}/${name}`) return undefined;
  const bytes = readFileSync(join(site, folder, name));
  return { body: change(bytes) };
};
const flipped = (bytes) => {
  const copy = Buffer.from(bytes);
  copy[copy.length >> 1] ^= 4;
  return copy;
};

test("a truncated index file is named and can be mended by trying again", async () => {
  const name = codes();
  await visit({ damage: instead("bundle", name, (bytes) => bytes.subarray(0, bytes.length - 7)) }, async (page, { url, damage }) => {
    assert.equal(await trouble(page, url), "ASSET_DAMAGED");
    assert.match(await detail(page), new RegExp(name.replaceAll(".", "\\.")));
    damage(undefined);
    await page.locator(".problem button, .ask").locator("visible=true").first().click();
    await ready(page);
    await ask(page, "所有権");
    assert.equal((await hits(page)).length, 20);
  });
});

test("a bit-flipped index file is refused", async () => {
  await visit({ damage: instead("bundle", codes(), flipped) }, async (page, { url }) => {
    assert.equal(await trouble(page, url), "ASSET_DAMAGED");
  });
});

test("a bit-flipped model file is refused", async () => {
  await visit({ damage: instead("model", weights(), flipped) }, async (page, { url }) => {
    assert.equal(await trouble(page, url), "ASSET_DAMAGED");
  });
});

test("a web page in place of a model file is recognised and never kept", async () => {
  const name = weights();
  const html = { type: "text/html", body: "<!doctype html><title>ようこそ</title><p>404" };
  await visit({ damage: (path) => (path === `/model/${name}` ? html : undefined) }, async (page, { url, damage }) => {
    assert.equal(await trouble(page, url), "ASSET_IS_HTML");
    damage(undefined);
    await page.reload();
    await ready(page);
  });
});

test("a web page in place of a manifest is recognised", async () => {
  for (const path of ["/model/manifest.json", "/bundle/shirube.json"]) {
    const html = { type: "text/html", body: "<html><body>not here" };
    await visit({ damage: (asked) => (asked === path ? html : undefined) }, async (page, { url }) => {
      assert.equal(await trouble(page, url), "ASSET_IS_HTML", path);
    });
  }
});

test("a missing model file is named", async () => {
  const name = weights();
  await visit({ damage: (path) => (path === `/model/${name}` ? { status: 404 } : undefined), expected: MISSING }, async (page, { url }) => {
    assert.equal(await trouble(page, url), "ASSET_MISSING");
    assert.match(await detail(page), new RegExp(name));
  });
});

test("a missing bundle is named", async () => {
  await visit({ damage: (path) => (path.startsWith("/bundle/") ? { status: 404 } : undefined), expected: MISSING }, async (page, { url }) => {
    assert.equal(await trouble(page, url), "ASSET_MISSING");
  });
});

test("a missing engine file is named", async () => {
  await visit({ damage: (path) => (path.endsWith(".wasm") ? { status: 404 } : undefined), expected: MISSING }, async (page, { url }) => {
    assert.equal(await trouble(page, url), "ASSET_MISSING");
  });
});

test("a bundle of a newer format asks for an update", async () => {
  const newer = (bytes) => JSON.stringify({ ...JSON.parse(bytes), format: 999 });
  await visit({ damage: instead("bundle", "shirube.json", newer) }, async (page, { url }) => {
    assert.equal(await trouble(page, url), "VERSION_NEWER");
  });
});

test("a bundle made with another tokenizer is refused before its codes are fetched", async () => {
  const other = (bytes) => {
    const entry = JSON.parse(bytes);
    return JSON.stringify({ ...entry, model: { ...entry.model, tokenizer_sha256: "0".repeat(64), fingerprint: "0".repeat(64) } });
  };
  await visit({ damage: instead("bundle", "shirube.json", other) }, async (page, { url, requests }) => {
    assert.equal(await trouble(page, url), "MODEL_MISMATCH");
    assert.deepEqual(requests.filter((path) => /\.safetensors$|\/codes\//.test(path)), []);
  });
});

// Chromium itself notes where a page asks for a GPU and there is none.
const NO_GPU = /No available adapters/;

test("a broken worker falls back to the page's thread", async () => {
  await visit({ damage: (path) => (path.endsWith("/worker.js") ? { status: 404 } : undefined), expected: [...MISSING, NO_GPU] }, async (page, { url }) => {
    await page.goto(url);
    await ready(page);
    assert.match(await page.locator("#facts").textContent(), /ページのスレッド/);
    await ask(page, "所有権");
    assert.equal((await hits(page)).length, 20);
  });
});

test("blank queries show the start again", async () => {
  await visit({}, async (page, { url }) => {
    await page.goto(url);
    await ready(page);
    await ask(page, "所有権");
    for (const blank of ["", "   ", "\u3000\u3000"]) {
      await page.locator("#query").fill(blank);
      await page.waitForFunction(() => document.querySelector("shirube-search").state === "ready");
      assert.equal(await page.locator(".problem").isVisible(), false, JSON.stringify(blank));
      await ask(page, "所有権");
    }
  });
});

test("a query of 100,000 characters is cut and answered", async () => {
  await visit({}, async (page, { url }) => {
    await page.goto(url);
    await ready(page);
    const long = "再レンダリングを減らす方法を知りたい。".repeat(5300).slice(0, 100_000);
    await page.locator("#query").fill(long);
    await settled(page, long);
    assert.equal((await hits(page)).length, 20);
    assert.match(await page.locator(".state").textContent(), /はじめの部分/);
  });
});

test("lone surrogates and emoji are searched like other letters", async () => {
  await visit({}, async (page, { url }) => {
    await page.goto(url);
    await ready(page);
    for (const query of ["\ud83d", "再レンダ\ude00リング", "😀🎉👩‍👩‍👧‍👦", "🇯🇵", "\u0000\u0001", "\ufffd", "か\u3099"]) {
      await page.evaluate((text) => {
        const input = document.querySelector("shirube-search").shadowRoot.querySelector("#query");
        input.value = text;
        input.dispatchEvent(new InputEvent("input", { bubbles: true }));
      }, query);
      await page.waitForFunction(
        () => ["done", "failed"].includes(document.querySelector("shirube-search").state),
        undefined,
        { timeout: 20_000 },
      );
      const problem = await page.locator(".problem").textContent();
      assert.doesNotMatch(problem, /INTERNAL|WORKER_FAILED|BAD_ARGUMENT/, JSON.stringify(query));
    }
    await ask(page, "所有権");
    assert.equal((await hits(page)).length, 20);
  });
});
