// The engine itself in Chromium: with SIMD, without SIMD, and beside the native command line.
import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assert, root, site, useBrowser, visit } from "./harness.mjs";

useBrowser();

const QUERIES = ["再レンダリングを減らしたい", "所有権を渡さずに値を使う", "env", "ﾃﾞｰﾀを取得 😀", "😀", "状態管理とは何か。なぜ必要なのか。"];

/** Native and wasm round differently only in functions such as exp; everything else is in one order. */
const SCORE_ABSOLUTE = 1e-4;
const SCORE_RELATIVE = 1e-5;

const close = (a, b) => Math.abs(a - b) <= SCORE_ABSOLUTE + SCORE_RELATIVE * Math.abs(b);

/** Asserts the same hits in the same order; where scores are equal within tolerance, either order will do. */
function sameHits(found, expected, what) {
  assert.equal(found.length, expected.length, what);
  for (const [i, hit] of found.entries()) {
    assert.ok(close(hit.score, expected[i].score), `${what}: hit ${i} has ${hit.score}, expected ${expected[i].score}`);
    if (hit.id === expected[i].id) continue;
    const other = expected.find(({ id }) => id === hit.id);
    assert.ok(other && close(other.score, expected[i].score), `${what}: hit ${i} is ${hit.id}, expected ${expected[i].id}`);
  }
}

const lab = { roots: { "/lab/": join(root, "target", "wasm-test") } };

/** Searches in a bare page with the engine at /lab/{build}/, without the package around it. */
async function searchIn(page, url, build) {
  await page.goto(`${url}blank.html`);
  const answer = await page.evaluate(
    async ({ build, queries }) => {
      const wasm = await import(`/lab/${build}/shirube_wasm.js`);
      await wasm.default({ module_or_path: `/lab/${build}/shirube_wasm_bg.wasm` });
      const engine = new wasm.Engine();
      const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
      const files = engine.openBundle(await bytes("/bundle/shirube.json"));
      for (const { path } of [...files.words, ...files.meaning]) engine.provideBundle(path, await bytes(`/bundle/${path}`));
      for (const { path } of engine.codeShards()) engine.provideCodes(path, await bytes(`/bundle/${path}`));
      for (const { path } of engine.openModel(await bytes("/model/manifest.json"))) engine.provideModel(path, await bytes(`/model/${path}`));
      // Errors of the bare engine are plain objects, which a test report would show as "Object".
      try {
        engine.finish();
      } catch (error) {
        return { error };
      }
      const answers = [];
      for (const query of queries) {
        for (;;) {
          const found = engine.search(query, 10, 1);
          for (const { path, start, end } of found.needs ?? []) engine.provide(path, start, (await bytes(`/bundle/${path}`)).subarray(start, end));
          if (found.hits) answers.push(found.hits.map(({ document, score, section }) => ({ document, score, id: section.id })));
          if (found.hits) break;
        }
      }
      const embeddings = queries.map((query) => {
        const { dims, data } = engine.encode(query, "query");
        return { dims, data: [...data] };
      });
      return { backend: engine.status().backend.kind, answers, embeddings };
    },
    { build, queries: QUERIES },
  );
  assert.equal(answer.error, undefined);
  return answer;
}

test("the engine with SIMD, with relaxed SIMD and without gives the same hits and embeddings", async () => {
  await visit(lab, async (page, { url }) => {
    const plain = await searchIn(page, url, "plain");
    assert.notEqual(plain.backend, "simd128");
    for (const [build, backend] of [["simd", "simd128"], ["relaxed", "relaxed-simd"]]) {
      const simd = await searchIn(page, url, build);
      assert.equal(simd.backend, backend);
      for (const [i, query] of QUERIES.entries()) {
        sameHits(simd.answers[i], plain.answers[i], query);
        assert.deepEqual(simd.embeddings[i].dims, plain.embeddings[i].dims);
        const furthest = simd.embeddings[i].data.reduce((most, value, at) => Math.max(most, Math.abs(value - plain.embeddings[i].data[at])), 0);
        assert.ok(furthest <= 1e-5, `embeddings of ${query} differ by ${furthest} (${build})`);
      }
    }
  });
});

test("the package loads the build with relaxed SIMD where the browser has it, else the one with 128-bit SIMD, never both", async () => {
  const answers = [];
  for (const relaxed of [true, false]) {
    await visit({}, async (page, { url, requests }) => {
      // The page's own thread, so that an older browser can be played by its answer to the probe.
      if (!relaxed) await page.addInitScript(() => (WebAssembly.validate = () => false));
      await page.goto(`${url}blank.html`);
      const { backend, hits } = await page.evaluate(async (query) => {
        const { Shirube } = await import("/shirube/shirube.js");
        const shirube = await Shirube.load({ bundle: "/bundle/", model: "/model/", worker: false, cache: false, device: "wasm" });
        const { hits } = await shirube.search(query);
        const { backend } = shirube.status;
        shirube.dispose();
        return { backend, hits: hits.map(({ score, section: { id } }) => ({ score, id })) };
      }, QUERIES[0]);
      assert.equal(backend.kind, relaxed ? "relaxed-simd" : "simd128");
      const modules = requests.filter((path) => path.endsWith("_bg.wasm"));
      assert.deepEqual(modules, [relaxed ? "/shirube/shirube_relaxed_bg.wasm" : "/shirube/shirube_wasm_bg.wasm"]);
      answers.push(hits);
    });
  }
  sameHits(answers[0], answers[1], QUERIES[0]);
});

test("the command line and the browser give the same hits and scores", async () => {
  const [program] = ["release", "debug"]
    .map((kind) => join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), kind, "shirube"))
    .filter((path) => existsSync(path))
    .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  assert.ok(program, "build the command line first: cargo build -p shirube-cli");
  await visit(lab, async (page, { url }) => {
    const browser = await searchIn(page, url, "simd");
    for (const [i, query] of QUERIES.entries()) {
      const native = spawnSync(program, ["search", join(site, "bundle"), query, "--model", join(site, "model"), "--lexical-weight", "1", "--json"], { encoding: "utf8" });
      assert.equal(native.status, 0, native.stderr);
      const expected = JSON.parse(native.stdout).hits.map(({ document, score, section }) => ({ document, score, id: section.id }));
      sameHits(browser.answers[i], expected, query);
    }
  });
});

for (const build of ["simd", "relaxed", "plain"]) {
  test(`every kernel agrees with the scalar oracle in the browser (${build})`, async () => {
    await visit(lab, async (page, { url }) => {
      await page.goto(`${url}blank.html`);
      const report = await page.evaluate(async (build) => {
        const wasm = await import(`/lab/${build}/shirube_wasm.js`);
        await wasm.default({ module_or_path: `/lab/${build}/shirube_wasm_bg.wasm` });
        return wasm.conformance(20);
      }, build);
      assert.ok(report.checks > 100, `only ${report.checks} checks ran`);
      assert.equal(report.backends.includes("simd128"), build !== "plain", report.backends.join());
    });
  });
}

test("the package answers from the page's own thread too, and ends cleanly", async () => {
  await visit({}, async (page, { url }) => {
    await page.goto(`${url}blank.html`);
    const report = await page.evaluate(async () => {
      const { Shirube, ShirubeError } = await import("/shirube/shirube.js");
      const events = [];
      const here = await Shirube.load({ bundle: "/bundle/", worker: false, cache: false, progress_callback: (event) => events.push(event) });
      const there = await Shirube.load({ bundle: new URL("/bundle/", location.href), model: "/model", worker: true });
      const [a, b] = await Promise.all([here.search("所有権"), there.search("所有権")]);
      const code = async (promise) => promise.then(() => "none", (error) => (error instanceof ShirubeError ? error.code : String(error)));
      const controller = new AbortController();
      const stopped = code(there.search("所有権", { signal: controller.signal }));
      controller.abort();
      const replaced = code(there.search("一"));
      const newest = code(there.search("二"));
      const early = { stopped: await stopped, replaced: await replaced, newest: await newest };
      const codes = {
        ...early,
        empty: await code(there.search("   ")),
        limit: await code(there.search("x", { limit: 0 })),
        type: await code(there.search(3)),
        weight: await code(there.search("x", { lexicalWeight: Number.NaN })),
        role: await code(there.encode("x", "passage")),
        missing: await code(Shirube.load({ bundle: "http://[" })),
      };
      const meaning = await there.search("所有権", { lexicalWeight: 0 });
      const queued = await Promise.all(["一", "二", "三"].map((query) => there.search(query, { queue: true })));
      const { dims, data } = await there.encode("所有権");
      let length = 0;
      for (let i = 0; i < dims[1]; i++) length += data[i] ** 2;
      const result = {
        threads: [here.status.thread.kind, there.status.thread.kind],
        cache: here.status.cache.kind,
        same: JSON.stringify(a.hits.map((hit) => [hit.document, hit.score])) === JSON.stringify(b.hits.map((hit) => [hit.document, hit.score])),
        meaningAlone: meaning.hits.every((hit) => hit.score === hit.maxsim),
        codes,
        queued: queued.map(({ query }) => query),
        embeddings: [dims, data.length, Number.isFinite(length)],
        statuses: [...new Set(events.map((event) => event.status))].sort(),
        last: events.filter((event) => event.status === "progress_total").at(-1).progress,
      };
      here.dispose();
      there.dispose();
      return { ...result, after: await code(there.search("所有権")) };
    });
    assert.deepEqual(report.threads, ["main", "worker"]);
    assert.equal(report.cache, "memory");
    assert.ok(report.same, "both threads give the same hits and scores");
    assert.deepEqual(report.codes, {
      empty: "EMPTY_QUERY",
      limit: "BAD_ARGUMENT",
      type: "BAD_ARGUMENT",
      weight: "BAD_ARGUMENT",
      role: "BAD_ARGUMENT",
      stopped: "ABORTED",
      replaced: "ABORTED",
      newest: "none",
      missing: "BAD_ARGUMENT",
    });
    assert.ok(report.meaningAlone, "a lexical weight of 0 leaves MaxSim alone");
    assert.deepEqual(report.queued, ["一", "二", "三"]);
    assert.equal(report.embeddings[0][0] * report.embeddings[0][1], report.embeddings[1]);
    assert.ok(report.embeddings[2], "embeddings are finite");
    assert.deepEqual(report.statuses, ["done", "download", "initiate", "progress", "progress_total", "ready"]);
    assert.equal(report.last, 100);
    assert.equal(report.after, "ABORTED");
  });
});
