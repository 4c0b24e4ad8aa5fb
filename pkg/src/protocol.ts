import type { Ahead } from "./assets.js";
import type { PlainError } from "./errors.js";
import type { Dtype, Embeddings, FolderFiles, ProgressEvent, RerankerStatus, SearchResult, Section, Stage, Status } from "./types.js";
import type { EngineUrls } from "./wasm.js";

/** Where a model is. */
export interface ModelPlace {
  model: string;
  /** Where files of the model really are, by their URL inside `model`; others are where they seem to be. */
  renamed: Record<string, string>;
  /** Folders in memory, by the addresses they were given. */
  local: Map<string, FolderFiles>;
}

/** Options for a model alone. */
export interface ModelOptions extends ModelPlace {
  /** The type that the weights must have; `undefined` for any. */
  dtype: Dtype | undefined;
  wasm: EngineUrls;
  cache: boolean;
}

/** Load options with every URL absolute, as the worker needs them. */
export interface HostOptions extends ModelOptions {
  bundle: string;
  /** Whether words are searched until the engine is here; false where the engine itself is waited for. */
  wordsFirst: boolean;
  /** Whether meaning follows by itself. */
  meaningFollows: boolean;
  /** The GPU's module and its WebAssembly. */
  gpu: { module: string; wasm: string };
  device: "auto" | "webgpu" | "wasm";
  /** Codes of more bytes stay on their host; `undefined` leaves it to the engine. */
  residentBytes: number | undefined;
}

/** Page to worker. */
export type Request =
  /** `expected` is the address of a file that follows by `arrived`; `kept` whether an earlier visit kept the bundle, where that is known. */
  | { id: number; op: "load"; options: HostOptions; ahead: Ahead; expected: string | undefined; kept: boolean | undefined }
  | { id: number; op: "arrived"; url: string; bytes: Uint8Array | undefined }
  /** `module` is the engine's, where the page has begun to compile it. */
  | { id: number; op: "meaning"; module: WebAssembly.Module | undefined }
  /** Waits until what came is stored, or could not be. */
  | { id: number; op: "settle" }
  | { id: number; op: "keep" }
  | { id: number; op: "search"; stage: Stage; query: string; limit: number; lexicalWeight: number; filters: Record<string, string[]>; sort: { name: string; descending: boolean } | undefined; exact: boolean; queue: boolean; firstHits: number | undefined }
  | { id: number; op: "model"; options: ModelOptions }
  | { id: number; op: "rank"; query: string; sections: Section[] }
  | { id: number; op: "memory" }
  | { id: number; op: "encode"; text: string; role: "query" | "document" }
  | { id: number; op: "abort" };

/** What an operation resolves to. */
export interface Results {
  load: Omit<Status, "thread" | "meaning" | "loadMs">;
  meaning: Omit<Status, "thread" | "meaning" | "loadMs">;
  keep: { kept: boolean };
  arrived: { kept: boolean };
  settle: { cache: Status["cache"] };
  search: SearchResult;
  model: Omit<RerankerStatus, "thread" | "loadMs">;
  rank: SearchResult;
  memory: { bytes: number };
  encode: Embeddings;
}

/** Worker to page. */
export type Response =
  | { hello: true }
  | { id: number; ok: Results[keyof Results] }
  | { id: number; error: PlainError }
  | { id: number; progress: ProgressEvent };

/** The distributive `Omit`: keeps the union's arms apart. */
type WithoutId<T> = T extends { id: number } ? Omit<T, "id"> : never;

/** A request before it has a number. */
export type Call = WithoutId<Exclude<Request, { op: "abort" }>>;
