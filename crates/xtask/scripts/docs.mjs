// `npm run docs`: the project's documentation as a site, built by the VitePress plugin and searched by Shirube itself. The next `npm start` serves it
// under docs/.
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { DOCS, buildAll } from "./build.mjs";
import { root, run, say } from "./lib.mjs";

/** Texts that live elsewhere in the repository, by the name of their page. */
const ELSEWHERE = { index: "README.md", package: "pkg/README.md", model: "pkg/model/README.md" };

/** Links to documents become links to pages. */
function page(text) {
  return text
    .replace(/\]\((?:\.\.\/)*(?:docs\/)?([\w-]+)\.md(#[^)]*)?\)/g, (whole, name, fragment = "") => (name === "README" ? whole : `](./${name}.md${fragment})`))
    .replace(/\]\((?:\.\.\/)*pkg\/README\.md\)/g, "](./package.md)")
    .replace(/\]\(docs\/images\//g, "](./images/");
}

/** Builds the site with the packed package `tarball` (a path) and returns the folder to serve. */
export function buildDocs(tarball, { stdio = "inherit" } = {}) {
  const folder = join(root, DOCS);
  mkdirSync(folder, { recursive: true });
  for (const old of readdirSync(folder)) if (old !== "node_modules") rmSync(join(folder, old), { recursive: true });
  cpSync(join(root, "www", "docs"), folder, { recursive: true });
  cpSync(join(root, "docs", "images"), join(folder, "images"), { recursive: true });
  const write = (name, path) => writeFileSync(join(folder, `${name}.md`), page(readFileSync(join(root, path), "utf8")));
  for (const name of readdirSync(join(root, "docs"))) if (name.endsWith(".md")) write(name.slice(0, -3), `docs/${name}`);
  for (const [name, path] of Object.entries(ELSEWHERE)) write(name, path);
  run("npm", ["install", "--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", tarball], { cwd: folder, stdio });
  run(join(folder, "node_modules", ".bin", "vitepress"), ["build"], { cwd: folder, stdio });
  return join(folder, ".vitepress", "dist");
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await buildAll();
  const packed = join(root, "target", "docs-package");
  rmSync(packed, { recursive: true, force: true });
  mkdirSync(packed, { recursive: true });
  run("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", packed], { cwd: join(root, "pkg") });
  buildDocs(join(packed, readdirSync(packed)[0]));
  await buildAll();
  say("`npm start` serves the documentation under docs/");
}
