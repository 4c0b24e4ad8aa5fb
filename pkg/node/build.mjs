// `shirube build` for Node: reads a folder of pages, writes a bundle and what a page needs beside it. No native code, no install step.
import { existsSync } from "node:fs";
import { readFile, realpath, stat } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, join, relative, resolve, sep } from "node:path";
import { inline } from "../inline.mjs";
import { precache } from "../offline.mjs";
import { codeBytes, list, ownModel, replace, writeAssets, writeBundle } from "./files.mjs";
import { Pool } from "./pool.mjs";
import { encodeBatch, pageReader } from "./tasks.mjs";
import { compiled, openModel, wasm } from "./wasm.mjs";

export { ownModel };

const PAGES_A_TASK = 16;
const PASSAGES_A_TASK = 16;
const FILES_AT_ONCE = 32;
/** Fewer than that are done faster than threads start. */
const PAGES_FOR_THREADS = 100;
const PASSAGES_FOR_THREADS = 48;
const SETTINGS = "shirube.toml";
const ENTRY = "shirube.json";

/** Settings from all places: `flags` over SHIRUBE_* variables over the file `config`, or `shirube.toml` if there is one. */
export async function readSettings(flags = {}, config = undefined) {
  const path = config ?? (existsSync(SETTINGS) ? SETTINGS : undefined);
  const text = path === undefined ? undefined : await readFile(path, "utf8");
  return JSON.parse(wasm().settings(JSON.stringify(flags), JSON.stringify(Object.entries(process.env)), path, text));
}

async function look(path) {
  const isFolder = (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
  return [isFolder, basename(await realpath(path).catch(() => resolve(path)))];
}

async function planOf(settings) {
  const looked = settings.source === undefined ? [false, ""] : await look(settings.source);
  return JSON.parse(wasm().plan(JSON.stringify(settings), ...looked));
}

/** Path, length and time of every page: what changes when a page does. */
export async function sourceState(settings) {
  const plan = await planOf(settings);
  const paths = plan.is_folder ? wasm().pages(JSON.stringify(plan.settings), await list(plan.source, plan.out)) : [""];
  const look = async (path) => {
    const found = await stat(join(plan.source, path)).catch(() => undefined);
    return [path, found?.size, found?.mtimeMs];
  };
  return JSON.stringify(await Promise.all(paths.map(look)));
}

/**
 * Builds the search of a folder. `settings` are those of `shirube.toml`, as an object; they stand alone, without variables and files
 * (see `readSettings`). Resolves to what was read and written; rejects when nothing to search was found, with what was left out and why as `report`.
 */
export async function build(settings, { progress = () => {}, threads = availableParallelism(), assets = true, dryRun = false, fresh = false, limit, codec = [], pwa = false, singleFile = false } = {}) {
  const start = performance.now();
  const plan = await planOf(settings);
  const folder = plan.settings.model ?? ownModel;
  // The model first: its absence is the commonest mistake and the quickest to find.
  const model = openModel(folder);
  const chosen = JSON.stringify(plan.settings);
  const job = new (wasm().Build)(JSON.stringify(plan), JSON.stringify({ codec, fresh, dryRun, ...(limit !== undefined && { limit }) }));
  let pool;
  const startPool = () => (pool ??= new Pool(Math.max(1, threads), { module: compiled, settings: chosen, model: folder }));
  const result = (written, nFiles, more = "") => {
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    const text = `${job.report(written, nFiles)}${more}${dryRun ? "  nothing was written (--dry-run)\n" : ""}  ${seconds} s\n`;
    const { source, bundle } = JSON.parse(job.summary());
    return { source, ...(written && { bundle }), text };
  };
  try {
    // While threads read pages, this one reads what an earlier build left.
    const reading = readSource(job, plan, chosen, startPool, progress);
    reading.catch(() => {}); // Reported below.
    if (!dryRun) await readEarlier(job, plan.out);
    await reading;
    progress({ stage: "passages", done: 0, of: 1 });
    if (job.gather(model.encoder) === 0) {
      throw Object.assign(new Error(`${plan.source}: nothing to search was found`), { report: job.report(false, 0) });
    }
    if (dryRun) return result(false, 0);
    await encode(job, model.encoder, startPool, progress);
    // With the threads gone, their memory is free for the index.
    await pool?.close();
    pool = undefined;
    const [code, meaningCode] = assets ? await codeBytes() : [0, 0];
    const files = job.finish(model.encoder, code, meaningCode, model.bytes, (stage, done, of) => progress({ stage, done, of }));
    await writeBundle(plan.out, files.map((file) => take(file)), (present, current) => job.stale(present, current));
    if (assets) await writeAssets(plan.out, folder);
    // Counted before: the site's files are those that visitors load.
    const nFiles = await countFiles(plan);
    return result(true, nFiles, await writeOffline(plan, { assets, pwa, singleFile }));
  } finally {
    await pool?.close();
    job.free();
    model.encoder.free();
  }
}

/**
 * The files of a bundle over your own documents, by path: `buildIndex` of `shirube/build`, on threads. With `out` they are also written into that folder,
 * over the bundle of an earlier call, whose passages are not encoded again.
 */
export async function buildIndex(documents, { name = "documents", out, model: folder = ownModel, pool, codec = [], threads = availableParallelism(), assets = true, progress = () => {} } = {}) {
  if (!Array.isArray(documents) || documents.length === 0) throw new TypeError("documents is no array of at least one; give [{ text }]");
  const wrong = documents.findIndex((document) => typeof document?.text !== "string");
  if (wrong >= 0) throw new TypeError(`document ${wrong} has no text; give each a string \`text\``);
  const lines = documents.map(({ id, ...rest }, i) => JSON.stringify({ id: id ?? String(i), ...rest })).join("\n");
  const settings = { source: `${name}.jsonl`, out: out ?? "memory", name, ...(pool !== undefined && { pool }) };
  const plan = wasm().plan(JSON.stringify(settings), false, `${name}.jsonl`);
  const model = openModel(folder);
  const job = new (wasm().Build)(plan, JSON.stringify({ codec, fresh: out === undefined }));
  let workers;
  const startPool = () => (workers ??= new Pool(Math.max(1, threads), { module: compiled, settings: JSON.stringify(settings), model: folder }));
  try {
    job.jsonl(name, Buffer.from(lines));
    if (out !== undefined) await readEarlier(job, out);
    else job.assemble();
    if (job.gather(model.encoder) === 0) throw new Error("there is no document with any text; give at least one");
    await encode(job, model.encoder, startPool, progress);
    const files = job.finish(model.encoder, 0, 0, model.bytes, (stage, done, of) => progress({ stage, done, of }));
    const bundle = new Map(files.map((file) => [file.path, file.bytes]));
    if (out !== undefined) {
      await writeBundle(out, files.map(({ path, isThere }) => ({ path, ...(!isThere && { bytes: bundle.get(path) }) })), (present, current) => job.stale(present, current));
      if (assets) await writeAssets(out, folder);
    }
    files.forEach((file) => file.free());
    return bundle;
  } finally {
    await workers?.close();
    job.free();
    model.encoder.free();
  }
}

/** A file of the bundle, without its bytes where it is there already. */
function take(file) {
  const taken = { path: file.path, ...(!file.isThere && { bytes: file.bytes }) };
  file.free();
  return taken;
}

async function readSource(job, plan, settings, startPool, progress) {
  if (!plan.is_folder) {
    let bytes;
    try {
      bytes = await readFile(plan.source);
    } catch (cause) {
      throw new Error(`${plan.source}: ${cause.message}`, { cause });
    }
    job.jsonl(plan.source, bytes);
    return;
  }
  const paths = wasm().pages(settings, await list(plan.source, plan.out));
  let done = 0;
  const accept = ([path, outcome]) => {
    job.page(path, outcome);
    progress({ stage: "reading", done: (done += 1), of: paths.length });
  };
  if (paths.length < PAGES_FOR_THREADS) {
    const read = pageReader(settings, plan.source);
    for (const path of paths) accept([path, read(path)]);
    return;
  }
  const tasks = function* () {
    for (let at = 0; at < paths.length; at += PAGES_A_TASK) yield { kind: "read", source: plan.source, paths: paths.slice(at, at + PAGES_A_TASK) };
  };
  await startPool().ordered(tasks(), ({ outcomes }) => outcomes.forEach(accept));
}

async function readEarlier(job, out) {
  const read = (path) => readFile(join(out, path)).catch(() => undefined);
  const entry = await read(ENTRY);
  if (entry !== undefined) {
    for (const paths of [() => job.earlier(entry), () => job.earlierShards()]) {
      const wanted = paths();
      for (let at = 0; at < wanted.length; at += FILES_AT_ONCE) {
        const some = wanted.slice(at, at + FILES_AT_ONCE);
        const contents = await Promise.all(some.map(read));
        some.forEach((path, n) => job.earlierFile(path, contents[n]));
      }
    }
  }
  job.assemble();
}

async function encode(job, encoder, startPool, progress) {
  const of = job.start(encoder);
  let done = 0;
  const push = ({ embeddings, lengths, truncated }) => {
    job.push(encoder, embeddings, lengths, truncated);
    progress({ stage: "encoding", done: (done += lengths.length), of });
  };
  const batches = function* () {
    for (let batch = job.batch(PASSAGES_A_TASK); batch !== undefined; batch = job.batch(PASSAGES_A_TASK)) yield batch;
  };
  if (of < PASSAGES_FOR_THREADS) {
    for (const batch of batches()) push(encodeBatch(encoder, batch));
    return;
  }
  const tasks = function* () {
    for (const batch of batches()) yield { kind: "encode", batch };
  };
  await startPool().ordered(tasks(), push);
}

/** What `--pwa` and `--single-file` ask for; lines for the summary, what to put on pages first. */
async function writeOffline(plan, { assets, pwa, singleFile }) {
  const { source, is_folder, out, settings } = plan;
  let said = "";
  const inside = relative(source, out);
  // The bundle folder's address on the site, where it lies in the site's folder.
  const address = !is_folder || inside.startsWith("..") ? "" : `${(settings.base ?? "/").replace(/\/+$/, "")}/${inside.replaceAll(sep, "/")}/`;
  if (assets && address !== "") said += `  on your pages: <script type="module" src="${address}ui.js"></script> <shirube-trigger></shirube-trigger>\n`;
  if (pwa) {
    const files = await precache(out, { base: address });
    await replace(join(out, "precache.json"), `[\n${files.map((file) => JSON.stringify(file)).join(",\n")}\n]\n`);
    said += `  precache.json: ${files.length} files for a service worker\n`;
  }
  if (singleFile) {
    const text = await inline(out);
    await replace(join(out, "search.js"), text);
    said += `  search.js: ${(Buffer.byteLength(text) / (1 << 20)).toFixed(2)} MiB, everything in one script\n`;
  }
  return said;
}

/** Files of the whole site, the bundle among them. */
async function countFiles({ source, is_folder, out }) {
  const here = is_folder ? (await list(source)).length : 0;
  const inside = is_folder && !relative(source, out).startsWith("..");
  return here + (inside ? 0 : (await list(out)).length);
}
