// `shirube search` and `shirube inspect`: a bundle asked from the command line.
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { ownModel } from "./files.mjs";
import { wasm } from "./wasm.mjs";

/** Reads files of `folder` as they are asked for, whole or in part; nothing where there is none. */
const reader = (folder) => (path, start, end) => {
  try {
    if (start === undefined) return readFileSync(join(folder, path));
    const file = openSync(join(folder, path));
    try {
      const bytes = Buffer.alloc(Math.max(0, Math.min(end, fstatSync(file).size) - start));
      return bytes.subarray(0, readSync(file, bytes, 0, bytes.length, start));
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw error;
  }
};

const clock = () => performance.now();

/** The engine over the bundle and the model that `flags` name; without one, the bundle's own, else the package's. */
function open(flags) {
  const { bundle } = flags;
  if (!existsSync(join(bundle, "shirube.json"))) throw new Error(`${bundle}: not a bundle, it has no shirube.json; make one with \`shirube build\``);
  const beside = join(bundle, "model");
  const model = flags.model ?? (existsSync(join(beside, "manifest.json")) ? beside : ownModel);
  if (!existsSync(join(model, "manifest.json"))) throw new Error(`${model}: not a model folder, it has no manifest.json; give the folder that \`shirube convert\` or \`shirube-train export\` wrote`);
  return new (wasm().Searcher)(JSON.stringify({ ...flags, model }), reader(bundle), reader(model));
}

/** Answers `flags.query`, or each line of `input` where that is `-`, to `output`. */
export async function search(flags, { input = process.stdin, output = process.stdout } = {}) {
  const searcher = open(flags);
  try {
    if (flags.query === "-") {
      for await (const line of createInterface({ input })) output.write(`${searcher.json(line, clock, false)}\n`);
    } else if (flags.json) {
      output.write(`${searcher.json(flags.query, clock, true)}\n`);
    } else {
      const [before, after] = output.isTTY ? ["\u001b[1;33m", "\u001b[0m"] : ["", ""];
      output.write(searcher.text(flags.query, clock, before, after));
    }
  } finally {
    searcher.free();
  }
}

/** Prints what a bundle holds or, with a query, where the scores of its hits come from. */
export function inspect(flags, output = process.stdout) {
  const { bundle, query, model, limit, json } = flags;
  if (!existsSync(join(bundle, "shirube.json"))) throw new Error(`${bundle}: not a bundle, it has no shirube.json; make one with \`shirube build\``);
  const checked = wasm().inspect(bundle, reader(bundle), json);
  if (query === null) {
    output.write(checked);
    return;
  }
  const searcher = open({ bundle, query, model, limit, lexical_weight: 0.2, exact: false, lazy: false, words: false, json: false });
  try {
    output.write(searcher.explanation(query));
  } finally {
    searcher.free();
  }
}
