/** What runs in the worker (or on the page's own thread): the WebAssembly engine and its files. */

import init, { Engine } from "../dist/shirube_wasm.js";
import { Assets, request, type FileEntry } from "./assets.js";
import { ShirubeError, aborted, toShirubeError } from "./errors.js";
import type { HostOptions, Results } from "./protocol.js";
import type { Embeddings, ProgressEvent, SearchResult } from "./types.js";

/** The smallest module with a SIMD instruction: (func (drop (v128.const 0))). */
const SIMD_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 23, 1, 21, 0, 253, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  0, 0, 26, 11,
]);

async function startWasm(url: string | undefined, signal: AbortSignal): Promise<void> {
  const unsupported = (why: string, cure: string) => new ShirubeError("WASM_UNSUPPORTED", why, cure);
  if (typeof WebAssembly === "undefined") {
    throw unsupported("this browser has no WebAssembly", "Use a browser from 2023 or later, outside lockdown modes.");
  }
  const href = url ?? new URL("./shirube_wasm_bg.wasm", import.meta.url).href;
  const response = await request(href, { signal });
  let module: WebAssembly.Module;
  try {
    const type = response.headers.get("content-type") ?? "";
    if (type.startsWith("application/wasm")) {
      module = await WebAssembly.compileStreaming(response);
    } else {
      const bytes = new Uint8Array(await response.arrayBuffer());
      if (bytes[0] === 0x3c) {
        throw new ShirubeError("ASSET_IS_HTML", `${href}: a web page stands in place of the file`, "Check the path, or give assetBase.");
      }
      module = await WebAssembly.compile(bytes);
    }
  } catch (error) {
    if (signal.aborted) throw aborted();
    if (error instanceof ShirubeError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    if (/content security policy|disallowed by embedder|unsafe-eval/i.test(message)) {
      throw unsupported(message, "Allow 'wasm-unsafe-eval' in the page's script-src.");
    }
    if (!WebAssembly.validate(SIMD_PROBE)) {
      throw unsupported("this browser has no WebAssembly SIMD", "Use a browser from 2023 or later.");
    }
    throw new ShirubeError("ASSET_DAMAGED", `${href}: ${message}`, "Upload the package's dist folder again.", error);
  }
  await init({ module_or_path: module });
}

let wasmStarted: Promise<void> | undefined;

export class Host {
  private engine: Engine | undefined;

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
    try {
      // Both manifests before any large file: a bundle of another model is refused after a few kilobytes.
      const bundleFiles = await assets.manifest(new URL("shirube.json", options.bundle).href, (bytes) => engine.openBundle(bytes) as FileEntry[]);
      const modelFiles = await assets.manifest(new URL("manifest.json", options.model).href, (bytes) => engine.openModel(bytes) as FileEntry[]);
      const [modelCached = false, bundleCached = false] = await assets.files([
        { name: "model", folder: options.model, files: modelFiles, accept: (path, bytes) => engine.provideModel(path, bytes) },
        { name: "bundle", folder: options.bundle, files: bundleFiles, accept: (path, bytes) => engine.provideBundle(path, bytes) },
      ]);
      engine.finish();
      const status = engine.status() as Pick<Results["load"], "backend" | "model" | "bundle">;
      this.engine = engine;
      report({ status: "ready", name: "shirube" });
      return {
        backend: status.backend,
        cache:
          assets.memoryReason === undefined
            ? { kind: "cache-storage", reason: "verified files are kept for the next visit" }
            : { kind: "memory", reason: assets.memoryReason },
        model: { ...status.model, fromCache: modelCached },
        bundle: { ...status.bundle, fromCache: bundleCached },
        loadMs: performance.now() - start,
      };
    } catch (error) {
      if (!isTrap(error)) engine.free();
      if (signal.aborted) throw aborted();
      throw error;
    }
  }

  search(query: string, limit: number, lexicalWeight: number): SearchResult {
    return this.call((engine) => engine.search(query, limit, lexicalWeight) as SearchResult);
  }

  encode(text: string, role: "query" | "document"): Embeddings {
    return this.call((engine) => engine.encode(text, role) as Embeddings);
  }

  dispose(): void {
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
