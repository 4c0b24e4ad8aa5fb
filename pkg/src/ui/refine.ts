/** From hits to groups of rows, and from one list of groups to the next without moving the row the reader is on. Pure functions. */

import type { Hit, SearchResult } from "../types.js";

/** The hits of one page: the best of them, and further sections below it. */
export interface Group {
  /** Tells pages apart. */
  key: string;
  hits: Hit[];
  /** The result the hits are from: a row that stays through a refinement keeps its own. */
  result: SearchResult;
}

/** Groups in the order of their best hits, each with at most `subResults` further sections. */
export function grouped(result: SearchResult, subResults: number): Group[] {
  const groups = new Map<string, Group>();
  for (const hit of result.hits) {
    const { source, page, url, id } = hit.section;
    const place = page || url.replace(/#.*$/, "");
    const key = place === "" ? `\0${id}` : `${source}\0${place}`;
    const group = groups.get(key);
    if (!group) groups.set(key, { key, hits: [hit], result });
    else if (group.hits.length <= subResults) group.hits.push(hit);
  }
  return [...groups.values()];
}

/**
 * `next`, with everything down to the group `pinned` left as it is in `shown`: the reader has read that far, and what is under the
 * eye or the pointer must not jump. What the refinement would have put higher comes directly below.
 */
export function refined(shown: Group[], next: Group[], pinned: string | undefined): Group[] {
  const last = pinned === undefined ? -1 : shown.findIndex((group) => group.key === pinned);
  if (last < 0) return next;
  const kept = shown.slice(0, last + 1);
  const keys = new Set(kept.map((group) => group.key));
  return [...kept, ...next.filter((group) => !keys.has(group.key))];
}
