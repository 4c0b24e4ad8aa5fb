/** What the elements take and tell. */

import type { Hit, SearchResult } from "../types.js";

/** Wishes by filter name: a section must have one of the values of every name. */
export type FilterChoice = Record<string, string[]>;

/** One value of a filter, and how many sections it would leave. */
export interface FilterValue {
  value: string;
  nSections: number;
}

/** A search result as the elements show it: the package's, with parts that not every engine gives. */
export interface ShownResult extends SearchResult {
  /** By filter name; shown as check boxes. */
  filters?: Record<string, FilterValue[]>;
  /** `"words"` while meaning is still to come; absent or `"meaning"` is the last word. */
  stage?: "words" | "meaning";
}

/**
 * Whatever answers queries. `Shirube` is one; give your own through the property `searcher`.
 *
 * An answer that is an async iterable comes in steps: the first is shown at once, each later one refines the rows in place.
 */
export interface Searcher {
  search(
    query: string,
    options: { limit: number; firstHits: number; signal: AbortSignal; lexicalWeight?: number; filters?: FilterChoice },
  ): PromiseLike<ShownResult> | AsyncIterable<ShownResult>;
  /** Loads the model, where it is not loaded with the rest; searches go by words meanwhile. */
  loadMeaning?(): Promise<void>;
  /** Whether searches by meaning are possible; absent where they always are. */
  readonly status?: { readonly loadMs?: number; readonly meaning?: { readonly state: "off" | "loading" | "ready" | "failed"; readonly error?: unknown } };
}

/** Where an element stands; also its attribute `state`. */
export type SearchState = "idle" | "loading" | "ready" | "searching" | "words" | "done" | "failed";

/** Detail of `shirube-select`. `preventDefault()` leaves following the link to the page. */
export interface SelectDetail {
  hit: Hit;
  /** Absolute address of the section. */
  url: string;
  query: string;
}

/** An error as the elements show it: `ShirubeError`, or anything with its fields. */
export interface ShownError {
  code: string;
  message: string;
}
