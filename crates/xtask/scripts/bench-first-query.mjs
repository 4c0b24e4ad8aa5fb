// `npm run bench -- first-query`: from the call that loads the package to the first answer, cold and warm apart, in Chromium, on the CPU and on WebGPU.
//
// The demo's bundle and model come from this machine, so what is timed is work and not a line (`visit` has that): reading, hashing, unpacking, compiling. Cold is a
// new profile: nothing cached, WebAssembly and kernels compiled. Warm is the same profile with Chromium started anew: files in Cache Storage, compiled code and
// pipelines where the browser keeps them. Medians over profiles and visits. Where the only GPU is a program on the CPU its rows give the order of things, not their times.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { buildAll } from "./build.mjs";
import { ensureChromium, root, say } from "./lib.mjs";
import { serve } from "./serve.mjs";

const FLAGS = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps"];
const GPU_FLAGS = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
const QUERIES = ["再レンダリングを減らしたい", "所有権を渡さずに値を使うにはどうするのか"];

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** In the page: milliseconds since the package was asked for. */
async function firstQuery({ device, queries }) {
  // When kernels are compiled: from the first that is asked for to the last that is there. In the page's thread, so that this can be seen.
  const compiled = { kernels: 0, from: undefined, to: undefined };
  if (globalThis.GPUDevice) {
    const ahead = GPUDevice.prototype.createComputePipelineAsync;
    GPUDevice.prototype.createComputePipelineAsync = function (...args) {
      compiled.kernels += 1;
      compiled.from ??= performance.now();
      const pipeline = ahead.apply(this, args);
      pipeline.then(() => (compiled.to = performance.now()));
      return pipeline;
    };
  }
  const start = performance.now();
  const { Shirube } = await import("/shirube/shirube.js");
  const shirube = await Shirube.load({ bundle: "/bundle/", model: "/model/", worker: false, device });
  const loaded = performance.now();
  const answers = [];
  for (const query of queries) {
    const { hits } = await shirube.search(query, { lexicalWeight: 0, queue: true });
    if (hits.length === 0) throw new Error(`${query} found nothing`);
    answers.push(performance.now());
  }
  const { encoder } = shirube.status.device;
  shirube.dispose();
  const since = (at) => (at === undefined ? undefined : at - start);
  return { loaded: since(loaded), first: since(answers[0]), query: answers[0] - loaded, second: answers[1] - answers[0], kernels: compiled.kernels, compileFrom: since(compiled.from), compileTo: since(compiled.to), encoder };
}

export async function benchFirstQuery({ quick = false } = {}) {
  await buildAll();
  const server = await serve(join(root, "www", "dist"), {
    hook: async (path, _request, response) => {
      if (path !== "/blank.html") return false;
      response.writeHead(200, { "content-type": "text/html" }).end('<!doctype html><title>blank</title><link rel="icon" href="data:,">');
      return true;
    },
  });
  const visit = async (profile, device) => {
    const context = await chromium.launchPersistentContext(profile, { executablePath: ensureChromium(), headless: true, args: [...FLAGS, ...(device === "webgpu" ? GPU_FLAGS : [])] });
    try {
      const page = await context.newPage();
      page.setDefaultTimeout(0);
      await page.goto(`${server.url}blank.html`);
      return await page.evaluate(firstQuery, { device, queries: QUERIES });
    } finally {
      await context.close();
    }
  };
  const rows = [];
  try {
    for (const device of ["wasm", "webgpu"]) {
      const visits = { cold: [], warm: [] };
      for (let turn = 0; turn < (quick ? 1 : 3); turn++) {
        const profile = mkdtempSync(join(tmpdir(), "shirube-first-"));
        try {
          visits.cold.push(await visit(profile, device));
          for (let again = 0; again < (quick ? 1 : 2); again++) visits.warm.push(await visit(profile, device));
        } finally {
          rmSync(profile, { recursive: true, force: true });
        }
      }
      const { encoder, kernels } = visits.cold[0];
      say(`${device}: ${encoder.kind}${encoder.extensions ? ` (${encoder.extensions.join(", ")})` : ""}, ${encoder.reason}; ${kernels} kernels`);
      if (encoder.kind !== device) continue;
      for (const [name, found] of Object.entries(visits)) {
        const of = (key) => (found[0][key] === undefined ? "-" : median(found.map((visit) => visit[key])).toFixed(0));
        rows.push([`${device}, ${name}`, of("compileFrom"), of("compileTo"), of("loaded"), of("first"), of("query"), of("second")]);
      }
    }
  } finally {
    await server.close();
  }
  const head = ["ms", "kernels from", "kernels done", "loaded", "first answer", "first query alone", "second query"];
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i].length)));
  for (const row of [head, ...rows]) console.log(row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  ").trimEnd());
  const cell = (name) => Number(rows.find((row) => row[0] === name)[4]);
  console.log(`ratio first-answer-cold-over-warm ${(cell("wasm, cold") / cell("wasm, warm")).toFixed(3)}`);
}
