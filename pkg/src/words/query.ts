/** A query made ready, and the scores of all documents for it (crates/lexical/src/query.rs, which has the formula). Every sum is rounded as there. */

import { normalize } from "./normalize.js";
import { variants } from "./spellings.js";
import { runs, termsOf } from "./terms.js";

/** Documents with the spelling typed from which on no other is looked for. */
const RARE = 50;

/** Most spellings of one run that a text is searched for. */
const MOST_SPELLINGS = 32;

/** How far a document holds a query: some of its terms, all of it in some spelling, all of it as typed. */
export const PARTLY = 0;
export const SPELLED = 1;
export const EXACTLY = 2;

/** Postings, wherever they are. */
export interface Postings {
  readonly nDocs: number;
  /** Number of documents that hold `term`. */
  nDocuments(term: string): number;
  /** Calls `each` with every document that holds `term` and the term's share of its score. */
  forEach(term: string, each: (document: number, share: number) => void): void;
}

/** The rarity of a term that `nDocuments` of `nDocs` hold. */
export const idf = (nDocs: number, nDocuments: number): number => Math.log(1 + (nDocs - nDocuments + 0.5) / (nDocuments + 0.5));

interface Spelling {
  /** The terms of the query that `terms` stand for. */
  start: number;
  end: number;
  terms: string[];
  /** Distinct terms of the word in this spelling: who does not hold them all does not hold the word. */
  word: string[];
  /** 0 where it tells only whether a document holds the query. */
  weight: number;
  lastResort: boolean;
}

const { fround } = Math;

export class Query {
  readonly terms: string[];
  private readonly spellings: Spelling[] = [];
  /** The unbroken runs, each in every spelling, the one typed first. */
  private readonly phrases: string[][];

  constructor(typed: string) {
    this.terms = termsOf(typed);
    const { text } = normalize(typed);
    const found = variants(text);
    for (const variant of found) {
      const changed = text.slice(0, variant.start) + variant.text + text.slice(variant.end);
      const [a, b] = [this.terms, termsOf(changed)];
      let head = 0;
      while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
      const room = Math.min(a.length, b.length) - head;
      let tail = 0;
      while (tail < room && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
      const [start, end] = [head, a.length - tail];
      // At the end of the query such a spelling has all terms of the one typed, and more.
      if (start === end) continue;
      const word = new Set(termsOf(wordAround(changed, variant.start, variant.start + variant.text.length)).filter((term) => b.includes(term)));
      // A word that only goes on (サーバー for サーバ) is found by the terms of the one typed; what is around it must not count for it.
      const goesOn = !variant.lastResort && termsOf(wordAround(text, variant.start, variant.end)).every((term) => word.has(term));
      this.spellings.push({ start, end, terms: b.slice(head, b.length - tail), word: [...word], weight: goesOn ? 0 : variant.weight, lastResort: variant.lastResort });
    }
    // Windows that overlap are one place.
    this.spellings.sort((a, b) => a.start - b.start || a.end - b.end);
    this.phrases = runs(text).map((run) => {
      const typed = text.slice(run.start, run.end);
      // From the last place to the first, so that earlier ones keep theirs; one spelling a place.
      const places = found.filter((v) => run.start <= v.start && v.end <= run.end).sort((a, b) => b.start - a.start || b.end - a.end);
      const done: [spelling: string, from: number][] = [[typed, typed.length]];
      for (const place of places) {
        const [start, end] = [place.start - run.start, place.end - run.start];
        const more = done.filter(([, from]) => end <= from).map(([s]): [string, number] => [s.slice(0, start) + place.text + s.slice(end), start]);
        done.push(...more.slice(0, Math.max(0, MOST_SPELLINGS - done.length)));
      }
      return done.map(([spelling]) => spelling);
    });
  }

  /** How far a normalised text holds every run unbroken. */
  heldBy(text: string): number {
    let held = EXACTLY;
    for (const run of this.phrases) {
      const at = run.findIndex((spelling) => text.includes(spelling));
      if (at < 0) return PARTLY;
      if (at > 0) held = SPELLED;
    }
    return held;
  }

  /** The spellings worth looking up, given the postings of the terms typed. */
  private active(postings: Postings): Spelling[] {
    return this.spellings.filter((s) => {
      const counts = this.terms.slice(s.start, s.end).map((term) => postings.nDocuments(term));
      return s.lastResort ? Math.max(...counts) === 0 : Math.min(...counts) < RARE;
    });
  }

  /** Terms of the spellings worth looking up; needs the postings of `terms`. */
  moreTerms(postings: Postings): string[] {
    return this.active(postings).flatMap((s) => s.terms);
  }

  /** An upper bound of what the terms typed can give a document. */
  bound(postings: Postings): number {
    return fround(this.terms.reduce((sum, term) => sum + idf(postings.nDocs, postings.nDocuments(term)), 0));
  }

  /** The score of every document and how far it holds the query, by its terms; needs the postings of all terms. */
  score(postings: Postings): { scores: Float32Array; held: Uint8Array } {
    const { nDocs } = postings;
    const scores = new Float32Array(nDocs);
    for (const term of this.terms) postings.forEach(term, (document, share) => void (scores[document]! += share));
    const active = this.active(postings);
    const held = this.held(active, postings);
    const rarity = (terms: string[]) => terms.reduce((sum, term) => sum + idf(nDocs, postings.nDocuments(term)), 0);
    for (const place of placesOf(active)) {
      const gains = new Float32Array(nDocs);
      for (const spelling of place) {
        if (!(spelling.weight > 0) || spelling.terms.length === 0) continue;
        const typed = this.terms.slice(spelling.start, spelling.end);
        const factor = fround(spelling.weight * Math.min(rarity(typed) / Math.max(rarity(spelling.terms), 1e-9), 1));
        const gain = new Float32Array(nDocs);
        for (const term of spelling.terms) postings.forEach(term, (document, share) => void (gain[document]! += fround(factor * share)));
        for (const term of typed) postings.forEach(term, (document, share) => void (gain[document]! -= share));
        const nHeld = new Uint32Array(nDocs);
        for (const term of spelling.word) postings.forEach(term, (document) => void (nHeld[document]! += 1));
        for (let d = 0; d < nDocs; d++) if (nHeld[d] === spelling.word.length) gains[d] = Math.max(gains[d]!, gain[d]!);
      }
      for (let d = 0; d < nDocs; d++) scores[d]! += gains[d]!;
    }
    return { scores, held };
  }

  /** How far each document holds the query by its terms. Queries of more than 64 terms in all are held by none: those are sentences. */
  private held(active: Spelling[], postings: Postings): Uint8Array {
    const out = new Uint8Array(postings.nDocs);
    const bits = new Map<string, number>();
    for (const term of [...this.terms, ...active.flatMap((s) => s.terms)]) if (!bits.has(term)) bits.set(term, bits.size);
    if (bits.size === 0 || bits.size > 64) return out;
    // Two halves of 32 bits.
    const masks = new Uint32Array(2 * postings.nDocs);
    for (const [term, bit] of bits) postings.forEach(term, (document) => void (masks[2 * document + (bit >> 5)]! |= 1 << (bit & 31)));
    type Mask = [low: number, high: number];
    const maskOf = (...lists: string[][]): Mask => {
      const mask: Mask = [0, 0];
      for (const term of lists.flat()) {
        const bit = bits.get(term) as number;
        mask[bit >> 5]! |= 1 << (bit & 31);
      }
      return mask;
    };
    const has = (d: number, [low, high]: Mask) => ((masks[2 * d]! & low) ^ low) === 0 && ((masks[2 * d + 1]! & high) ^ high) === 0;
    const typed = maskOf(this.terms);
    // A place is held by its own terms or by those of a spelling with the rest of the place's.
    const outside: Mask = [...typed];
    const places = placesOf(active).map((place) => {
      const start = Math.min(...place.map((s) => s.start));
      const end = Math.max(...place.map((s) => s.end));
      const own = maskOf(this.terms.slice(start, end));
      const elsewhere = maskOf(this.terms.slice(0, start), this.terms.slice(end));
      outside[0] &= ~own[0] | elsewhere[0];
      outside[1] &= ~own[1] | elsewhere[1];
      return [own, ...place.map((s) => maskOf(this.terms.slice(start, s.start), s.terms, this.terms.slice(s.end, end)))];
    });
    for (let d = 0; d < postings.nDocs; d++) {
      if (has(d, typed)) out[d] = EXACTLY;
      else if (has(d, outside) && places.every((place) => place.some((mask) => has(d, mask)))) out[d] = SPELLED;
    }
    return out;
  }
}

/** The word around a piece of `text`: in katakana the whole run, elsewhere the piece with what a bigram needs. */
function wordAround(text: string, start: number, end: number): string {
  const katakana = (c: string) => (c >= "ァ" && c <= "ヺ") || c === "ー";
  const piece = [...text.slice(start, end)];
  const before = [...text.slice(0, start)];
  const after = [...text.slice(end)];
  let [from, to] = [before.length, 0];
  if (piece.every(katakana)) {
    while (from > 0 && katakana(before[from - 1] as string)) from -= 1;
    while (to < after.length && katakana(after[to] as string)) to += 1;
  }
  const n = before.length - from + piece.length + to;
  if (n < 2 && from > 0) from -= 1;
  if (n < 1 && to < after.length) to += 1;
  return [...before.slice(from), ...piece, ...after.slice(0, to)].join("");
}

/** Spellings, ascending by their windows, in groups of those that share terms. */
function placesOf(spellings: Spelling[]): Spelling[][] {
  const out: Spelling[][] = [];
  let end = 0;
  for (const spelling of spellings) {
    const last = out.at(-1);
    if (last && spelling.start < end) last.push(spelling);
    else {
      out.push([spelling]);
      end = 0;
    }
    end = Math.max(end, spelling.end);
  }
  return out;
}
