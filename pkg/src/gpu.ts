/**
 * Whether a GPU is worth its module (`gpu-side.ts`, the package's `gpu.js`), which is fetched only then: every page loads what stands here.
 *
 * Every way to the CPU ends in a `reason` in the status, none in an error.
 */

import type { Engine } from "../dist/shirube_wasm.js";
import { DEVICE_CACHE } from "./assets.js";
import { toShirubeError } from "./errors.js";
import type { GpuSide } from "./gpu-side.js";
import type { DeviceChoice, DeviceStatus } from "./types.js";

/** What of WebGPU is read here; the rest is the module's. */
interface Adapter {
  isFallbackAdapter?: boolean;
  info?: { vendor?: string; architecture?: string; device?: string; description?: string; isFallbackAdapter?: boolean };
}

/** The files of a model, as fetched. */
export interface Files {
  manifest: Uint8Array;
  weights: [string, Uint8Array][];
}

/** Whether there is a GPU to use. */
export interface Probe {
  usable: boolean;
  software: boolean;
  /** Names the adapter, as far as it is told; part of what a measured choice is remembered under. */
  name: string;
  /** Why it is not used. */
  reason: string;
}

/** Adapters named so compute on the CPU, whatever they say of themselves. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|basic render|software/i;

/** No adapter is asked for. */
export const noGpu = (reason: string): Probe => ({ usable: false, software: false, name: "", reason });

/** Looks for an adapter. `"auto"` takes none that is a program on the CPU: it would be many times slower than the CPU's own kernels. */
export async function probe(wish: "auto" | "webgpu" | "wasm"): Promise<Probe> {
  const no = noGpu;
  if (wish === "wasm") return no("device: \"wasm\" was given, or the page was opened from a file");
  const gpu = (navigator as unknown as { gpu?: { requestAdapter(options: object): Promise<Adapter | null> } }).gpu;
  if (!gpu) return no("this browser offers no WebGPU here");
  let adapter: Adapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (error) {
    return no(`WebGPU refused an adapter: ${String(error)}`);
  }
  if (!adapter) return no("WebGPU found no adapter");
  const { vendor = "", architecture = "", device = "", description = "" } = adapter.info ?? {};
  const name = [vendor, architecture, device, description].filter((part) => part !== "").join(" ");
  const software = adapter.isFallbackAdapter === true || adapter.info?.isFallbackAdapter === true || SOFTWARE.test(name);
  if (software && wish === "auto") return { ...no(`the adapter (${name || "fallback"}) computes on the CPU`), software, name };
  return { usable: true, software, name, reason: "" };
}

/** What is known before the model and the index are here. */
export interface Early {
  wish: "auto" | "webgpu" | "wasm";
  adapter: Probe;
  /** Where the module and its WebAssembly are. */
  urls: { module: string; wasm: string };
  /** Under which a measured choice is remembered; `undefined` where nothing may be kept. */
  memory: string | undefined;
  signal: AbortSignal;
}

/** Milliseconds on each side. */
export interface Times {
  cpu: number;
  gpu: number;
}

export interface Measured {
  encoder: Times;
  maxsim: Times;
}

/** The GPU must be clearly faster: it also costs memory and battery. */
const CLEARLY = 0.8;
/** Both parts on the CPU. */
export function onCpu(reason: string): DeviceStatus {
  return both({ kind: "wasm", reason });
}

export function both(choice: DeviceChoice): DeviceStatus {
  return { encoder: choice, maxsim: choice };
}

/** Each part where it was clearly faster. */
export function decide(measured: Measured, where: string): DeviceStatus {
  const one = ({ cpu, gpu }: Times): DeviceChoice => ({
    kind: gpu <= CLEARLY * cpu ? "webgpu" : "wasm",
    reason: `timed ${where}: ${gpu.toFixed(1)} ms on the GPU, ${cpu.toFixed(1)} ms on the CPU`,
  });
  return { encoder: one(measured.encoder), maxsim: one(measured.maxsim) };
}

/** A URL that names the adapter, the bundle and this choice: Cache Storage keeps responses by URL. */
export function memoryKey(options: Early): string {
  return `${options.memory}&device=${encodeURIComponent(options.adapter.name)}`;
}

async function recall(options: Early): Promise<Measured | undefined> {
  if (options.memory === undefined || typeof caches === "undefined") return undefined;
  try {
    const stored = await (await caches.open(DEVICE_CACHE)).match(memoryKey(options));
    const value = (await stored?.json()) as Partial<Measured> | undefined;
    const good = (times: Partial<Times> | undefined) => Number.isFinite(times?.cpu) && Number.isFinite(times?.gpu);
    return good(value?.encoder) && good(value?.maxsim) ? (value as Measured) : undefined;
  } catch {
    return undefined;
  }
}

/** What {@link begin} set going. */
export interface Begun {
  /** The codec's tables are here: the kernels that score the index are compiled too. */
  tables(bytes: Uint8Array): void;
  /** Loading failed: the device is not needed. */
  drop(): void;
  /** The GPU with model and index on it, or none; and where searches compute. */
  start(engine: Engine, files: Files): Promise<{ side: GpuSide | undefined; device: DeviceStatus }>;
}

type Module = typeof import("./gpu-side.js");

let loaded: Module | undefined;

/** Memory of the GPU's module, once it runs. */
export const gpuMemory = (): WebAssembly.Memory[] => loaded?.gpuMemory() ?? [];

/**
 * Begins, beside the download of the model's weights, what a GPU needs of its own: the module, a device, compiled kernels. Not where an earlier visit
 * measured that the CPU is as good.
 */
export function begin(options: Early, manifest: Uint8Array): Begun {
  const remembered = options.wish === "auto" ? recall(options) : Promise.resolve(undefined);
  const load = async () => {
    const measured = await remembered;
    const { encoder, maxsim } = measured ? decide(measured, "") : onCpu("");
    if (measured && encoder.kind === "wasm" && maxsim.kind === "wasm") return undefined;
    loaded = (await import(/* webpackIgnore: true */ /* @vite-ignore */ options.urls.module)) as Module;
    return { module: loaded, prepared: loaded.prepare(options, manifest) };
  };
  const ready = load();
  // Its failure is seen where it is waited for.
  const quietly = (action: (prepared: ReturnType<Module["prepare"]>) => void) => void ready.then((ready) => ready && action(ready.prepared)).catch(() => {});
  quietly(() => {});
  return {
    tables: (bytes) => quietly((prepared) => prepared.tables(bytes)),
    drop: () => quietly((prepared) => prepared.drop()),
    async start(engine, files) {
      const measured = await remembered;
      try {
        const gpu = await ready;
        if (!gpu) return { side: undefined, device: measured ? decide(measured, "on an earlier visit") : onCpu("") };
        const side = await gpu.module.GpuSide.start({ ...options, engine, files, prepared: gpu.prepared, remembered: measured });
        return { side, device: side.status };
      } catch (error) {
        return { side: undefined, device: onCpu(toShirubeError(error).message) };
      } finally {
        // The device has its own copy now.
        files.weights = [];
      }
    },
  };
}
