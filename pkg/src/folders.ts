/** Folders in the visitor's hand: files that were dropped or picked, never uploaded. */

import { ShirubeError } from "./errors.js";
import type { FolderFiles, FoundModel } from "./types.js";

/** A host that can never exist (RFC 2606): folders in memory get addresses under it, so that all files are asked for in one way. */
const LOCAL = "https://files.shirube.invalid/";

/** Larger manifests are somebody else's. */
const MOST_MANIFEST_BYTES = 1 << 20;

let folders = 0;

/** A fresh address for a folder in memory. */
export const localAddress = (): string => `${LOCAL}${++folders}/`;

/** Whether `url` is a file of a folder in memory. */
export const isLocal = (url: string): boolean => url.startsWith(LOCAL);

/** Whether a folder was given by its files and not by its address. */
export const isFolder = (value: unknown): value is FolderFiles => value instanceof Map;

/** The answer to a request for a file of `folders`, or for a range of it. */
export async function localResponse(url: string, folders: ReadonlyMap<string, FolderFiles>, range: string | undefined): Promise<Response> {
  for (const [address, files] of folders) {
    const file = url.startsWith(address) ? files.get(decoded(url.slice(address.length))) : undefined;
    if (!file) continue;
    const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(range ?? "") ?? [];
    if (start === undefined || end === undefined) return new Response(file);
    return new Response(file.slice(Number(start), Number(end) + 1), { status: 206, headers: { "content-range": `bytes ${start}-${end}/${file.size}` } });
  }
  return new Response(null, { status: 404 });
}

/** A path as the manifest wrote it; a manifest may hold anything. */
function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

/** Files by path: those of an `<input type="file" webkitdirectory>` bring their path along. */
function byPath(files: FolderFiles | Iterable<File>): FolderFiles {
  return isFolder(files) ? files : new Map(Array.from(files, (file) => [file.webkitRelativePath || file.name, file]));
}

const folderOf = (path: string): string => path.slice(0, path.lastIndexOf("/") + 1);

/** The files of `folder`, with paths inside it. */
function inside(files: FolderFiles, folder: string): FolderFiles {
  return new Map([...files].filter(([path]) => path.startsWith(folder)).map(([path, file]) => [path.slice(folder.length), file]));
}

/** What `path` says where it is JSON, else nothing. */
async function json(files: FolderFiles, path: string): Promise<Record<string, unknown> | undefined> {
  const file = files.get(path);
  if (!file || file.size > MOST_MANIFEST_BYTES) return undefined;
  try {
    const value: unknown = JSON.parse(await file.text());
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The model in a folder that a visitor dropped or picked, and the bundle beside it. The model may stand in a folder inside: what `shirube convert`
 * wrote, a bundle with its `model/`, or a whole site. Nothing is read but the manifests; loading checks the rest.
 *
 * @throws {@link ShirubeError} `NOT_CONVERTED` for a checkpoint of another library, with the command that converts it; `ASSET_MISSING` for a
 * folder without a model; `BAD_ARGUMENT` for one with several.
 */
export async function findModel(given: FolderFiles | Iterable<File>): Promise<FoundModel> {
  const files = byPath(given);
  const named = (name: string) => [...files.keys()].filter((path) => path === name || path.endsWith(`/${name}`));
  const models: string[] = [];
  for (const path of named("manifest.json")) {
    // Sites have other files of that name.
    const manifest = await json(files, path);
    if (manifest && "format" in manifest && "encoder" in manifest) models.push(folderOf(path));
  }
  const [model, ...others] = models;
  if (model === undefined) throw await withoutModel(files, named);
  if (others.length > 0) {
    const names = models.map((name) => name || "./").join(", ");
    throw new ShirubeError("BAD_ARGUMENT", `the folder holds ${models.length} models: ${names}`, "Give one of them.");
  }
  const bundles = named("shirube.json").map(folderOf);
  // The bundle whose model this is stands above it; of others there is none to prefer.
  const bundle = bundles.filter((folder) => model.startsWith(folder)).sort((a, b) => b.length - a.length)[0] ?? (bundles.length === 1 ? bundles[0] : undefined);
  return { model: inside(files, model), bundle: bundle === undefined ? undefined : inside(files, bundle) };
}

/** Why there is no model in `files`. */
async function withoutModel(files: FolderFiles, named: (name: string) => string[]): Promise<ShirubeError> {
  const paths = [...files.keys()];
  const weights = paths.find((path) => /(^|\/)(model[^/]*\.safetensors|pytorch_model[^/]*\.bin)(\.index\.json)?$/.test(path));
  if (weights === undefined) {
    const what = paths.length === 0 ? "the folder is empty" : "the folder holds no model: there is no manifest.json of one";
    return new ShirubeError("ASSET_MISSING", what, "Give the folder that `shirube convert` or `shirube-train export` wrote.");
  }
  const has = (name: string) => named(name).length > 0;
  const library = has("modules.json") ? "PyLate or Sentence Transformers" : has("artifact.metadata") ? "colbert-ai" : "Hugging Face";
  const config = named("tokenizer_config.json")[0];
  const words = config !== undefined && (await json(files, config))?.["tokenizer_class"] === "BertJapaneseTokenizer";
  const source = folderOf(weights).replace(/\/$/, "") || "FOLDER";
  const command = `shirube convert ${/^[\w./-]+$/.test(source) ? source : `'${source}'`} model${words ? " --dictionary unidic-lite/dicdir" : ""}`;
  return new ShirubeError("NOT_CONVERTED", `the folder holds a checkpoint of ${library}, which browsers do not read`, command);
}
