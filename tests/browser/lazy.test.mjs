// A bundle whose codes stay on their host: a search fetches lists of documents and the codes of those that look best, by ranges or in whole shards.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assert, bundleEntry, site, useBrowser, visit } from "./harness.mjs";

useBrowser();

const QUERIES = ["再レンダリングを減らしたい", "所有権と借用", "フォームの入力値を検証する", "環境変数を読む", "テストを並列に実行する"];
const isVector = ({ path }) => /\/(codes|ivf)\//.test(path);

/** Runs `action(Shirube, options, argument)` on a bare page. */
async function inPage(page, url, action, argument) {
  await page.goto(`${url}blank.html`);
  return page.evaluate(
    async ({ source, argument }) => {
      const { Shirube } = await import("/shirube/shirube.js");
      const options = { bundle: "/bundle/", model: "/model/", cache: false, device: "wasm" };
      return await new Function("Shirube", "options", "argument", `return (${source})(Shirube, options, argument)`)(Shirube, options, argument);
    },
    { source: action.toString(), argument },
  );
}

/** Hits of every query, each as document and MaxSim, and the status. */
async function answers(Shirube, options, { queries, residentBytes, lexicalWeight }) {
  const shirube = await Shirube.load({ ...options, residentBytes });
  const found = [];
  for (const query of queries) {
    const { hits, nScored } = await shirube.search(query, lexicalWeight === undefined ? {} : { lexicalWeight });
    found.push({ hits: hits.map(({ document, maxsim, matches }) => ({ document, maxsim, matches: matches.length })), nScored });
  }
  const { bundle, device } = shirube.status;
  shirube.dispose();
  return { found, lazy: bundle.lazy, why: device.maxsim.reason };
}

const codeFiles = () => readdirSync(join(site, "bundle", "codes")).length;

for (const ranges of [true, false]) {
  test(`a lazy search finds what a resident one finds, from ${ranges ? "ranges" : "whole shards"}`, async () => {
    assert.ok(bundleEntry().files.some(({ kind }) => kind === "ivf"), "the demo's bundle has lists");
    await visit({ ranges }, async (page, { url, asked }) => {
      const resident = await inPage(page, url, answers, { queries: QUERIES });
      assert.deepEqual(asked.filter(isVector).map(({ range }) => range), new Array(codeFiles()).fill(undefined), "every shard of codes once, whole, and no list");
      asked.length = 0;
      const lazy = await inPage(page, url, answers, { queries: QUERIES, residentBytes: 0 });
      assert.deepEqual([resident.lazy, lazy.lazy], [false, true]);
      assert.match(lazy.why, /stays on its host/);
      const vectors = asked.filter(isVector);
      assert.ok(vectors.some(({ path }) => path.includes("/ivf/")) && vectors.some(({ path }) => path.includes("/codes/")));
      if (ranges) {
        assert.ok(vectors.every(({ range }) => range !== undefined));
        assert.equal(new Set(vectors.map(({ path, range }) => path + range)).size, vectors.length, "nothing is fetched twice");
        const bytes = vectors.map(({ range }) => /(\d+)-(\d+)/.exec(range)).reduce((sum, [, start, end]) => sum + Number(end) - Number(start) + 1, 0);
        assert.ok(bytes / QUERIES.length < 250_000, `${bytes} bytes for ${QUERIES.length} queries`);
        assert.ok(vectors.length / QUERIES.length <= 40, `${vectors.length} requests`);
      } else {
        assert.ok(vectors.filter(({ range }) => range !== undefined).length < 20, "ranges are given up after the first answers");
      }
      for (const [i, { hits, nScored }] of lazy.found.entries()) {
        const whole = resident.found[i].hits;
        assert.equal(hits.length, 10);
        assert.ok(nScored < 100, `${nScored} scored`);
        assert.equal(hits[0].document, whole[0].document, `the best hit of ${QUERIES[i]}`);
        const same = hits.filter(({ document }) => whole.some((hit) => hit.document === document));
        assert.ok(same.length >= 5, `${same.length} of ten hits of ${QUERIES[i]}`);
        for (const { document, maxsim, matches } of same) {
          assert.equal(maxsim, whole.find((hit) => hit.document === document).maxsim, "scores are exact");
          assert.ok(matches > 0);
        }
      }
    });
  });
}

test("what one lazy search fetched is kept for the next visit, and for searches without a network once asked for", async () => {
  await visit({}, async (page, { url, asked }) => {
    const search = async (Shirube, options, keep) => {
      const shirube = await Shirube.load({ ...options, cache: true, residentBytes: 0 });
      const { hits } = await shirube.search("所有権と借用");
      const kept = keep ? await shirube.keepForOffline() : undefined;
      shirube.dispose();
      return { ids: hits.map(({ document }) => document), kept };
    };
    const first = await inPage(page, url, search, false);
    assert.ok(asked.some(isVector));
    asked.length = 0;
    assert.deepEqual(await inPage(page, url, search, false), first);
    assert.deepEqual(asked.filter(isVector), []);
    assert.equal((await inPage(page, url, search, true)).kept, true);
    const whole = asked.filter(isVector).map(({ path }) => path);
    assert.equal(new Set(whole).size, codeFiles() + readdirSync(join(site, "bundle", "ivf")).length, "every shard is kept");
  });
});

test("a lazy search can be given up, fails by name where a shard is missing, and goes on afterwards", async () => {
  const missing = (path) => (path.includes("/codes/") ? { status: 404 } : undefined);
  await visit({ damage: missing, expected: [/404/] }, async (page, { url, damage, asked }) => {
    const first = await inPage(page, url, async (Shirube, options) => {
      const shirube = await Shirube.load({ ...options, residentBytes: 0 });
      globalThis.shirube = shirube;
      const stages = [];
      const failed = await (async () => {
        for await (const { stage, hits } of shirube.search("所有権と借用")) stages.push([stage, hits.length]);
      })().then(() => "none", (error) => error.code);
      return { stages, failed };
    });
    assert.deepEqual(first, { stages: [["words", 10]], failed: "ASSET_MISSING" });
    damage((path) => (path.includes("/codes/") ? { delay: 400 } : undefined));
    asked.length = 0;
    const then = await page.evaluate(async () => {
      const controller = new AbortController();
      const given = globalThis.shirube.search("所有権と借用", { signal: controller.signal }).then(() => "none", (error) => error.code);
      setTimeout(() => controller.abort(), 200);
      const code = await given;
      const { stage, hits } = await globalThis.shirube.search("所有権と借用");
      globalThis.shirube.dispose();
      return { code, stage, n: hits.length };
    });
    assert.deepEqual(then, { code: "ABORTED", stage: "meaning", n: 10 });
  });
});
