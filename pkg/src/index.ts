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

import { dtypeOf } from "./dtype.js";
import { ShirubeError, aborted, toShirubeError } from "./errors.js";
import { clearCache, fetchAhead } from "./assets.js";
import { isLocal } from "./folders.js";
import { baseOf, engineUrls, gpuUrls, modelOf, placeOf, startThread, wellFormed } from "./places.js";
import type { HostOptions } from "./protocol.js";
import { isInline } from "./inline-files.js";
import { persist } from "./persist.js";
import { checkEncode, rerank } from "./rerank.js";
import type { Thread } from "./thread.js";
import { compileWasm, engineUrl } from "./wasm.js";
import type {
  Embeddings,
  LoadOptions,
  RerankOptions,
  Reranked,
  Search,
  SearchOptions,
  SearchResult,
  Stage,
  Status,
} from "./types.js";

export { ShirubeError, type ShirubeErrorCode } from "./errors.js";
export { excerpt, explain, type Pair, type Run } from "./excerpt.js";
export { findModel } from "./folders.js";
export { maxsim } from "./rerank.js";
export { Reranker } from "./reranker.js";
export type * from "./types.js";

const MAX_LIMIT = 100;
/** How much words count unless said otherwise; the same as the engine's own default. */
const LEXICAL_WEIGHT = 0.2;

/** A loaded search engine: one model and one bundle. */
export class Shirube {
  private newest = 0;
  private meaning: Promise<void> | undefined;
  /** Ends the wait for meaning of the newest search, because a newer one begins. */
  private replace: (() => void) | undefined;

  private constructor(
    private readonly thread: Thread,
    private current: Status,
    private readonly options: LoadOptions,
    /** The engine's module, where it was compiled beside the worker's start. */
    private compiled: Promise<WebAssembly.Module | undefined> | undefined,
  ) {}

  /** What is loaded and how it runs, as of now. */
  get status(): Status {
    return this.current;
  }

  /**
   * Loads the engine and the bundle's words, and by default the model and the codes.
   *
   * @throws {@link ShirubeError} with any code of loading: `ASSET_*`, `VERSION_*`, `MODEL_MISMATCH`, `NETWORK`,
   * `WASM_UNSUPPORTED`, `WORKER_FAILED`, `ABORTED`, `BAD_ARGUMENT`.
   */
  static async load(options: LoadOptions): Promise<Shirube> {
    const start = performance.now();
    const base = baseOf(options, options.bundle);
    const when = options.meaning ?? "wait";
    if (when !== "wait" && when !== "background" && when !== "off") {
      throw new ShirubeError("BAD_ARGUMENT", `meaning is ${String(when)}, expected "wait", "background" or "off"`);
    }
    const bundle = placeOf(options.bundle, "bundle");
    const model = modelOf(options.model, options.bundle);
    const host: HostOptions = {
      ...model,
      bundle: bundle.address,
      local: new Map([...bundle.local, ...model.local]),
      dtype: dtypeOf(options.dtype),
      wasm: engineUrls(base),
      // Who waits for meaning needs the whole engine at once; a page opened from a file has it already.
      meaningFollows: when === "background",
      wordsFirst: when !== "wait" && !isInline(import.meta.url),
      gpu: gpuUrls(base),
      cache: (options.cache ?? true) && !isInline(import.meta.url),
      // A page opened from a file has everything in its script, and nothing for a GPU.
      device: isInline(import.meta.url) ? "wasm" : (options.device ?? "auto"),
      residentBytes: isInline(import.meta.url) ? Number.POSITIVE_INFINITY : options.residentBytes,
    };
    if (host.residentBytes !== undefined && !(host.residentBytes >= 0)) {
      throw new ShirubeError("BAD_ARGUMENT", `residentBytes is ${String(options.residentBytes)}, expected 0 or more, Infinity to load all codes`);
    }
    if (!["auto", "webgpu", "wasm"].includes(host.device)) {
      throw new ShirubeError("BAD_ARGUMENT", `device is ${String(options.device)}, expected "auto", "webgpu" or "wasm"`);
    }
    if (options.signal?.aborted) throw aborted();
    // The bundle's first files come while the worker does.
    // Without a network the worker looks for what is kept, and the page's console stays empty.
    const atHand = isInline(host.bundle) || isLocal(host.bundle) || globalThis.navigator?.onLine === false;
    const coming = atHand ? undefined : fetchAhead(host.bundle, isLocal(host.model) || when === "off" ? undefined : host, host.cache, options.signal);
    // An earlier visit left only the engine to compile: it is as soon ready as the worker is.
    const module = coming?.kept.then((kept) => (kept && when === "background" ? compileWasm(engineUrl(host.wasm), options.signal ?? new AbortController().signal) : undefined));
    // Who loads it anew says why it fails.
    const compiled = module?.catch(() => undefined);
    const { thread, reason } = await startThread(options.worker ?? "auto", base);
    try {
      const ahead = (await coming?.files) ?? [];
      const kept = await coming?.kept;
      const after = await coming?.after;
      const loading = thread.call({ op: "load", options: host, ahead, expected: after?.url, kept }, options.signal, options.progress_callback);
      if (after) void after.bytes.then((bytes) => thread.call({ op: "arrived", url: after.url, bytes }, undefined)).catch(() => {});
      const loaded = await loading;
      const status: Status = { ...loaded, meaning: { state: "off" }, thread: { kind: thread.kind, reason }, loadMs: performance.now() - start };
      const shirube = new Shirube(thread, status, options, compiled);
      if (when !== "wait") void shirube.settle().catch(() => {});
      if (when === "wait") {
        await shirube.loadMeaning();
        shirube.current = { ...shirube.current, loadMs: performance.now() - start };
      } else if (when === "background") {
        // Its outcome stands in the status, and searches go by words meanwhile.
        shirube.loadMeaning().catch(() => {});
      }
      return shirube;
    } catch (error) {
      thread.dispose();
      throw toShirubeError(error);
    }
  }

  /**
   * Loads the model and the codes, once: later calls wait for the same. After a failure it can be called again.
   *
   * @throws {@link ShirubeError} with any code of loading.
   */
  loadMeaning(): Promise<void> {
    this.meaning ??= (async () => {
      this.current = { ...this.current, meaning: { state: "loading" } };
      try {
        const module = await this.compiled;
        this.compiled = undefined;
        const loaded = await this.thread.call({ op: "meaning", module }, this.options.signal, this.options.progress_callback);
        this.current = { ...this.current, ...loaded, meaning: { state: "ready" } };
        // The model is what nobody wants to fetch twice.
        void this.persist(false);
      } catch (thrown) {
        const error = toShirubeError(thrown);
        this.current = { ...this.current, meaning: { state: "failed", error } };
        this.meaning = undefined;
        throw error;
      }
    })();
    return this.meaning;
  }

  /**
   * Fetches and keeps what single searches would fetch as they go, so that every search works without a network once this resolves; `false` where
   * nothing can be kept (`status.cache` says why).
   *
   * @throws {@link ShirubeError} `NETWORK`, `ASSET_*`, `ABORTED`.
   */
  async keepForOffline(options: { signal?: AbortSignal } = {}): Promise<boolean> {
    const { kept } = await this.thread.call({ op: "keep" }, options.signal);
    if (kept) await this.persist(true);
    return kept;
  }

  /** Waits until what came is stored, and writes into the status whether it could be. */
  private async settle(): Promise<void> {
    const { cache } = await this.thread.call({ op: "settle" }, undefined);
    this.current = { ...this.current, cache: { ...this.current.cache, ...cache } };
  }

  /** Asks the browser to keep what was stored; the answer stands in the status. */
  private async persist(ask: boolean): Promise<void> {
    if (this.current.cache.kind !== "cache-storage") return;
    const persistent = await persist(ask);
    if (persistent !== undefined) this.current = { ...this.current, cache: { ...this.current.cache, persistent } };
  }

  /**
   * Fetches and keeps what `load` with the same options would, so that it starts without a wait: for a page whose reader is about to go where a search
   * is. Nothing stays in memory. The status says what was loaded and whether it could be kept.
   *
   * @throws {@link ShirubeError} as {@link Shirube.load}.
   */
  static async preload(options: LoadOptions): Promise<Status> {
    const shirube = await Shirube.load(options);
    try {
      if (options.meaning === "background") await shirube.loadMeaning();
      await shirube.settle();
      return shirube.status;
    } finally {
      shirube.dispose();
    }
  }

  /** Deletes the files that earlier visits kept in Cache Storage. */
  static clearCache(): Promise<void> {
    return clearCache();
  }

  /**
   * The best sections for `query`, best first: {@link Search} says how to take words first and meaning after. It begins when it is awaited or
   * iterated.
   *
   * @throws {@link ShirubeError} `EMPTY_QUERY`, `ABORTED`, `BAD_ARGUMENT`, `WORKER_FAILED`, `NETWORK`, `ASSET_*`, `INTERNAL`.
   */
  search(query: string, options: SearchOptions = {}): Search {
    return new Searching((wordsFirst) => this.run(query, options, wordsFirst));
  }

  private async *run(query: string, options: SearchOptions, wordsFirst: boolean): AsyncGenerator<SearchResult, void, undefined> {
    const limit = options.limit ?? 10;
    if (typeof query !== "string") throw new ShirubeError("BAD_ARGUMENT", `query is a ${typeof query}, expected a string`);
    if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
      throw new ShirubeError("BAD_ARGUMENT", `limit is ${String(limit)}, expected a whole number from 1 to ${MAX_LIMIT}`);
    }
    const lexicalWeight = options.lexicalWeight ?? LEXICAL_WEIGHT;
    if (!(lexicalWeight >= 0 && lexicalWeight <= 10)) {
      throw new ShirubeError("BAD_ARGUMENT", `lexicalWeight is ${String(lexicalWeight)}, expected 0 to 10`);
    }
    const sort = options.sort && { name: String(options.sort.name), descending: options.sort.descending ?? false };
    const queue = options.queue ?? false;
    const mine = queue ? 0 : ++this.newest;
    if (!queue) this.replace?.();
    const replaced = () => mine !== 0 && mine !== this.newest;
    const text = wellFormed(query);
    const { firstHits } = options;
    if (firstHits !== undefined && !(Number.isInteger(firstHits) && firstHits >= 1)) {
      throw new ShirubeError("BAD_ARGUMENT", `firstHits is ${String(firstHits)}, expected a whole number from 1`);
    }
    const ask = async (stage: Stage, firstHits?: number) => {
      if (replaced()) throw aborted("a newer query took its place");
      const call = { op: "search", stage, query: text, limit, lexicalWeight, filters: options.filters ?? {}, sort, exact: options.exact ?? false, queue, firstHits } as const;
      const result = await this.thread.call(call, options.signal);
      if (result.device) this.current = { ...this.current, device: result.device };
      return result;
    };
    const state = () => this.current.meaning.state;
    let words = wordsFirst || state() === "off" || state() === "failed" ? await ask("words", wordsFirst ? firstHits : undefined) : undefined;
    if (words) yield words;
    if (words?.more && state() !== "ready") yield (words = await ask("words"));
    if (state() === "loading") await this.untilMeaning(options.signal, queue);
    if (state() === "ready") {
      try {
        yield await ask("meaning");
      } catch (error) {
        // The words' other hits are right all the same.
        if (words?.more && toShirubeError(error).code !== "ABORTED") yield await ask("words");
        throw error;
      }
    } else if (!words) yield await ask("words");
  }

  /** Waits until the model is here or has failed, the signal fires, or a newer search begins. */
  private async untilMeaning(signal: AbortSignal | undefined, queue: boolean): Promise<void> {
    const meaning = this.meaning?.catch(() => {});
    let stop: (() => void) | undefined;
    const ended = new Promise<never>((_, reject) => {
      stop = () => reject(aborted());
      signal?.addEventListener("abort", stop, { once: true });
      if (!queue) this.replace = () => reject(aborted("a newer query took its place"));
    });
    if (signal?.aborted) throw aborted();
    try {
      await Promise.race([meaning, ended]);
    } finally {
      if (stop) signal?.removeEventListener("abort", stop);
    }
  }

  /**
   * The token embeddings of `text`, as the index and the scorer see them. Loads the model where it is not loaded.
   *
   * @throws {@link ShirubeError} any code of loading, `EMPTY_QUERY`, `ABORTED`, `BAD_ARGUMENT`, `WORKER_FAILED`, `INTERNAL`.
   */
  async encode(text: string, role: "query" | "document" = "query", options: { signal?: AbortSignal } = {}): Promise<Embeddings> {
    checkEncode(text, role);
    // Where the model was left out or failed, whoever encodes wants it now.
    if (this.current.meaning.state !== "ready") await this.loadMeaning();
    return this.thread.call({ op: "encode", text: wellFormed(text), role }, options.signal);
  }

  /**
   * Your own texts by their nearness to `query`, best first, ties in the order given: encoded as documents are, and scored by MaxSim without an
   * index between. About as long as encoding them takes.
   *
   * @throws {@link ShirubeError} `EMPTY_QUERY`, `ABORTED`, `BAD_ARGUMENT`, `WORKER_FAILED`, `INTERNAL`.
   */
  rerank(query: string, candidates: readonly string[], options: RerankOptions = {}): Promise<Reranked[]> {
    return rerank((text, role) => this.encode(text, role, options), query, candidates, options);
  }

  /** Bytes of WebAssembly memory taken, that of the GPU's module included: it grows to what was needed at most, and never shrinks. */
  async memoryBytes(): Promise<number> {
    return (await this.thread.call({ op: "memory" }, undefined)).bytes;
  }

  /** Stops the worker and frees its memory. Searches under way end with `ABORTED`. */
  dispose(): void {
    this.thread.dispose();
  }
}

/** A search that begins when somebody wants to know. */
class Searching implements Search {
  readonly [Symbol.toStringTag] = "Search";
  private last: Promise<SearchResult> | undefined;

  constructor(private readonly start: (wordsFirst: boolean) => AsyncGenerator<SearchResult, void, undefined>) {}

  [Symbol.asyncIterator](): AsyncGenerator<SearchResult, void, undefined> {
    return this.start(true);
  }

  private promise(): Promise<SearchResult> {
    this.last ??= (async () => {
      let best: SearchResult | undefined;
      for await (const result of this.start(false)) best = result;
      if (!best) throw new ShirubeError("INTERNAL", "the search ended without a result", "Please report it.");
      return best;
    })();
    return this.last;
  }

  then<A = SearchResult, B = never>(
    onResult?: ((value: SearchResult) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.promise().then(onResult, onError);
  }

  catch<B = never>(onError?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<SearchResult | B> {
    return this.promise().catch(onError);
  }

  finally(onEnd?: (() => void) | null): Promise<SearchResult> {
    return this.promise().finally(onEnd);
  }
}
