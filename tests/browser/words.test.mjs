// Words first, meaning after: what is answered before the model is here, without it, and from how little.
import { statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assert, bundleEntry, site, useBrowser, visit } from "./harness.mjs";

useBrowser();

const isModel = (path) => path.endsWith(".safetensors");
const NOT_FOUND = [/Failed to load resource: the server responded with a status of 404/];

/** Opens a bare page and runs `action` there with the package as `shirube`. */
async function inPage(page, url, action, argument) {
  await page.goto(`${url}blank.html`);
  return page.evaluate(
    async ({ source, argument }) => {
      const { Shirube, ShirubeError } = await import("/shirube/shirube.js");
      const options = { bundle: "/bundle/", model: "/model/", cache: false };
      return await new Function("Shirube", "ShirubeError", "options", "argument", `return (${source})(Shirube, ShirubeError, options, argument)`)(Shirube, ShirubeError, options, argument);
    },
    { source: action.toString(), argument },
  );
}

test("モデルが来る前は語で答え、来たら意味で答える", async () => {
  await visit({ damage: (path) => (isModel(path) ? { delay: 1500 } : undefined) }, async (page, { url }) => {
    const report = await inPage(page, url, async (Shirube, _error, options) => {
      const shirube = await Shirube.load({ ...options, meaning: "background" });
      const before = shirube.status.meaning.state;
      const steps = [];
      for await (const { stage, hits } of shirube.search("所有権と借用")) steps.push([stage, hits.length, shirube.status.meaning.state, hits[0].lexical > 0, hits[0].maxsim > 0]);
      const { stage } = await shirube.search("所有権と借用");
      const after = shirube.status;
      shirube.dispose();
      return { before, steps, stage, backend: after.backend.kind, bytes: after.model.bytes };
    });
    assert.equal(report.before, "loading");
    assert.deepEqual(report.steps, [["words", 10, "loading", true, false], ["meaning", 10, "ready", true, true]]);
    assert.equal(report.stage, "meaning");
    assert.equal(report.backend, "relaxed-simd");
    assert.ok(report.bytes > 1e6);
  });
});

test("モデルを読み込めなくても語で答え、あとで試し直せる", async () => {
  let broken = true;
  await visit({ damage: (path) => (broken && isModel(path) ? { status: 404 } : undefined), expected: NOT_FOUND }, async (page, { url, damage }) => {
    const report = await inPage(page, url, async (Shirube, ShirubeError, options) => {
      const shirube = await Shirube.load({ ...options, meaning: "background" });
      const steps = [];
      for await (const { stage, hits } of shirube.search("所有権")) steps.push([stage, hits.length]);
      const { stage, hits } = await shirube.search("所有権");
      globalThis.shirube = shirube;
      const refused = await Shirube.load(options).then(() => "none", (error) => (error instanceof ShirubeError ? error.code : String(error)));
      return { steps, stage, first: hits[0].section.title, marks: hits[0].highlights, state: shirube.status.meaning.state, code: shirube.status.meaning.error.code, refused };
    });
    assert.deepEqual(report.steps, [["words", 10]]);
    assert.equal(report.stage, "words");
    assert.deepEqual([report.state, report.code], ["failed", "ASSET_MISSING"]);
    assert.equal(report.refused, "ASSET_MISSING", "who waits for meaning is told");
    assert.ok(report.marks.title.length + report.marks.text.length + report.marks.headings.flat().length > 0, "the words are marked");
    broken = false;
    damage(undefined);
    assert.equal(
      await page.evaluate(async () => {
        await globalThis.shirube.loadMeaning();
        return (await globalThis.shirube.search("所有権")).stage;
      }),
      "meaning",
    );
  });
});

test("語の検索は、入口と二つの目録と小さなかけらだけを読み、モデルは読まない", async () => {
  await visit({}, async (page, { url, requests }) => {
    const hits = await inPage(page, url, async (Shirube, _error, options) => {
      const shirube = await Shirube.load({ ...options, meaning: "off" });
      const { hits } = await shirube.search("再レンダリングを減らしたい");
      shirube.dispose();
      return hits.map(({ section }) => `${section.title} ${section.headings.join(" ")}`);
    });
    assert.equal(hits.length, 10);
    const read = requests.filter((path) => path.startsWith("/bundle/"));
    assert.equal(new Set(read).size, read.length, "nothing is read twice");
    assert.ok(requests.every((path) => !path.startsWith("/model/") && !/centroids|codes|ivf/.test(path)), read.join("\n"));
    const bytes = (paths) => paths.reduce((sum, path) => sum + statSync(join(site, path)).size, 0);
    const directories = bundleEntry().files.filter(({ kind }) => kind === "lexical" || kind === "sections");
    const opening = read.filter((path) => directories.some((file) => path.endsWith(file.path)));
    assert.equal(opening.length, 2);
    const shards = read.filter((path) => /\/(lexical|sections)\//.test(path));
    // A question of thirteen characters, its ten hits included.
    assert.ok(bytes(shards) < 150e3, `${bytes(shards)} bytes in ${shards.length} shards`);
    assert.ok(bytes(opening) < 40e3, `${bytes(opening)} bytes of directories`);
  });
});

test("壊れたかけらは一度だけ読み直し、壊れたままなら名指しする", async () => {
  for (const [times, expected] of [[1, "none"], [99, "ASSET_DAMAGED"]]) {
    let left = times;
    const damage = (path) => (path.startsWith("/bundle/lexical/") && left-- > 0 ? { body: "damaged" } : undefined);
    await visit({ damage }, async (page, { url }) => {
      const code = await inPage(page, url, async (Shirube, _error, options) => {
        const shirube = await Shirube.load({ ...options, meaning: "off" });
        return shirube.search("所有権").then(({ hits }) => (hits.length > 0 ? "none" : "empty"), (error) => error.code);
      });
      assert.equal(code, expected);
    });
  }
});

test("意味を待つ検索は、合図か新しい検索で終わる", async () => {
  await visit({ damage: (path) => (isModel(path) ? { delay: 3000 } : undefined) }, async (page, { url }) => {
    const codes = await inPage(page, url, async (Shirube, _error, options) => {
      const shirube = await Shirube.load({ ...options, meaning: "background" });
      const code = (search) => search.then(({ stage }) => stage, (error) => error.code);
      const controller = new AbortController();
      const aborted = code(shirube.search("一", { signal: controller.signal }));
      setTimeout(() => controller.abort(), 50);
      const first = await aborted;
      const replaced = code(shirube.search("二"));
      const queued = code(shirube.search("三", { queue: true }));
      const newest = code(shirube.search("所有権"));
      return [first, await replaced, await newest, await queued];
    });
    assert.deepEqual(codes, ["ABORTED", "ABORTED", "meaning", "meaning"]);
  });
});

test("絞り込みは名指したものだけを残し、語の検索でも効く", async () => {
  await visit({}, async (page, { url }) => {
    const report = await inPage(page, url, async (Shirube, _error, options) => {
      const shirube = await Shirube.load({ ...options, meaning: "off" });
      const { filters } = await shirube.search("所有権");
      const code = await shirube.search("所有権", { filters: { 年: ["2026"] } }).then(() => "none", (error) => error.code);
      return { filters, code };
    });
    assert.deepEqual(report, { filters: {}, code: "BAD_ARGUMENT" }, "the demo's sections have no filters");
  });
});

test("何度たずねても、順も点も最後の桁まで同じになる", async () => {
  await visit({}, async (page, { url }) => {
    const answers = await inPage(page, url, async (Shirube, _error, options, question) => {
      const seen = [];
      const note = (when, { stage, hits }) => seen.push([`${stage}, ${when}`, stage, JSON.stringify(hits.map(({ document, score, maxsim, lexical }) => [document, score, maxsim, lexical]))]);
      // The first load fetches everything, the second has model and shards from the cache; shards then arrive in another order, beside those of other questions.
      for (const visit of ["cold", "warm"]) {
        const shirube = await Shirube.load({ ...options, cache: true, meaning: visit === "cold" ? "background" : "wait" });
        if (visit === "warm") await shirube.search("配列をループで処理する", { limit: 30 });
        for await (const result of shirube.search(question)) note(`${visit}, first`, result);
        for (const other of ["所有権と借用", "条件に合う要素を取り出す", "a"]) await shirube.search(other, { queue: true, lexicalWeight: 1 });
        for await (const result of shirube.search(question)) note(`${visit}, again`, result);
        note(`${visit}, awaited`, await shirube.search(question));
        shirube.dispose();
      }
      return seen;
    }, "配列から条件に合うものだけ取り出す");
    for (const stage of ["words", "meaning"]) {
      const same = answers.filter(([, of]) => of === stage);
      assert.ok(same.length >= 4, `${same.length} answers by ${stage}`);
      for (const [when, , found] of same) assert.equal(found, same[0][2], when);
    }
  });
});

test("モデルが来るまではスクリプトだけで答え、来たあとは同じ答えをWebAssemblyが引き継ぐ", async () => {
  await visit({}, async (page, { url, requests }) => {
    const report = await inPage(page, url, async (Shirube, _error, options) => {
      const shirube = await Shirube.load({ ...options, meaning: "off" });
      const ids = ({ hits }) => hits.map(({ document, lexical }) => [document, lexical]);
      const before = ids(await shirube.search("サーバー側のコンポーネント"));
      const small = performance.getEntriesByType("resource").map(({ name }) => name.split("/").at(-1));
      await shirube.loadMeaning();
      const after = [];
      for await (const result of shirube.search("サーバー側のコンポーネント")) after.push([result.stage, ids(result)]);
      shirube.dispose();
      return { before, small, after };
    });
    assert.ok(report.before.length > 0);
    assert.deepEqual(report.after.map(([stage]) => stage), ["words", "meaning"]);
    assert.deepEqual(report.after[0][1], report.before, "the same hits by words from both");
    const order = requests.filter((path) => path.endsWith(".wasm"));
    assert.deepEqual(order, ["/shirube/shirube_relaxed_bg.wasm"]);
  });
});

test("モデルを使わないページは、WebAssemblyもモデルも読み込まない", async () => {
  await visit({}, async (page, { url, requests }) => {
    await inPage(page, url, async (Shirube, _error, options) => {
      const shirube = await Shirube.load({ ...options, meaning: "off" });
      const { stage } = await shirube.search("所有権");
      shirube.dispose();
      return stage;
    });
    assert.deepEqual(requests.filter((path) => /\.(wasm|safetensors)$/.test(path)), []);
  });
});

test("語の別のつづりも見つかり、打ったとおりのものより下に並ぶ", async () => {
  await visit({}, async (page, { url }) => {
    const found = await inPage(page, url, async (Shirube, _error, options) => {
      const shirube = await Shirube.load({ ...options, meaning: "off" });
      const text = async (query) => (await shirube.search(query, { limit: 5 })).hits.map(({ section }) => [section.title, ...section.headings, section.text].join("\n"));
      const result = { kana: await text("こんぽーねんと"), latin: await text("konpo-nento"), width: await text("ｺﾝﾎﾟｰﾈﾝﾄ"), typed: await text("コンポーネント") };
      const refused = await shirube.search("所有権", { sort: { name: "日付" } }).then(() => "none", (error) => error.code);
      shirube.dispose();
      return { ...result, refused };
    });
    for (const spelling of ["kana", "latin", "width", "typed"]) {
      assert.equal(found[spelling].length, 5, spelling);
      assert.ok(found[spelling].every((text) => text.includes("コンポーネント")), spelling);
    }
    assert.equal(found.refused, "BAD_ARGUMENT", "an order by a value that no section has");
  });
});
