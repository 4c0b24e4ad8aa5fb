// The plugins inside generators that take long to fetch: `npm run test:plugins`, outside of `npm test` for its time. VitePress is in `npm test`.
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assert, root, useBrowser, visit } from "../browser/harness.mjs";
import { findsByButton, fresh, pack, project, run, tool } from "./lab.mjs";

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
