// The browser's half of the engine bench: our wasm and onnxruntime-web in one page, taking turns. Called by run.mjs.
import init, * as shirube from "/wasm/shirube_wasm.js";

/** Bursts of at least .7 ms, the shortest counts; see crates/bench/src/timing.rs. */
async function race(seconds, runs) {
  const state = [];
  for (const run of runs) {
    await run();
    const start = performance.now();
    await run();
    const one = Math.max(performance.now() - start, 1e-4);
    state.push({ run, calls: Math.max(1, Math.ceil(0.7 / one)), bursts: [], spent: 0 });
  }
  while (state.some((s) => s.bursts.length < 3 || s.spent < seconds * 1000)) {
    for (const s of state) {
      if (s.bursts.length >= 3 && s.spent >= seconds * 1000) continue;
      const start = performance.now();
      for (let i = 0; i < s.calls; i++) {
        // A promise is awaited only where there is one: our calls have none.
        const promise = s.run();
        if (promise) await promise;
      }
      const time = performance.now() - start;
      s.spent += time;
      s.bursts.push(time / s.calls);
    }
  }
  return state.map(({ bursts }) => {
    bursts.sort((a, b) => a - b);
    return { least: bursts[0], median: bursts[bursts.length >> 1] };
  });
}

const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
let memory;

window.start = async () => {
  ({ memory } = await init({ module_or_path: "/wasm/shirube_wasm_bg.wasm" }));
  return shirube.backends();
};

/** Seconds a multiply-add of each backend. */
window.peaks = async (backends, seconds) => {
  // Long enough that the call itself, which looks a backend up by name, is nothing beside them.
  const steps = 400_000;
  const timings = await race(seconds, backends.map((name) => () => void shirube.peak(name, steps)));
  return timings.map(({ least }, i) => (least / 1000 / shirube.peak(backends[i], steps)));
};

/** Milliseconds of products [m, k] x [k, k] for each backend and dtype. */
window.products = async (backends, m, k, seconds) => {
  const all = backends.flatMap((backend) => ["int8", "int4"].map((dtype) => ({ backend, dtype, product: new shirube.BenchProduct(dtype, m, k, backend) })));
  const timings = await race(seconds, all.map(({ product }) => () => void product.run(1)));
  return all.map(({ backend, dtype, product }, i) => (product.free(), { backend, dtype, ...timings[i] }));
};

let racers = [];

/** Makes every encoder of one model ready. `others` are onnxruntime-web's dtypes. Answers names and the bytes of our wasm memory. */
window.load = async (name, ours, others) => {
  for (const { backend, dtype } of ours) {
    const encoder = new shirube.BenchEncoder(await bytes(`/models/${name}/${dtype}.json`), await bytes(`/models/${name}/${dtype}.safetensors`), backend);
    racers.push({ name: `${backend} ${dtype}`, encode: (ids) => encoder.encode(ids), encoder });
    racers.push({ name: `${backend} ${dtype} products`, encode: () => void encoder.products(), encoder });
    racers.push({ name: `${backend} ${dtype} attention`, encode: () => void encoder.attentionProducts(), encoder });
  }
  const memoryBytes = memory.buffer.byteLength;
  if (others.length > 0) {
    const ort = await import("/ort/ort.wasm.min.mjs");
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = "/ort/";
    for (const dtype of others) {
      const session = await ort.InferenceSession.create(`/models/${name}/${dtype}.onnx`, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
      const encode = async (ids) => Object.values(await session.run({ ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]) }))[0].data;
      racers.push({ name: `ort-web ${dtype}`, encode });
    }
  }
  return { names: racers.map((r) => r.name), memoryBytes };
};

/** Multiply-adds and embeddings of `n` tokens, and the shortest bursts of every encoder in one race. */
window.encode = async (n, seconds) => {
  const ids = Uint32Array.from({ length: n }, (_, i) => (i * 37 + 11) % 997);
  let macs = 0;
  for (const { encoder } of racers) if (encoder) macs = encoder.prepare(n) * n;
  const embeddings = [];
  for (const { encode } of racers) embeddings.push(Array.from((await encode(ids)) ?? []));
  const timings = await race(seconds, racers.map(({ encode }) => () => {
    const found = encode(ids);
    return found instanceof Promise ? found : undefined;
  }));
  return { macs, cells: racers.map(({ name }, i) => ({ name, ...timings[i], embeddings: embeddings[i] })) };
};

/** One encoder, `calls` times, for whoever watches the processor time. */
window.repeat = async (at, n, calls) => {
  const ids = Uint32Array.from({ length: n }, (_, i) => (i * 37 + 11) % 997);
  for (let i = 0; i < calls; i++) await racers[at].encode(ids);
};

let gpuEngine;

/** Our GPU module on this browser's adapter: what the adapter is, or nothing where there is none. */
window.startGpu = async () => {
  const { default: start, GpuEngine } = await import("/gpu/shirube_gpu.js");
  await start({ module_or_path: "/gpu/shirube_gpu_bg.wasm" });
  // As the package does: wgpu has no word for subgroups.
  const ask = globalThis.GPUAdapter?.prototype.requestDevice;
  if (!ask) return undefined;
  GPUAdapter.prototype.requestDevice = function (wish) {
    const more = this.features.has("subgroups") ? ["subgroups"] : [];
    return ask.call(this, { ...wish, requiredFeatures: [...(wish?.requiredFeatures ?? []), ...more] });
  };
  try {
    gpuEngine = await GpuEngine.create(true);
  } catch {
    return undefined;
  } finally {
    GPUAdapter.prototype.requestDevice = ask;
  }
  return gpuEngine.info();
};

/** Our int8 encoder and onnxruntime-web's f32 one on WebGPU, taking turns; the cosine of their embeddings. */
window.encodeGpu = async (name, n, seconds) => {
  const ids = Uint32Array.from({ length: n }, (_, i) => (i * 37 + 11) % 997);
  await gpuEngine.loadModel(await bytes(`/models/${name}/int8.json`), ["int8.safetensors"], [await bytes(`/models/${name}/int8.safetensors`)]);
  const ours = () => gpuEngine.encode(ids, new Uint8Array(n).fill(1), n, false);
  const ort = await import("/ort/ort.webgpu.min.mjs");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = "/ort/";
  const session = await ort.InferenceSession.create(`/models/${name}/f32.onnx`, { executionProviders: ["webgpu"], graphOptimizationLevel: "all" });
  const theirs = async () => Object.values(await session.run({ ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, n]) }))[0].data;
  const [a, b] = [await ours(), await theirs()];
  const dim = a.length / n;
  let cosine = 0;
  for (let row = 0; row < a.length; row += dim) {
    let [dot, aa, bb] = [0, 0, 0];
    for (let i = row; i < row + dim; i++) [dot, aa, bb] = [dot + a[i] * b[i], aa + a[i] * a[i], bb + b[i] * b[i]];
    cosine += dot / Math.sqrt(aa * bb) / n;
  }
  const cells = await race(seconds, [ours, theirs]);
  await session.release();
  return { cells, cosine };
};

/** Seconds a token of MaxSim, from compressed codes and from plain embeddings. */
window.maxsim = async (backends, documents, repeat, dim, seconds) => {
  const all = backends.map((backend) => new shirube.BenchMaxsim(documents, repeat, dim, backend));
  const scores = all.map((m) => [m.compressed(), m.plain()]);
  let worst = 0;
  for (const [a, b] of scores) for (let i = 0; i < documents; i++) worst = Math.max(worst, Math.abs(a[i] - b[i]));
  const timings = await race(seconds, all.flatMap((m) => [() => void m.compressed(), () => void m.plain()]));
  const cells = all.map((m, i) => ({ backend: backends[i], tokens: m.tokens(), compressed: timings[2 * i], plain: timings[2 * i + 1] }));
  for (const m of all) m.free();
  return { worst, cells };
};
