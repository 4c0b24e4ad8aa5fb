import type { IndexDocument } from "../dist/types/build/types.js";

/** Settings of a build, named as in `shirube.toml`. */
export interface Settings {
  /** Folder of built HTML or of Markdown, or a JSON Lines file of sections. */
  source?: string;
  /** Bundle folder; `shirube` inside the source folder if left out. */
  out?: string;
  /** Model folder; the package's own if left out. */
  model?: string;
  /** Display name; the source's name if left out. */
  name?: string;
  /** What to read; HTML where there is any, if left out. */
  kind?: "html" | "markdown";
  /** Globs of paths to read. */
  include?: string[];
  /** Globs of paths to leave out. */
  exclude?: string[];
  /** What every address begins with; `/` if left out. */
  base?: string;
  /** Whether addresses go without `.html`. */
  clean_urls?: boolean;
  /** CSS selector of the content. */
  root?: string;
  /** CSS selectors of elements to leave out. */
  exclude_selectors?: string[];
  /** Whether code blocks are searched. */
  code?: boolean;
  /** Whether `noindex` pages are searched. */
  keep_noindex?: boolean;
  /** Languages to keep. */
  languages?: string[];
  /** Tokens that become one stored embedding, 1 to 4; 1 if left out. */
  pool?: number;
}

/** How far a build is. */
export interface BuildProgress {
  stage: "reading" | "passages" | "encoding" | "centroids" | "packing";
  done: number;
  of: number;
}

export interface BuildOptions {
  /** Told how far the build is. */
  progress?: (progress: BuildProgress) => void;
  /** Threads that read and encode, at least 1; the number of cores if left out. */
  threads?: number;
  /** Whether code and model are written beside the bundle. Default true. */
  assets?: boolean;
  /** Whether `precache.json` is written beside the bundle: the code for a service worker's list, with hashes. */
  pwa?: boolean;
  /** Whether `search.js` is written beside the bundle: index, model, code and elements in one classic script, for pages opened from `file://`. */
  singleFile?: boolean;
  /** Whether to read and count, and write nothing. */
  dryRun?: boolean;
  /** Whether every section is encoded, also those that the earlier bundle knows. */
  fresh?: boolean;
  /** Only the first sections, for a trial. */
  limit?: number;
  /** Flags `--codec`, `--buckets` and `--centroids` of the command, each followed by its value. */
  codec?: string[];
}

/** What was read. */
export interface SourceSummary {
  source: string;
  n_pages: number;
  n_sections: number;
  /** What is indexed: passages of sections, most sections being one. */
  n_passages: number;
  n_truncated: number;
  /** Path and reason of each file that gives nothing. */
  dropped: [path: string, reason: unknown][];
  /** Pages of each language that pages state. */
  languages: Record<string, number>;
  code_chars: number;
}

/** Predicted downloads in bytes: code by gzip, everything else as it lies there. */
export interface Download {
  /** For words; 0 without assets. */
  code: number;
  /** For meaning, beside the model. */
  meaning_code: number;
  model: number;
  /** Of the bundle, before the first query by words. */
  words_start: number;
  /** Of the bundle, before the first query by meaning. */
  meaning_start: number;
  /** Means and largest of queries made from the site's headings, each the first of a visit. */
  word_query: number;
  word_query_most: number;
  sentence_query: number;
  sentence_query_most: number;
  n_sampled: [words: number, sentences: number];
}

/** What was written. */
export interface BundleSummary {
  out: string;
  n_tokens: number;
  n_tokens_before_pooling: number;
  n_centroids: number;
  /** Name, files and bytes of each part. */
  parts: [name: string, files: number, bytes: number][];
  largest: [path: string, bytes: number] | null;
  n_site_files: number;
  n_removed: number;
  download: Download | null;
  /** Passages whose codes were taken over from the earlier bundle. */
  n_reused: number;
  /** Why none were; null where some were. */
  not_reused: unknown;
}

export interface BuildResult {
  source: SourceSummary;
  /** Absent in a dry run. */
  bundle?: BundleSummary;
  /** Both as the command prints them. */
  text: string;
}

/**
 * Builds the search of a folder, the same bundle byte for byte as the native command. `settings` stand alone, without variables and files.
 *
 * @throws where nothing to search was found; the error's `report` then says what was left out and why.
 */
export function build(settings: Settings, options?: BuildOptions): Promise<BuildResult>;

export type { IndexDocument };

export interface IndexOptions {
  /** Display name of the bundle. */
  name?: string;
  /** Folder to write the bundle into, over that of an earlier call. */
  out?: string;
  /** Model folder; the package's own if left out. */
  model?: string;
  /** Tokens that become one stored embedding, 1 to 4; 1 if left out. */
  pool?: number;
  /** Flags `--codec`, `--buckets` and `--centroids` of the command, each followed by its value. */
  codec?: string[];
  /** Threads that encode; the number of cores if left out. */
  threads?: number;
  /** Whether code and model are written beside the bundle. Default true. */
  assets?: boolean;
  progress?: (progress: BuildProgress) => void;
}

/**
 * The files of a bundle over your own documents, by path; with `out` they are also written. `Shirube.load({ bundle })` takes either.
 *
 * @throws TypeError for documents that are none.
 */
export function buildIndex(documents: readonly IndexDocument[], options?: IndexOptions): Promise<Map<string, Uint8Array>>;

/** Settings from all places: `flags` over `SHIRUBE_*` variables over the file `config`, or `shirube.toml` if there is one. */
export function readSettings(flags?: Settings, config?: string): Promise<Settings>;

/** Folder of the package's own model. */
export const ownModel: string;
