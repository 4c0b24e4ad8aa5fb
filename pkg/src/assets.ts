/**
 * Fetching files so that a later visit needs no network and a broken copy is never kept.
 *
 * A file enters Cache Storage only after `accept` took it (the engine compares length and SHA-256 there), under its URL with the
 * digest appended, so that an old copy can never stand for a new one. Where storing fails (no Cache Storage, quota) loading goes on
 * from memory and the status says so.
 */

import { ShirubeError, aborted, toShirubeError } from "./errors.js";
import { isLocal, localResponse } from "./folders.js";
import { inlineResponse, isInline } from "./inline-files.js";
import type { ModelPlace } from "./protocol.js";
import type { FolderFiles, ProgressEvent } from "./types.js";

const CACHE_NAME = "shirube-files-1";
const PARALLEL = 6;
/** Shards are small, and a search waits for the slowest of them. */
const SHARDS_PARALLEL = 16;
/** More files than this do not wait in memory for the disk. */
const MOST_STORING = 64;
/** Tells a stored shard from other files; its name is its checksum. */
const SHARD_MARK = "?shard";

/** One file of a model or bundle, as its manifest lists it. */
export interface FileEntry {
  path: string;
  bytes: number;
  /** Absent for a shard of a bundle: its name is its checksum. */
  sha256?: string;
}

/** Bytes of a bundle's shard that a search needs. */
export interface Need {
  path: string;
  start: number;
  end: number;
  fileBytes: number;
}

/** Takes the bytes of a shard from `start`, or throws where they are not what the bundle's directories say. */
export type AcceptShard = (path: string, start: number, bytes: Uint8Array) => void | Promise<void>;

/** Takes a file's bytes, or throws where they are not what the manifest says. */
export type Accept = (path: string, bytes: Uint8Array) => void | Promise<void>;

/** Files that belong together: a model or a bundle. */
export interface FileSet {
  /** Name in progress events. */
  name: string;
  /** Absolute URL with a final slash. */
  folder: string;
  files: FileEntry[];
  /** Files of the same folder that are loaded at another time. */
  keep?: FileEntry[];
  accept: Accept;
}

/** Files that were fetched before anybody could take them, by address. */
export type Ahead = [url: string, bytes: Uint8Array][];

/** Where the choice between CPU and GPU is remembered. */
export const DEVICE_CACHE = "shirube-device-1";

export async function clearCache(): Promise<void> {
  if (typeof caches !== "undefined") await Promise.all([CACHE_NAME, DEVICE_CACHE].map((name) => caches.delete(name)));
}

/** What a page asks for while its worker is on its way. */
export interface Coming {
  /** Whether an earlier visit kept the bundle's directories. */
  kept: Promise<boolean>;
  /** The entry, and the directory of words or, where that was kept, the model's manifest. */
  files: Promise<Ahead>;
  /** The directory of sections, which comes after them. */
  after: Promise<{ url: string; bytes: Promise<Uint8Array | undefined> } | undefined>;
}

/**
 * Begins with what is read first, while the worker is still on its way. What fails is left out: whoever needs it asks again, and says why.
 *
 * The directory of sections is asked for when half of that of words is here: its first byte comes when the line is free, not before, when it would delay
 * the words, and not a round trip later.
 */
export function fetchAhead(bundle: string, model: ModelPlace | undefined, useCache: boolean, signal: AbortSignal | undefined): Coming {
  const ahead: Ahead = [];
  const take = async (url: string, cache: RequestCache, halfway?: () => void) => {
    const response = await fetch(url, { cache, ...(signal && { signal }) });
    if (!response.ok) return undefined;
    return halfway ? wholeBody(response, halfway) : new Uint8Array(await response.arrayBuffer());
  };
  const entryUrl = new URL("shirube.json", bundle).href;
  const isKept = async () => useCache && typeof caches !== "undefined" && (await (await caches.open(CACHE_NAME)).match(entryUrl)) !== undefined;
  const kept = isKept().catch(() => false);
  let begin: (what: Awaited<Coming["after"]>) => void = () => {};
  const after = new Promise<Awaited<Coming["after"]>>((resolve) => (begin = resolve));
  const keep = (url: string, bytes: Uint8Array | undefined) => bytes && void ahead.push([url, bytes]);
  const directories = async () => {
    const entry = await take(entryUrl, "no-cache");
    keep(entryUrl, entry);
    const { files } = JSON.parse(new TextDecoder().decode(entry)) as { files: (FileEntry & { kind: string })[] };
    if (await kept) return;
    const urlOf = (wanted: string) => {
      const { href } = new URL(files.find(({ kind }) => kind === wanted)?.path ?? "..", bundle);
      return href.startsWith(bundle) ? href : undefined;
    };
    const [terms, sections] = [urlOf("lexical"), urlOf("sections")];
    const halfway = () => begin(sections === undefined ? undefined : { url: sections, bytes: take(sections, "default").catch(() => undefined) });
    if (terms !== undefined) keep(terms, await take(terms, "default", halfway));
  };
  const manifest = async () => {
    if (!model || !(await kept)) return;
    const url = new URL("manifest.json", model.model).href;
    keep(url, await take(model.renamed[url] ?? url, "no-cache"));
  };
  return { kept, after, files: Promise.allSettled([directories().finally(() => begin(undefined)), manifest()]).then(() => ahead) };
}

/** The body of `response`; `halfway` is called once half of it is here. */
async function wholeBody(response: Response, halfway: () => void): Promise<Uint8Array> {
  const half = Number(response.headers.get("content-length")) / 2;
  let loaded = 0;
  let called = false;
  const tell = () => {
    if (!called) halfway();
    called = true;
  };
  const bytes = await readBody(response, (n) => {
    loaded = n;
    if (loaded >= half) tell();
  });
  tell();
  return bytes;
}

/** The body of `response`, `onBytes` told how many bytes are here. */
async function readBody(response: Response, onBytes: (loaded: number) => void): Promise<Uint8Array> {
  if (!response.body) return new Uint8Array(await response.arrayBuffer());
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
}

/** Files that come by themselves, for those who wait for them. */
export class Arrivals {
  private readonly files = new Map<string, { bytes: Promise<Uint8Array | undefined>; arrive: (bytes: Uint8Array | undefined) => void }>();

  private at(url: string) {
    let file = this.files.get(url);
    if (!file) {
      let arrive: (bytes: Uint8Array | undefined) => void = () => {};
      const bytes = new Promise<Uint8Array | undefined>((resolve) => (arrive = resolve));
      this.files.set(url, (file = { bytes, arrive }));
    }
    return file;
  }

  /** The file at `url` is here, or could not be fetched. */
  arrive(url: string, bytes: Uint8Array | undefined): void {
    this.at(url).arrive(bytes);
  }

  /** The file at `url`; `undefined` where it could not be fetched. */
  wait(url: string): Promise<Uint8Array | undefined> {
    return this.at(url).bytes;
  }
}

export class Assets {
  /** Why files are not kept, or `undefined` while they are. */
  memoryReason: string | undefined;
  private cache: Promise<Cache | undefined>;
  /** Folders whose manifest is another than at the last visit. */
  private readonly changed = new Set<string>();
  /** Folders whose host answers a range with the whole file. */
  private readonly noRanges = new Set<string>();
  private loaded = 0;
  private total = 0;
  /** Downloads begun before anybody asked, each for one who does. */
  private readonly begun: Map<string, Promise<Uint8Array>>;
  /** Files on their way to the disk: who asked for them has them already. */
  private readonly storing = new Set<Promise<void>>();
  /** What of these has not arrived there, by key. */
  private readonly unstored = new Map<string, Uint8Array>();

  constructor(
    useCache: boolean,
    private signal: AbortSignal,
    private report: (event: ProgressEvent) => void,
    private readonly renamed: Record<string, string> = {},
    /** Folders in memory, by the addresses they were given. */
    private readonly local: ReadonlyMap<string, FolderFiles> = new Map(),
    ahead: Ahead = [],
    /** Folders with a manifest of their own that lie in another's: what they keep is theirs. */
    private readonly folders: string[] = [],
    /** A folder of which nothing is kept: nobody need wait for the disk to say so. */
    private readonly unkept?: string,
  ) {
    this.begun = new Map(ahead.map(([url, bytes]) => [url, Promise.resolve(bytes)]));
    this.cache = useCache ? this.openCache() : Promise.resolve(undefined);
    if (!useCache) this.memoryReason = "switched off";
  }

  /** The file at `url` comes by itself; where it does not, it is downloaded as others are. */
  expect(url: string, bytes: Promise<Uint8Array | undefined>): void {
    this.begun.set(url, bytes.then((bytes) => bytes ?? this.download(url, "default")));
  }

  /** From here on another call loads: its signal ends downloads, and it hears of progress. */
  continueFor(signal: AbortSignal, report: (event: ProgressEvent) => void): void {
    this.signal = signal;
    this.report = report;
  }

  /** Begins to download a manifest that is asked for soon. */
  begin(url: string): void {
    if (this.begun.has(url)) return;
    const bytes = this.download(url, "no-cache");
    // Who asks after a failure tries again.
    bytes.catch(() => this.begun.delete(url));
    this.begun.set(url, bytes);
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

  /** The cache for the file at `url`: none for those that are in the visitor's hand anyway. */
  private cacheFor(url: string): Promise<Cache | undefined> {
    return isLocal(url) ? Promise.resolve(undefined) : this.cache;
  }

  /** What is kept under `key` of the folder at `folder`. */
  private async kept(folder: string, key: string): Promise<Uint8Array | undefined> {
    const pending = this.unstored.get(key);
    if (pending || folder === this.unkept) return pending;
    const stored = await (await this.cacheFor(key))?.match(key);
    return stored && new Uint8Array(await stored.arrayBuffer());
  }

  private ask(url: string, init: RequestInit & { signal: AbortSignal }, range?: string): Promise<Response> {
    const headers = range === undefined ? {} : { headers: { range } };
    return isLocal(url) ? localResponse(url, this.local, range).then((response) => checked(url, response)) : request(url, { ...init, ...headers });
  }

  /**
   * A manifest: from the network whenever there is one, from the last visit otherwise. `accept` parses it.
   */
  async manifest<T>(url: string, accept: (bytes: Uint8Array) => T): Promise<T> {
    let bytes: Uint8Array;
    try {
      bytes = await this.download(url, "no-cache");
    } catch (error) {
      const stored = toShirubeError(error).code === "NETWORK" ? await (await this.cacheFor(url))?.match(url) : undefined;
      if (!stored) throw error;
      return accept(new Uint8Array(await stored.arrayBuffer()));
    }
    const value = accept(bytes);
    this.later(async () => {
      const cache = await this.cacheFor(url);
      const before = await cache?.match(url);
      const known = before && new Uint8Array(await before.arrayBuffer());
      if (known && same(known, bytes)) return;
      if (known) this.changed.add(new URL(".", url).href);
      if (cache) await this.put(cache, url, bytes);
    });
    return value;
  }

  /**
   * Shards that a search needs, all at once: from the cache, else the range where the host knows ranges, else the whole file.
   */
  async shards(folder: string, needs: Need[], accept: AcceptShard, signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    const waiting = [...needs];
    const lane = async () => {
      for (let next = waiting.shift(); next && !both.aborted; next = waiting.shift()) await this.shard(folder, next, accept, both);
    };
    try {
      await Promise.all(Array.from({ length: Math.min(SHARDS_PARALLEL, needs.length) }, lane));
    } catch (error) {
      stop.abort();
      throw signal.aborted ? aborted() : error;
    }
    if (signal.aborted) throw aborted();
  }

  /** Fetches and keeps whole shards that are not kept yet; whether all are. `check` refuses a damaged one. */
  async keep(folder: string, shards: Need[], check: Accept, signal: AbortSignal): Promise<boolean> {
    const cache = await this.cacheFor(folder);
    if (!cache || this.memoryReason !== undefined) return false;
    const kept = new Set((await cache.keys()).map(({ url }) => url));
    const missing = shards.filter(({ path }) => !kept.has(`${new URL(path, folder).href}${SHARD_MARK}`));
    await this.shards(folder, missing, (path, _start, bytes) => check(path, bytes), signal);
    await this.stored();
    return this.memoryReason === undefined;
  }

  private async shard(folder: string, need: Need, accept: AcceptShard, signal: AbortSignal): Promise<void> {
    const url = new URL(need.path, folder).href;
    const whole = need.start === 0 && need.end === need.fileBytes;
    for (const [key, start] of [[`${url}${SHARD_MARK}`, 0], [`${url}${SHARD_MARK}=${need.start}-${need.end}`, need.start]] as const) {
      const stored = await this.kept(folder, key);
      if (!stored) continue;
      try {
        await accept(need.path, start, stored);
        return;
      } catch {
        await (await this.cacheFor(url))?.delete(key);
      }
    }
    // A damaged or broken answer gets one more try, past the HTTP cache and without a range, which some proxies mishandle.
    for (const mode of ["default", "reload"] as const) {
      const ranged = !whole && mode === "default" && !this.noRanges.has(folder);
      try {
        const { start, bytes } = await this.part(url, ranged ? need : undefined, mode, signal);
        if (ranged && start === 0 && bytes.length === need.fileBytes) this.noRanges.add(folder);
        if (signal.aborted) throw aborted();
        await accept(need.path, start, bytes);
        const all = start === 0 && bytes.length === need.fileBytes;
        if (this.storing.size > MOST_STORING) await this.stored();
        this.store(url, all ? `${url}${SHARD_MARK}` : `${url}${SHARD_MARK}=${need.start}-${need.end}`, bytes);
        return;
      } catch (error) {
        const { code } = toShirubeError(error);
        const chance = ranged || code === "ASSET_DAMAGED" || code === "NETWORK" || code === "ASSET_IS_HTML";
        if (mode === "reload" || !chance || signal.aborted) throw error;
      }
    }
  }

  /** The range asked for, or the whole file where the host answers with that. */
  private async part(url: string, range: Need | undefined, cache: RequestCache, signal: AbortSignal): Promise<{ start: number; bytes: Uint8Array }> {
    const response = await this.ask(url, { cache, signal }, range && `bytes=${range.start}-${range.end - 1}`);
    let bytes: Uint8Array;
    try {
      bytes = new Uint8Array(await response.arrayBuffer());
    } catch (error) {
      throw networkError(url, error, signal);
    }
    if (!range || response.status !== 206) return { start: 0, bytes };
    const told = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "");
    if (bytes.length !== range.end - range.start || (told && Number(told[1]) !== range.start)) {
      throw new ShirubeError("ASSET_DAMAGED", `${url}: ${bytes.length} bytes came for the range ${range.start} to ${range.end}`, "Try again.");
    }
    return { start: range.start, bytes };
  }

  /**
   * Drops stored shards under `kinds` (`"codes/"`) of a folder whose manifest has changed, but for those it still names: shards carry their hash in
   * their names, and others are never asked for again. Nobody need wait for it.
   */
  async forgetShards(folder: string, kinds: string[], shards: () => Need[]): Promise<void> {
    const cache = await this.cache;
    // Whether the manifest has changed is known once it is stored.
    await this.stored();
    if (!cache || !this.changed.has(folder)) return;
    const current = new Set(shards().map(({ path }) => new URL(path, folder).href));
    for (const { url } of await cache.keys()) {
      const at = url.indexOf(SHARD_MARK);
      if (at > 0 && kinds.some((kind) => url.startsWith(`${folder}${kind}`)) && !current.has(url.slice(0, at))) await cache.delete(url);
    }
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
    for (const { folder, files, keep } of sets) this.later(() => this.forget(folder, [...files, ...(keep ?? [])]));
    return sets.map((set) => !fetched.has(set));
  }

  private async file(name: string, folder: string, file: FileEntry, accept: Accept, stop: AbortSignal): Promise<boolean> {
    const url = new URL(file.path, folder).href;
    const key = storedAs(url, file);
    this.report({ status: "initiate", name, file: file.path });
    const stored = await this.kept(folder, key);
    if (stored) {
      try {
        await accept(file.path, stored);
        this.advance(name, file, file.bytes, file.bytes);
        this.report({ status: "done", name, file: file.path });
        return true;
      } catch {
        // The disk's copy is damaged; the network has another.
        await (await this.cacheFor(url))?.delete(key);
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
      await accept(file.path, bytes);
    } catch (error) {
      // A damaged answer may come from the HTTP cache, a broken connection from a moment of bad luck: one more try, past the cache.
      const { code } = toShirubeError(error);
      if ((code !== "ASSET_DAMAGED" && code !== "NETWORK" && code !== "ASSET_IS_HTML") || stop.aborted) throw error;
      bytes = await this.download(url, "reload", onBytes, stop);
      await accept(file.path, bytes);
    }
    onBytes(file.bytes);
    this.store(url, key, bytes);
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
    const begun = this.begun.get(url);
    if (begun && cache !== "reload") {
      this.begun.delete(url);
      const bytes = await begun;
      onBytes?.(bytes.length);
      return bytes;
    }
    const response = await this.ask(this.renamed[url] ?? url, { cache, signal });
    try {
      return onBytes ? await readBody(response, onBytes) : new Uint8Array(await response.arrayBuffer());
    } catch (error) {
      throw networkError(url, error, signal);
    }
  }

  /** Resolves once what came is stored, or `memoryReason` says why it is not. */
  async stored(): Promise<void> {
    while (this.storing.size > 0) await Promise.all(this.storing);
  }

  /** Work on the disk that nobody waits for. What fails there costs the next visit a download. */
  private later(work: () => Promise<void>): void {
    const done: Promise<void> = work()
      .catch(() => {})
      .finally(() => this.storing.delete(done));
    this.storing.add(done);
  }

  /** Keeps the file at `url` under `key`, in its own time. */
  private store(url: string, key: string, bytes: Uint8Array): void {
    this.unstored.set(key, bytes);
    this.later(async () => {
      const cache = await this.cacheFor(url);
      if (cache) await this.put(cache, key, bytes);
      this.unstored.delete(key);
    });
  }

  private async put(cache: Cache, key: string, bytes: Uint8Array): Promise<void> {
    if (this.memoryReason !== undefined) return;
    try {
      await cache.put(key, new Response(bytes as Uint8Array<ArrayBuffer>, { headers: { "content-length": String(bytes.length) } }));
    } catch (error) {
      this.memoryReason = `storing failed: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  /** Drops stored files of `folder` that its manifest no longer names; those of a folder inside, such as the model in a bundle, are that one's. */
  private async forget(folder: string, files: FileEntry[]): Promise<void> {
    const cache = await this.cache;
    if (!cache || this.memoryReason !== undefined) return;
    const current = new Set(files.map((file) => storedAs(new URL(file.path, folder).href, file)));
    const inside = this.folders.filter((other) => other !== folder && other.startsWith(folder));
    for (const { url } of await cache.keys()) {
      if (url.startsWith(folder) && url.includes("?sha256=") && !current.has(url) && !inside.some((other) => url.startsWith(other))) await cache.delete(url);
    }
  }
}

function storedAs(url: string, file: FileEntry): string {
  return file.sha256 === undefined ? `${url}${SHARD_MARK}` : `${url}?sha256=${file.sha256}`;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

/** `fetch` with this package's errors. */
export async function request(url: string, init: RequestInit & { signal: AbortSignal }): Promise<Response> {
  let response: Response;
  try {
    response = isInline(url) ? inlineResponse(url) : await fetch(url, init);
  } catch (error) {
    throw networkError(url, error, init.signal);
  }
  return checked(url, response);
}

/** The response, or the error that its status means. */
function checked(url: string, response: Response): Response {
  if (response.ok) return response;
  if (isLocal(url)) {
    throw new ShirubeError("ASSET_MISSING", `${url.split("/").slice(4).join("/")}: the folder has no such file`, "Give the whole folder, as it was written.");
  }
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
