// The engine of the npm package in Node: the same WebAssembly, its files from disk instead of a network, every byte that it asks for counted.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { root } from "../../xtask/scripts/lib.mjs";

const LIMIT = 10;
/** Excerpts whose sections are counted: those that a page shows before anybody scrolls. */
const SHOWN = 5;

/** Opens `bundle` with the model in `model`; `perQuery` is what questions by words read so far, each as if it were the first. */
export async function openShirube(bundle, model) {
  const dist = join(root, "pkg", "dist");
  const { default: init, Engine } = await import(pathToFileURL(join(dist, "shirube_wasm.js")).href);
  await init({ module_or_path: readFileSync(join(dist, "shirube_wasm_bg.wasm")) });
  const open = () => {
    const engine = new Engine();
    const entry = readFileSync(join(bundle, "shirube.json"));
    const { words, meaning } = engine.openBundle(entry);
    for (const { path } of words) engine.provideBundle(path, readFileSync(join(bundle, path)));
    engine.open();
    return { engine, words, meaning, start: entry.length + words.reduce((sum, { bytes }) => sum + bytes, 0) };
  };
  const { engine, words, meaning, start } = open();
  const shards = engine.shards().reduce((sum, { fileBytes }) => sum + fileBytes, 0);
  for (const { path } of meaning) engine.provideBundle(path, readFileSync(join(bundle, path)));
  const manifest = readFileSync(join(model, "manifest.json"));
  for (const { path } of engine.openModel(manifest)) engine.provideModel(path, readFileSync(join(model, path)));
  // None where the bundle is so large that a visitor fetches what a question needs of them.
  for (const { path } of engine.codeShards()) engine.provideCodes(path, readFileSync(join(bundle, path)));
  engine.finish();
  const entry = readFileSync(join(bundle, "shirube.json"));
  const all = JSON.parse(entry).files.reduce((sum, file) => sum + file.bytes + (file.shard_bytes ?? 0), entry.length);
  const files = new Map();
  const file = (path) => files.get(path) ?? files.set(path, readFileSync(join(bundle, path))).get(path);
  const answer = (search, on, count) => {
    for (;;) {
      const found = search();
      if (!found.needs) return found;
      for (const { path, start, end } of found.needs) {
        count?.(path, start, end);
        on.provide(path, start, file(path).subarray(start, end));
      }
    }
  };
  const ids = ({ hits }) => hits.map(({ section }) => section.id);
  return {
    start,
    index: all,
    wordsIndex: start + shards,
    n: words.length,
    words: (text) => ids(answer(() => engine.searchWords(text, LIMIT), engine)),
    meaning: (text) => ids(answer(() => engine.search(text, LIMIT, 0), engine)),
    fused: (text) => ids(answer(() => engine.search(text, LIMIT, 0.2), engine)),
    /** Bytes of one question by words on an engine that has only started, with five excerpts. */
    bytes(text) {
      const fresh = open().engine;
      let bytes = 0;
      answer(() => fresh.searchWords(text, SHOWN), fresh, (_, from, to) => (bytes += to - from));
      fresh.free();
      return bytes;
    },
    close: () => engine.free(),
  };
}
