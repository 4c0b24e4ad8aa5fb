// What a service worker must keep so that a site's search works without a network.
import { createHash } from "node:crypto";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";

/** Code that a page loads; data and model are kept by the package itself, which verifies them. The GPU's module is never needed, so it is not kept, and `search.js` holds all again. */
const CODE = /^(?!search\.js$|(?:.*\/)?(?:gpu\.js|shirube_gpu)).*\.(?:js|css|wasm)$/;

/**
 * The files of `folder` (as `shirube build` wrote it) for a service worker's precache list, `[{url, revision}]` as Workbox takes it; `base` comes before
 * each path. By default code alone; `all` adds bundle and model.
 */
export async function precache(folder, { base = "", all = false } = {}) {
  const found = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = found
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(join(folder, "/").length).replaceAll("\\", "/"))
    .filter((path) => (all ? !/\.part$|^(?:search\.js|precache\.json)$/.test(path) : CODE.test(path)))
    .sort();
  if (!paths.some((path) => path.endsWith("shirube.js"))) throw new Error(`${folder} holds no shirube.js; name the folder that \`shirube build\` wrote`);
  const revision = async (path) => createHash("sha256").update(await readFile(join(folder, path))).digest("hex").slice(0, 16);
  return Promise.all(paths.map(async (path) => ({ url: base + path, revision: await revision(path) })));
}
