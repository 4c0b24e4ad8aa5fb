/** Filters with counts, section weights, passages that answer for one section, order by a value (crates/retriever/src/facets.rs). */

import { ShirubeError } from "../errors.js";
import type { SearchOptions, SearchResult } from "../types.js";
import type { FacetTable } from "./files.js";
import { compareText } from "./terms.js";

type Filters = NonNullable<SearchOptions["filters"]>;
type Sort = { name: string; descending: boolean };

const list = (known: Iterable<string>): string => [...known].join(", ") || "none";

export class Facets {
  /** The first passage of each document's section. */
  private readonly firstPassages: Uint32Array;
  /** ln(weight) of each document; absent where all are 1. */
  private readonly logWeights: Float32Array | undefined;

  constructor(
    private readonly table: FacetTable,
    nDocuments: number,
  ) {
    this.firstPassages = Uint32Array.from({ length: nDocuments }, (_, i) => i);
    // A later passage without anything before it is a section of its own.
    for (const d of table.laterPassages) if (d > 0) this.firstPassages[d] = this.firstPassages[d - 1] as number;
    if (table.weights.length === 0) return;
    this.logWeights = new Float32Array(nDocuments);
    for (const [d, weight] of table.weights) this.logWeights[d] = Math.log(Math.min(Math.max(weight, Math.fround(0.01)), 100));
  }

  /** Whether each document passes; `undefined` lets all pass. */
  allowed(filters: Filters): Uint8Array | undefined {
    for (const name of Object.keys(filters)) {
      if (!this.table.filters.has(name)) throw new ShirubeError("BAD_ARGUMENT", `no section has the filter ${JSON.stringify(name)}`, `this bundle knows ${list(this.table.filters.keys())}`);
    }
    return this.passing(filters);
  }

  /** As `allowed`, without the filter `left`. */
  private passing(filters: Filters, left?: string): Uint8Array | undefined {
    let allowed: Uint8Array | undefined;
    for (const [name, values] of Object.entries(filters)) {
      if (name === left || values.length === 0) continue;
      const here = new Uint8Array(this.firstPassages.length);
      for (const value of values) for (const d of this.table.filters.get(name)?.get(value) ?? []) here[d] = 1;
      allowed = allowed ? allowed.map((a, i) => a & (here[i] as number)) : here;
    }
    return allowed;
  }

  /** Every filter with its values and what each would leave, given `filters` on the other names. */
  counts(filters: Filters): NonNullable<SearchResult["filters"]> {
    const out: NonNullable<SearchResult["filters"]> = {};
    for (const [name, values] of this.table.filters) {
      const others = this.passing(filters, name);
      out[name] = [...values].map(([value, documents]) => ({ value, nSections: documents.filter((d) => (others?.[d] ?? 1) === 1 && this.firstPassages[d] === d).length }));
    }
    return out;
  }

  /** Adds each document's weight to its score: `score + deviation * ln(weight)`, the deviation of the documents that are `allowed`; `undefined` is all. */
  weigh(scores: Float32Array, allowed: Uint8Array | undefined): void {
    const { logWeights } = this;
    if (!logWeights) return;
    const counted = allowed ? scores.filter((_, d) => allowed[d] === 1) : scores;
    const n = Math.max(counted.length, 1);
    const mean = counted.reduce((sum, s) => sum + s, 0) / n;
    const deviation = Math.fround(Math.sqrt(counted.reduce((sum, s) => sum + (s - mean) * (s - mean), 0) / n));
    logWeights.forEach((log, d) => void (scores[d]! += Math.fround(deviation * log)));
  }

  /** The documents to rank: those that pass, and of each section only the best passage, ties to the first. */
  candidates(scores: Float32Array, allowed: (document: number) => boolean): number[] {
    const best: number[] = [];
    for (let d = 0; d < scores.length; d++) {
      if (!allowed(d)) continue;
      const last = best.at(-1);
      if (last === undefined || this.firstPassages[last] !== this.firstPassages[d]) best.push(d);
      else if ((scores[d] as number) > (scores[last] as number)) best[best.length - 1] = d;
    }
    return best;
  }

  /** Refuses an order by a value that no section has. */
  checkSort(sort: Sort | undefined): void {
    if (sort && !this.table.sort.has(sort.name)) throw new ShirubeError("BAD_ARGUMENT", `no section has the sort value ${JSON.stringify(sort.name)}`, `this bundle knows ${list(this.table.sort.keys())}`);
  }

  /** How two documents stand to each other: by number where both values are numbers, else by text; those without the value come last. */
  compare(sort: Sort, a: number, b: number): number {
    const values = this.table.sort.get(sort.name);
    const [x, y] = [values?.get(a), values?.get(b)];
    if (x === undefined || y === undefined) return Number(x === undefined) - Number(y === undefined);
    const [m, n] = [numberOf(x), numberOf(y)];
    const order = m !== undefined && n !== undefined ? compareNumbers(m, n) : compareText(x, y);
    return sort.descending ? -order : order;
  }
}

/** The number that a whole text is. */
function numberOf(text: string): number | undefined {
  const [, sign, word] = /^([+-]?)(inf|infinity|nan)$/i.exec(text) ?? [];
  if (word) return (sign === "-" ? -1 : 1) * (/nan/i.test(word) ? Number.NaN : Number.POSITIVE_INFINITY);
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : undefined;
}

/** Numbers in their order, -0 before 0, what is none behind all. */
function compareNumbers(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  return a - b || Number(Object.is(b, -0)) - Number(Object.is(a, -0));
}
