/** The bundle's entry, directories and blocks, as far as a search by words reads them (docs/format.md). */

import type { FileEntry, Need } from "../assets.js";
import { ShirubeError } from "../errors.js";
import type { Section } from "../types.js";
import { Cursor, damaged, directoryBody, inflate, notThePromised, sha256 } from "./bytes.js";
import { compareText } from "./terms.js";

const ENTRY = "shirube.json";
/** The one version of the bundle that is read. */
const BUNDLE_FORMAT = 3;
const LEXICAL_VERSION = 1;
const SECTIONS_VERSION = 2;
const ANALYZER = "grams-1";
const MAX_DOCUMENTS = 1 << 24;
const MAX_FILE_BYTES = 64 << 20;
const MAX_TERM_BYTES = 255;
/** Bytes of a shard's SHA-256 that name it. */
const NAME_BYTES = 8;

/** A file of the entry. */
interface BundleFile extends FileEntry {
  sha256: string;
  kind: string;
  n_shards?: number;
  shard_bytes?: number;
}

/** `shirube.json`. */
export interface BundleEntry {
  format: number;
  name: string;
  model: { name: string; dim: number };
  counts: { pages: number; documents: number; tokens: number };
  files: BundleFile[];
}

/** Whether a path stays inside the bundle on every system and needs no escaping in an address. */
const isPlainPath = (path: string): boolean => path.length <= 200 && path !== ENTRY && path.split("/").every((part) => /^[\w-][\w.-]*$/.test(part));

/** Parses the entry and checks what a search by words relies on; the engine checks the rest before it searches by meaning. */
export function parseEntry(bytes: Uint8Array): BundleEntry {
  let entry: BundleEntry;
  try {
    entry = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as BundleEntry;
  } catch (error) {
    if (String.fromCharCode(...bytes.subarray(0, 64)).trimStart().startsWith("<")) {
      throw new ShirubeError("ASSET_IS_HTML", `${ENTRY}: an HTML page stands in place of the file`, "The server answers missing files with a page: check the path.");
    }
    throw damaged(ENTRY, error instanceof Error ? error.message : String(error));
  }
  const whole = (value: unknown, low: number, high: number) => Number.isInteger(value) && (value as number) >= low && (value as number) <= high;
  if (!whole(entry?.format, 0, 2 ** 32)) throw damaged(ENTRY, "it has no format");
  if (entry.format > BUNDLE_FORMAT) {
    throw new ShirubeError("VERSION_NEWER", `${ENTRY}: format ${entry.format} is newer than ${BUNDLE_FORMAT}, the newest this build reads`, "Update shirube or rebuild the file.");
  }
  if (entry.format < BUNDLE_FORMAT) {
    throw new ShirubeError("VERSION_OLDER", `${ENTRY}: format ${entry.format} is older than ${BUNDLE_FORMAT}, the oldest this build reads`, "Build it again with `shirube build`.");
  }
  const { counts, model, files } = entry;
  if (!whole(counts?.documents, 1, MAX_DOCUMENTS)) throw damaged(ENTRY, `counts.documents is ${String(counts?.documents)}, expected 1 to ${MAX_DOCUMENTS}`);
  if (typeof entry.name !== "string" || typeof model?.name !== "string" || !whole(model.dim, 2, 512)) throw damaged(ENTRY, "name or model are not as they should be");
  if (!Array.isArray(files)) throw damaged(ENTRY, "it has no table of files");
  const names = new Set<string>();
  for (const { path, bytes, sha256 } of files) {
    if (typeof path !== "string" || !isPlainPath(path)) throw damaged(ENTRY, `files: ${JSON.stringify(path)} is not a plain relative path`);
    if (names.has(path)) throw damaged(ENTRY, `files: ${path} stands twice`);
    names.add(path);
    if (!whole(bytes, 0, MAX_FILE_BYTES) || typeof sha256 !== "string") throw damaged(ENTRY, `files: ${path} has no length up to ${MAX_FILE_BYTES} or no digest`);
  }
  for (const [kind, least] of [["centroids", 1], ["codes", 1], ["ivf", 0], ["lexical", 1], ["sections", 1]] as const) {
    const n = files.filter((file) => file.kind === kind).length;
    if (n > 1 || n < least) throw damaged(ENTRY, `files: ${n} of kind ${kind}, expected 1`);
  }
  return entry;
}

/** Refuses bytes that are not those that the entry names. */
export async function checkFile(file: FileEntry, bytes: Uint8Array): Promise<void> {
  if (bytes.length !== file.bytes) throw notThePromised(file.path, bytes, `${bytes.length} bytes, but the manifest says ${file.bytes}`);
  const found = await sha256(bytes);
  if (found !== file.sha256) throw notThePromised(file.path, bytes, `SHA-256 ${found} differs from the manifest's ${String(file.sha256)}`);
}

interface Block {
  shard: number;
  start: number;
  end: number;
}

/** Which shard and which bytes of it hold each block of one kind. */
export class BlockTable {
  private readonly names: string[] = [];
  private readonly shardBytes: number[] = [];
  readonly blocks: Block[] = [];

  constructor(
    cursor: Cursor,
    private readonly folder: string,
  ) {
    const counts: number[] = [];
    let total = 0;
    for (let n = cursor.items("shards", NAME_BYTES + 2); n > 0; n--) {
      this.names.push(Array.from(cursor.take(NAME_BYTES), (byte) => byte.toString(16).padStart(2, "0")).join(""));
      counts.push(cursor.number("blocks of a shard", 1, cursor.left));
      total += counts.at(-1) as number;
      if (total > cursor.left) throw cursor.fail(`${total} blocks announced, ${cursor.left} bytes left`);
    }
    counts.forEach((n, shard) => {
      let start = 0;
      for (let i = 0; i < n; i++) {
        const end = start + cursor.number("bytes of a block", 1, MAX_FILE_BYTES - start);
        this.blocks.push({ shard, start, end });
        start = end;
      }
      this.shardBytes.push(start);
    });
  }

  path(shard: number): string {
    return `${this.folder}/${this.names[shard]}.bin`;
  }

  pathOf(block: number): string {
    return this.path((this.blocks[block] as Block).shard);
  }

  owns(path: string): boolean {
    return path.startsWith(`${this.folder}/`);
  }

  need(block: number): Need {
    const { shard, start, end } = this.blocks[block] as Block;
    return { path: this.path(shard), start, end, fileBytes: this.shardBytes[shard] as number };
  }

  wholeShards(): Need[] {
    return this.shardBytes.map((end, shard) => ({ path: this.path(shard), start: 0, end, fileBytes: end }));
  }

  /** The whole blocks in `bytes`, which stand from `start` in the shard at `path`. A whole shard is checked by its name. */
  async split(path: string, start: number, bytes: Uint8Array): Promise<[block: number, bytes: Uint8Array][]> {
    const shard = this.owns(path) ? this.names.indexOf(path.slice(this.folder.length + 1, -4)) : -1;
    if (shard < 0 || this.path(shard) !== path) throw new ShirubeError("INTERNAL", `${path}: no table of the bundle names this file`);
    const fileBytes = this.shardBytes[shard] as number;
    const end = start + bytes.length;
    if (end > fileBytes) throw notThePromised(path, bytes, `${end} bytes, but the table says ${fileBytes}`);
    if (start === 0 && end === fileBytes) {
      const found = await sha256(bytes);
      if (!found.startsWith(this.names[shard] as string)) throw notThePromised(path, bytes, `SHA-256 ${found} is not the one in its name`);
    }
    const out: [number, Uint8Array][] = [];
    this.blocks.forEach((block, i) => {
      if (block.shard === shard && block.start >= start && block.end <= end) out.push([i, bytes.subarray(block.start - start, block.end - start)]);
    });
    // What was asked for always holds a block: the answer was cut.
    if (out.length === 0) throw notThePromised(path, bytes, `${end} bytes, but the table says ${fileBytes}`);
    return out;
  }

  /** Refuses what is not the whole content of the shard at `path`. */
  async check(path: string, bytes: Uint8Array): Promise<void> {
    const need = this.wholeShards().find((need) => need.path === path);
    if (need && need.fileBytes !== bytes.length) throw notThePromised(path, bytes, `${bytes.length} bytes, but the table says ${need.fileBytes}`);
    await this.split(path, 0, bytes);
  }
}

/** How many of the ascending `numbers` are not above `wanted` in the order of `compare`. */
function countUpTo<T>(numbers: readonly T[], wanted: T, compare: (a: T, b: T) => number): number {
  let [low, high] = [0, numbers.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compare(numbers[middle] as T, wanted) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A term by what it shares with the one before, as bytes of UTF-8. */
function takeTerm(cursor: Cursor, before: Uint8Array): { bytes: Uint8Array; text: string } {
  const shared = cursor.number("shared bytes of a term", 0, before.length);
  const rest = cursor.number("bytes of a term", 0, MAX_TERM_BYTES - shared);
  const bytes = new Uint8Array(shared + rest);
  bytes.set(before.subarray(0, shared));
  bytes.set(cursor.take(rest), shared);
  return { bytes, text: new Cursor(cursor.path, bytes).text(bytes.length) };
}

/** Terms in ascending order. */
class TermReader {
  private bytes = new Uint8Array();
  private text = "";

  next(cursor: Cursor): string {
    const term = takeTerm(cursor, this.bytes);
    if (compareText(term.text, this.text) <= 0) throw cursor.fail(`term ${JSON.stringify(term.text)} does not stand above ${JSON.stringify(this.text)}`);
    ({ bytes: this.bytes, text: this.text } = term as { bytes: Uint8Array<ArrayBuffer>; text: string });
    return term.text;
  }
}

/** Documents that hold a term, and how often each. */
export interface TermPostings {
  documents: Uint32Array;
  counts: Uint32Array;
}

/** `lexical.{hash}.bin`. */
export class LexicalDirectory {
  readonly k1: number;
  readonly b: number;
  readonly lengths: Uint32Array;
  /** Their mean. */
  readonly mean: number;
  readonly table: BlockTable;
  private readonly firstTerms: string[] = [];

  static async read(path: string, bytes: Uint8Array): Promise<LexicalDirectory> {
    return new LexicalDirectory(await directoryBody(path, bytes, "SHRL", LEXICAL_VERSION));
  }

  private constructor(cursor: Cursor) {
    const analyzer = cursor.text(cursor.items("bytes of the analyzer's name"));
    if (analyzer !== ANALYZER) throw cursor.fail(`analyzer is ${JSON.stringify(analyzer)}, this build knows ${JSON.stringify(ANALYZER)}`);
    this.k1 = cursor.f32();
    this.b = cursor.f32();
    if (!(this.k1 >= 0 && this.k1 <= 100 && this.b >= 0 && this.b <= 1)) throw cursor.fail(`k1 is ${this.k1} and b ${this.b}, expected 0 to 100 and 0 to 1`);
    const nDocuments = cursor.items("documents");
    if (nDocuments > MAX_DOCUMENTS) throw cursor.fail(`${nDocuments} documents, expected at most ${MAX_DOCUMENTS}`);
    this.lengths = Uint32Array.from({ length: nDocuments }, () => cursor.number("terms of a document"));
    this.mean = this.lengths.reduce((sum, length) => sum + length, 0) / Math.max(nDocuments, 1);
    this.table = new BlockTable(cursor, "lexical");
    const terms = new TermReader();
    for (let i = 0; i < this.table.blocks.length; i++) this.firstTerms.push(terms.next(cursor));
    cursor.end();
  }

  /** The block that holds `term` if any does. */
  blockOf(term: string): number | undefined {
    const n = countUpTo(this.firstTerms, term, compareText);
    return n > 0 ? n - 1 : undefined;
  }

  /** The terms of a block. */
  async readBlock(block: number, bytes: Uint8Array): Promise<Map<string, TermPostings>> {
    const path = this.table.pathOf(block);
    const cursor = new Cursor(path, await inflate(path, bytes));
    const out = new Map<string, TermPostings>();
    const terms = new TermReader();
    while (cursor.left > 0) {
      const term = terms.next(cursor);
      if (out.size === 0 && term !== this.firstTerms[block]) throw cursor.fail(`block ${block} begins with ${JSON.stringify(term)}, not as the directory says`);
      const n = cursor.number("documents of a term", 1, this.lengths.length);
      const nBytes = cursor.items("bytes of postings");
      const end = cursor.at + nBytes;
      if (n > nBytes) throw cursor.fail(`${n} documents in ${nBytes} bytes`);
      const postings = { documents: new Uint32Array(n), counts: new Uint32Array(n) };
      let next = 0;
      for (let i = 0; i < n; i++) {
        const head = cursor.number("a posting", 2);
        next += Math.floor(head / 2);
        if (next > this.lengths.length) throw cursor.fail(`${term}: documents do not ascend below ${this.lengths.length}`);
        postings.documents[i] = next - 1;
        postings.counts[i] = head % 2 === 1 ? cursor.number("count", 2, this.lengths[next - 1]) : 1;
        if ((this.lengths[next - 1] as number) < 1) throw cursor.fail(`${term} stands in document ${next - 1}, which has no terms`);
      }
      if (cursor.at !== end) throw cursor.fail(`${term}: its postings do not end where they should`);
      out.set(term, postings);
    }
    return out;
  }
}

/** What a search must know of every section before it ranks. */
export interface FacetTable {
  laterPassages: number[];
  weights: [document: number, weight: number][];
  /** Name, value, documents with it. */
  filters: Map<string, Map<string, number[]>>;
  sort: Map<string, Map<number, string>>;
}

/** `sections.{hash}.bin`. */
export class SectionsDirectory {
  readonly nDocuments: number;
  readonly table: BlockTable;
  readonly facets: FacetTable;
  private readonly firstDocuments: number[] = [];

  static async read(path: string, bytes: Uint8Array): Promise<SectionsDirectory> {
    return new SectionsDirectory(await directoryBody(path, bytes, "SHRS", SECTIONS_VERSION));
  }

  private constructor(cursor: Cursor) {
    const n = (this.nDocuments = cursor.number("documents", 1, MAX_DOCUMENTS));
    this.table = new BlockTable(cursor, "sections");
    let next = 0;
    for (let i = 0; i < this.table.blocks.length; i++) {
      this.firstDocuments.push(next);
      next += cursor.number("documents of a block", 1, n - next);
    }
    if (next !== n) throw cursor.fail(`the blocks hold ${next} of ${n} documents`);
    const text = () => cursor.text(cursor.items("bytes of text"));
    const nothing = () => undefined;
    const numbers = () => cursor.documents(n, nothing).map(([document]) => document);
    const laterPassages = numbers();
    const weights = cursor.documents(n, () => cursor.f32());
    const filters: FacetTable["filters"] = new Map();
    for (let left = cursor.items("filters", 2); left > 0; left--) {
      const values = new Map<string, number[]>();
      filters.set(text(), values);
      for (let left = cursor.items("values of a filter", 2); left > 0; left--) values.set(text(), numbers());
    }
    const sort: FacetTable["sort"] = new Map();
    for (let left = cursor.items("sort names", 2); left > 0; left--) sort.set(text(), new Map(cursor.documents(n, text)));
    cursor.end();
    this.facets = { laterPassages, weights, filters, sort };
  }

  blockOf(document: number): number {
    return countUpTo(this.firstDocuments, document, (a, b) => a - b) - 1;
  }

  firstOf(block: number): number {
    return this.firstDocuments[block] as number;
  }

  /** The sections of a block. */
  async readBlock(block: number, bytes: Uint8Array): Promise<Section[]> {
    const path = this.table.pathOf(block);
    const body = await inflate(path, bytes);
    let stored: unknown;
    try {
      stored = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
    } catch (error) {
      throw damaged(path, error instanceof Error ? error.message : String(error));
    }
    const expected = (this.firstDocuments[block + 1] ?? this.nDocuments) - this.firstOf(block);
    if (!Array.isArray(stored) || stored.length !== expected) throw damaged(path, `block ${block} does not hold ${expected} sections`);
    return stored.map((value: unknown, i) => readSection(value) ?? fail(damaged(path, `section ${i} is not as it should be`)));
  }
}

function fail(error: ShirubeError): never {
  throw error;
}

/** A section of the file with all that may be left out there; `undefined` where something has the wrong type. */
function readSection(value: unknown): Section | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const stored = value as Record<string, unknown>;
  const section: Record<string, unknown> = {};
  const isText = (value: unknown) => typeof value === "string";
  const isTexts = (value: unknown) => Array.isArray(value) && value.every(isText);
  const isMapOf = (is: (value: unknown) => boolean) => (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value) && Object.values(value).every(is);
  for (const name of ["id", "source", "page", "url", "title", "headings", "anchor", "text"]) {
    section[name] = stored[name] ?? (name === "headings" ? [] : name === "id" ? undefined : "");
    if (!(name === "headings" ? isTexts : isText)(section[name])) return undefined;
  }
  const optional: Record<string, (value: unknown) => boolean> = {
    filters: isMapOf(isTexts),
    meta: isMapOf(isText),
    sort: isMapOf(isText),
    weight: (value) => typeof value === "number",
    passage: (value) => Number.isInteger(value),
  };
  for (const [name, is] of Object.entries(optional)) {
    const value = stored[name];
    if (value === undefined || value === null) continue;
    if (!is(value)) return undefined;
    section[name] = name === "weight" ? Math.fround(value as number) : value;
  }
  return section as unknown as Section;
}
