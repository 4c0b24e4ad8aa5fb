// A model from the visitor's disk: folders that are dropped or picked, searched with in the package and on the page of www.
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { shirube } from "../../crates/bench/checkpoints/base.mjs";
import { assert, root, rows, useBrowser, visit } from "./harness.mjs";

useBrowser();

const checkpoints = join(root, "tests", "golden", "checkpoints");
const folder = join(root, "target", "tmp", "folders");
const QUESTION = "再レンダリングを減らしたい";

/** Small models as `shirube convert` writes them; `mecab` needs its dictionary; `site` is a bundle with its model, `mixed` one with another's. */
before(() => {
  rmSync(folder, { recursive: true, force: true });
  const dictionary = join(folder, "dictionary");
  mkdirSync(dictionary, { recursive: true });
  cpSync(join(root, "tests", "golden", "segment", "tiny.bin"), join(dictionary, "dictionary-0.bin"));
  shirube("convert", join(checkpoints, "pylate-bert"), join(folder, "pylate"), "--license", "MIT", "--quiet");
  shirube("convert", join(checkpoints, "colbert-ai-mecab"), join(folder, "mecab"), "--license", "MIT", "--quiet", "--dictionary", dictionary);
  const sections = ["再レンダリングを減らすには memo を使います。", "明日は雨が降るでしょう。", "所有権を渡さずに値を借用します。"].map((text, i) => ({ id: `own-${i}`, url: `/own/${i}`, title: `自分の文書 ${i}`, text }));
  writeFileSync(join(folder, "sections.jsonl"), sections.map((section) => `${JSON.stringify(section)}\n`).join(""));
  shirube("build", join(folder, "sections.jsonl"), "--model", join(folder, "pylate"), "--out", join(folder, "site", "shirube"), "--name", "own");
  cpSync(join(folder, "site"), join(folder, "mixed"), { recursive: true });
  cpSync(join(folder, "pylate"), join(folder, "site", "shirube", "model"), { recursive: true });
  cpSync(join(folder, "mecab"), join(folder, "mixed", "model"), { recursive: true });
});

const open = async (page, url, language = "ja") => {
  await page.goto(`${url}model.html?lang=${language}`);
  await page.waitForFunction(() => customElements.get("shirube-search") !== undefined && document.querySelector("#examples button"));
};

/** Drops a folder of the disk on the page, as a file manager does. */
async function drop(page, path) {
  const { x, y, width, height } = await page.locator("#zone").boundingBox();
  const devtools = await page.context().newCDPSession(page);
  for (const type of ["dragEnter", "dragOver", "drop"]) {
    await devtools.send("Input.dispatchDragEvent", { type, x: x + width / 2, y: y + height / 2, data: { items: [], files: [path], dragOperationsMask: 1 } });
    if (type === "dragOver") assert.ok(await page.locator("#zone.over").count(), "the zone shows that it takes the folder");
  }
}

const searchable = (page) => page.waitForSelector("#searching:not([hidden])", { timeout: 60_000 });
const failure = (page) => page.waitForSelector("#failure:not([hidden])", { timeout: 60_000 }).then((box) => box.innerText());

/** Searches and waits for the last step. */
async function ask(page, query) {
  await page.locator("#query").fill(query);
  await page.waitForFunction((query) => {
    const search = document.querySelector("shirube-search");
    return search.state === "done" && search.shown?.stage === "meaning" && search.shown.query === query;
  }, query, { timeout: 60_000 });
  return page.evaluate(() => {
    const { hits, queryTokens } = document.querySelector("shirube-search").shown;
    return hits.map(({ document: number, score, section, matches }) => ({ document: number, score, id: section.id, section, matches: matches.length, queryTokens: queryTokens.length }));
  });
}

test("a dropped model searches the demo: candidates by words in the order of its MaxSim, and nothing is uploaded or kept", async () => {
  await visit({ roots: { "/folders/": folder } }, async (page, { url, requests }) => {
    const sent = [];
    page.on("request", (request) => request.method() !== "GET" && sent.push(request.url()));
    await open(page, url);
    await drop(page, join(folder, "pylate"));
    await searchable(page);
    assert.match(await page.locator("#model-facts").innerText(), /pylate-bert/);
    const steps = page.evaluate(() => new Promise((resolve) => {
      const seen = [];
      document.addEventListener("shirube-result", ({ detail }) => {
        seen.push(detail.stage);
        if (detail.stage === "meaning") resolve(seen);
      });
    }));
    const hits = await ask(page, QUESTION);
    assert.equal((await steps)[0], "words", "words first, the model's order as it comes");
    assert.ok(hits.length >= 10, `${hits.length} hits`);
    assert.ok(hits.every(({ score }, i) => i === 0 || score <= hits[i - 1].score));
    assert.ok(hits[0].matches > 0 && hits[0].matches === hits[0].queryTokens);
    assert.ok((await rows(page)).length > 0);
    // The same scores as the package alone gives for the same model over HTTP.
    const again = await page.evaluate(async ({ query, sections }) => {
      const { Reranker, maxsim } = await import("/shirube/shirube.js");
      const text = ({ title, headings, text }) => [title, headings.filter(Boolean).join(" > "), text].filter(Boolean).join("\n");
      const reranker = await Reranker.load({ model: "/folders/pylate/", cache: false });
      const asked = await reranker.encode(query);
      const scores = [];
      for (const section of sections) scores.push(maxsim(asked, await reranker.encode(text(section), "document")));
      reranker.dispose();
      return scores;
    }, { query: QUESTION, sections: hits.slice(0, 5).map(({ section }) => section) });
    for (const [i, score] of again.entries()) assert.ok(Math.abs(score - hits[i].score) < 1e-3, `hit ${i}: ${score}, the page has ${hits[i].score}`);
    // The site's own model over the same question, and back.
    await page.locator("input[value=own]").check();
    await page.waitForFunction(() => document.querySelector("shirube-search").shown?.hits[0]?.lexical > 0);
    await page.locator("input[value=mine]").check();
    await page.waitForFunction(() => document.querySelector("shirube-search").shown?.stage === "meaning" && document.querySelector("shirube-search").shown.hits[0]?.lexical === 0);
    assert.deepEqual(sent, []);
    assert.ok(!requests.some((path) => path.includes("pylate") && !path.startsWith("/folders/")), "no file of the folder is asked of the host");
    const kept = await page.evaluate(async () => {
      const cache = await caches.open("shirube-files-1");
      return (await cache.keys()).map(({ url }) => url).filter((url) => url.includes("files.shirube"));
    });
    assert.deepEqual(kept, []);
  });
});

test("a folder is picked without a mouse, and a model with a dictionary brings it along in its folder", async () => {
  await visit({}, async (page, { url }) => {
    // Before the page is there: the browser must know in time that somebody waits for its dialog.
    const chosen = page.waitForEvent("filechooser");
    await open(page, url, "en");
    await page.locator("#pick").focus();
    await page.keyboard.press("Enter");
    await (await chosen).setFiles(join(folder, "mecab"));
    await searchable(page);
    const facts = await page.locator("#model-facts").innerText();
    assert.match(facts, /colbert-ai-mecab/);
    assert.match(facts, /dimensions/);
    const hits = await ask(page, QUESTION);
    assert.ok(hits.length > 0);
    // Another folder takes its place.
    await page.locator("#another").click();
    await page.waitForSelector("#chooser:not([hidden])");
    assert.equal(await page.evaluate(() => document.activeElement.id), "pick");
  });
});

test("an index in the folder that was made with its model is searched itself", async () => {
  await visit({}, async (page, { url }) => {
    await open(page, url);
    await page.locator("#folder").setInputFiles(join(folder, "site"));
    await searchable(page);
    assert.ok(await page.locator("#choice").isHidden());
    const hits = await ask(page, QUESTION);
    assert.deepEqual(hits.map(({ id }) => id).toSorted(), ["own-0", "own-1", "own-2"]);
  });
});

test("an index of another model is named, and the model searches the demo", async () => {
  await visit({}, async (page, { url }) => {
    await open(page, url, "en");
    await page.locator("#folder").setInputFiles(join(folder, "mixed"));
    await searchable(page);
    assert.match(await page.locator("#note").innerText(), /made with another model/);
    assert.ok((await ask(page, QUESTION)).length > 0);
  });
});

test("a folder that is no model says what to do, with the command for a checkpoint", async () => {
  await visit({}, async (page, { url }) => {
    await open(page, url, "en");
    await page.locator("#folder").setInputFiles(join(checkpoints, "colbert-ai-mecab"));
    assert.match(await failure(page), /shirube convert colbert-ai-mecab model --dictionary/);
    await page.locator("#folder").setInputFiles(join(root, "docs", "images"));
    await page.waitForFunction(() => /no complete model/.test(document.querySelector("#failure").innerText));
    // After a failure a right folder is taken.
    await page.locator("#folder").setInputFiles(join(folder, "pylate"));
    await searchable(page);
    assert.ok(await page.locator("#failure").isHidden());
  });
});

test("damaged, missing, newer and doubled folders are refused by their codes", async () => {
  const name = (file) => readFileSync(join(folder, "pylate", file));
  const files = Object.fromEntries(["manifest.json", "tokenizer.bin", "weights-01.safetensors"].map((file) => [file, [...name(file)]]));
  await visit({}, async (page, { url }) => {
    await page.goto(`${url}blank.html`);
    const found = await page.evaluate(async (files) => {
      const { Reranker, Shirube, ShirubeError, findModel } = await import("/shirube/shirube.js");
      const blob = (bytes) => new Blob([new Uint8Array(bytes)]);
      const whole = () => new Map(Object.entries(files).map(([path, bytes]) => [`model/${path}`, blob(bytes)]));
      const code = (promise) => promise.then((value) => (value?.dispose?.(), "none"), (error) => (error instanceof ShirubeError ? error.code : String(error)));
      const load = (folder) => code(findModel(folder).then(({ model }) => Reranker.load({ model, worker: false })));
      const damaged = whole();
      damaged.set("model/weights-01.safetensors", blob(files["weights-01.safetensors"].map((byte, i) => (i === 5000 ? byte ^ 1 : byte))));
      const short = whole();
      short.set("model/tokenizer.bin", blob(files["tokenizer.bin"].slice(1)));
      const missing = whole();
      missing.delete("model/tokenizer.bin");
      const newer = whole();
      newer.set("model/manifest.json", new Blob([JSON.stringify({ ...JSON.parse(await whole().get("model/manifest.json").text()), format: 99 })]));
      const twice = new Map([...whole(), ...[...whole()].map(([path, file]) => [`other/${path}`, file])]);
      const strange = new Map([["site/manifest.json", new Blob(["{\"name\":\"an app\"}"])], ["%E0%A4%A", new Blob([])]]);
      const good = await Reranker.load({ model: (await findModel(whole())).model });
      const blank = await code(good.rank("　", []).next());
      const nothing = await good.rank("質問", []).next();
      const { total, done } = nothing.value;
      good.dispose();
      return {
        whole: await load(whole()),
        damaged: await load(damaged),
        short: await load(short),
        missing: await load(missing),
        newer: await load(newer),
        twice: await load(twice),
        strange: await load(strange),
        empty: await load(new Map()),
        raw: await load(new Map([["raw/config.json", new Blob(["{}"])], ["raw/model.safetensors", new Blob([])]])),
        pair: await code(Shirube.load({ bundle: "/bundle/", model: (await findModel(whole())).model })),
        blank,
        nothing: [total, done],
      };
    }, files);
    assert.deepEqual(found, {
      whole: "none",
      damaged: "ASSET_DAMAGED",
      short: "ASSET_DAMAGED",
      missing: "ASSET_MISSING",
      newer: "VERSION_NEWER",
      twice: "BAD_ARGUMENT",
      strange: "ASSET_MISSING",
      empty: "ASSET_MISSING",
      raw: "NOT_CONVERTED",
      pair: "MODEL_MISMATCH",
      blank: "EMPTY_QUERY",
      nothing: [0, 0],
    });
  });
});

test("axe finds no barrier on the page, and nothing is wider than a phone", async () => {
  const { source } = (await import("axe-core")).default;
  for (const colorScheme of ["light", "dark"]) {
    await visit({ colorScheme, bypassCSP: true, viewport: { width: 360, height: 740 } }, async (page, { url }) => {
      await open(page, url);
      const barriers = async () => {
        await page.evaluate(source);
        const { violations } = await page.evaluate(() => globalThis.axe.run());
        return violations.map((found) => `${found.id}: ${found.nodes[0].html} ${found.nodes[0].failureSummary}`);
      };
      const wide = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.deepEqual(await barriers(), [], `${colorScheme}, before a folder`);
      await page.locator("#folder").setInputFiles(join(checkpoints, "pylate-bert"));
      await failure(page);
      assert.deepEqual(await barriers(), [], `${colorScheme}, with a failure`);
      assert.ok((await wide()) <= 0);
      await page.locator("#folder").setInputFiles(join(folder, "pylate"));
      await searchable(page);
      await ask(page, QUESTION);
      assert.deepEqual(await barriers(), [], `${colorScheme}, with hits`);
      assert.ok((await wide()) <= 0);
    });
  }
});
