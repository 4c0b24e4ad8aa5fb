// The build's WebAssembly, once for each thread.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { workerData } from "node:worker_threads";
import * as bindings from "../dist/node/shirube_node.js";

let ready = false;

/** The compiled module; threads get it from the main one. */
export let compiled;

/** The bindings, with the module loaded. */
export function wasm() {
  if (!ready) {
    compiled = workerData?.shirube?.module ?? new WebAssembly.Module(readFileSync(new URL("../dist/node/shirube_node_bg.wasm", import.meta.url)));
    bindings.initSync({ module: compiled });
    ready = true;
  }
  return bindings;
}

/** The encoder of a model folder, and the bytes that a browser reads of it; each file is checked by its SHA-256. */
export function openModel(folder) {
  const { ModelFiles } = wasm();
  if (!existsSync(join(folder, "manifest.json"))) throw new Error(`${folder}: not a model folder, it has no manifest.json; give the folder that \`shirube convert\` or \`shirube-train export\` wrote`);
  const read = (name) => {
    try {
      return readFileSync(join(folder, name));
    } catch (cause) {
      throw new Error(`the model in ${folder} cannot be read: ${cause.message}`, { cause });
    }
  };
  const files = new ModelFiles(read("manifest.json"));
  for (const name of files.required()) files.provide(name, read(name));
  const bytes = files.bytes();
  return { encoder: files.finish(), bytes };
}
