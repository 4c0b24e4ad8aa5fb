/**
 * An index of your own documents, made in the reader's browser: for small sets, some hundred texts, that a server does not know.
 *
 * ```ts
 * import { Shirube } from "shirube";
 * import { buildIndex } from "shirube/build";
 * const bundle = await buildIndex([{ title: "状態", text: "値が変わると、画面が描き直されます。" }]);
 * const shirube = await Shirube.load({ bundle });
 * ```
 *
 * The builder (1.1 MB, only fetched here) is the one of `npx shirube build` and gives the same bytes; `buildIndex` of `shirube/node` makes larger sets
 * at build time.
 *
 * @module
 */

import modelFiles from "virtual:model-files";
// As the package exports it: errors are of one class.
import { ShirubeError } from "../index.js";
import { linesOf, type BuildAnswer, type BuildRequest, type IndexDocument, type IndexOptions } from "./types.js";

export { ShirubeError, type ShirubeErrorCode } from "../index.js";
export type { IndexDocument, IndexOptions, IndexProgress } from "./types.js";

/** The folder of the model, and where its files really are: bundlers give those of the package names of their own. */
function modelAddresses(given: string | URL | undefined): Pick<BuildRequest, "model" | "renamed"> {
  if (given !== undefined) return { model: absolute(`${String(given).replace(/\/?$/, "/")}`), renamed: {} };
  const urls = Object.entries(modelFiles()).map(([path, url]) => [path, absolute(url).replace(/\?no-inline$/, "")] as const);
  const model = new URL("./", urls.find(([path]) => path === "manifest.json")?.[1]).href;
  return { model, renamed: Object.fromEntries(urls.map(([path, url]) => [new URL(path, model).href, url])) };
}

const aborted = () => new ShirubeError("ABORTED", "the request was aborted");
const absolute = (url: string): string => new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href).href;

/**
 * The files of a bundle over `documents`, by path, for `Shirube.load({ bundle })`. Runs in a worker of its own.
 *
 * @throws `ShirubeError` `BAD_ARGUMENT` for documents that are none, `WORKER_FAILED`, `ABORTED`, `NETWORK`, `ASSET_*`.
 */
export async function buildIndex(documents: readonly IndexDocument[], options: IndexOptions = {}): Promise<Map<string, Blob>> {
  if (!Array.isArray(documents) || documents.length === 0) throw new ShirubeError("BAD_ARGUMENT", "documents is no array of at least one", "Give [{ text }].");
  const wrong = documents.findIndex((document) => typeof document?.text !== "string");
  if (wrong >= 0) throw new ShirubeError("BAD_ARGUMENT", `document ${wrong} has no text`, "Give each a string `text`.");
  const { signal, progress, name = "documents", pool, codec } = options;
  if (signal?.aborted) throw aborted();
  const base = options.assetBase === undefined ? undefined : new URL(`${String(options.assetBase).replace(/\/?$/, "/")}`, absolute("."));
  const wasm = base ? new URL("node/shirube_node_bg.wasm", base).href : absolute(new URL("../node/shirube_node_bg.wasm", import.meta.url).href);
  let worker: Worker;
  try {
    worker = base ? new Worker(new URL("build/worker.js", base), { type: "module" }) : new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  } catch (error) {
    throw new ShirubeError("WORKER_FAILED", error instanceof Error ? error.message : String(error), "Allow the worker in the page's CSP (worker-src).", error);
  }
  try {
    return await new Promise<Map<string, Blob>>((resolve, reject) => {
      signal?.addEventListener("abort", () => reject(aborted()), { once: true });
      worker.onerror = (event) => {
        event.preventDefault();
        reject(new ShirubeError("WORKER_FAILED", event.message || "the worker's script could not be loaded", "Allow the worker in the page's CSP (worker-src)."));
      };
      worker.onmessage = ({ data }: MessageEvent<BuildAnswer>) => {
        if ("hello" in data) worker.postMessage({ wasm, ...modelAddresses(options.model), name, pool, codec, lines: linesOf(documents) } satisfies BuildRequest);
        else if ("progress" in data) progress?.(data.progress);
        else if ("files" in data) resolve(new Map(data.files.map(([path, bytes]) => [path, new Blob([bytes as Uint8Array<ArrayBuffer>])])));
        else reject(new ShirubeError(data.error.code, data.error.message, data.error.cure));
      };
    });
  } finally {
    worker.terminate();
  }
}
