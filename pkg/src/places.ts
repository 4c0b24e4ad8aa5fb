/** Where everything is: the engine's modules, the model, the bundle; as absolute addresses, and as files in memory. */

import modelFiles from "virtual:model-files";
import { ShirubeError, toShirubeError } from "./errors.js";
import { isFolder, localAddress } from "./folders.js";
import { isInline, isSlim } from "./inline-files.js";
import type { HostOptions, ModelPlace } from "./protocol.js";
import { startMain, startWorker, type Thread } from "./thread.js";
import type { FolderFiles, LoadOptions, RerankerOptions } from "./types.js";
import type { EngineUrls } from "./wasm.js";

/** Where `worker.js` and the WebAssembly modules are, where not beside this script. */
export function baseOf({ assetBase }: RerankerOptions, bundle: LoadOptions["bundle"] | undefined): string | undefined {
  if (assetBase !== undefined) return folder(assetBase, "assetBase");
  if (!isSlim(import.meta.url)) return undefined;
  if (bundle === undefined || isFolder(bundle)) {
    throw new ShirubeError("BAD_ARGUMENT", "shirube/slim does not know where worker.js and the WebAssembly modules are", "Give assetBase.");
  }
  return folder(bundle, "bundle");
}

/** Literal, so that bundlers follow them, and named here: a bundler's worker may be a blob, to which an address without an origin means nothing. */
export function engineUrls(base: string | undefined): EngineUrls {
  if (base) return { simd: new URL("shirube_wasm_bg.wasm", base).href, relaxed: new URL("shirube_relaxed_bg.wasm", base).href };
  return {
    simd: absolute(new URL("./shirube_wasm_bg.wasm", import.meta.url).href),
    // A page opened from a file brings one build along, the one that runs everywhere.
    relaxed: isInline(import.meta.url) ? undefined : absolute(new URL("./shirube_relaxed_bg.wasm", import.meta.url).href),
  };
}

/** The GPU's module and its WebAssembly. */
export function gpuUrls(base: string | undefined): HostOptions["gpu"] {
  return base
    ? { module: new URL("gpu.js", base).href, wasm: new URL("shirube_gpu_bg.wasm", base).href }
    : { module: absolute(new URL("./gpu.js", import.meta.url).href), wasm: absolute(new URL("./shirube_gpu_bg.wasm", import.meta.url).href) };
}

/** The worker, or the page's own thread. */
export async function startThread(wish: boolean | "auto", base: string | undefined): Promise<{ thread: Thread; reason: string }> {
  if (isInline(import.meta.url)) return { thread: await startMain(), reason: "files in the script itself are not reached from a worker" };
  if (wish === false) return { thread: await startMain(), reason: "worker: false was given" };
  try {
    return { thread: await startWorker(base === undefined ? undefined : new URL("worker.js", base)), reason: "searches do not block the page" };
  } catch (error) {
    if (wish === true) throw error;
    return { thread: await startMain(), reason: toShirubeError(error).message };
  }
}

/** Some bundlers give an address without its origin. */
const absolute = (url: string): string => new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href).href;

/** The model named, else the one in the bundle where `shirube build` put this very script beside it, else the package's own. */
export function modelOf(model: LoadOptions["model"], bundle: LoadOptions["bundle"] | undefined): ModelPlace {
  if (model !== undefined) {
    const { address, local } = placeOf(model, "model");
    return { model: address, renamed: {}, local };
  }
  const beside = bundle === undefined || isFolder(bundle) ? undefined : folder(bundle, "bundle");
  // Not as `new URL`: bundlers would look for that folder.
  if (beside !== undefined && (isSlim(import.meta.url) || beside === import.meta.url.replace(/[^/]*$/, ""))) {
    return { model: `${beside}model/`, renamed: {}, local: new Map() };
  }
  if (isSlim(import.meta.url)) throw new ShirubeError("BAD_ARGUMENT", "shirube/slim brings no model along", "Give model.");
  return ownModel();
}

/** The model that comes with the package. Bundlers give its files names of their own. */
function ownModel(): ModelPlace {
  const urls = Object.entries(modelFiles()).map(([path, url]) => [path, absolute(url).replace(/\?no-inline$/, "")] as const);
  const model = new URL("./", urls.find(([path]) => path === "manifest.json")?.[1]).href;
  return { model, renamed: Object.fromEntries(urls.map(([path, url]) => [new URL(path, model).href, url])), local: new Map() };
}

/** An address for a folder, and the folder itself where it is in memory. */
export function placeOf(value: string | URL | FolderFiles, name: string): { address: string; local: Map<string, FolderFiles> } {
  if (!isFolder(value)) return { address: folder(value, name), local: new Map() };
  const address = localAddress();
  return { address, local: new Map([[address, value]]) };
}

/** An absolute folder URL with a final slash. */
export function folder(value: string | URL, name: string): string {
  let url: URL;
  try {
    url = new URL(value, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch (error) {
    throw new ShirubeError("BAD_ARGUMENT", `${name} is not a URL: ${String(value)}`, "Give a path such as \"/shirube/\".", error);
  }
  url.search = "";
  url.hash = "";
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url.href;
}

/** Lone surrogates become U+FFFD: WebAssembly strings are UTF-8, and typing halves of emoji is no error. */
export function wellFormed(text: string): string {
  return typeof text.toWellFormed === "function"
    ? text.toWellFormed()
    : text.replace(/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g, "\uFFFD");
}
