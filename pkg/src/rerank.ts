/** MaxSim over embeddings as they are, without an index. */

import { ShirubeError } from "./errors.js";
import type { Embeddings, RerankOptions, Reranked } from "./types.js";

/**
 * The sum over the query's tokens of the largest dot product over the document's tokens (ColBERT, section 3.3); a query token of a
 * document without tokens adds 0.
 *
 * @throws RangeError where the widths differ.
 */
export function maxsim(query: Embeddings, document: Embeddings): number {
  const [nQuery, dim] = query.dims;
  const [nDocument, width] = document.dims;
  if (dim !== width) throw new RangeError(`the query's embeddings are ${dim} wide, the document's ${width}`);
  let sum = 0;
  for (let q = 0; q < nQuery && nDocument > 0; q++) {
    let best = Number.NEGATIVE_INFINITY;
    for (let d = 0; d < nDocument; d++) {
      let dot = 0;
      for (let i = 0; i < dim; i++) dot += (query.data[q * dim + i] ?? 0) * (document.data[d * dim + i] ?? 0);
      if (dot > best) best = dot;
    }
    sum += best;
  }
  return sum;
}

/** What encodes a text. */
type Encode = (text: string, role: "query" | "document") => Promise<Embeddings>;

/** `candidates` by MaxSim to `query`, best first, ties in the order given. */
export async function rerank(encode: Encode, query: string, candidates: readonly string[], options: RerankOptions): Promise<Reranked[]> {
  const wrong = Array.isArray(candidates) ? candidates.findIndex((text) => typeof text !== "string") : 0;
  if (wrong >= 0) throw new ShirubeError("BAD_ARGUMENT", `candidate ${wrong} is no string`, "Give an array of texts.");
  const asked = await encode(query, "query");
  if (query.trim() === "") throw new ShirubeError("EMPTY_QUERY", "the query is blank", "Give some words.");
  const scored: Reranked[] = [];
  for (const [index, text] of candidates.entries()) {
    // A blank text is no error among many: it is near to nothing.
    const empty = text.trim() === "";
    scored.push({ index, score: empty ? Number.NEGATIVE_INFINITY : maxsim(asked, await encode(text, "document")) });
  }
  return scored.sort((a, b) => b.score - a.score || a.index - b.index).slice(0, options.limit ?? candidates.length);
}

/** Refuses what is no text or no role, before it is sent anywhere. */
export function checkEncode(text: unknown, role: unknown): void {
  if (typeof text !== "string") throw new ShirubeError("BAD_ARGUMENT", `text is a ${typeof text}, expected a string`);
  if (role !== "query" && role !== "document") {
    throw new ShirubeError("BAD_ARGUMENT", `role is ${String(role)}, expected "query" or "document"`);
  }
}
