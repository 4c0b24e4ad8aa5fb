import type { PlainError } from "../errors.js";

/** A text to be searched: a section of `Section`'s fields, of which only `text` must be given. */
export interface IndexDocument {
  /** Its place among the documents, as a number, if left out. */
  id?: string;
  title?: string;
  headings?: readonly string[];
  text: string;
  /** Where a hit leads. */
  url?: string;
  /** Fragment inside `url`, without `#`. */
  anchor?: string;
  filters?: Record<string, readonly string[]>;
  meta?: Record<string, string>;
  sort?: Record<string, string>;
  weight?: number;
}

/** How far a build is. */
export interface IndexProgress {
  stage: "encoding" | "centroids" | "packing";
  done: number;
  of: number;
}

/** Options of `buildIndex`. */
export interface IndexOptions {
  /** Display name of the bundle. */
  name?: string;
  /** Folder of the model. Default: the package's own. */
  model?: string | URL;
  /** Tokens that become one stored embedding, 1 (default) to 4. */
  pool?: number;
  /** How token embeddings are compressed, as `--codec` of the command; without it as `shirube build` does. */
  codec?: "bits4" | "bits2" | "ternary" | "product4" | "product8" | "product10" | "bits1" | "sign";
  /** Told how far the build is. */
  progress?: (progress: IndexProgress) => void;
  /** Gives the build up. */
  signal?: AbortSignal;
  /** Folder that holds `build/worker.js` and `node/shirube_node_bg.wasm`, where a bundler or CDN moved them. */
  assetBase?: string | URL;
}

/** Page to worker. */
export interface BuildRequest {
  wasm: string;
  model: string;
  renamed: Record<string, string>;
  name: string;
  pool: number | undefined;
  codec: string | undefined;
  lines: string;
}

/** Worker to page. */
export type BuildAnswer =
  | { hello: true }
  | { progress: IndexProgress }
  | { files: [path: string, bytes: Uint8Array][] }
  | { error: PlainError };

/** One JSON object a line, as `shirube build` reads sections. */
export function linesOf(documents: readonly IndexDocument[]): string {
  return documents.map(({ id, ...rest }, i) => JSON.stringify({ id: id ?? String(i), ...rest })).join("\n");
}
