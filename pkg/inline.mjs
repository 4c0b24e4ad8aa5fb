// Turns a folder of `shirube build` into one script that searches without a server, also from file://.
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const own = (path) => fileURLToPath(new URL(path, import.meta.url));

/** Neither code nor, as all codes are in memory there, lists, which would find what is at hand. */
const LEFT_OUT = /\.(?:js|css|wasm|part)$|(?:^|\/)tokenizer\.json$|\.md$|^ivf[./]|^precache\.json$/;

async function* walk(folder, prefix = "") {
  for (const entry of await readdir(join(folder, prefix), { withFileTypes: true })) {
    const path = `${prefix}${entry.name}`;
    if (entry.isDirectory()) yield* walk(folder, `${path}/`);
    else if (!LEFT_OUT.test(path)) yield path;
  }
}

/**
 * The text of a classic script that holds the bundle in `folder`, the model (that of the bundle, else the package's own), the engine and the
 * elements. About a third larger than the files themselves.
 */
export async function inline(folder) {
  const files = new Map();
  for await (const path of walk(folder)) files.set(path, join(folder, path));
  if (!files.has("shirube.json")) throw new Error(`${folder} is no bundle: it has no shirube.json; name the folder that \`shirube build\` wrote`);
  if (!files.has("model/manifest.json")) for await (const path of walk(own("./model/"))) files.set(`model/${path}`, own(`./model/${path}`));
  // Equal folders give equal scripts, whatever order the system lists them in.
  const ordered = [...files].sort(([a], [b]) => (a < b ? -1 : 1));
  ordered.push(["shirube_wasm_bg.wasm", own("./dist/shirube_wasm_bg.wasm")]);
  const parts = [];
  for (const [path, place] of ordered) parts.push(`${JSON.stringify(path)}:"${(await readFile(place)).toString("base64")}"`);
  return `globalThis.shirubeFiles={${parts.join(",\n")}};\n${await readFile(own("./dist/inline.js"), "utf8")}`;
}
