import type { ShirubeError } from "./errors.js";

/** One section of a page, as the site's owner indexed it. */
export interface Section {
  /** Stable name given by the source. */
  id: string;
  /** Name of the collection the page is from; may be empty. */
  source: string;
  /** Path of the page. */
  page: string;
  /** Where the section stands; may be empty. */
  url: string;
  /** Title of the page. */
  title: string;
  /** Headings inside the page, outermost first. */
  headings: string[];
  /** Fragment of the section inside the page, without `#`. */
  anchor: string;
  /** Plain text of the section. */
  text: string;
  /** What a search can be narrowed by: name to values. */
  filters?: Record<string, string[]>;
  /** What is shown beside a hit: name to value. */
  meta?: Record<string, string>;
  /** What hits can be ordered by: name to value. */
  sort?: Record<string, string>;
  /** How much more this section counts than others; absent is 1. */
  weight?: number;
  /** Which passage of a long section this is, from 0; absent is 0. */
  passage?: number;
}

/** Offsets in UTF-16 code units, as JavaScript strings count; `end` is behind the last. */
export interface Range {
  start: number;
  end: number;
}

/** One token of the query. */
export interface QueryToken {
  /** Where it stands in the query. */
  range: Range;
  /** How much it counts in the score: the length of its embedding; 1 in models without weights. */
  weight: number;
}

/** A piece of a section. */
export interface Place {
  /** The part it stands in. */
  part: "title" | "heading" | "text";
  /** Which of the headings; 0 for other parts. */
  heading: number;
  /** Where inside that part. */
  range: Range;
}

/** The best match of one query token in one hit. */
export interface Match {
  /** Position in `SearchResult.queryTokens`. */
  queryToken: number;
  /** Cosine between the two token embeddings, -1 to 1. */
  similarity: number;
  /** Share of the hit's score: `similarity` times the query token's weight. */
  contribution: number;
  /** Where the matched token stands; several places where pooling made one token of several, none for the document's marker. */
  places: Place[];
}

/** One range to mark. */
export interface Highlight {
  range: Range;
  /** 0 to 1: the largest contribution of a query token that matched here, relative to the largest of the hit. */
  strength: number;
}

/** Ranges to mark in a section, ascending and apart from each other. */
export interface Highlights {
  title: Highlight[];
  /** One list for each heading. */
  headings: Highlight[][];
  text: Highlight[];
}

/** One found section. */
export interface Hit {
  /** Number of the document inside the bundle. */
  document: number;
  /**
   * What the order is by: MaxSim, BM25 and the best window fused, or MaxSim alone with a lexical weight of 0; by words alone BM25, lifted where the section holds the
   * whole query. Compare only within one query.
   */
  score: number;
  /** MaxSim: the sum over query tokens of the largest dot product over the document's tokens. */
  maxsim: number;
  /** BM25 of the query's character bigrams and words, other spellings included; 0 where none occurs. */
  lexical: number;
  /** MaxSim of the document's best window, a sentence or two; 0 where it was not looked at. */
  window: number;
  /** What was found. */
  section: Section;
  /** One entry for each query token, in query order. */
  matches: Match[];
  /** Where to mark the section. */
  highlights: Highlights;
}

/** Time by stage, in milliseconds. */
export interface SearchTimings {
  /** Normalising and tokenising the query. */
  tokenizeMs: number;
  /** Computing the query's token embeddings. */
  encodeMs: number;
  /** MaxSim over all documents and choosing the best. */
  scoreMs: number;
  /** Matches and highlights of the hits. */
  explainMs: number;
  /** All of it. */
  totalMs: number;
}

/** What a search was answered from: words alone, or words and meaning. */
export type Stage = "words" | "meaning";

/** What a search found. */
export interface SearchResult {
  /** What it was answered from; always given by this package. */
  stage?: Stage;
  /** Only the `firstHits`: another result by words follows, unless one by meaning does. */
  more?: true;
  /** The query as it was read: lone surrogates replaced, a very long text cut. */
  query: string;
  /** Best first; equal scores by document number. */
  hits: Hit[];
  /** The query's tokens in reading order, without markers. */
  queryTokens: QueryToken[];
  /** Whether the query was longer than the model reads; the rest was left out. */
  truncated: boolean;
  /** What the bundle can be narrowed by: name to values, each with the number of sections that the filters on other names leave it. */
  filters?: Record<string, { value: string; nSections: number }[]>;
  /** Documents scored. */
  nScored: number;
  /** Time by stage. */
  timings: SearchTimings;
  /** Where it was computed, where a GPU was looked for. */
  device?: DeviceStatus;
}

/** Token embeddings of one text. */
export interface Embeddings {
  /** `[n_tokens, dim]`. */
  dims: [number, number];
  /** Row-major values, one row a token. */
  data: Float32Array;
}

/** Where one part of a search computes. */
export interface DeviceChoice {
  kind: "wasm" | "webgpu";
  reason: string;
  /** On a GPU: the optional parts of WebGPU in use there, of `"packed-dot"`, `"subgroups"` and `"f16"`; each has a baseline for adapters without it. */
  extensions?: string[];
}

/** The two parts that choose apart: the query's embeddings, and the scores of all documents. */
export interface DeviceStatus {
  encoder: DeviceChoice;
  maxsim: DeviceChoice;
}

/** How a model's weights are stored. */
export type Dtype = "int8" | "int4" | "f32";

/** What is loaded and how it runs. */
export interface Status {
  /** The instructions of the CPU's kernels. */
  backend: { kind: string; reason: string };
  /** Where searches by meaning compute, and why there. It changes when a GPU fails. */
  device: DeviceStatus;
  /** Whether a worker or the page's own thread runs it, and why. */
  thread: { kind: "worker" | "main"; reason: string };
  /**
   * Where downloaded files are kept. `persistent`: whether the browser keeps them until somebody deletes them, known once it was asked; otherwise it
   * may drop them when space runs low or nobody comes for a while.
   */
  cache: { kind: "cache-storage" | "memory"; reason: string; persistent?: boolean };
  /**
   * Whether searches by meaning are possible: `"off"` until asked for, `"loading"`, `"ready"`, or `"failed"` with the reason; words are searched in
   * every state.
   */
  meaning: { state: "off" | "loading" | "ready" | "failed"; error?: ShirubeError };
  /** The model; before it is loaded only its name and width are known, and `bytes` is 0. */
  model: { name: string; license: string; bytes: number; dim: number; dtype?: Dtype; fromCache: boolean };
  /**
   * The loaded bundle. `lazy`: its codes stay on their host, and a search by meaning fetches lists of documents, then the codes of those that look
   * best, some hundred kilobytes in all; see `residentBytes`.
   */
  bundle: { name: string; bytes: number; documents: number; pages: number; tokens: number; fromCache: boolean; lazy: boolean };
  /** From `load()` to the first possible search, in milliseconds; with `meaning: "wait"` to the first by meaning. */
  loadMs: number;
}

/** Progress while loading, in the shape of transformers.js. `progress` is a percentage. */
export type ProgressEvent =
  | { status: "initiate" | "download" | "done"; name: string; file: string }
  | { status: "progress"; name: string; file: string; progress: number; loaded: number; total: number }
  | { status: "progress_total"; name: string; progress: number; loaded: number; total: number }
  | { status: "ready"; name: string };

/**
 * A folder by its files: paths inside it, `/`-separated, to contents, as a visitor dropped or picked them. They are read where they lie and neither
 * uploaded nor kept.
 */
export type FolderFiles = Map<string, Blob>;

/** What `findModel` found. */
export interface FoundModel {
  /** The model's folder, for the option `model`. */
  model: FolderFiles;
  /** The bundle beside it, for the option `bundle`. Whether it was built with this model shows when it is loaded. */
  bundle: FolderFiles | undefined;
}

/** Options of `Reranker.load`. */
export interface RerankerOptions {
  /** Folder that holds the model's `manifest.json`, or its files. Default: the package's own model. */
  model?: string | URL | FolderFiles;
  /**
   * The type that the model's weights must have: `"int8"` (or `"q8"`), `"int4"` (`"q4"`), `"f32"` (`"fp32"`). A model is exported with one type, so that this
   * chooses none: another is `BAD_ARGUMENT` before any weight is fetched. `"auto"` (default) takes the model as it is; the default model is `int8`, and
   * `status.model.dtype` says it of any.
   */
  dtype?: "auto" | Dtype | "q8" | "q4" | "fp32";
  /** Called as files arrive. */
  progress_callback?: (event: ProgressEvent) => void;
  /** Aborts loading. */
  signal?: AbortSignal;
  /** Folder that holds `worker.js`, `shirube_wasm_bg.wasm` and `shirube_relaxed_bg.wasm`, where a bundler or CDN moved them. */
  assetBase?: string | URL;
  /**
   * `"auto"` (default): a Web Worker, or the page's own thread where no worker starts; `true`: a worker or an error;
   * `false`: the page's own thread, which freezes the page for the time of a search.
   */
  worker?: boolean | "auto";
  /** Whether verified files are kept in Cache Storage for the next visit. Default `true`; files given as {@link FolderFiles} never are. */
  cache?: boolean;
}

/** Options of `Shirube.load`. */
export interface LoadOptions extends RerankerOptions {
  /** Folder that holds `shirube.json`, absolute or relative to the page, or its files. */
  bundle: string | URL | FolderFiles;
  /**
   * Folder that holds the model's `manifest.json`, or its files. Default: `model/` in the bundle where this script lies beside it, else the package's
   * own.
   */
  model?: string | URL | FolderFiles;
  /**
   * When the model is loaded. `"wait"` (default): before `load` resolves, which rejects where it cannot be. `"background"`: `load` resolves as
   * soon as words can be searched, after some ten kilobytes, and the model follows. `"off"`: when `loadMeaning()` is called.
   */
  meaning?: "wait" | "background" | "off";
  /**
   * `"auto"` (default): whichever is faster on this machine, timed once and remembered; never a software adapter. `"webgpu"`: the GPU wherever it gives
   * the CPU's results. `"wasm"`: the CPU; nothing for a GPU is fetched. Where a GPU is absent, wrong or lost, the CPU answers, and `status.device` says why.
   */
  device?: "auto" | "webgpu" | "wasm";
  /**
   * Most bytes of codes that are loaded whole; every document is then scored, and a search by meaning waits for no host. The codes of a larger
   * bundle stay where they are, and a search fetches what it needs of them. Default: 8 MiB. `Infinity` loads any; `0` none but those of bundles so small
   * (1 MiB) that they cannot be searched otherwise.
   */
  residentBytes?: number;
}

/** Options of `search`. */
export interface SearchOptions {
  /** Most hits returned: 1 to 100. Default 10. */
  limit?: number;
  /** How much words (BM25) count beside meaning (MaxSim): 0 is meaning alone, 10 nearly words alone. Default 0.2. */
  lexicalWeight?: number;
  /** Only sections that have one of the values of every name; empty lists keep everything. An unknown name is `BAD_ARGUMENT`. */
  filters?: Record<string, string[]>;
  /** Orders the `limit` best hits by a value of their own (`section.sort`) instead of by score; hits without it come last. An unknown name is `BAD_ARGUMENT`. */
  sort?: { name: string; descending?: boolean };
  /** Scores every section exactly. Without it a large site scores those that look best, in a fraction of the time; where `status.bundle.lazy` holds, all of the index is fetched then. */
  exact?: boolean;
  /**
   * For the screen's sake: where the texts of `limit` hits must still be fetched, a result by words with only so many of the best comes first, marked `more`, and the
   * whole one after it. Only for searches that are iterated. Default: no such result.
   */
  firstHits?: number;
  /** Gives this search up. */
  signal?: AbortSignal;
  /**
   * Searches run one after another. By default a newer search takes the place of one that has not begun, which ends with
   * `ABORTED`: what a search box wants. `true` keeps this search in the queue.
   */
  queue?: boolean;
}

/** Options of `rerank`. */
export interface RerankOptions {
  /** Most candidates returned; all by default. */
  limit?: number;
  /** Gives it up. */
  signal?: AbortSignal;
}

/** One candidate of `rerank`. */
export interface Reranked {
  /** Position among the candidates given. */
  index: number;
  /** MaxSim; `-Infinity` for a blank text. Compare only within one query. */
  score: number;
}

/** What a reranker runs on. */
export type RerankerStatus = Pick<Status, "backend" | "thread" | "cache" | "model" | "loadMs">;

/** Options of `Reranker.rank`. */
export interface RankOptions {
  /** Most hits in a result; all by default. */
  limit?: number;
  /** Gives it up. */
  signal?: AbortSignal;
}

/** How far a ranking has come. */
export interface Ranking {
  /** The sections looked at so far, best first; a hit's `document` is its position among those given. */
  result: SearchResult;
  /** Sections looked at. */
  done: number;
  /** Sections given. */
  total: number;
}

/**
 * A search under way. Awaited, it is its best result: by words and meaning, or by words where meaning is off or has failed. Iterated, it gives the
 * result by words at once, then that by words and meaning when there is one.
 *
 * ```ts
 * for await (const { stage, hits } of shirube.search("状態の保存")) show(hits, stage);
 * ```
 */
export interface Search extends Promise<SearchResult>, AsyncIterable<SearchResult> {}
