// Turns a folder of `shirube build` into one script that searches without a server, also from file://.
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const own = (path) => fileURLToPath(new URL(path, import.meta.url));

async function* walk(folder, prefix = "") {
  const entries = await readdir(join(folder, prefix), { withFileTypes: true });
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = `${prefix}${entry.name}`;
    if (entry.isDirectory()) yield* walk(folder, `${path}/`);
    // All codes are in memory there: lists would find what is at hand.
    else if (!/\.(?:js|css|wasm|part)$|(?:^|\/)tokenizer\.json$|\.md$|^ivf[./]/.test(path)) yield path;
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
  files.set("shirube_wasm_bg.wasm", own("./dist/shirube_wasm_bg.wasm"));
  const parts = [];
  for (const [path, place] of files) parts.push(`${JSON.stringify(path)}:"${(await readFile(place)).toString("base64")}"`);
  return `globalThis.shirubeFiles={${parts.join(",\n")}};\n${await readFile(own("./dist/inline.js"), "utf8")}`;
}
