/** MaxSim over embeddings as they are, without an index. */

import type { Embeddings } from "./types.js";

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
