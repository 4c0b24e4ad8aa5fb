/** What runs in the worker (or on the page's own thread): the WebAssembly engine and its files. */

import { Engine, initSync, Reranker } from "../dist/shirube_wasm.js";
import { Arrivals, Assets, type FileEntry, type Need } from "./assets.js";
import { checkDtype } from "./dtype.js";
import { ShirubeError, aborted, toShirubeError } from "./errors.js";
import { isLocal } from "./folders.js";
import { begin, gpuMemory, noGpu, onCpu, probe, type Files } from "./gpu.js";
import type { GpuSide } from "./gpu-side.js";
import type { Call, HostOptions, ModelOptions, Results } from "./protocol.js";
import type { DeviceStatus, Dtype, Embeddings, ProgressEvent, SearchResult, Section, Status } from "./types.js";
import { compileWasm, engineUrl, type EngineUrls } from "./wasm.js";
import { WordsEngine } from "./words/engine.js";

/** Memory of the modules that run. */
const memories = new Set<WebAssembly.Memory>();

async function startWasm(urls: EngineUrls, signal: AbortSignal, module: WebAssembly.Module | undefined): Promise<void> {
  // Compiled here, with errors of our own: the glue's way to fetch and compile stays out of the worker's file.
  const { memory } = initSync({ module: module ?? (await compileWasm(engineUrl(urls), signal)) });
  memories.add(memory);
}

let wasmStarted: Promise<void> | undefined;

/** The engine's module, once. */
async function wholeModule(urls: EngineUrls, signal: AbortSignal, module?: WebAssembly.Module): Promise<void> {
  wasmStarted ??= startWasm(urls, signal, module);
  const started = wasmStarted;
  started.catch(() => (wasmStarted = undefined));
  await started;
}

async function wholeEngine(urls: EngineUrls, signal: AbortSignal, module?: WebAssembly.Module): Promise<Engine> {
  await wholeModule(urls, signal, module);
  return new Engine();
}

/** What the engine of words was given, for the one in WebAssembly that takes its place. */
interface Given {
  entry: Uint8Array;
  files: [path: string, bytes: Uint8Array][];
  shards: [path: string, start: number, bytes: Uint8Array][];
}

/** What the engine answers: results, or the bytes it cannot go on without. */
type Answer = SearchResult | { needs: Need[] };

/** The files of a bundle, and whether its codes stay on their host. */
interface BundleFiles {
  words: FileEntry[];
  meaning: FileEntry[];
  lazy: boolean;
}

/** What a search is for. */
type Wish = Omit<Extract<Call, { op: "search" }>, "op" | "queue">;

/** A search asks for words and lists, then for codes, then for sections; more rounds than this would be a fault. */
const MOST_ROUNDS = 8;

/** Shards that wait for the engine to take over; the others it asks for again. */
const MOST_GIVEN = 200;

interface LoadedModel {
  folder: string;
  cached: boolean;
  dtype?: Dtype;
}

/** What `load` left for `meaning`. */
interface LoadedParts {
  assets: Assets;
  bundle: { folder: string; cached: boolean } & BundleFiles;
  model: LoadedModel;
  options: HostOptions;
}

export class Host {
  private engine: Engine | WordsEngine | undefined;
  /** While words alone are searched. */
  private given: Given | undefined;
  private assets: Assets | undefined;
  private bundle: LoadedParts["bundle"] | undefined;
  private model: LoadedModel = { folder: "", cached: false };
  private gpu: GpuSide | undefined;
  /** A model without a bundle. */
  private reranker: Reranker | undefined;
  private device: DeviceStatus = onCpu("the model is not loaded");
  private options: HostOptions | undefined;
  private readonly arrivals = new Arrivals();
  /** Opens the directory of sections, which comes beside the first query's words: nothing is ranked without it. */
  private openSections: (() => Promise<void>) | undefined;

  /** Loads what every search by words begins with; WebAssembly only where meaning is waited for anyway. */
  async load({ options, ahead, expected, kept }: Extract<Call, { op: "load" }>, signal: AbortSignal, report: (event: ProgressEvent) => void): Promise<Results["load"]> {
    const assets = new Assets(options.cache, signal, report, options.renamed, options.local, ahead, [options.bundle, options.model], kept === false ? options.bundle : undefined);
    if (expected !== undefined) assets.expect(expected, this.arrivals.wait(expected));
    // An earlier visit kept the directories, and with them most of what meaning needs: nothing large stands before the words, so all may come at once.
    if (options.meaningFollows && kept) assets.begin(new URL("manifest.json", options.model).href);
    const engine = options.wordsFirst ? new WordsEngine() : await wholeEngine(options.wasm, signal);
    const given: Given = { entry: new Uint8Array(), files: [], shards: [] };
    try {
      const { words, meaning, lazy } = await assets.manifest(
        new URL("shirube.json", options.bundle).href,
        (bytes) => {
          given.entry = bytes.slice();
          return engine.openBundle(bytes, options.residentBytes) as BundleFiles;
        },
      );
      const take = async (files: FileEntry[]) => {
        const accept = async (path: string, bytes: Uint8Array) => {
          await engine.provideBundle(path, bytes);
          given.files.push([path, bytes]);
        };
        const [cached = false] = await assets.files([{ name: "bundle", folder: options.bundle, files, keep: [...words, ...meaning], accept }]);
        return cached;
      };
      const forget = () => assets.forgetShards(options.bundle, ["lexical/", "sections/"], () => engine.shards() as Need[]).catch(() => {});
      let cached: boolean;
      if (engine instanceof WordsEngine) {
        const isOfTerms = ({ path }: FileEntry) => path.startsWith("lexical.");
        cached = await take(words.filter(isOfTerms));
        await engine.openTerms();
        this.openSections = once(async () => {
          const cached = await take(words.filter((file) => !isOfTerms(file)));
          await engine.openSections();
          if (this.bundle) this.bundle.cached &&= cached;
          void forget();
        });
        // Most visits search: it is on its way before they do. Who searches hears of failures.
        this.openSections().catch(() => {});
      } else {
        cached = await take(words);
        await engine.open();
        void forget();
      }
      this.bundle = { folder: options.bundle, words, meaning, lazy, cached };
      this.model = { folder: options.model, cached: false };
      this.options = options;
      this.engine = engine;
      this.given = options.wordsFirst ? given : undefined;
      this.assets = assets;
      return this.status();
    } catch (error) {
      if (!isTrap(error)) engine.free();
      if (signal.aborted) throw aborted();
      throw error;
    }
  }

  /** Loads the model and the codes; searches by words go on meanwhile. */
  async meaning(module: WebAssembly.Module | undefined, signal: AbortSignal, report: (event: ProgressEvent) => void): Promise<Results["load"]> {
    const { assets, bundle, model, options } = this;
    if (!this.engine || !assets || !bundle || !options) throw new ShirubeError("INTERNAL", "the engine is not loaded", "Call Shirube.load() again.");
    assets.continueFor(signal, report);
    // On its way while the engine is: a second visit waits for little else.
    assets.begin(new URL("manifest.json", model.folder).href);
    // The engine is made ready beside that of words, which answers meanwhile.
    const [engine] = await Promise.all([this.given ? wholeEngine(options.wasm, signal, module) : (this.engine as Engine), this.openSections?.()]);
    try {
      return await this.loadMeaning(engine, { assets, bundle, model, options }, signal, report);
    } catch (error) {
      // After a trap nothing may run on its memory again.
      if (engine !== this.engine && toShirubeError(error).code !== "INTERNAL") engine.free();
      throw error;
    }
  }

  private async loadMeaning(
    engine: Engine,
    { assets, bundle, model, options }: LoadedParts,
    signal: AbortSignal,
    report: (event: ProgressEvent) => void,
  ): Promise<Results["load"]> {
    const { given } = this;
    const stop = new AbortController();
    assets.continueFor(AbortSignal.any([signal, stop.signal]), report);
    const call = <T>(action: (engine: Engine) => T): T => this.on(engine, action);
    if (given) {
      call((engine) => engine.openBundle(given.entry, options.residentBytes));
      for (const [path, bytes] of given.files) call((engine) => engine.provideBundle(path, bytes));
    }
    // Asked while files come; weights are only held back for a GPU where there is one to use.
    const probed = bundle.lazy ? Promise.resolve(noGpu("the index stays on its host: the few candidates of a query are scored on the CPU")) : probe(options.device);
    const files: Files = { manifest: new Uint8Array(), weights: [] };
    // The manifest before any large file: a bundle of another model is refused after a few kilobytes.
    const modelFiles = await assets.manifest(new URL("manifest.json", model.folder).href, (bytes) => {
      files.manifest = bytes.slice();
      const needed = call((engine) => engine.openModel(bytes) as FileEntry[]);
      // The engine has refused what is no manifest.
      model.dtype = checkDtype(bytes, options.dtype);
      return needed;
    });
    const adapter = await probed;
    const fingerprint = [...modelFiles, ...bundle.words, ...bundle.meaning].map((file) => (file.sha256 ?? "").slice(0, 4)).join("");
    const memory = options.cache ? `${options.bundle}?fingerprint=${fingerprint}` : undefined;
    const early = { wish: options.device, adapter, urls: options.gpu, memory, signal };
    const prepared = adapter.usable ? begin(early, files.manifest) : undefined;
    stop.signal.addEventListener("abort", () => prepared?.drop(), { once: true });
    const acceptModel = (path: string, bytes: Uint8Array) => {
      call((engine) => engine.provideModel(path, bytes));
      if (adapter.usable && path.endsWith(".safetensors")) files.weights.push([path, bytes]);
    };
    const acceptIndex = (path: string, bytes: Uint8Array) => {
      call((engine) => engine.provideBundle(path, bytes));
      if (path.startsWith("centroids.")) prepared?.tables(bytes);
    };
    const vectors = async () => {
      const set = { name: "bundle", folder: bundle.folder };
      const keep = [...bundle.words, ...bundle.meaning];
      const [tables = false] = await assets.files([
        { ...set, files: bundle.meaning, keep, accept: acceptIndex },
      ]);
      const shards = call((engine) => engine.codeShards() as Need[]);
      const files = shards.map(({ path, fileBytes }) => ({ path, bytes: fileBytes }));
      const [codes = false] = await assets.files([
        { ...set, files, keep, accept: (path, bytes) => call((engine) => engine.provideCodes(path, bytes)) },
      ]);
      return { cached: tables && codes, shards };
    };
    const modelSet = { name: "model", folder: model.folder, files: modelFiles, accept: acceptModel };
    const [[modelCached = false], { cached: bundleCached, shards }] = await Promise.all([assets.files([modelSet]), vectors()]).catch((error: unknown) => {
      // One failure is enough: the rest would be thrown away.
      stop.abort();
      throw signal.aborted ? aborted() : error;
    });
    call((engine) => engine.finish());
    if (given) {
      for (const [path, start, bytes] of given.shards) call((engine) => engine.provide(path, start, bytes));
      this.engine?.free();
      this.engine = engine;
      this.given = undefined;
    }
    const wanted = bundle.lazy ? call((engine) => engine.shards() as Need[]) : shards;
    assets.forgetShards(bundle.folder, ["codes/", "ivf/"], () => wanted).catch(() => {});
    this.device = onCpu(adapter.reason);
    if (prepared) {
      const { side, device } = await prepared.start(engine, files);
      this.gpu = side;
      this.device = device;
      if (signal.aborted) throw aborted();
    }
    bundle.cached &&= bundleCached;
    model.cached = modelCached;
    await assets.stored();
    report({ status: "ready", name: "shirube" });
    return this.status();
  }

  private status(): Results["load"] {
    const { backend, model, bundle } = this.call((engine) => engine.status() as Pick<Results["load"], "backend" | "model" | "bundle">);
    return {
      backend,
      device: this.device,
      cache: cacheStatus(this.assets, [this.bundle?.folder ?? "", this.model.folder]),
      model: { ...model, ...(this.model.dtype && { dtype: this.model.dtype }), fromCache: this.model.cached },
      bundle: { ...bundle, fromCache: this.bundle?.cached ?? false },
    };
  }

  /** Where files are kept, once that is known of all that came. */
  private async settle(): Promise<Results["settle"]> {
    await this.assets?.stored();
    return { cache: cacheStatus(this.assets, [this.bundle?.folder ?? "", this.model.folder]) };
  }

  /** Keeps every shard for searches without a network; whether that was possible. */
  async keep(signal: AbortSignal): Promise<{ kept: boolean }> {
    if (!this.assets || !this.bundle) throw new ShirubeError("INTERNAL", "the engine is not loaded", "Call Shirube.load() again.");
    await this.openSections?.();
    const shards = this.call((engine) => engine.shards() as Need[]);
    const check = (path: string, bytes: Uint8Array) => this.call((engine) => engine.checkShard(path, bytes));
    return { kept: await this.assets.keep(this.bundle.folder, shards, check, signal) };
  }

  async search(request: Wish, signal: AbortSignal): Promise<SearchResult> {
    const { stage, query, limit, lexicalWeight, filters, sort, exact, firstHits = limit } = request;
    // Whatever goes wrong on a GPU, the search that follows is answered.
    if (stage === "meaning") await this.gpu?.precompute(query);
    const { engine } = this;
    if (engine instanceof WordsEngine) await Promise.all([this.openSections?.(), this.fetchTerms(engine, query, signal)]);
    let wanted = limit;
    for (let round = 0; round < MOST_ROUNDS; round++) {
      const answer = this.call(
        (engine) => (stage === "words" ? engine.searchWords(query, wanted, filters, sort) : (engine as Engine).search(query, limit, lexicalWeight, filters, sort, exact)) as Answer,
      );
      if (!("needs" in answer)) return { ...answer, ...(stage === "meaning" && this.gpu && { device: this.gpu.status }), ...(wanted < limit && { more: true }) };
      // The texts of all would be waited for: those that are seen first come first.
      if (firstHits < wanted && answer.needs.some(({ path }) => path.startsWith("sections/"))) {
        wanted = firstHits;
        continue;
      }
      await this.fetch(answer.needs, signal);
    }
    throw new ShirubeError("INTERNAL", "the search asks for the same files again and again", "Reload the page; if it happens again, please report it.");
  }

  /** Words of a query while the directory of sections is on its way. */
  private async fetchTerms(engine: WordsEngine, query: string, signal: AbortSignal): Promise<void> {
    for (let needs = engine.termNeeds(query); needs.length > 0 && engine === this.engine; needs = engine.termNeeds(query)) await this.fetch(needs, signal);
  }

  /** Gives the engine the bytes it needs. */
  private async fetch(needs: Need[], signal: AbortSignal): Promise<void> {
    if (!this.assets || !this.bundle) throw new ShirubeError("INTERNAL", "the engine is not loaded", "Call Shirube.load() again.");
    const accept = async (path: string, start: number, bytes: Uint8Array) => {
      await this.call((engine) => engine.provide(path, start, bytes));
      if (this.given && this.given.shards.length < MOST_GIVEN) this.given.shards.push([path, start, bytes]);
    };
    await this.assets.shards(this.bundle.folder, needs, accept, signal);
  }

  encode(text: string, role: "query" | "document"): Embeddings {
    if (this.reranker) return this.on(this.reranker, (reranker) => reranker.encode(text, role) as Embeddings);
    return this.call((engine) => (engine as Engine).encode(text, role) as Embeddings);
  }

  /** Loads a model without a bundle. */
  async loadModel(options: ModelOptions, signal: AbortSignal, report: (event: ProgressEvent) => void): Promise<Results["model"]> {
    const assets = new Assets(options.cache, signal, report, options.renamed, options.local);
    await wholeModule(options.wasm, signal);
    const reranker = new Reranker();
    let dtype: Dtype | undefined;
    const call = <T>(action: (reranker: Reranker) => T): T => this.on(reranker, action);
    try {
      const files = await assets.manifest(new URL("manifest.json", options.model).href, (bytes) => {
        const needed = call((reranker) => reranker.openModel(bytes) as FileEntry[]);
        dtype = checkDtype(bytes, options.dtype);
        return needed;
      });
      const accept = (path: string, bytes: Uint8Array) => call((reranker) => reranker.provideModel(path, bytes));
      const [fromCache = false] = await assets.files([{ name: "model", folder: options.model, files, accept }]);
      await assets.stored();
      call((reranker) => reranker.finish());
      report({ status: "ready", name: "shirube" });
      const { backend, model } = call((reranker) => reranker.status() as Pick<Results["model"], "backend" | "model">);
      this.reranker = reranker;
      return { backend, model: { ...model, ...(dtype && { dtype }), fromCache }, cache: cacheStatus(assets, [options.model]) };
    } catch (error) {
      if (toShirubeError(error).code !== "INTERNAL") reranker.free();
      throw signal.aborted ? aborted() : error;
    }
  }

  rank(query: string, sections: Section[]): SearchResult {
    const { reranker } = this;
    if (!reranker) throw new ShirubeError("INTERNAL", "the model is not loaded", "Call Reranker.load() again.");
    return this.on(reranker, (reranker) => reranker.rank(query, sections, sections.length) as SearchResult);
  }

  /** Bytes of WebAssembly memory of the modules that run. */
  memory(): { bytes: number } {
    return { bytes: [...memories, ...gpuMemory()].reduce((sum, { buffer }) => sum + buffer.byteLength, 0) };
  }

  /** Answers one request. */
  async run(call: Call, signal: AbortSignal, report: (event: ProgressEvent) => void): Promise<Results[keyof Results]> {
    switch (call.op) {
      case "load":
        return this.load(call, signal, report);
      case "arrived":
        this.arrivals.arrive(call.url, call.bytes);
        return { kept: true };
      case "meaning":
        return this.meaning(call.module, signal, report);
      case "settle":
        return this.settle();
      case "model":
        return this.loadModel(call.options, signal, report);
      case "keep":
        return this.keep(signal);
      case "search":
        return this.search(call, signal);
      case "rank":
        return this.rank(call.query, call.sections);
      case "encode":
        return this.encode(call.text, call.role);
      case "memory":
        return this.memory();
      default:
        throw new ShirubeError("INTERNAL", "unknown operation");
    }
  }

  dispose(): void {
    this.reranker?.free();
    this.reranker = undefined;
    this.gpu?.destroy();
    this.gpu = undefined;
    this.engine?.free();
    this.engine = undefined;
  }

  private call<T>(action: (engine: Engine | WordsEngine) => T): T {
    if (!this.engine) throw new ShirubeError("INTERNAL", "the engine is not loaded", "Call Shirube.load() again.");
    return this.on(this.engine, action);
  }

  private on<E extends Engine | WordsEngine | Reranker, T>(engine: E, action: (engine: E) => T): T {
    try {
      return action(engine);
    } catch (error) {
      // After a trap the memory is in an unknown state: nothing may run on it again.
      if (isTrap(error) && this.engine === engine) this.engine = undefined;
      if (isTrap(error) && this.reranker === engine) this.reranker = undefined;
      throw toShirubeError(error);
    }
  }
}

/** `action`, run once; again only after a failure. */
function once(action: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  return () =>
    (running ??= action().catch((error: unknown) => {
      running = undefined;
      throw error;
    }));
}

/** Where files are kept. */
function cacheStatus(assets: Assets | undefined, folders: string[]): Status["cache"] {
  if (folders.every(isLocal)) return { kind: "memory", reason: "the files are read where they lie" };
  const reason = assets?.memoryReason;
  return reason === undefined ? { kind: "cache-storage", reason: "verified files are kept for the next visit" } : { kind: "memory", reason };
}

function isTrap(error: unknown): boolean {
  return error instanceof WebAssembly.RuntimeError;
}
