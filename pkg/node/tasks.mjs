// What a thread does, and the main one where the work is too little to start threads for it.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { wasm } from "./wasm.mjs";

/** Reads the page at a path under `source`, as JSON for `Build.page`. */
export function pageReader(settings, source) {
  const reader = new (wasm().PageReader)(settings);
  return (path) => {
    const file = join(source, path);
    let bytes;
    try {
      bytes = readFileSync(file);
    } catch (cause) {
      throw new Error(`${file}: ${cause.message}`, { cause });
    }
    return reader.read(path, bytes);
  };
}

/** The embeddings of a batch of `Build.batch`. */
export function encodeBatch(encoder, batch) {
  const encoded = encoder.encode(batch);
  const { embeddings, lengths, truncated } = encoded;
  encoded.free();
  return { embeddings, lengths, truncated };
}
