/**
 * Search by words without WebAssembly: what answers first, and all there is where the model is never loaded.
 *
 * The same search stands in Rust (crates/lexical, crates/retriever), where sites are built and meaning is added; this one exists because a visitor's first words
 * should wait for ten kilobytes and not for a module of hundreds. Both give the same hits with the same scores, to the last bit: tests hold
 * them side by side. Files and searches go through the methods of the engine in WebAssembly, so that it can take over.
 */

import type { FileEntry, Need } from "../assets.js";
import { ShirubeError } from "../errors.js";
import type { Hit, SearchResult, Section, Status } from "../types.js";
import { Facets } from "./facets.js";
import { LexicalDirectory, SectionsDirectory, checkFile, parseEntry, type BlockTable, type BundleEntry, type TermPostings } from "./files.js";
import { mark } from "./marks.js";
import { normalize } from "./normalize.js";
import { PARTLY, Query, idf, type Postings } from "./query.js";

/** Most bytes of codes that a search by meaning loads whole unless the caller says otherwise. */
const RESIDENT_BYTES = 8 << 20;

/** Longest query that is read, in bytes of UTF-8. */
const MAX_QUERY_BYTES = 1 << 18;

/** How often one search reads the texts on top to see whether they hold the query unbroken: each may wait for a fetch. */
const MOST_READS = 3;

/** Blocks of each kind that stay; those not used for longest go first. */
const MOST_BLOCKS = 512;

const { fround } = Math;

interface Opened {
  words: LexicalDirectory;
  sections: SectionsDirectory;
  facets: Facets;
}

interface Analysed {
  /** The query as typed. */
  text: string;
  query: Query;
  /** Scores of all documents, and how far each holds the query. */
  lexical: Float32Array;
  tiers: Uint8Array;
  bound: number;
  /** What hits are marked by. */
  weights: Map<string, number>;
}

/** Blocks by number, the one used last at the end. */
class Blocks<T> {
  private readonly blocks = new Map<number, T>();

  get(block: number): T | undefined {
    return this.blocks.get(block);
  }

  put(block: number, value: T): void {
    this.blocks.delete(block);
    this.blocks.set(block, value);
  }

  /** What is missing of `blocks`, ascending. */
  missing(blocks: Iterable<number | undefined>): number[] {
    const wanted = new Set(blocks);
    return [...wanted].filter((block): block is number => block !== undefined && !this.blocks.has(block)).sort((a, b) => a - b);
  }

  /** Between a query's needs and its answer nothing may go: this is for after it. */
  used(blocks: Iterable<number | undefined>): void {
    for (const block of blocks) {
      const value = block === undefined ? undefined : this.blocks.get(block);
      if (block !== undefined && value !== undefined) this.put(block, value);
    }
    for (const block of this.blocks.keys()) {
      if (this.blocks.size <= MOST_BLOCKS) break;
      this.blocks.delete(block);
    }
  }
}

export class WordsEngine implements Postings {
  private entry: BundleEntry | undefined;
  private lazy = false;
  private readonly files = new Map<string, Uint8Array>();
  private words: LexicalDirectory | undefined;
  private opened: Opened | undefined;
  /** What was searched for last. */
  private last: Analysed | undefined;
  private readonly terms = new Blocks<Map<string, TermPostings>>();
  private readonly sections = new Blocks<Section[]>();

  /** Takes `shirube.json`; returns the files to provide, for words and for meaning. */
  openBundle(bytes: Uint8Array, residentBytes = RESIDENT_BYTES): { words: FileEntry[]; meaning: FileEntry[]; lazy: boolean } {
    const entry = parseEntry(bytes);
    const of = (...kinds: string[]) => entry.files.filter(({ kind }) => kinds.includes(kind)).map(({ path, bytes, sha256 }): FileEntry => ({ path, bytes, sha256 }));
    const codeBytes = entry.files.find(({ kind }) => kind === "codes")?.shard_bytes ?? 0;
    this.entry = entry;
    this.lazy = codeBytes > residentBytes && of("ivf").length > 0;
    return { words: of("lexical", "sections"), meaning: [...of("centroids", "codes"), ...(this.lazy ? of("ivf") : [])], lazy: this.lazy };
  }

  /** Takes one file of the bundle; a refused one can be provided again. */
  async provideBundle(path: string, bytes: Uint8Array): Promise<void> {
    const file = this.entry?.files.find((file) => file.path === path);
    if (!file) throw new ShirubeError("INTERNAL", `${path}: no manifest names this file`);
    await checkFile(file, bytes);
    this.files.set(file.kind, bytes);
  }

  /** Opens the directory of words: what a query needs of it can be told. */
  async openTerms(): Promise<void> {
    const words = await LexicalDirectory.read(...this.directory("lexical"));
    this.checkCount("lexical", words.lengths.length);
    this.words = words;
  }

  /** Opens the directory of sections, after that of words; searches can begin. */
  async openSections(): Promise<void> {
    const { words } = this;
    if (!words) throw new ShirubeError("BAD_ARGUMENT", "the engine is not loaded", "openTerms comes first");
    const sections = await SectionsDirectory.read(...this.directory("sections"));
    this.checkCount("sections", sections.nDocuments);
    this.files.clear();
    this.opened = { words, sections, facets: new Facets(sections.facets, sections.nDocuments) };
  }

  private directory(kind: string): [path: string, bytes: Uint8Array] {
    const bytes = this.files.get(kind);
    if (!bytes) throw new ShirubeError("ASSET_MISSING", `the directory of kind ${kind} is missing`, "Copy the whole folder again.");
    return [this.entry?.files.find((file) => file.kind === kind)?.path ?? kind, bytes];
  }

  private checkCount(what: string, found: number): void {
    const expected = this.entry?.counts.documents ?? 0;
    if (found !== expected) throw new ShirubeError("ASSET_DAMAGED", `${what} directory: ${found} documents, the entry says ${expected}`, "Build it again.");
  }

  private get bundle(): Opened {
    if (!this.opened) throw new ShirubeError("BAD_ARGUMENT", "the engine is not loaded", "open comes first");
    return this.opened;
  }

  private get tables(): BlockTable[] {
    return [this.bundle.words.table, this.bundle.sections.table];
  }

  status(): Pick<Status, "backend"> & { model: Omit<Status["model"], "fromCache">; bundle: Omit<Status["bundle"], "fromCache"> } {
    const { name, model, counts, files } = this.entry as BundleEntry;
    const bytes = files.reduce((sum, { bytes, shard_bytes }) => sum + bytes + (shard_bytes ?? 0), 0);
    return {
      backend: { kind: "none", reason: "no model is attached: words alone" },
      model: { name: model.name, license: "", bytes: 0, dim: model.dim },
      bundle: { name, bytes, documents: counts.documents, pages: counts.pages, tokens: counts.tokens, lazy: this.lazy },
    };
  }

  /** Takes the bytes of a shard from `start`: the range that a search needs, or the whole file. */
  async provide(path: string, start: number, bytes: Uint8Array): Promise<void> {
    const { words } = this;
    if (words?.table.owns(path)) {
      for (const [block, part] of await words.table.split(path, start, bytes)) this.terms.put(block, await words.readBlock(block, part));
      return;
    }
    const { sections } = this.bundle;
    for (const [block, part] of await sections.table.split(path, start, bytes)) this.sections.put(block, await sections.readBlock(block, part));
  }

  /** Every shard there is, but for those of meaning. */
  shards(): Need[] {
    return this.tables.flatMap((table) => table.wholeShards());
  }

  async checkShard(path: string, bytes: Uint8Array): Promise<void> {
    const table = this.tables.find((table) => table.owns(path));
    if (!table) throw new ShirubeError("INTERNAL", `${path}: no table of the bundle names this file`);
    await table.check(path, bytes);
  }

  get nDocs(): number {
    return this.words?.lengths.length ?? 0;
  }

  private postingsOf(term: string): TermPostings | undefined {
    const block = this.words?.blockOf(term);
    return block === undefined ? undefined : this.terms.get(block)?.get(term);
  }

  nDocuments(term: string): number {
    return this.postingsOf(term)?.documents.length ?? 0;
  }

  forEach(term: string, each: (document: number, share: number) => void): void {
    const postings = this.postingsOf(term);
    if (!postings) return;
    if (!this.words) return;
    const { k1, b, lengths, mean } = this.words;
    const rarity = idf(lengths.length, postings.documents.length);
    postings.documents.forEach((document, i) => {
      const tf = postings.counts[i] as number;
      const damping = 1 - b + (b * (lengths[document] as number)) / mean;
      each(document, fround((rarity * tf) / (tf + k1 * damping)));
    });
  }

  /** What a search for `typed` reads of the words, for which nothing but their directory need be open. Once that is nothing more, scores are ready. */
  termNeeds(typed: string): Need[] {
    const { words } = this;
    if (!words) throw new ShirubeError("BAD_ARGUMENT", "the engine is not loaded", "openTerms comes first");
    const found = this.analyse(cutTo(typed, MAX_QUERY_BYTES), words);
    return "needs" in found ? found.needs : [];
  }

  /** The query made ready and all documents scored, or the blocks of words that are missing for that. */
  private analyse(query: string, words: LexicalDirectory): Analysed | { needs: Need[] } {
    // Searches go in rounds: each but the first asks for the same.
    if (this.last?.text === query) return this.last;
    const analysed = new Query(query);
    const blocksOf = (terms: string[]) => terms.map((term) => words.blockOf(term));
    for (const terms of [() => analysed.terms, () => analysed.moreTerms(this)]) {
      const missing = this.terms.missing(blocksOf(terms()));
      if (missing.length > 0) return { needs: missing.map((block) => words.table.need(block)) };
    }
    const every = [...analysed.terms, ...analysed.moreTerms(this)];
    this.terms.used(blocksOf(every));
    const { scores, held } = analysed.score(this);
    this.last = { text: query, query: analysed, lexical: scores, tiers: held, bound: analysed.bound(this), weights: this.weights(every) };
    return this.last;
  }

  /** The best sections for the words of `query`, or what is needed for that. */
  searchWords(typed: string, limit: number, filters: Record<string, string[]> = {}, sort?: { name: string; descending: boolean }): SearchResult | { needs: Need[] } {
    const { words, sections, facets } = this.bundle;
    if (!(limit >= 1 && limit <= 1000)) throw new ShirubeError("BAD_ARGUMENT", `limit is ${limit}, expected 1 to 1000`);
    facets.checkSort(sort);
    const query = cutTo(typed, MAX_QUERY_BYTES);
    if (normalize(query).text.trim() === "") throw new ShirubeError("EMPTY_QUERY", "the query is empty", "type at least one letter, digit or symbol");
    const allowed = facets.allowed(filters);
    const start = performance.now();
    const ready = this.analyse(query, words);
    if ("needs" in ready) return ready;
    const { query: analysed, lexical, tiers, bound, weights } = ready;
    const isHeld = (d: number) => (lexical[d] as number) > 0 && (!allowed || allowed[d] === 1);
    const scores = lexical.slice();
    facets.weigh(scores, allowed);
    // No sum of parts outweighs the whole: each step is an upper bound of what terms can give.
    const lift = (tier: number) => fround(bound * tier);
    tiers.forEach((tier, d) => void (scores[d]! += lift(tier)));
    // Whether the pieces stand together is read in the texts of those on top, which are shown anyway. Who falls makes room for others, a few times.
    const read = new Set<number>();
    let found: number[] = [];
    for (let nReads = 0; ; nReads++) {
      const byScore = (a: number, b: number) => (scores[b] as number) - (scores[a] as number) || a - b;
      found = best(facets.candidates(scores, isHeld), limit, byScore);
      if (sort) found.sort((a, b) => facets.compare(sort, a, b));
      // All that is to be shown, not only what is to be read: one fetch in place of two.
      const missing = this.sections.missing(found.map((d) => sections.blockOf(d)));
      if (missing.length > 0) return { needs: missing.map((block) => sections.table.need(block)) };
      const unread = found.filter((d) => (tiers[d] as number) > PARTLY && !read.has(d));
      if (unread.length === 0 || nReads === MOST_READS) break;
      for (const d of unread) {
        const claimed = tiers[d] as number;
        const actual = Math.min(claimed, analysed.heldBy(normalize(documentText(this.section(d))).text));
        scores[d]! -= fround(lift(claimed) - lift(actual));
        read.add(d);
      }
    }
    const scored = performance.now();
    const hits = found.map((document): Hit => {
      const section = this.section(document);
      return { document, score: scores[document] as number, maxsim: 0, lexical: lexical[document] as number, window: 0, section, matches: [], highlights: mark(section, weights) };
    });
    this.sections.used(found.map((d) => sections.blockOf(d)));
    const end = performance.now();
    let nScored = 0;
    for (let d = 0; d < lexical.length; d++) if (isHeld(d)) nScored += 1;
    return {
      stage: "words",
      query,
      hits,
      queryTokens: [],
      truncated: query.length < typed.length,
      nScored,
      filters: facets.counts(filters),
      timings: { tokenizeMs: 0, encodeMs: 0, scoreMs: scored - start, explainMs: end - scored, totalMs: end - start },
    };
  }

  private section(document: number): Section {
    const { sections } = this.bundle;
    const block = sections.blockOf(document);
    return this.sections.get(block)?.[document - sections.firstOf(block)] as Section;
  }

  /** The terms that some document holds, each with its rarity relative to the rarest, 0 to 1: what a hit is marked by. */
  private weights(terms: string[]): Map<string, number> {
    const rarities = new Map<string, number>();
    for (const term of terms) {
      const n = this.nDocuments(term);
      if (n > 0) rarities.set(term, idf(this.nDocs, n));
    }
    const most = Math.max(...rarities.values());
    return new Map([...rarities].map(([term, rarity]) => [term, fround(rarity / most)]));
  }

  /** For the sake of the engine in WebAssembly, whose memory must be given back. */
  free(): void {}
}

/** The first `limit` of `items` in the order of `compare`, without sorting them all. */
function best<T>(items: Iterable<T>, limit: number, compare: (a: T, b: T) => number): T[] {
  const top: T[] = [];
  for (const item of items) {
    if (top.length === limit && compare(item, top[limit - 1] as T) >= 0) continue;
    let at = top.length;
    while (at > 0 && compare(item, top[at - 1] as T) < 0) at -= 1;
    top.splice(at, 0, item);
    if (top.length > limit) top.pop();
  }
  return top;
}

/** Title, headings joined by ` > `, and text, one line break between these three, empty ones left out. */
function documentText({ title, headings, text }: Section): string {
  return [title, headings.filter((heading) => heading !== "").join(" > "), text].filter((part) => part !== "").join("\n");
}

/** The beginning of `text` that has at most so many bytes of UTF-8. */
function cutTo(text: string, most: number): string {
  if (3 * text.length <= most) return text;
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(most));
  return text.slice(0, read);
}


