// The plugins inside generators that take long to fetch: `npm run test:plugins`, outside of `npm test` for its time. VitePress is in `npm test`.
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assert, root, useBrowser, visit } from "../browser/harness.mjs";
import { findsByButton, pack, project, run, tool } from "./lab.mjs";

useBrowser();

test("Docusaurus builds the search with the site, and its button finds a heading", async () => {
  const folder = project("docusaurus", { offline: false });
  assert.match(tool(folder, "docusaurus", "build"), /pages, \d+ sections/);
  await visit({ folder: join(folder, "build") }, async (page, { url }) => {
    await page.goto(url);
    await findsByButton(page, "状態を更新する", "/#update");
  });
});

test("Astro with Starlight builds the search with the site, and its button finds a heading", async () => {
  const folder = project("starlight", { offline: false });
  assert.match(tool(folder, "astro", "build"), /pages, \d+ sections/);
  await visit({ folder: join(folder, "dist") }, async (page, { url }) => {
    await page.goto(url);
    await findsByButton(page, "状態を更新する", "/#状態を更新する");
  });
});

/** A throw-away folder under target/npm. */
function fresh(name) {
  const folder = join(root, "target", "npm", name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  return folder;
}

test("mdBook runs the backend after its own, and its headings are found", async () => {
  const tools = join(root, "target", "tools");
  const mdbook = join(tools, "bin", "mdbook");
  if (!existsSync(mdbook)) run(root, "cargo", "install", "mdbook", "--version", "0.5.4", "--locked", "--debug", "--no-default-features", "--root", tools);
  const folder = fresh("mdbook");
  const native = join(root, "target", "debug", "shirube");
  const settings = ["[output.html]", "[output.shirube]", `command = "${native} mdbook"`, `model = "${join(root, "pkg", "model")}"`];
  mkdirSync(join(folder, "src"));
  writeFileSync(join(folder, "book.toml"), ["[book]", 'title = "Rustの本"', 'language = "ja"', ...settings, ""].join("\n"));
  writeFileSync(join(folder, "src", "SUMMARY.md"), "# 目次\n\n- [所有権](ownership.md)\n");
  writeFileSync(join(folder, "src", "ownership.md"), "# 所有権\n\n値には所有者があります。\n\n## 借用する\n\n参照を渡すと、所有権は移りません。\n");
  run(folder, mdbook, "build");
  const html = join(folder, "book", "html");
  const roots = { "/shirube/model/": join(root, "pkg", "model"), "/shirube/code/": join(root, "pkg", "dist") };
  const pages = { "/try.html": '<!doctype html><html lang="ja"><title>本</title><link rel="icon" href="data:,"><script type="module" src="/shirube/code/ui.js"></script><shirube-trigger bundle="/shirube/" model="/shirube/model/"></shirube-trigger></html>' };
  await visit({ folder: html, roots, pages }, async (page, { url }) => {
    await page.goto(`${url}try.html`);
    await findsByButton(page, "借用する", "/ownership.html#借用する");
  });
});

test("MkDocs runs the hook after its build, and its button finds a heading", async () => {
  const folder = fresh("mkdocs");
  const python = join(root, "target", "tools", "mkdocs", "bin", "python");
  if (!existsSync(python)) {
    run(root, "python3", "-m", "venv", join(root, "target", "tools", "mkdocs"));
    run(root, python, "-m", "pip", "install", "--quiet", "mkdocs==1.6.1");
  }
  writeFileSync(join(folder, "package.json"), '{ "private": true }');
  run(folder, "npm", "install", "--no-save", "--no-package-lock", "--offline", "--ignore-scripts", pack());
  mkdirSync(join(folder, "docs"));
  writeFileSync(join(folder, "mkdocs.yml"), "site_name: 手引き\nplugins: []\ntheme:\n  name: readthedocs\n  locale: ja\n  highlightjs: false\nhooks: [node_modules/shirube/plugins/mkdocs.py]\n");
  writeFileSync(join(folder, "docs", "index.md"), "# 状態\n\n部品は状態を持ちます。\n\n## 状態を更新する {#update}\n\n値を直接書き換えません。\n");
  writeFileSync(join(folder, "docs", "more.md"), "# 続き\n\n続きの頁です。\n");
  run(folder, python, "-m", "mkdocs", "build", "--quiet");
  await visit({ folder: join(folder, "site") }, async (page, { url }) => {
    await page.goto(`${url}more/index.html`);
    await findsByButton(page, "値を書き換える", "/");
  });
});
