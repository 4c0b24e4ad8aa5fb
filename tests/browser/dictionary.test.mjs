// A model that needs the Japanese dictionary, over HTTP: what is fetched, by whom, and what is kept.
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { QUERIES, furthest, shirube } from "../../crates/bench/checkpoints/base.mjs";
import { assert, root, useBrowser, visit } from "./harness.mjs";

useBrowser();

const checkpoints = join(root, "tests", "golden", "checkpoints");
const folder = join(root, "target", "tmp", "dictionary-model");

/** Native and wasm differ in the last bit of exp, which can move an activation to the next of 127 steps. */
const SCORE_BOUND = 0.02;
const LARGEST_PART = 4 * 2 ** 20;

/** Answers for files under `/m/`. */
const served = (path) => {
  const file = path.startsWith("/m/") && join(folder, path.slice(3));
  return file && existsSync(file) ? { body: readFileSync(file) } : undefined;
};

before(() => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  // All of unidic-lite where `npm test` could install it, else the small one of the golden tests.
  let dictionary = join(root, "target", "dictionary");
  if (!existsSync(join(dictionary, "dictionary-0.bin"))) {
    dictionary = join(folder, "dictionary");
    mkdirSync(dictionary);
    cpSync(join(root, "tests", "golden", "segment", "tiny.bin"), join(dictionary, "dictionary-0.bin"));
  }
  shirube("convert", join(checkpoints, "colbert-ai-mecab"), join(folder, "mecab"), "--license", "MIT", "--quiet", "--dictionary", dictionary);
  shirube("convert", join(checkpoints, "pylate-bert"), join(folder, "pylate"), "--license", "MIT", "--quiet");
  const texts = ["再レンダリングを減らすには memo を使います。", "明日は雨が降るでしょう。", "所有権を渡さずに値を借用します。", "状態管理が必要な場面を考えます。"];
  writeFileSync(join(folder, "sections.jsonl"), texts.map((text, i) => `${JSON.stringify({ id: `${i}`, url: `/${i}`, title: `文書 ${i}`, text })}\n`).join(""));
  for (const model of ["mecab", "pylate"]) shirube("build", join(folder, "sections.jsonl"), "--model", join(folder, model), "--out", join(folder, `${model}-bundle`), "--name", model);
});

/** In the page: loads a model and its bundle over HTTP and searches. */
async function load({ name, queries }) {
  const { Shirube, ShirubeError } = await import("/shirube/shirube.js");
  const events = [];
  try {
    const shirube = await Shirube.load({ bundle: `/m/${name}-bundle/`, model: `/m/${name}/`, device: "wasm", progress_callback: (event) => events.push(event) });
    const answers = [];
    for (const query of queries) answers.push((await shirube.search(query, { lexicalWeight: 0, queue: true })).hits.map(({ document, score }) => ({ document, score })));
    const { model } = shirube.status;
    shirube.dispose();
    return { events, answers, model };
  } catch (error) {
    return { code: error instanceof ShirubeError ? error.code : String(error), message: error.message };
  }
}

const dictionaries = (requests) => requests.filter((path) => /\/dictionary-\d+\.bin$/.test(path));

test("a dictionary is fetched by the model that needs it alone: in small parts, counted, checked, and kept like the model", async () => {
  const { files } = JSON.parse(readFileSync(join(folder, "mecab", "manifest.json"), "utf8"));
  const parts = files.filter(({ path }) => /^dictionary-\d+\.bin$/.test(path));
  assert.ok(parts.length > 0);
  assert.ok(parts.every(({ bytes, sha256 }) => bytes > 0 && bytes <= LARGEST_PART && /^[0-9a-f]{64}$/.test(sha256)), "size and digest stand in the manifest");
  await visit({ damage: served }, async (page, { url, requests, damage, open }) => {
    await page.goto(`${url}blank.html`);
    const plain = await page.evaluate(load, { name: "pylate", queries: QUERIES });
    assert.equal(plain.code, undefined, plain.message);
    assert.deepEqual(dictionaries(requests), []);

    const first = await page.evaluate(load, { name: "mecab", queries: QUERIES });
    assert.equal(first.code, undefined, first.message);
    assert.deepEqual(dictionaries(requests).toSorted(), parts.map(({ path }) => `/m/mecab/${path}`));
    const needed = files.filter(({ path }) => path === "tokenizer.bin" || path.endsWith(".safetensors") || parts.some((part) => part.path === path));
    const bytes = needed.reduce((sum, file) => sum + file.bytes, 0);
    assert.equal(first.model.bytes, bytes);
    assert.equal(first.model.fromCache, false);
    for (const part of parts) {
      const seen = first.events.filter(({ status, file }) => status === "progress" && file === part.path);
      assert.deepEqual([seen.at(-1)?.loaded, seen.at(-1)?.total], [part.bytes, part.bytes]);
    }
    const total = first.events.findLast(({ status }) => status === "progress_total");
    assert.ok(total.loaded === total.total && total.total >= bytes, "the whole counts the dictionary");
    const expected = QUERIES.map((query) => JSON.parse(shirube("search", join(folder, "mecab-bundle"), query, "--model", join(folder, "mecab"), "--lexical-weight", "0", "--json")).hits);
    assert.ok(furthest(first.answers, expected) <= SCORE_BOUND, "the command line finds the same");

    // A later visit asks for nothing of it.
    requests.length = 0;
    const later = await open();
    await later.goto(`${url}blank.html`);
    const second = await later.evaluate(load, { name: "mecab", queries: QUERIES });
    assert.equal(second.model.fromCache, true);
    assert.deepEqual(dictionaries(requests), []);
    assert.deepEqual(second.answers, first.answers);

    // A damaged part is refused, after a second try, and not kept.
    await later.evaluate(async () => (await import("/shirube/shirube.js")).Shirube.clearCache());
    damage((path) => {
      const answer = served(path);
      if (answer && path.endsWith("dictionary-0.bin")) answer.body[answer.body.length >> 1] ^= 1;
      return answer;
    });
    requests.length = 0;
    const broken = await later.evaluate(load, { name: "mecab", queries: [] });
    assert.equal(broken.code, "ASSET_DAMAGED");
    assert.match(broken.message, /dictionary-0\.bin/);
    assert.equal(dictionaries(requests).filter((path) => path.endsWith("-0.bin")).length, 2);
    damage(served);
    const mended = await later.evaluate(load, { name: "mecab", queries: QUERIES });
    assert.deepEqual(mended.answers, first.answers);
  });
});
