/**
 * Fetching files so that a later visit needs no network and a broken copy is never kept.
 *
 * A file enters Cache Storage only after `accept` took it (the engine compares length and SHA-256 there), under its URL with the
 * digest appended, so that an old copy can never stand for a new one. Where storing fails (no Cache Storage, quota) loading goes on
 * from memory and the status says so.
 */

import { ShirubeError, aborted, toShirubeError } from "./errors.js";
import { inlineResponse, isInline } from "./inline-files.js";
import type { ProgressEvent } from "./types.js";

const CACHE_NAME = "shirube-files-1";
const PARALLEL = 6;

/** One file of a model or bundle, as its manifest lists it. */
export interface FileEntry {
  path: string;
  bytes: number;
  sha256: string;
}

/** Takes a file's bytes, or throws where they are not what the manifest says. */
export type Accept = (path: string, bytes: Uint8Array) => void;

/** Files that belong together: a model or a bundle. */
export interface FileSet {
  /** Name in progress events. */
  name: string;
  /** Absolute URL with a final slash. */
  folder: string;
  files: FileEntry[];
  accept: Accept;
}

/** Where the choice between CPU and GPU is remembered. */
export const DEVICE_CACHE = "shirube-device-1";

export async function clearCache(): Promise<void> {
  if (typeof caches !== "undefined") await Promise.all([CACHE_NAME, DEVICE_CACHE].map((name) => caches.delete(name)));
}

export class Assets {
  /** Why files are not kept, or `undefined` while they are. */
  memoryReason: string | undefined;
  private cache: Promise<Cache | undefined>;
  private loaded = 0;
  private total = 0;

  constructor(
    useCache: boolean,
    private readonly signal: AbortSignal,
    private readonly report: (event: ProgressEvent) => void,
    private readonly renamed: Record<string, string> = {},
  ) {
    this.cache = useCache ? this.openCache() : Promise.resolve(undefined);
    if (!useCache) this.memoryReason = "switched off";
  }

  private async openCache(): Promise<Cache | undefined> {
    // Absent outside secure contexts; refuses in some private modes.
    if (typeof caches === "undefined") {
      this.memoryReason = "this page has no Cache Storage (it needs https or localhost)";
      return undefined;
    }
    try {
      return await caches.open(CACHE_NAME);
    } catch (error) {
      this.memoryReason = `Cache Storage refused: ${String(error)}`;
      return undefined;
    }
  }

  /**
   * A manifest: from the network whenever there is one, from the last visit otherwise. `accept` parses it.
   */
  async manifest<T>(url: string, accept: (bytes: Uint8Array) => T): Promise<T> {
    const cache = await this.cache;
    let bytes: Uint8Array;
    try {
      bytes = await this.download(url, "no-cache");
    } catch (error) {
      const stored = toShirubeError(error).code === "NETWORK" ? await cache?.match(url) : undefined;
      if (!stored) throw error;
      return accept(new Uint8Array(await stored.arrayBuffer()));
    }
    const value = accept(bytes);
    if (cache) await this.store(cache, url, bytes);
    return value;
  }

  /**
   * All files of all `sets`, several at once. Answers for each set whether every file came from the cache.
   */
  async files(sets: FileSet[]): Promise<boolean[]> {
    const waiting = sets.flatMap((set) => set.files.map((file) => ({ set, file })));
    for (const { file } of waiting) this.total += file.bytes;
    const fetched = new Set<FileSet>();
    const stop = new AbortController();
    const lane = async () => {
      for (let next = waiting.shift(); next && !stop.signal.aborted; next = waiting.shift()) {
        const { set, file } = next;
        if (!(await this.file(set.name, set.folder, file, set.accept, stop.signal))) fetched.add(set);
      }
    };
    try {
      await Promise.all(Array.from({ length: PARALLEL }, lane));
    } catch (error) {
      // One failure is enough: the other lanes' downloads would be thrown away.
      stop.abort();
      throw error;
    }
    for (const { folder, files } of sets) await this.forget(folder, files);
    return sets.map((set) => !fetched.has(set));
  }

  private async file(name: string, folder: string, file: FileEntry, accept: Accept, stop: AbortSignal): Promise<boolean> {
    const url = new URL(file.path, folder).href;
    const key = `${url}?sha256=${file.sha256}`;
    this.report({ status: "initiate", name, file: file.path });
    const cache = await this.cache;
    const stored = await cache?.match(key);
    if (cache && stored) {
      try {
        accept(file.path, new Uint8Array(await stored.arrayBuffer()));
        this.advance(name, file, file.bytes, file.bytes);
        this.report({ status: "done", name, file: file.path });
        return true;
      } catch {
        // The disk's copy is damaged; the network has another.
        await cache.delete(key);
      }
    }
    this.report({ status: "download", name, file: file.path });
    let counted = 0;
    const onBytes = (loaded: number) => {
      const seen = Math.min(loaded, file.bytes);
      this.advance(name, file, seen, seen - counted);
      counted = seen;
    };
    let bytes: Uint8Array;
    try {
      bytes = await this.download(url, "default", onBytes, stop);
      // Another file has failed meanwhile: who asked may be gone.
      if (stop.aborted) throw aborted();
      accept(file.path, bytes);
    } catch (error) {
      // A damaged answer may come from the HTTP cache, a broken connection from a moment of bad luck: one more try, past the cache.
      const { code } = toShirubeError(error);
      if ((code !== "ASSET_DAMAGED" && code !== "NETWORK" && code !== "ASSET_IS_HTML") || stop.aborted) throw error;
      bytes = await this.download(url, "reload", onBytes, stop);
      accept(file.path, bytes);
    }
    onBytes(file.bytes);
    if (cache) await this.store(cache, key, bytes);
    this.report({ status: "done", name, file: file.path });
    return false;
  }

  private advance(name: string, file: FileEntry, loaded: number, added: number): void {
    const percent = (part: number, whole: number) => (whole > 0 ? (100 * part) / whole : 100);
    this.loaded += added;
    this.report({ status: "progress", name, file: file.path, loaded, total: file.bytes, progress: percent(loaded, file.bytes) });
    this.report({ status: "progress_total", name, loaded: this.loaded, total: this.total, progress: percent(this.loaded, this.total) });
  }

  private async download(url: string, cache: RequestCache, onBytes?: (loaded: number) => void, stop?: AbortSignal): Promise<Uint8Array> {
    const signal = stop ? AbortSignal.any([this.signal, stop]) : this.signal;
    const response = await request(this.renamed[url] ?? url, { cache, signal });
    try {
      if (!response.body || !onBytes) return new Uint8Array(await response.arrayBuffer());
      const reader = response.body.getReader();
      const chunks: Uint8Array[] = [];
      let loaded = 0;
      for (let step = await reader.read(); !step.done; step = await reader.read()) {
        chunks.push(step.value);
        loaded += step.value.length;
        onBytes(loaded);
      }
      const bytes = new Uint8Array(loaded);
      let at = 0;
      for (const chunk of chunks) {
        bytes.set(chunk, at);
        at += chunk.length;
      }
      return bytes;
    } catch (error) {
      throw networkError(url, error, signal);
    }
  }

  private async store(cache: Cache, key: string, bytes: Uint8Array): Promise<void> {
    if (this.memoryReason !== undefined) return;
    try {
      await cache.put(key, new Response(bytes as Uint8Array<ArrayBuffer>, { headers: { "content-length": String(bytes.length) } }));
    } catch (error) {
      this.memoryReason = `storing failed: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  /** Drops stored files of `folder` that its manifest no longer names. */
  private async forget(folder: string, files: FileEntry[]): Promise<void> {
    const cache = await this.cache;
    if (!cache || this.memoryReason !== undefined) return;
    const current = new Set(files.map((file) => `${new URL(file.path, folder).href}?sha256=${file.sha256}`));
    for (const { url } of await cache.keys()) {
      if (url.startsWith(folder) && url.includes("?sha256=") && !current.has(url)) await cache.delete(url);
    }
  }
}

/** `fetch` with this package's errors. */
export async function request(url: string, init: RequestInit & { signal: AbortSignal }): Promise<Response> {
  let response: Response;
  try {
    response = isInline(url) ? inlineResponse(url) : await fetch(url, init);
  } catch (error) {
    throw networkError(url, error, init.signal);
  }
  if (response.ok) return response;
  if (response.status >= 500 || response.status === 429) {
    throw new ShirubeError("NETWORK", `${url}: the server answered ${response.status}`, "Try again in a moment.");
  }
  throw new ShirubeError(
    "ASSET_MISSING",
    `${url}: the server answered ${response.status}`,
    "Check that the whole folder was uploaded and that the path given to load() is right.",
  );
}

function networkError(url: string, error: unknown, signal: AbortSignal): ShirubeError {
  if (signal.aborted) return aborted();
  const message = error instanceof Error ? error.message : String(error);
  return new ShirubeError("NETWORK", `${url}: ${message}`, "Check the connection and try again.", error);
}
