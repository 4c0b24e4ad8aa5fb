/**
 * Your own candidates by their nearness to a question, without an index: the model alone.
 *
 * ```ts
 * import { Reranker } from "shirube/rerank";
 * const reranker = await Reranker.load();
 * const best = await reranker.rerank("再レンダリングを減らしたい", texts, { limit: 10 }); // [{ index, score }]
 * ```
 *
 * @module
 */

// As the package exports it: a page that uses both has the code once, and errors are of one class.
export { Reranker, ShirubeError, maxsim, type ShirubeErrorCode } from "./index.js";
export type { Embeddings, RankOptions, Ranking, RerankOptions, Reranked, RerankerOptions, RerankerStatus } from "./types.js";
