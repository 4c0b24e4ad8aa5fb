/** The worker of `buildIndex`: the builder that `npx shirube build` runs on in Node, over documents instead of a folder. */

import { Build, ModelFiles, initSync, plan } from "../../dist/node/shirube_node.js";
import { request } from "../assets.js";
import { ShirubeError, toPlain } from "../errors.js";
import { compileWasm } from "../wasm.js";
import type { BuildAnswer, BuildRequest } from "./types.js";

const PASSAGES_A_BATCH = 16;

// The page's lib has `window`; here the global is the worker's.
const scope = self as unknown as {
  postMessage(message: BuildAnswer, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent<BuildRequest>) => void) | null;
};

async function build({ wasm, model, renamed, name, pool, codec, lines }: BuildRequest): Promise<[path: string, bytes: Uint8Array][]> {
  const { signal } = new AbortController();
  const get = async (path: string) => {
    const url = new URL(path, model).href;
    return new Uint8Array(await (await request(renamed[url] ?? url, { signal })).arrayBuffer());
  };
  const [module, manifest] = await Promise.all([compileWasm(wasm, signal), get("manifest.json")]);
  initSync({ module });
  const files = new ModelFiles(manifest);
  for (const [path, bytes] of await Promise.all(files.required().map(async (path) => [path, await get(path)] as const))) files.provide(path, bytes);
  const modelBytes = files.bytes();
  const encoder = files.finish();
  const settings = { source: `${name}.jsonl`, out: "memory", name, ...(pool !== undefined && { pool }) };
  const job = new Build(plan(JSON.stringify(settings), false, `${name}.jsonl`), JSON.stringify({ fresh: true, codec: codec === undefined ? [] : ["--codec", codec] }));
  job.jsonl(name, new TextEncoder().encode(lines));
  job.assemble();
  if (job.gather(encoder) === 0) throw new ShirubeError("BAD_ARGUMENT", "there is no document with any text", "Give at least one.");
  const of = job.start(encoder);
  let done = 0;
  for (let batch = job.batch(PASSAGES_A_BATCH); batch !== undefined; batch = job.batch(PASSAGES_A_BATCH)) {
    const encoded = encoder.encode(batch);
    job.push(encoder, encoded.embeddings, encoded.lengths, encoded.truncated);
    done += encoded.lengths.length;
    encoded.free();
    scope.postMessage({ progress: { stage: "encoding", done, of } });
  }
  const out = job.finish(encoder, 0, 0, modelBytes, (stage: "centroids" | "packing", done: number, of: number) => scope.postMessage({ progress: { stage, done, of } }));
  return out.map((file) => [file.path, file.bytes]);
}

scope.onmessage = async ({ data }) => {
  try {
    const files = await build(data);
    scope.postMessage({ files }, files.map(([, bytes]) => bytes.buffer as ArrayBuffer));
  } catch (error) {
    // The builder's own errors are those of a command line: a line of a document that is none, a model that is refused.
    scope.postMessage({ error: toPlain(error instanceof ShirubeError ? error : new ShirubeError("BAD_ARGUMENT", error instanceof Error ? error.message : String(error))) });
  }
};
scope.postMessage({ hello: true });
