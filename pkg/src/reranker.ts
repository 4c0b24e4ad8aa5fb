/** A model without a bundle. */

import { dtypeOf } from "./dtype.js";
import { ShirubeError, aborted, toShirubeError } from "./errors.js";
import { isInline } from "./inline-files.js";
import { baseOf, engineUrls, modelOf, startThread, wellFormed } from "./places.js";
import { checkEncode, rerank } from "./rerank.js";
import type { Thread } from "./thread.js";
import type { Embeddings, Hit, RankOptions, Ranking, RerankOptions, Reranked, RerankerOptions, RerankerStatus, SearchResult, Section } from "./types.js";

/**
 * A model alone, without an index: your own texts or sections by their nearness to a query. Every text is encoded when it is first seen, so this is for
 * dozens of candidates that something else has found, not for a whole site.
 *
 * ```ts
 * const reranker = await Reranker.load({ model: "/jacolbert/" });
 * for await (const { result, done, total } of reranker.rank("状態の保存", sections)) show(result.hits, done / total);
 * ```
 */
export class Reranker {
  private constructor(
    private readonly thread: Thread,
    /** What is loaded and how it runs. */
    readonly status: RerankerStatus,
  ) {}

  /**
   * Loads the engine and a model.
   *
   * @throws {@link ShirubeError} `ASSET_*`, `VERSION_*`, `NETWORK`, `WASM_UNSUPPORTED`, `WORKER_FAILED`, `ABORTED`, `BAD_ARGUMENT`.
   */
  static async load(options: RerankerOptions = {}): Promise<Reranker> {
    const start = performance.now();
    const base = baseOf(options, undefined);
    const host = { ...modelOf(options.model, undefined), dtype: dtypeOf(options.dtype), wasm: engineUrls(base), cache: (options.cache ?? true) && !isInline(import.meta.url) };
    if (options.signal?.aborted) throw aborted();
    const { thread, reason } = await startThread(options.worker ?? "auto", base);
    try {
      const loaded = await thread.call({ op: "model", options: host }, options.signal, options.progress_callback);
      return new Reranker(thread, { ...loaded, thread: { kind: thread.kind, reason }, loadMs: performance.now() - start });
    } catch (error) {
      thread.dispose();
      throw toShirubeError(error);
    }
  }

  /**
   * The token embeddings of `text`.
   *
   * @throws {@link ShirubeError} `ABORTED`, `BAD_ARGUMENT`, `WORKER_FAILED`, `INTERNAL`.
   */
  async encode(text: string, role: "query" | "document" = "query", options: { signal?: AbortSignal } = {}): Promise<Embeddings> {
    checkEncode(text, role);
    return this.thread.call({ op: "encode", text: wellFormed(text), role }, options.signal);
  }

  /**
   * Your own texts by their nearness to `query`, as {@link Shirube.rerank}.
   *
   * @throws {@link ShirubeError} `EMPTY_QUERY`, `ABORTED`, `BAD_ARGUMENT`, `WORKER_FAILED`, `INTERNAL`.
   */
  rerank(query: string, candidates: readonly string[], options: RerankOptions = {}): Promise<Reranked[]> {
    return rerank((text, role) => this.encode(text, role, options), query, candidates, options);
  }

  /**
   * `sections` by their nearness to `query`, with matches and highlights, one section after the other: each step gives the order so far. A section is
   * encoded as `shirube build` would encode it (title, headings, text; what the model does not read of a long one is left out), and its embeddings are
   * kept, so that the next query only compares.
   *
   * @throws {@link ShirubeError} `EMPTY_QUERY`, `ABORTED`, `BAD_ARGUMENT`, `WORKER_FAILED`, `INTERNAL`.
   */
  async *rank(query: string, sections: readonly Section[], options: RankOptions = {}): AsyncGenerator<Ranking, void, undefined> {
    if (typeof query !== "string") throw new ShirubeError("BAD_ARGUMENT", `query is a ${typeof query}, expected a string`);
    const text = wellFormed(query);
    const total = sections.length;
    const hits: Hit[] = [];
    const sums = { tokenizeMs: 0, encodeMs: 0, scoreMs: 0, explainMs: 0, totalMs: 0 };
    // Without sections, too, the query is read and refused where it is blank.
    for (let done = 0; done < Math.max(total, 1); done++) {
      const section = sections[done];
      const one: SearchResult = await this.thread.call({ op: "rank", query: text, sections: section ? [section] : [] }, options.signal);
      for (const hit of one.hits) {
        const at = hits.findIndex(({ score }) => score < hit.score);
        hits.splice(at < 0 ? hits.length : at, 0, { ...hit, document: done });
      }
      for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += one.timings[key];
      const seen = Math.min(done + 1, total);
      yield { result: { ...one, hits: hits.slice(0, options.limit ?? total), nScored: seen, timings: { ...sums } }, done: seen, total };
    }
  }

  /** Bytes of WebAssembly memory taken: it grows to what was needed at most, and never shrinks. */
  async memoryBytes(): Promise<number> {
    return (await this.thread.call({ op: "memory" }, undefined)).bytes;
  }

  /** Stops the worker and frees its memory. What is under way ends with `ABORTED`. */
  dispose(): void {
    this.thread.dispose();
  }
}
