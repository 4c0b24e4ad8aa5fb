/**
 * Encoder and MaxSim on WebGPU, beside the engine: a module of its own (the package's `gpu.js`), fetched only where an adapter is worth it.
 *
 * The engine stays whole. For a query the GPU computes embeddings and scores, the engine takes them (`precompute`) and goes on; where the GPU is absent,
 * slower, wrong or lost, the engine computes them itself.
 */

import start, { GpuEngine } from "../dist/shirube_gpu.js";
import type { Engine } from "../dist/shirube_wasm.js";
import { DEVICE_CACHE } from "./assets.js";
import { toShirubeError } from "./errors.js";
import { both, decide, memoryKey, type Early, type Files, type Measured } from "./gpu.js";
import type { DeviceChoice, DeviceStatus } from "./types.js";
import { compileWasm } from "./wasm.js";

export { default, GpuEngine } from "../dist/shirube_gpu.js";

/** What `start` needs. */
export interface GpuOptions extends Early {
  engine: Engine;
  files: Files;
  /** From {@link prepare}. */
  prepared: Prepared;
  /** What an earlier visit measured. */
  remembered: Measured | undefined;
}

/** What {@link prepare} set going. */
export interface Prepared {
  /** The device with the kernels of the encoder. */
  gpu: Promise<GpuEngine>;
  /** The codec's tables are here: the kernels that score the index are compiled too. */
  tables(bytes: Uint8Array): void;
  /** Loading failed: the device is not needed. */
  drop(): void;
}

interface Input {
  ids: Uint32Array;
  keep: Uint8Array;
  nAttended: number;
}

interface Parts {
  dim: number;
  centroids: Float32Array;
  addCentroid: boolean;
  table: Int8Array;
  step: number;
  valuesPerByte: number;
  codebooks: Int8Array;
  rowBytes: number;
  codes: Uint16Array;
  residuals: Uint8Array;
  inverseNorms: Float32Array;
  offsets: Uint32Array;
}

interface Found {
  embeddings: Float32Array;
  scores: Float32Array;
}

/** What the self-check and the timing search with: kana, kanji, letters, about as long as queries are. */
const SAMPLE = "標を見て道をえらぶ guidepost 検索の速さ";

/** Largest difference of an embedding's value, relative to its length. Rounding moves an activation to the next of 127 steps at most: a few thousandths. */
const EMBEDDING_BOUND = 0.05;
/** Largest difference of a document's score for each query token, at embeddings of length 1. */
const SCORE_BOUND = 0.002;
/** Longer than any query on any GPU that would be chosen: then it hangs. */
const MOST_MS = 10_000;
/** Best of so many runs. */
const RUNS = 3;

let started: Promise<void> | undefined;

/** The module's memory, once it runs. */
let memory: WebAssembly.Memory | undefined;

export const gpuMemory = (): WebAssembly.Memory[] => (memory ? [memory] : []);

/** Starts the module's WebAssembly, once. */
function startModule({ urls, signal }: Early): Promise<void> {
  const run = async () => {
    memory = (await start({ module_or_path: await compileWasm(urls.wasm, signal) })).memory;
  };
  started ??= run();
  started.catch(() => (started = undefined));
  return started;
}

/** What of a `GPUDevice` is used here. */
interface Device {
  createBindGroupLayout(options: object): object;
  createPipelineLayout(options: object): object;
  createShaderModule(options: object): object;
  createComputePipelineAsync(options: object): Promise<object>;
}

/** What of `GPUAdapter` is used here. */
interface AdapterClass {
  requestDevice(this: { features?: ReadonlySet<string> }, wish?: { requiredFeatures?: string[] }): Promise<unknown>;
}

/** Makes the engine's device, with subgroups where the adapter has them: wgpu 30 has no word for that feature, so it is added to what wgpu asks for. */
async function create(allowSoftware: boolean): Promise<GpuEngine> {
  const adapter = (globalThis as { GPUAdapter?: { prototype: AdapterClass } }).GPUAdapter?.prototype;
  if (!adapter) return GpuEngine.create(allowSoftware);
  const ask = adapter.requestDevice;
  const asking: AdapterClass["requestDevice"] = function (wish) {
    const more = this.features?.has("subgroups") ? ["subgroups"] : [];
    return ask.call(this, { ...wish, requiredFeatures: [...(wish?.requiredFeatures ?? []), ...more] });
  };
  adapter.requestDevice = asking;
  try {
    return await GpuEngine.create(allowSoftware);
  } finally {
    // Whoever else has changed it meanwhile keeps that.
    if (adapter.requestDevice === asking) adapter.requestDevice = ask;
  }
}

/** `GPUShaderStage.COMPUTE` */
const COMPUTE = 4;

/** Compiles kernels without holding up the thread: first as the browser does it in the background, for which wgpu has no call, then as wgpu keeps them. */
async function compile(gpu: GpuEngine, manifest: Uint8Array | undefined, tables: Uint8Array | undefined): Promise<void> {
  const device = gpu.device() as Device;
  const kernels = gpu.kernels(manifest, tables) as { code: string; bindings: string[] }[];
  // Held until wgpu has asked for the same: a browser may forget a pipeline that nobody has.
  const compiled = await Promise.all(
    kernels.map(({ code, bindings }) => {
      const entries = bindings.map((type, binding) => ({ binding, visibility: COMPUTE, buffer: { type } }));
      const layout = device.createPipelineLayout({ bindGroupLayouts: [device.createBindGroupLayout({ entries })] });
      return device.createComputePipelineAsync({ layout, compute: { module: device.createShaderModule({ code }), entryPoint: "main" } });
    }),
  );
  await gpu.compile(manifest, tables);
  compiled.length = 0;
}

/** Asks for a device and compiles the kernels of the encoder, while the model's weights come. */
export function prepare(options: Early, manifest: Uint8Array): Prepared {
  const begin = async () => {
    await startModule(options);
    const gpu = await create(options.adapter.software && options.wish === "webgpu");
    try {
      await compile(gpu, manifest, undefined);
    } catch (error) {
      gpu.destroy();
      throw error;
    }
    return gpu;
  };
  const prepared: Prepared = {
    gpu: begin(),
    tables: (bytes) => {
      const both = async () => {
        const gpu = await started;
        await compile(gpu, undefined, bytes);
        return gpu;
      };
      const started = prepared.gpu;
      prepared.gpu = both();
      prepared.gpu.catch(() => {});
    },
    drop: () => void prepared.gpu.then((gpu) => gpu.destroy()).catch(() => {}),
  };
  // Its failure is seen where it is waited for.
  prepared.gpu.catch(() => {});
  return prepared;
}

export class GpuSide {
  private constructor(
    private readonly engine: Engine,
    private gpu: GpuEngine | undefined,
    private choice: DeviceStatus,
  ) {}

  /** Where the parts of a search compute now. */
  get status(): DeviceStatus {
    return this.choice;
  }

  /** Loads the module, the weights and the index, checks results against the engine, and chooses. Never throws: what fails becomes a reason. */
  static async start(options: GpuOptions): Promise<GpuSide> {
    const { engine, wish, remembered } = options;
    const side = new GpuSide(engine, undefined, both({ kind: "wasm", reason: "" }));
    if (remembered) side.choice = decide(remembered, "on an earlier visit");
    try {
      const gpu = await options.prepared.gpu;
      side.gpu = gpu;
      const { manifest, weights } = options.files;
      await gpu.loadModel(manifest, weights.map(([path]) => path), weights.map(([, bytes]) => bytes));
      const parts = engine.indexParts() as Parts;
      await gpu.loadIndex(
        parts.dim,
        parts.centroids,
        parts.addCentroid,
        parts.table,
        parts.step,
        parts.valuesPerByte,
        parts.codebooks,
        parts.rowBytes,
        parts.codes,
        parts.residuals,
        parts.inverseNorms,
        parts.offsets,
      );
      const wrong = await side.check(gpu);
      if (wrong) {
        side.fail(`self-check: ${wrong}`);
      } else if (wish === "webgpu") {
        side.choice = side.told(both({ kind: "webgpu", reason: "device: \"webgpu\" was given" }));
      } else if (remembered) {
        side.choice = side.told(side.choice);
      } else {
        const measured = await side.measure(gpu);
        side.choice = side.told(decide(measured, "here"));
        await remember(options, measured);
        if (!side.active) side.destroy();
      }
    } catch (error) {
      side.fail(message(error));
    }
    return side;
  }

  /** `choice`, with what the device uses beside each part that runs there. */
  private told(choice: DeviceStatus): DeviceStatus {
    const { extensions } = this.gpu?.info() as { extensions: string[] };
    const one = (part: DeviceChoice): DeviceChoice => (part.kind === "webgpu" ? { ...part, extensions } : part);
    return { encoder: one(choice.encoder), maxsim: one(choice.maxsim) };
  }

  private get active(): boolean {
    return this.choice.encoder.kind === "webgpu" || this.choice.maxsim.kind === "webgpu";
  }

  /** Computes the GPU's part of `query` and gives it to the engine. Never throws: a query that fails here is the CPU's, as are those after it. */
  async precompute(query: string): Promise<void> {
    const { gpu, engine, choice } = this;
    if (!gpu || !this.active) return;
    let input: Input;
    try {
      input = engine.queryInput(query) as Input;
    } catch {
      // An empty query: the search itself says so.
      return;
    }
    try {
      const start = performance.now();
      if (choice.encoder.kind === "webgpu" && choice.maxsim.kind === "webgpu") {
        const { embeddings, scores } = await inTime(gpu.search(input.ids, input.keep, input.nAttended) as Promise<Found>);
        engine.precompute(query, embeddings, scores, performance.now() - start, 0);
      } else if (choice.encoder.kind === "webgpu") {
        const embeddings = await inTime(gpu.encode(input.ids, input.keep, input.nAttended, true));
        engine.precompute(query, embeddings, undefined, performance.now() - start, 0);
      } else {
        const { data } = engine.encode(query, "query") as { data: Float32Array };
        const encoded = performance.now();
        const scores = await inTime(gpu.score(data));
        engine.precompute(query, data, scores, encoded - start, performance.now() - encoded);
      }
    } catch (error) {
      this.fail(message(error));
    }
  }

  /** Frees the device and everything on it. */
  destroy(): void {
    this.gpu?.destroy();
    this.gpu = undefined;
  }

  private fail(reason: string): void {
    this.choice = both({ kind: "wasm", reason });
    this.destroy();
  }

  /** What differs between the GPU's results and the engine's for one query, if anything does. */
  private async check(gpu: GpuEngine): Promise<string | undefined> {
    const { engine } = this;
    const input = engine.queryInput(SAMPLE) as Input;
    const { dims, data } = engine.encode(SAMPLE, "query") as { dims: [number, number]; data: Float32Array };
    const scores = engine.scoreAll(data);
    const found = await inTime(gpu.search(input.ids, input.keep, input.nAttended) as Promise<Found>);
    const alone = await inTime(gpu.score(data));
    if (found.embeddings.length !== data.length) return `${found.embeddings.length} embedding values, the CPU has ${data.length}`;
    const dim = dims[1];
    let total = 0;
    for (let row = 0; row < data.length; row += dim) {
      const length = Math.hypot(...data.subarray(row, row + dim));
      total += length;
      for (let i = row; i < row + dim; i++) {
        const difference = Math.abs((found.embeddings[i] ?? NaN) - (data[i] ?? NaN)) / Math.max(length, 1e-6);
        if (!(difference <= EMBEDDING_BOUND)) return `an embedding differs by ${difference.toFixed(3)} of its length`;
      }
    }
    for (let i = 0; i < scores.length; i++) {
      const expected = scores[i] ?? NaN;
      // Documents without tokens have the lowest number there is.
      if (expected < -1e30 && (alone[i] ?? NaN) === expected) continue;
      const difference = Math.abs((alone[i] ?? NaN) - expected);
      if (!(difference <= SCORE_BOUND * Math.max(total, 1))) return `a score differs by ${difference.toFixed(3)}`;
      // From the GPU's own embeddings, which may be off by their bound.
      const whole = Math.abs((found.scores[i] ?? NaN) - expected);
      if (!(whole <= (EMBEDDING_BOUND + SCORE_BOUND) * Math.max(total, 1))) return `a score of the whole query differs by ${whole.toFixed(3)}`;
    }
    return undefined;
  }

  private async measure(gpu: GpuEngine): Promise<Measured> {
    const { engine } = this;
    const input = engine.queryInput(SAMPLE) as Input;
    const { data } = engine.encode(SAMPLE, "query") as { data: Float32Array };
    return {
      encoder: {
        cpu: await best(() => engine.encode(SAMPLE, "query")),
        gpu: await best(() => gpu.encode(input.ids, input.keep, input.nAttended, true)),
      },
      // The GPU scores every document, the CPU of a large index those that look best.
      maxsim: { cpu: await best(() => engine.scoreBest(data)), gpu: await best(() => gpu.score(data)) },
    };
  }
}

async function best(run: () => unknown): Promise<number> {
  let least = Infinity;
  for (let i = 0; i < RUNS; i++) {
    const start = performance.now();
    await run();
    least = Math.min(least, performance.now() - start);
  }
  return least;
}

function message(error: unknown): string {
  return toShirubeError(error).message;
}

async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the GPU did not answer within ${MOST_MS / 1000} s`)), MOST_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function remember(options: Early, measured: Measured): Promise<void> {
  if (options.memory === undefined || typeof caches === "undefined") return;
  try {
    const cache = await caches.open(DEVICE_CACHE);
    await cache.put(memoryKey(options), new Response(JSON.stringify(measured), { headers: { "content-type": "application/json" } }));
  } catch {
    // Nothing is kept here; the next visit times again.
  }
}
