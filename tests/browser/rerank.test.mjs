// What the package offers beside searching a bundle: the user's own texts, and the pieces of a search page.
import { test } from "node:test";
import { assert, useBrowser, visit } from "./harness.mjs";

useBrowser();

/** Runs `action(package, shirube, argument)` in a bare page with a loaded engine. */
async function withEngine(action, argument) {
  let answer;
  await visit({}, async (page, { url }) => {
    await page.goto(`${url}blank.html`);
    answer = await page.evaluate(
      async ({ source, argument }) => {
        const pack = await import("/shirube/shirube.js");
        const shirube = await pack.Shirube.load({ bundle: "/bundle/" });
        try {
          return await (0, eval)(source)(pack, shirube, argument);
        } finally {
          shirube.dispose();
        }
      },
      { source: String(action), argument },
    );
  });
  return answer;
}

const TEXTS = ["朝食には味噌汁と焼き魚を食べました。", "memo を使うと、props が変わらないコンポーネントは再レンダーされません。", "", "明日は全国的に雨が降るでしょう。"];

test("手持ちの文章を、質問に近い順に並べる", async () => {
  const found = await withEngine(async (pack, shirube, texts) => {
    const all = await shirube.rerank("再レンダリングを減らしたい", texts);
    const [alone] = await shirube.rerank("再レンダリングを減らしたい", [texts[1]]);
    const two = await shirube.rerank("再レンダリングを減らしたい", texts, { limit: 2 });
    const [query, document] = [await shirube.encode("再レンダリングを減らしたい"), await shirube.encode(texts[1], "document")];
    return { order: all.map(({ index }) => index), best: all[0].score, alone: alone.score, two: two.length, blank: String(all.at(-1).score), none: (await shirube.rerank("質問", [])).length, byHand: pack.maxsim(query, document) };
  }, TEXTS);
  assert.equal(found.order[0], 1);
  assert.equal(found.order.at(-1), 2, "a blank text is near to nothing");
  assert.equal(found.blank, "-Infinity");
  assert.equal(found.alone, found.best, "a text scores the same alone and among others");
  assert.equal(found.byHand, found.best);
  assert.deepEqual([found.two, found.none], [2, 0]);
});

test("重みの型を名指しでき、違う型のモデルは重みを読み込む前に断る", async () => {
  await visit({}, async (page, { url, requests }) => {
    await page.goto(`${url}blank.html`);
    const found = await page.evaluate(async () => {
      const { Shirube, Reranker } = await import("/shirube/shirube.js");
      const code = (promise) => promise.then(() => "none", ({ code, message, cure }) => [code, message, cure]);
      const refused = [];
      for (const dtype of ["q4", "fp16"]) refused.push(await code(Shirube.load({ bundle: "/bundle/", dtype })), await code(Reranker.load({ dtype })));
      return refused;
    });
    assert.deepEqual(requests.filter((path) => path.endsWith(".safetensors")), [], "no weight was fetched for nothing");
    assert.deepEqual(found.map(([code]) => code), Array(4).fill("BAD_ARGUMENT"));
    assert.match(found[0].join(), /dtype is "int4", but the weights of \S+ are int8.*--dtype int4/);
    assert.match(found[1].join(), /are int8/);
    assert.match(found[3].join(), /dtype is "fp16", expected "auto", "int8", "q8"/);
    const [events, dtypes] = await page.evaluate(async () => {
      const { Shirube, Reranker } = await import("/shirube/shirube.js");
      const events = new Set();
      const shirube = await Shirube.load({ bundle: "/bundle/", dtype: "q8", progress_callback: ({ status }) => events.add(status) });
      const reranker = await Reranker.load({ dtype: "int8" });
      const dtypes = [shirube.status.model.dtype, reranker.status.model.dtype];
      shirube.dispose();
      reranker.dispose();
      return [[...events].sort(), dtypes];
    });
    assert.deepEqual(dtypes, ["int8", "int8"]);
    assert.deepEqual(events, ["done", "download", "initiate", "progress", "progress_total", "ready"]);
  });
});

test("並べ替えは途中でやめられ、誤った引数は名前を挙げて断る", async () => {
  const found = await withEngine(async (pack, shirube, texts) => {
    const code = (promise) => promise.then(() => "none", (error) => (error instanceof pack.ShirubeError ? `${error.code} ${error.message}` : String(error)));
    const controller = new AbortController();
    const stopped = code(shirube.rerank("質問", Array(200).fill(texts[0]), { signal: controller.signal }));
    setTimeout(() => controller.abort(), 20);
    return { stopped: await stopped, wrong: await code(shirube.rerank("質問", ["よい", 3])), list: await code(shirube.rerank("質問", "文字列")), blank: await code(shirube.rerank("　", texts)) };
  }, TEXTS);
  assert.match(found.stopped, /^ABORTED/);
  assert.match(found.wrong, /^BAD_ARGUMENT candidate 1 /);
  assert.match(found.list, /^BAD_ARGUMENT/);
  assert.match(found.blank, /^EMPTY_QUERY/);
});

test("抜粋と、質問と本文の対応は、部品としても使える", async () => {
  const found = await withEngine(async (pack, shirube) => {
    const result = await shirube.search("再レンダリングを減らしたい", { limit: 3 });
    return result.hits.map((hit) => ({ text: hit.section.text, runs: pack.excerpt(hit, 80), pairs: pack.explain(result, hit) }));
  });
  for (const { text, runs, pairs } of found) {
    const plain = runs.filter((run) => run.text !== "…").map((run) => run.text).join("");
    assert.ok(text.replace(/\s*\n\s*/g, " ").includes(plain.trim()), "an excerpt is a piece of the text");
    assert.ok([...plain].length <= 80 + 30, `${plain.length} characters`);
    assert.ok(runs.some((run) => run.level > 0));
    assert.ok(pairs.length > 0 && pairs.every(({ asked, found }) => asked !== "" && found !== ""));
  }
});
