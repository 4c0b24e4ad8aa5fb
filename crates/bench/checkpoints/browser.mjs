// `npm run bench -- checkpoints-browser`: BERT-base, converted to int8 and int4, in Chromium: bytes, time to load, WebAssembly memory at most, milliseconds
// a query of 32 tokens, for both builds of the engine; and whether the hits are those of the command line. WebGPU runs on SwiftShader here, which is a
// program on the CPU: its results are compared, its times say nothing and are not printed. `--quick` takes two layers of the twelve.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { buildAll } from "../../xtask/scripts/build.mjs";
import { ensureChromium, root, run, say } from "../../xtask/scripts/lib.mjs";
import { serve } from "../../xtask/scripts/serve.mjs";
import { QUERIES, baseModels, bytesOf, furthest, shirube } from "./base.mjs";

/** What part 3 allows the engine. */
export const MOST_MEMORY = 512 * 2 ** 20;

/** Runs in a page: loads the package, answers the queries, and says what it took. `relaxed` off plays a browser without these instructions. */
export async function inPage({ model, bundle, queries, rounds, device, relaxed }) {
  const { Shirube } = await import("/shirube/shirube.js");
  // The probe is the page's own where no worker runs.
  if (!relaxed) WebAssembly.validate = () => false;
  const shirube = await Shirube.load({ bundle, model, device, worker: relaxed, cache: false });
  const loaded = { loadMs: shirube.status.loadMs, backend: shirube.status.backend.kind, memory: await shirube.memoryBytes(), device: structuredClone(shirube.status.device) };
  const answers = [];
  const encodeMs = [];
  for (let round = 0; round < rounds; round++) {
    for (const query of queries) {
      // A query asked twice in a row is remembered.
      const { hits, timings } = await shirube.search(query, { lexicalWeight: 0, queue: true });
      encodeMs.push(timings.encodeMs);
      if (round === 0) answers.push(hits.map(({ document, score }) => ({ document, score })));
    }
  }
  const nTokens = (await shirube.encode(queries[0])).dims[0];
  const after = { memory: await shirube.memoryBytes(), device: structuredClone(shirube.status.device) };
  shirube.dispose();
  encodeMs.sort((a, b) => a - b);
  return { ...loaded, after, answers, nTokens, encodeMs: encodeMs[encodeMs.length >> 1], fastestMs: encodeMs[0] };
}

/** The command line's hits. */
export function natively({ model, bundle }) {
  return QUERIES.map((query) => JSON.parse(shirube("search", bundle, query, "--model", model, "--lexical-weight", "0", "--json")).hits.map(({ document, score }) => ({ document, score })));
}

/** A server over the built page and the folders of a model. */
export function serveBase(models) {
  return serve(join(root, "www", "dist"), {
    hook: async (path, _request, response) => {
      if (path === "/blank.html") return response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>bench</title>"), true;
      const [, dtype, kind, name] = /^\/base\/(\w+)\/(model|bundle)\/(.+)$/.exec(path) ?? [];
      const file = dtype && join(models[dtype][kind], name);
      if (!file || !existsSync(file)) return false;
      response.writeHead(200, { "content-type": "application/octet-stream" }).end(readFileSync(file));
      return true;
    },
  });
}

export async function benchCheckpointsInBrowser({ quick }) {
  await buildAll();
  run("cargo", ["build", "--quiet", "--release", "-p", "shirube-cli"]);
  const layers = quick ? 2 : 12;
  say(`converting a random BERT of ${layers} layers to int8 and int4 (under target/bench)`);
  const models = baseModels(join(root, "target", "bench", `base-${layers}`), layers);
  const server = await serveBase(models);
  const browser = await chromium.launch({ executablePath: ensureChromium(), args: ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"] });
  const rows = [];
  try {
    for (const dtype of ["int8", "int4"]) {
      const weights = bytesOf(models[dtype].model, /^weights-/);
      const expected = natively(models[dtype]);
      for (const [device, relaxed] of [["wasm", true], ["wasm", false], ["webgpu", true]]) {
        const page = await browser.newPage();
        page.setDefaultTimeout(300_000);
        await page.goto(`${server.url}blank.html`);
        const found = await page.evaluate(inPage, { model: `/base/${dtype}/model/`, bundle: `/base/${dtype}/bundle/`, queries: QUERIES, rounds: device === "webgpu" ? 1 : 5, device, relaxed });
        await page.close();
        const kind = found.after.device.encoder.kind;
        if (device !== kind) say(`${dtype} on ${device}: ${found.after.device.encoder.reason}`);
        const timed = device === "wasm";
        rows.push({
          dtype,
          runs: device === "wasm" ? found.backend : `webgpu${kind === device ? "" : " (fell back)"}`,
          "weights, MB": (weights / 1e6).toFixed(1),
          "load, ms": timed ? Math.round(found.loadMs) : "-",
          "memory after load, MB": (found.memory / 1e6).toFixed(0),
          "after queries, MB": (found.after.memory / 1e6).toFixed(0),
          "ms a query, median": timed ? found.encodeMs.toFixed(1) : "-",
          least: timed ? found.fastestMs.toFixed(1) : "-",
          "score off by": furthest(found.answers, expected).toFixed(4),
        });
      }
    }
  } finally {
    await browser.close();
    await server.close();
  }
  console.table(rows);
  const most = Math.max(...rows.map((row) => Number(row["after queries, MB"])));
  console.log(`ratio checkpoint-memory-vs-limit ${(most / (MOST_MEMORY / 1e6)).toFixed(3)}`);
}
