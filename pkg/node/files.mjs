// Folders of a build: the pages, the bundle, and what goes beside it.
import { copyFile, mkdir, open, readFile, readdir, realpath, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { wasm } from "./wasm.mjs";

const AT_ONCE = 16;

/** The package's own model. */
export const ownModel = fileURLToPath(new URL("../model", import.meta.url));

const dist = fileURLToPath(new URL("../dist/", import.meta.url));
const real = (path) => realpath(path).catch(() => undefined);

/** Paths of all files under `root`, relative, `/` between parts, without hidden ones and without the folder `skip`. */
export async function list(root, skip) {
  const found = [];
  const skipped = skip === undefined ? undefined : await real(skip);
  const walk = async (folder, prefix, above) => {
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      if (entry.name.startsWith(".")) continue;
      const path = join(folder, entry.name);
      const kind = entry.isSymbolicLink() ? await stat(path).catch(() => undefined) : entry;
      if (kind?.isFile()) found.push(prefix + entry.name);
      if (!kind?.isDirectory()) continue;
      const target = await real(path);
      if (target !== undefined && target === skipped) continue;
      if (above.includes(target)) throw new Error(`${path}: the link leads back to ${target}, which it is in`);
      await walk(path, `${prefix}${entry.name}/`, [...above, target]);
    }
  };
  await walk(root, "", [await real(root)]);
  return found;
}

/** Runs `action` on all items, a few at once. */
async function each(items, action) {
  const left = [...items].reverse();
  const one = async () => {
    while (left.length > 0) await action(left.pop());
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}

/** Writes aside, onto the disk, and renames, so that a file is either the old one or the whole new one. */
export async function replace(path, bytes) {
  const aside = `${path}.part`;
  const file = await open(aside, "w");
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(aside, path);
}

/** Puts a bundle's `files`, the entry last and those that are there already without `bytes`, into `out`, and removes what an earlier one left. `stale(present, current)` says what that is. */
export async function writeBundle(out, files, stale) {
  const entry = files.at(-1);
  const others = files.slice(0, -1).filter(({ bytes }) => bytes);
  for (const folder of new Set(files.map(({ path }) => dirname(join(out, path))))) await mkdir(folder, { recursive: true });
  await each(others, async ({ path, bytes }) => {
    // Same name, same content; only a file that someone damaged is written again.
    const old = await readFile(join(out, path)).catch(() => undefined);
    if (!old?.equals(bytes)) await replace(join(out, path), bytes);
  });
  // Until now the old entry names whole files.
  await replace(join(out, entry.path), entry.bytes);
  const present = [];
  for (const item of await readdir(out, { withFileTypes: true })) {
    if (item.isFile()) present.push(item.name);
    if (item.isDirectory()) for (const name of await readdir(join(out, item.name))) present.push(`${item.name}/${name}`);
  }
  await each(stale(present, files.map(({ path }) => path)), (path) => rm(join(out, path)));
}

async function copy(from, to, wanted) {
  await mkdir(to, { recursive: true });
  for (const item of await readdir(from, { withFileTypes: true })) {
    if (!item.isFile() || !wanted(item.name)) continue;
    await copyFile(join(from, item.name), `${join(to, item.name)}.part`);
    await rename(`${join(to, item.name)}.part`, join(to, item.name));
  }
}

/** Code and model beside the bundle, so that two lines on a page are enough. */
export async function writeAssets(out, model) {
  const { isChunk, isPackageFile } = wasm();
  await copy(dist, out, isPackageFile);
  if ((await real(model)) !== (await real(join(out, "model")))) await copy(model, join(out, "model"), (name) => !name.endsWith(".md"));
  const now = await readdir(dist);
  // Chunks of an earlier version of the package.
  for (const name of await readdir(out)) if (isChunk(name) && !now.includes(name)) await rm(join(out, name));
}

/** Bytes of code that a page loads for words and for meaning, by gzip. */
export async function codeBytes() {
  const { gzipBytes, isMeaningCode, isPageCode } = wasm();
  const bytes = [0, 0];
  for (const name of await readdir(dist)) {
    const which = isPageCode(name) ? 0 : isMeaningCode(name) ? 1 : undefined;
    if (which !== undefined) bytes[which] += gzipBytes(await readFile(join(dist, name)));
  }
  return bytes;
}
