/**
 * Japanese search by meaning in the reader's browser.
 *
 * ```ts
 * import { Shirube } from "shirube";
 * const shirube = await Shirube.load({ bundle: "/shirube/" });
 * const { hits } = await shirube.search("再レンダリングを減らしたい");
 * ```
 *
 * Importing this module fetches nothing and touches no browser object, so it is safe on a server. `load` fetches the engine, the
 * model and the bundle, checks every byte against its manifest and keeps verified files for the next visit. The query never leaves
 * the page.
 *
 * @module
 */

import { ShirubeError, aborted, toShirubeError } from "./errors.js";
import { clearCache } from "./assets.js";
import type { HostOptions } from "./protocol.js";
import modelFiles from "virtual:model-files";
import { isInline } from "./inline-files.js";
import { maxsim } from "./rerank.js";
import { startMain, startWorker, type Thread } from "./thread.js";
import type { Embeddings, LoadOptions, RerankOptions, Reranked, SearchOptions, SearchResult, Status } from "./types.js";

export { ShirubeError, type ShirubeErrorCode } from "./errors.js";
export { excerpt, explain, type Pair, type Run } from "./excerpt.js";
export { maxsim } from "./rerank.js";
export type * from "./types.js";

const MAX_LIMIT = 100;
/** How much words count unless said otherwise; the same as the engine's own default. */
const LEXICAL_WEIGHT = 0.4;

/** A loaded search engine: one model and one bundle. */
export class Shirube {
  private constructor(
    private readonly thread: Thread,
    private current: Status,
  ) {}

  /** What is loaded and how it runs. */
  get status(): Status {
    return this.current;
  }

  /**
   * Loads the engine, the model and the bundle.
   *
   * @throws {@link ShirubeError} with any code of loading: `ASSET_*`, `VERSION_NEWER`, `MODEL_MISMATCH`, `NETWORK`,
   * `WASM_UNSUPPORTED`, `WORKER_FAILED`, `ABORTED`, `BAD_ARGUMENT`.
   */
  static async load(options: LoadOptions): Promise<Shirube> {
    const start = performance.now();
    const base = options.assetBase === undefined ? undefined : folder(options.assetBase, "assetBase");
    const host: HostOptions = {
      bundle: folder(options.bundle, "bundle"),
      ...modelOf(options),
      // Literal, so that bundlers follow it, and named here: a bundler's worker may be a blob, to which an address without an origin means nothing.
      wasm: base ? new URL("shirube_wasm_bg.wasm", base).href : absolute(new URL("./shirube_wasm_bg.wasm", import.meta.url).href),
      gpu: base
        ? { module: new URL("gpu.js", base).href, wasm: new URL("shirube_gpu_bg.wasm", base).href }
        : { module: absolute(new URL("./gpu.js", import.meta.url).href), wasm: absolute(new URL("./shirube_gpu_bg.wasm", import.meta.url).href) },
      cache: (options.cache ?? true) && !isInline(import.meta.url),
      // A page opened from a file has everything in its script, and nothing for a GPU.
      device: isInline(import.meta.url) ? "wasm" : (options.device ?? "auto"),
    };
    if (!["auto", "webgpu", "wasm"].includes(host.device)) {
      throw new ShirubeError("BAD_ARGUMENT", `device is ${String(options.device)}, expected "auto", "webgpu" or "wasm"`);
    }
    if (options.signal?.aborted) throw aborted();
    const { thread, reason } = await startThread(options.worker ?? "auto", base);
    try {
      const loaded = await thread.call({ op: "load", options: host }, options.signal, options.progress_callback);
      return new Shirube(thread, { ...loaded, thread: { kind: thread.kind, reason }, loadMs: performance.now() - start });
    } catch (error) {
      thread.dispose();
      throw toShirubeError(error);
    }
  }

  /** Deletes the files that earlier visits kept in Cache Storage. */
  static clearCache(): Promise<void> {
    return clearCache();
  }

  /**
   * The sections nearest in meaning to `query`, best first.
   *
   * @throws {@link ShirubeError} `EMPTY_QUERY`, `ABORTED`, `BAD_ARGUMENT`, `WORKER_FAILED`, `INTERNAL`.
   */
  async search(query: string, options: SearchOptions = {}): Promise<SearchResult> {
    const limit = options.limit ?? 10;
    if (typeof query !== "string") throw new ShirubeError("BAD_ARGUMENT", `query is a ${typeof query}, expected a string`);
    if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
      throw new ShirubeError("BAD_ARGUMENT", `limit is ${String(limit)}, expected a whole number from 1 to ${MAX_LIMIT}`);
    }
    const lexicalWeight = options.lexicalWeight ?? LEXICAL_WEIGHT;
    if (!(lexicalWeight >= 0 && lexicalWeight <= 10)) {
      throw new ShirubeError("BAD_ARGUMENT", `lexicalWeight is ${String(lexicalWeight)}, expected 0 to 10`);
    }
    const call = { op: "search", query: wellFormed(query), limit, lexicalWeight, queue: options.queue ?? false } as const;
    const result = await this.thread.call(call, options.signal);
    if (result.device) this.current = { ...this.current, device: result.device };
    return result;
  }

  /**
   * The token embeddings of `text`, as the index and the scorer see them.
   *
   * @throws {@link ShirubeError} `EMPTY_QUERY`, `ABORTED`, `BAD_ARGUMENT`, `WORKER_FAILED`, `INTERNAL`.
   */
  async encode(text: string, role: "query" | "document" = "query", options: { signal?: AbortSignal } = {}): Promise<Embeddings> {
    if (typeof text !== "string") throw new ShirubeError("BAD_ARGUMENT", `text is a ${typeof text}, expected a string`);
    if (role !== "query" && role !== "document") {
      throw new ShirubeError("BAD_ARGUMENT", `role is ${String(role)}, expected "query" or "document"`);
    }
    return this.thread.call({ op: "encode", text: wellFormed(text), role }, options.signal);
  }

  /**
   * Your own texts by their nearness to `query`, best first, ties in the order given: encoded as documents are, and scored by MaxSim without an
   * index between. About as long as encoding them takes.
   *
   * @throws {@link ShirubeError} `EMPTY_QUERY`, `ABORTED`, `BAD_ARGUMENT`, `WORKER_FAILED`, `INTERNAL`.
   */
  async rerank(query: string, candidates: readonly string[], options: RerankOptions = {}): Promise<Reranked[]> {
    const wrong = Array.isArray(candidates) ? candidates.findIndex((text) => typeof text !== "string") : 0;
    if (wrong >= 0) throw new ShirubeError("BAD_ARGUMENT", `candidate ${wrong} is no string`, "Give an array of texts.");
    const asked = await this.encode(query, "query", options);
    if (query.trim() === "") throw new ShirubeError("EMPTY_QUERY", "the query is blank", "Give some words.");
    const scored: Reranked[] = [];
    for (const [index, text] of candidates.entries()) {
      // A blank text is no error among many: it is near to nothing.
      const empty = text.trim() === "";
      scored.push({ index, score: empty ? Number.NEGATIVE_INFINITY : maxsim(asked, await this.encode(text, "document", options)) });
    }
    return scored.sort((a, b) => b.score - a.score || a.index - b.index).slice(0, options.limit ?? candidates.length);
  }

  /** Stops the worker and frees its memory. Searches under way end with `ABORTED`. */
  dispose(): void {
    this.thread.dispose();
  }
}

async function startThread(wish: boolean | "auto", base: string | undefined): Promise<{ thread: Thread; reason: string }> {
  if (isInline(import.meta.url)) return { thread: await startMain(), reason: "files in the script itself are not reached from a worker" };
  if (wish === false) return { thread: await startMain(), reason: "worker: false was given" };
  try {
    return { thread: await startWorker(base === undefined ? undefined : new URL("worker.js", base)), reason: "searches do not block the page" };
  } catch (error) {
    if (wish === true) throw error;
    return { thread: await startMain(), reason: toShirubeError(error).message };
  }
}

/** Some bundlers give an address without its origin. */
const absolute = (url: string): string => new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href).href;

/** The model named, else the one in the bundle where `shirube build` put this very script beside it, else the package's own. */
function modelOf(options: LoadOptions): Pick<HostOptions, "model" | "renamed"> {
  if (options.model !== undefined) return { model: folder(options.model, "model"), renamed: {} };
  const bundle = folder(options.bundle, "bundle");
  // Not as `new URL`: bundlers would look for that folder.
  return bundle === import.meta.url.replace(/[^/]*$/, "") ? { model: `${bundle}model/`, renamed: {} } : ownModel();
}

/** The model that comes with the package. Bundlers give its files names of their own. */
function ownModel(): Pick<HostOptions, "model" | "renamed"> {
  const urls = Object.entries(modelFiles()).map(([path, url]) => [path, absolute(url).replace(/\?no-inline$/, "")] as const);
  const model = new URL("./", urls.find(([path]) => path === "manifest.json")?.[1]).href;
  return { model, renamed: Object.fromEntries(urls.map(([path, url]) => [new URL(path, model).href, url])) };
}

/** An absolute folder URL with a final slash. */
function folder(value: string | URL, name: string): string {
  let url: URL;
  try {
    url = new URL(value, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch (error) {
    throw new ShirubeError("BAD_ARGUMENT", `${name} is not a URL: ${String(value)}`, "Give a path such as \"/shirube/\".", error);
  }
  url.search = "";
  url.hash = "";
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url.href;
}

/** Lone surrogates become U+FFFD: WebAssembly strings are UTF-8, and typing halves of emoji is no error. */
function wellFormed(text: string): string {
  return typeof text.toWellFormed === "function"
    ? text.toWellFormed()
    : text.replace(/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g, "\uFFFD");
}
