// The same searches on WebGPU and on the CPU. Chromium computes WebGPU with SwiftShader here, on the CPU: that proves results, never speed.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { brotliCompressSync } from "node:zlib";
import { assert, root, site, useBrowser, visit } from "./harness.mjs";

useBrowser(["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]);

// Few: one takes SwiftShader seconds.
const QUERIES = ["再レンダリングを減らしたい", "env", "状態管理とは何か。なぜ必要なのか。"];

/** Scores are sums over query tokens; each token's share may move where rounding moved an activation to the next of 127 steps. */
const SCORE_BOUND = 0.02;

/** Queries of the soak on each device; `SOAK=10000` makes it a long one, of six minutes in all. */
const SOAK = Number(process.env.SOAK ?? 8);

const blank = async (page, url) => page.goto(`${url}blank.html`);

/** In the page: loads the package and answers the queries. */
async function search(page, { device, worker = true, cache = false, queries = QUERIES }) {
  return page.evaluate(
    async ({ device, worker, cache, queries }) => {
      const { Shirube } = await import("/shirube/shirube.js");
      const shirube = await Shirube.load({ bundle: "/bundle/", model: "/model/", worker, cache, device });
      const loaded = structuredClone(shirube.status.device);
      const answers = [];
      for (const query of queries) {
        const { hits, device, timings } = await shirube.search(query, { lexicalWeight: 0, exact: true, queue: true });
        answers.push({ device, timings, hits: hits.map(({ document, score }) => ({ document, score })) });
      }
      const after = structuredClone(shirube.status.device);
      shirube.dispose();
      return { loaded, after, answers };
    },
    { device, worker, cache, queries },
  );
}

const kinds = (status) => [status.encoder.kind, status.maxsim.kind];

function sameHits(found, expected, what) {
  assert.equal(found.length, expected.length, what);
  for (const [i, hit] of found.entries()) {
    assert.ok(Math.abs(hit.score - expected[i].score) <= SCORE_BOUND, `${what}: hit ${i} has ${hit.score}, expected ${expected[i].score}`);
    if (hit.document === expected[i].document) continue;
    const other = expected.find(({ document }) => document === hit.document);
    const near = (other?.score ?? expected.at(-1).score) - expected[i].score;
    assert.ok(Math.abs(near) <= SCORE_BOUND, `${what}: hit ${i} is ${hit.document}, expected ${expected[i].document}`);
  }
}

test("WebGPU gives the hits of the CPU, in the worker and on the page", async () => {
  await visit({}, async (page, { url, requests }) => {
    await blank(page, url);
    const cpu = await search(page, { device: "wasm" });
    assert.deepEqual(kinds(cpu.after), ["wasm", "wasm"]);
    assert.ok(!requests.some((path) => path.includes("gpu")), "nothing is fetched for a GPU");
    for (const worker of [true, false]) {
      const gpu = await search(page, { device: "webgpu", worker });
      assert.deepEqual(kinds(gpu.loaded), ["webgpu", "webgpu"], gpu.loaded.encoder.reason);
      assert.deepEqual(kinds(gpu.after), ["webgpu", "webgpu"], gpu.after.encoder.reason);
      for (const [i, query] of QUERIES.entries()) {
        assert.deepEqual(kinds(gpu.answers[i].device), ["webgpu", "webgpu"]);
        sameHits(gpu.answers[i].hits, cpu.answers[i].hits, query);
      }
    }
    const [first, second] = requests.flatMap((path, at) => (path.includes("shirube_gpu_bg.wasm") ? [at] : []));
    assert.ok(requests.slice(first, second).some((path) => path.endsWith(".safetensors")), "the module comes beside the model's files, not after them");
  });
});

/** What the adapter and the browser have of what kernels can use, in the page. */
const offered = (page) =>
  page.evaluate(async () => {
    const { features } = await navigator.gpu.requestAdapter();
    const has = { "packed-dot": navigator.gpu.wgslLanguageFeatures.has("packed_4x8_integer_dot_product"), subgroups: features.has("subgroups"), f16: features.has("shader-f16") };
    return Object.keys(has).filter((name) => has[name]);
  });

test("the status names the extensions in use, and without any the baselines give the same hits", async () => {
  await visit({}, async (page, { url }) => {
    await blank(page, url);
    const has = await offered(page);
    const all = await search(page, { device: "webgpu", worker: false });
    assert.deepEqual(all.after.encoder.extensions, has);
    assert.deepEqual(all.after.maxsim.extensions, has);
    // The same adapter without what it has.
    await page.evaluate(() => {
      const hide = (what, get, names) => {
        const set = Object.getOwnPropertyDescriptor(what, get).get;
        Object.defineProperty(what, get, { get() { return new Set([...set.call(this)].filter((name) => !names.includes(name))); } });
      };
      hide(GPUAdapter.prototype, "features", ["subgroups", "shader-f16"]);
      hide(Object.getPrototypeOf(navigator.gpu), "wgslLanguageFeatures", ["packed_4x8_integer_dot_product"]);
    });
    const none = await search(page, { device: "webgpu", worker: false });
    assert.deepEqual(none.after.encoder.extensions, []);
    for (const [i, query] of QUERIES.entries()) sameHits(none.answers[i].hits, all.answers[i].hits, query);
    const cpu = await search(page, { device: "wasm" });
    assert.equal(cpu.after.encoder.extensions, undefined);
  });
});

test("kernels are compiled in the background beside the download, and none after it", async () => {
  await visit({}, async (page, { url }) => {
    await blank(page, url);
    const { kind, loaded, after } = await page.evaluate(async (queries) => {
      const counts = { ahead: 0, ready: 0, made: 0 };
      let first;
      const one = new Promise((resolve) => (first = resolve));
      const ahead = GPUDevice.prototype.createComputePipelineAsync;
      GPUDevice.prototype.createComputePipelineAsync = function (...args) {
        counts.ahead++;
        const pipeline = ahead.apply(this, args);
        pipeline.then(() => (counts.ready++, first()));
        return pipeline;
      };
      const make = GPUDevice.prototype.createComputePipeline;
      GPUDevice.prototype.createComputePipeline = function (...args) {
        counts.made++;
        return make.apply(this, args);
      };
      // No weights before a kernel is compiled: loading would never end if it were the other way round.
      const get = globalThis.fetch;
      globalThis.fetch = async (...args) => {
        if (String(args[0]?.url ?? args[0]).includes(".safetensors")) await one;
        return get(...args);
      };
      const { Shirube } = await import("/shirube/shirube.js");
      const shirube = await Shirube.load({ bundle: "/bundle/", model: "/model/", worker: false, cache: false, device: "webgpu" });
      const loaded = { ...counts };
      for (const query of queries) await shirube.search(query, { lexicalWeight: 0, exact: true, queue: true });
      const kind = shirube.status.device.encoder;
      shirube.dispose();
      return { kind, loaded, after: counts };
    }, QUERIES);
    assert.equal(kind.kind, "webgpu", kind.reason);
    assert.ok(loaded.ahead > 5, `${loaded.ahead} kernels were compiled ahead`);
    // wgpu makes each once more, and finds it with the browser.
    assert.deepEqual(loaded, { ahead: loaded.ahead, ready: loaded.ahead, made: loaded.ahead });
    assert.deepEqual(after, loaded, "a search made a pipeline");
  });
});

test("the kernels of every kind of model pass the browser's own compiler", async () => {
  await visit({}, async (page, { url }) => {
    await blank(page, url);
    const { names, messages } = await page.evaluate(async () => {
      const { default: start, GpuEngine } = await import("/shirube/gpu.js");
      await start({ module_or_path: "/shirube/shirube_gpu_bg.wasm" });
      // As the package does, and once more without anything: kernels come in variants.
      const ask = GPUAdapter.prototype.requestDevice;
      GPUAdapter.prototype.requestDevice = function (wish) {
        const more = this.features.has("subgroups") ? ["subgroups"] : [];
        return ask.call(this, { ...wish, requiredFeatures: [...(wish?.requiredFeatures ?? []), ...more] });
      };
      const gpus = [await GpuEngine.create(true)];
      GPUAdapter.prototype.requestDevice = ask;
      gpus.push(await GpuEngine.create(true));
      const base = await (await fetch("/model/manifest.json")).json();
      const { files } = await (await fetch("/bundle/shirube.json")).json();
      const tables = new Uint8Array(await (await fetch(`/bundle/${files.find(({ kind }) => kind === "centroids").path}`)).arrayBuffer());
      const codes = new Map();
      const dense = (layers) => layers.map(([in_features, out_features, bias, residual]) => ({ in_features, out_features, bias, residual }));
      for (const architecture of ["modern_bert", "bert"]) {
        for (const linear of ["f32", "int8", "int4"]) {
          for (const n_heads of [1, 4, 32]) {
            const manifest = structuredClone(base);
            Object.assign(manifest.encoder, { architecture, n_heads, type_vocab_size: architecture === "bert" ? 2 : 0 });
            manifest.quantization = { linear, embeddings: linear };
            manifest.projection = { query_weight: n_heads === 4, dense: dense(n_heads === 1 ? [[256, 64, false, false]] : [[256, 256, true, true], [256, 64, false, true]]) };
            const json = new TextEncoder().encode(JSON.stringify(manifest));
            for (const gpu of gpus) for (const { name, code } of gpu.kernels(json, tables)) codes.set(code, { name, gpu });
          }
        }
      }
      const messages = [];
      for (const [code, { name, gpu }] of codes) {
        const { messages: found } = await gpu.device().createShaderModule({ code }).getCompilationInfo();
        for (const { type, message } of found) messages.push(`${name}: ${type}: ${message}`);
      }
      for (const gpu of gpus) gpu.destroy();
      return { names: [...new Set([...codes.values()].map(({ name }) => name))].sort(), messages };
    });
    assert.deepEqual(names, ["attention", "embed", "finish", "gemm_f32", "gemm_i8", "maxsim", "rows"]);
    assert.deepEqual(messages, []);
  });
});

test("auto never takes a software adapter, and fetches nothing for it", async () => {
  await visit({}, async (page, { url, requests }) => {
    await blank(page, url);
    const { loaded } = await search(page, { device: "auto", queries: ["env"] });
    assert.deepEqual(kinds(loaded), ["wasm", "wasm"]);
    assert.match(loaded.encoder.reason, /computes on the CPU/);
    assert.deepEqual(requests.filter((path) => /gpu/.test(path)), []);
  });
});

test("auto times both, takes the faster and remembers it", async () => {
  await visit({}, async (page, { url, requests }) => {
    await blank(page, url);
    // An adapter that does not say what it is; timing finds out.
    await page.evaluate(() => {
      Object.defineProperty(GPUAdapter.prototype, "info", { get: () => ({ vendor: "unknown", architecture: "", device: "", description: "" }) });
      Object.defineProperty(GPUAdapter.prototype, "isFallbackAdapter", { get: () => false });
    });
    const first = await search(page, { device: "auto", worker: false, cache: true, queries: ["env"] });
    assert.match(first.loaded.encoder.reason, /^timed here: [\d.]+ ms on the GPU, [\d.]+ ms on the CPU$/);
    assert.match(first.loaded.maxsim.reason, /^timed here/);
    const fetched = requests.filter((path) => path.includes("gpu_bg.wasm")).length;
    const second = await search(page, { device: "auto", worker: false, cache: true, queries: ["env"] });
    assert.match(second.loaded.encoder.reason, /^timed on an earlier visit/);
    assert.deepEqual(kinds(second.loaded), kinds(first.loaded));
    // SwiftShader is far slower than SIMD: with both parts on the CPU the module is not even fetched again.
    if (kinds(first.loaded).every((kind) => kind === "wasm")) {
      assert.equal(requests.filter((path) => path.includes("gpu_bg.wasm")).length, fetched);
    }
  });
});

test("a wrong result is caught by the self-check and the CPU is used", async () => {
  await visit({}, async (page, { url }) => {
    await blank(page, url);
    const cpu = await search(page, { device: "wasm", queries: ["所有権"] });
    await page.evaluate(() => {
      const read = GPUBuffer.prototype.getMappedRange;
      GPUBuffer.prototype.getMappedRange = function (...range) {
        const bytes = read.apply(this, range);
        const values = new Float32Array(bytes);
        values[5] += 0.5;
        return bytes;
      };
    });
    const gpu = await search(page, { device: "webgpu", worker: false, queries: ["所有権"] });
    assert.deepEqual(kinds(gpu.loaded), ["wasm", "wasm"]);
    assert.match(gpu.loaded.encoder.reason, /^self-check: an embedding differs/);
    assert.deepEqual(gpu.answers[0].hits, cpu.answers[0].hits);
  });
});

test("a device lost in the middle of a query loses no query", async () => {
  await visit({ expected: [/destroyed|lost|GPU/i] }, async (page, { url }) => {
    await blank(page, url);
    const cpu = await search(page, { device: "wasm" });
    // The second submission after loading takes the device with it.
    const lost = await page.evaluate(async (queries) => {
      const { Shirube } = await import("/shirube/shirube.js");
      const shirube = await Shirube.load({ bundle: "/bundle/", model: "/model/", worker: false, cache: false, device: "webgpu" });
      const before = structuredClone(shirube.status.device);
      const request = GPUQueue.prototype.submit;
      let submissions = 0;
      const create = GPUDevice.prototype.createCommandEncoder;
      GPUDevice.prototype.createCommandEncoder = function (...args) {
        const device = this;
        GPUQueue.prototype.submit = function (...commands) {
          request.apply(this, commands);
          if (++submissions === 2) device.destroy();
        };
        return create.apply(this, args);
      };
      const answers = [];
      for (const query of queries) {
        const { hits, device } = await shirube.search(query, { lexicalWeight: 0, exact: true, queue: true });
        answers.push({ device, hits: hits.map(({ document, score }) => ({ document, score })) });
      }
      const after = structuredClone(shirube.status.device);
      shirube.dispose();
      return { before, after, answers };
    }, QUERIES);
    assert.deepEqual(kinds(lost.before), ["webgpu", "webgpu"], lost.before.encoder.reason);
    assert.deepEqual(lost.answers.map(({ device }) => device.encoder.kind), ["webgpu", "wasm", "wasm"]);
    assert.match(lost.after.encoder.reason, /lost/);
    for (const [i, query] of QUERIES.entries()) sameHits(lost.answers[i].hits, cpu.answers[i].hits, query);
  });
});

test("killing the GPU process in the middle of a query loses no query", async () => {
  await visit({ expected: [/GPU|lost|instance/i] }, async (page, { url, context }) => {
    await blank(page, url);
    const cpu = await search(page, { device: "wasm" });
    const before = await page.evaluate(async () => {
      const { Shirube } = await import("/shirube/shirube.js");
      globalThis.shirube = await Shirube.load({ bundle: "/bundle/", model: "/model/", worker: true, cache: false, device: "webgpu" });
      return structuredClone(globalThis.shirube.status.device);
    });
    assert.deepEqual(kinds(before), ["webgpu", "webgpu"], before.encoder.reason);
    const answers = page.evaluate(async (queries) => {
      const found = await Promise.all(queries.map((query) => globalThis.shirube.search(query, { lexicalWeight: 0, exact: true, queue: true })));
      return found.map(({ hits, device }) => ({ device, hits: hits.map(({ document, score }) => ({ document, score })) }));
    }, QUERIES);
    const control = await context.browser().newBrowserCDPSession();
    await control.send("Browser.crashGpuProcess").catch(() => {});
    const found = await answers;
    for (const [i, query] of QUERIES.entries()) sameHits(found[i].hits, cpu.answers[i].hits, query);
    assert.deepEqual(kinds(found.at(-1).device), ["wasm", "wasm"]);
    assert.match(found.at(-1).device.encoder.reason, /lost/);
  });
});

test("without the GPU's module the CPU answers and the status says why", async () => {
  const damage = (path) => (path.includes("gpu_bg.wasm") ? { status: 404 } : undefined);
  await visit({ damage, expected: [/404/] }, async (page, { url }) => {
    await blank(page, url);
    const { loaded, answers } = await search(page, { device: "webgpu", queries: ["env"] });
    assert.deepEqual(kinds(loaded), ["wasm", "wasm"]);
    assert.match(loaded.maxsim.reason, /404/);
    assert.equal(answers[0].hits.length, 10);
  });
});

test("queries leave no memory behind on the CPU", async () => {
  await visit({}, async (page, { url, context }) => {
    await blank(page, url);
    await page.evaluate(async () => {
      const { Shirube } = await import("/shirube/shirube.js");
      const shirube = await Shirube.load({ bundle: "/bundle/", model: "/model/", worker: false, cache: false, device: "wasm" });
      globalThis.rounds = async (n) => {
        for (let i = 0; i < n; i++) await shirube.search(`状態管理 ${"あ".repeat(i % 3)} ${i % 7}`, { queue: true });
        return shirube.memoryBytes();
      };
    });
    const control = await context.newCDPSession(page);
    const heap = async () => {
      await control.send("HeapProfiler.collectGarbage");
      return (await control.send("Runtime.getHeapUsage")).usedSize;
    };
    const first = await page.evaluate(() => globalThis.rounds(50));
    const before = await heap();
    const rounds = Math.max(SOAK, 200);
    const last = await page.evaluate((n) => globalThis.rounds(n), rounds);
    const grown = (await heap()) - before;
    assert.ok(first > 1 << 20, `a memory of ${first} bytes`);
    assert.equal(last, first, "the engine's memory grew");
    assert.ok(grown < 256 * 1024, `${rounds} queries left ${grown} bytes on the heap`);
    if (SOAK > 200) console.log(`${rounds} queries: wasm memory ${last} bytes as before, heap ${grown} bytes more`);
  });
});

test("queries leave no buffer and no memory behind on the device", async () => {
  // A program on the CPU takes seconds for a query of the real model, so the soak takes the smallest: two blocks of random weights, the whole path all the same.
  const small = join(root, "target", "random-model");
  execFileSync("cargo", ["run", "--quiet", "-p", "shirube-testkit", "--example", "random_model", "--", small], { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
  const folder = join(root, "target", "test-results", "soak");
  mkdirSync(folder, { recursive: true });
  const lines = Array.from({ length: 12 }, (_, i) => JSON.stringify({ id: `s${i}`, title: `題${i}`, text: `これは${i}番目の本文です。状態と検索の話。`, url: `p${i}` }));
  writeFileSync(join(folder, "sections.jsonl"), `${lines.join("\n")}\n`);
  execFileSync(join(root, "target", "debug", "shirube"), ["build", "sections.jsonl", "--model", small, "--out", "bundle"], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
  const roots = { "/small/": small, "/twelve/": join(folder, "bundle") };
  await visit({ roots }, async (page, { url, context }) => {
    await blank(page, url);
    page.setDefaultTimeout(0);
    await page.evaluate(async () => {
      globalThis.alive = 0;
      const create = GPUDevice.prototype.createBuffer;
      GPUDevice.prototype.createBuffer = function (...args) {
        globalThis.alive++;
        return create.apply(this, args);
      };
      const destroy = GPUBuffer.prototype.destroy;
      const gone = new WeakSet();
      GPUBuffer.prototype.destroy = function () {
        if (!gone.has(this)) {
          gone.add(this);
          globalThis.alive--;
        }
        return destroy.apply(this);
      };
      const { Shirube } = await import("/shirube/shirube.js");
      const shirube = await Shirube.load({ bundle: "/twelve/", model: "/small/", worker: false, cache: false, device: "webgpu" });
      globalThis.rounds = async (n) => {
        for (let done = 0; done < n; done++) await shirube.search(`状態 ${"あ".repeat(done % 3)} ${done % 7}`, { queue: true });
        return { alive: globalThis.alive, memory: await shirube.memoryBytes(), kind: shirube.status.device.encoder.kind, reason: shirube.status.device.encoder.reason };
      };
    });
    const control = await context.newCDPSession(page);
    const heap = async () => {
      await control.send("HeapProfiler.collectGarbage");
      return (await control.send("Runtime.getHeapUsage")).usedSize;
    };
    const system = await context.browser().newBrowserCDPSession();
    /** MiB of the GPU process that are resident, where the system tells it. */
    const resident = async () => {
      const { processInfo } = await system.send("SystemInfo.getProcessInfo");
      const status = `/proc/${processInfo.find(({ type }) => type === "GPU")?.id}/status`;
      return existsSync(status) ? Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(status, "utf8"))[1]) / 1024 : NaN;
    };
    const warm = SOAK > 200 ? 200 : 10;
    const first = await page.evaluate((n) => globalThis.rounds(n), warm);
    const before = { heap: await heap(), resident: await resident() };
    const rounds = Math.max(SOAK, 30);
    const last = await page.evaluate((n) => globalThis.rounds(n), rounds);
    const grown = (await heap()) - before.heap;
    assert.equal(first.kind, "webgpu", first.reason);
    assert.equal(last.kind, "webgpu", last.reason);
    assert.ok(first.alive > 20, `only ${first.alive} buffers were counted`);
    assert.equal(last.alive, first.alive, "buffers grew");
    assert.equal(last.memory, first.memory, "the engine's memory grew");
    assert.ok(grown < 256 * 1024, `${rounds} queries left ${grown} bytes on the heap`);
    if (SOAK > 200) {
      const mib = (await resident()) - before.resident;
      console.log(`${rounds} queries on the GPU: ${last.alive} buffers as before, wasm memory ${last.memory} bytes as before, heap ${grown} bytes more, GPU process ${before.resident.toFixed(0)} MiB and ${mib.toFixed(1)} more`);
      assert.ok(!(mib > 64), `the GPU process grew by ${mib} MiB`);
    }
  });
});

test("each module stays within its budget", () => {
  // What a visitor downloads, compressed as servers do; 500 kB a module, 200 kB of what words wait for.
  for (const [name, most] of [["shirube_wasm_bg.wasm", 500_000], ["shirube_relaxed_bg.wasm", 500_000], ["shirube_gpu_bg.wasm", 500_000]]) {
    const bytes = brotliCompressSync(readFileSync(join(site, "shirube", name))).length;
    assert.ok(bytes <= most, `${name} takes ${bytes} bytes`);
  }
});
