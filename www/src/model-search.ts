/** The demo searched with a model that its index was not made with: candidates by words, ranked by the model. */

import type { Hit, Reranker, SearchResult, Shirube } from "shirube";
import type { Searcher, ShownResult } from "shirube/ui";

/** Candidates by words. */
const BY_WORDS = 20;
/** Candidates that the demo's own model puts first. */
const BY_MEANING = 10;
/** Rows move at most so often while candidates are looked at. */
const EVERY_MS = 400;

export interface Progress {
  done: number;
  total: number;
}

/** Searches the demo; `tell` hears how many candidates have been looked at, `undefined` at the end. */
export function modelSearcher(demo: Shirube, reranker: Reranker, tell: (progress: Progress | undefined) => void): Searcher {
  async function* search(query: string, { limit, signal }: { limit: number; signal: AbortSignal }): AsyncGenerator<ShownResult> {
    const words = await first(demo, query, signal);
    yield { ...words, hits: words.hits.slice(0, limit), stage: "words" };
    const own = await demo.search(query, { limit: BY_MEANING, signal, queue: true });
    const sections = candidates([...words.hits, ...own.hits]);
    let shown = performance.now();
    try {
      for await (const { result, done, total } of reranker.rank(query, sections.map(({ section }) => section), { signal })) {
        tell({ done, total });
        if (done < total && performance.now() - shown < EVERY_MS) continue;
        shown = performance.now();
        const ranked = result.hits.map((hit) => ({ ...hit, document: sections[hit.document]?.document ?? hit.document }));
        const rest = sections.slice(done);
        yield { ...result, hits: [...ranked, ...rest].slice(0, limit), stage: done < total ? "words" : "meaning" };
      }
    } finally {
      tell(undefined);
    }
  }
  return { search };
}

/** The hits by words alone. */
async function first(demo: Shirube, query: string, signal: AbortSignal): Promise<SearchResult> {
  for await (const result of demo.search(query, { limit: BY_WORDS, signal, queue: true })) return result;
  throw new Error("a search has a result");
}

/** Each section once, in the order given; matches of another model are not this one's. */
function candidates(hits: Hit[]): Hit[] {
  const found = new Map<number, Hit>();
  for (const hit of hits) if (!found.has(hit.document)) found.set(hit.document, { ...hit, matches: [] });
  return [...found.values()];
}

