// Own documents, as an application has them: an index made in Node or in the page, or no index at all.
import { readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { before, test } from "node:test";
import { assert, useBrowser, visit } from "../browser/harness.mjs";
import { project } from "./lab.mjs";

useBrowser();

const DOCUMENTS = [
  { title: "朝食", text: "朝食には味噌汁と焼き魚を食べました。", url: "/a" },
  { title: "React", headings: ["memo"], text: "memo を使うと、props が変わらないコンポーネントは再レンダーされません。", url: "/b", filters: { 種類: ["技術"] } },
  { title: "天気", text: "明日は全国的に雨が降るでしょう。", url: "/c" },
  { id: "rust", title: "所有権", text: "Rust の値には所有者が一つだけあり、所有者がスコープを抜けると値は捨てられます。", url: "/d", filters: { 種類: ["技術"] } },
];
const QUESTION = "再レンダリングを減らしたい";

let folder;
let shipped;
let node;
before(async () => {
  folder = project("node-build");
  shipped = join(folder, "node_modules", "shirube");
  node = await import(join(shipped, "node", "build.mjs"));
});

/** Runs `action(argument)` in a bare page that has the installed package under /pkg/. */
async function inPage(action, argument, more) {
  let answer;
  await visit({ roots: { "/pkg/": shipped } }, async (page, visitor) => {
    await page.goto(`${visitor.url}blank.html`);
    answer = await page.evaluate(({ source, argument }) => (0, eval)(source)(argument), { source: String(action), argument });
    await more?.(visitor);
  });
  return answer;
}

const digest = (bundle) => [...bundle].map(([path, bytes]) => [path, Buffer.from(bytes).toString("base64")]).sort(([a], [b]) => (a < b ? -1 : 1));

test("手もとの文書から Node で作った索引は、コマンドが同じ文書から作るものと一字一句同じ", async () => {
  const stages = new Set();
  const out = join(folder, "own");
  rmSync(out, { recursive: true, force: true });
  const bundle = await node.buildIndex(DOCUMENTS, { name: "docs", out, assets: false, progress: ({ stage }) => stages.add(stage) });
  assert.deepEqual([...stages].sort(), ["centroids", "encoding", "packing"]);
  writeFileSync(join(folder, "docs.jsonl"), DOCUMENTS.map(({ id, ...rest }, i) => JSON.stringify({ id: id ?? String(i), ...rest })).join("\n"));
  const { status, stderr } = spawnSync(join(folder, "node_modules", ".bin", "shirube"), ["build", "docs.jsonl", "--out", "by-command", "--no-assets", "--quiet"], { cwd: folder, encoding: "utf8" });
  assert.equal(status, 0, stderr);
  for (const at of [out, join(folder, "by-command")]) {
    const found = readdirSync(at, { recursive: true }).map(String).filter((path) => statSync(join(at, path)).isFile());
    assert.deepEqual(found.sort(), [...bundle.keys()].sort());
    for (const path of found) assert.ok(readFileSync(join(at, path)).equals(bundle.get(path)), path);
  }
  await assert.rejects(node.buildIndex([]), /documents is no array of at least one/);
  await assert.rejects(node.buildIndex([{ text: "よい" }, { title: "題" }]), /document 1 has no text/);
});

test("ページの中で作った索引は Node で作ったものと同じで、そのまま語でも意味でも検索できる", async () => {
  const found = await inPage(
    async ({ documents, question }) => {
      const { buildIndex, ShirubeError } = await import("/pkg/dist/build/index.js");
      const { Shirube, ShirubeError: same } = await import("/pkg/dist/shirube.js");
      const stages = new Set();
      const bundle = await buildIndex(documents, { name: "docs", progress: ({ stage }) => stages.add(stage) });
      const shirube = await Shirube.load({ bundle });
      const byMeaning = await shirube.search(question);
      const filtered = await shirube.search("値", { filters: { 種類: ["技術"] } });
      const main = await Shirube.load({ bundle, worker: false });
      const byMain = await main.search("所有権");
      shirube.dispose();
      main.dispose();
      const wrong = await buildIndex([{ title: "題" }]).then(() => "none", (error) => (error instanceof same ? error.code : String(error)));
      const stop = new AbortController();
      const stopped = buildIndex(documents, { signal: stop.signal }).then(() => "none", ({ code }) => code);
      stop.abort();
      const kept = (await Promise.all((await caches.keys()).map(async (name) => (await (await caches.open(name)).keys()).map(({ url }) => url)))).flat();
      return {
        bundle: await Promise.all([...bundle].map(async ([path, file]) => [path, btoa(String.fromCharCode(...new Uint8Array(await file.slice(0, 60_000).arrayBuffer()))), file.size])),
        stages: [...stages].sort(),
        first: byMeaning.hits[0].section.url,
        stage: byMeaning.stage,
        filtered: filtered.hits.map(({ section }) => section.url).sort(),
        main: byMain.hits[0].section.id,
        sameClass: ShirubeError === same,
        wrong,
        stopped: await stopped,
        inMemory: kept.filter((url) => url.includes(".invalid")),
      };
    },
    { documents: DOCUMENTS, question: QUESTION },
  );
  const ofNode = await node.buildIndex(DOCUMENTS, { name: "docs" });
  assert.deepEqual(found.bundle.map(([path, , n]) => [path, n]), [...ofNode].map(([path, bytes]) => [path, bytes.length]));
  for (const [path, text] of found.bundle) assert.equal(text, Buffer.from(ofNode.get(path).subarray(0, 60_000)).toString("base64"), path);
  assert.deepEqual(digest(ofNode), digest(await node.buildIndex(DOCUMENTS, { name: "docs", threads: 1 })));
  assert.deepEqual(found.stages, ["centroids", "encoding", "packing"]);
  assert.deepEqual([found.first, found.stage, found.main], ["/b", "meaning", "rust"]);
  assert.deepEqual(found.filtered, ["/b", "/d"]);
  assert.ok(found.sameClass, "one class of errors");
  assert.deepEqual([found.wrong, found.stopped], ["BAD_ARGUMENT", "ABORTED"]);
  assert.deepEqual(found.inMemory, [], "what is in memory is not stored");
});

test("索引がなくても、モデルだけを読み込んで手もとの候補を並べ替えられる", async () => {
  const found = await inPage(
    async ({ texts, question }) => {
      const { Reranker, maxsim } = await import("/pkg/dist/rerank/index.js");
      const files = [];
      const reranker = await Reranker.load({ progress_callback: (event) => event.status === "done" && files.push(event.file) });
      const best = await reranker.rerank(question, texts);
      const byHand = maxsim(await reranker.encode(question), await reranker.encode(texts[1], "document"));
      const { model, thread } = reranker.status;
      reranker.dispose();
      return { best, byHand, model, thread: thread.kind, files };
    },
    { texts: DOCUMENTS.map(({ text }) => text), question: QUESTION },
    ({ requests }) => assert.ok(!requests.some((path) => /shirube\.json|words|build|node/.test(path)), requests.join()),
  );
  assert.equal(found.best[0].index, 1);
  assert.equal(found.best.length, DOCUMENTS.length);
  assert.equal(found.byHand, found.best[0].score);
  assert.equal(found.thread, "worker");
  assert.ok(found.model.name.length > 0 && found.model.bytes > 1e6 && found.model.dim > 0, JSON.stringify(found.model));
  assert.ok(found.files.length >= 3, found.files.join());
});
