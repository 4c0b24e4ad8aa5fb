/** What runs in the worker (or on the page's own thread): the WebAssembly engine and its files. */

import init, { Engine } from "../dist/shirube_wasm.js";
import { Assets, type FileEntry } from "./assets.js";
import { ShirubeError, aborted, toShirubeError } from "./errors.js";
import { GpuSide, onCpu, prepare, probe, type Files } from "./gpu.js";
import type { HostOptions, Results } from "./protocol.js";
import type { DeviceStatus, Embeddings, ProgressEvent, SearchResult } from "./types.js";
import { compileWasm } from "./wasm.js";

async function startWasm(url: string | undefined, signal: AbortSignal): Promise<void> {
  const module = await compileWasm(url ?? new URL("./shirube_wasm_bg.wasm", import.meta.url).href, signal);
  await init({ module_or_path: module });
}

let wasmStarted: Promise<void> | undefined;

export class Host {
  private engine: Engine | undefined;
  private gpu: GpuSide | undefined;

  /** Loads wasm, model and bundle. */
  async load(options: HostOptions, signal: AbortSignal, report: (event: ProgressEvent) => void): Promise<Results["load"]> {
    const start = performance.now();
    const assets = new Assets(options.cache, signal, report, options.renamed);
    // The three first downloads need nothing of each other; only parsing needs the engine.
    wasmStarted ??= startWasm(options.wasm, signal);
    const started = wasmStarted;
    started.catch(() => (wasmStarted = undefined));
    await started;
    const engine = new Engine();
    // Asked while files come; weights are only held back for a GPU where there is one to use.
    const probed = probe(options.device);
    const files: Files = { manifest: new Uint8Array(), weights: [] };
    try {
      // Both manifests before any large file: a bundle of another model is refused after a few kilobytes.
      const bundleFiles = await assets.manifest(new URL("shirube.json", options.bundle).href, (bytes) => engine.openBundle(bytes) as FileEntry[]);
      const modelFiles = await assets.manifest(new URL("manifest.json", options.model).href, (bytes) => {
        files.manifest = bytes.slice();
        return engine.openModel(bytes) as FileEntry[];
      });
      const adapter = await probed;
      const fingerprint = [...modelFiles, ...bundleFiles].map((file) => file.sha256.slice(0, 4)).join("");
      const memory = options.cache ? `${options.bundle}?fingerprint=${fingerprint}` : undefined;
      const early = { wish: options.device, adapter, urls: options.gpu, memory, signal };
      const remembered = adapter.usable ? prepare(early) : undefined;
      const acceptModel = (path: string, bytes: Uint8Array) => {
        engine.provideModel(path, bytes);
        if (adapter.usable && path.endsWith(".safetensors")) files.weights.push([path, bytes]);
      };
      const [modelCached = false, bundleCached = false] = await assets.files([
        { name: "model", folder: options.model, files: modelFiles, accept: acceptModel },
        { name: "bundle", folder: options.bundle, files: bundleFiles, accept: (path, bytes) => engine.provideBundle(path, bytes) },
      ]);
      engine.finish();
      let device = onCpu(adapter.reason);
      if (remembered) {
        this.gpu = await GpuSide.start({ ...early, engine, files, remembered });
        device = this.gpu.status;
        if (signal.aborted) throw aborted();
      }
      const status = engine.status() as Pick<Results["load"], "backend" | "model" | "bundle">;
      this.engine = engine;
      report({ status: "ready", name: "shirube" });
      return {
        backend: status.backend,
        device,
        cache:
          assets.memoryReason === undefined
            ? { kind: "cache-storage", reason: "verified files are kept for the next visit" }
            : { kind: "memory", reason: assets.memoryReason },
        model: { ...status.model, fromCache: modelCached },
        bundle: { ...status.bundle, fromCache: bundleCached },
        loadMs: performance.now() - start,
      };
    } catch (error) {
      this.gpu?.destroy();
      if (!isTrap(error)) engine.free();
      if (signal.aborted) throw aborted();
      throw error;
    }
  }

  async search(query: string, limit: number, lexicalWeight: number): Promise<SearchResult> {
    const device = await this.onGpu(query);
    const result = this.call((engine) => engine.search(query, limit, lexicalWeight) as SearchResult);
    return device ? { ...result, device } : result;
  }

  /** Lets the GPU compute its part of a query, if it has one. Whatever goes wrong there, the search that follows is answered. */
  private async onGpu(query: string): Promise<DeviceStatus | undefined> {
    await this.gpu?.precompute(query);
    return this.gpu?.status;
  }

  encode(text: string, role: "query" | "document"): Embeddings {
    return this.call((engine) => engine.encode(text, role) as Embeddings);
  }

  dispose(): void {
    this.gpu?.destroy();
    this.gpu = undefined;
    this.engine?.free();
    this.engine = undefined;
  }

  private call<T>(action: (engine: Engine) => T): T {
    if (!this.engine) throw new ShirubeError("INTERNAL", "the engine is not loaded", "Call Shirube.load() again.");
    try {
      return action(this.engine);
    } catch (error) {
      // After a trap the memory is in an unknown state: nothing may run on it again.
      if (isTrap(error)) this.engine = undefined;
      throw toShirubeError(error);
    }
  }
}

function isTrap(error: unknown): boolean {
  return error instanceof WebAssembly.RuntimeError;
}
