// A site that VitePress built with the plugin, opened in Chromium and searched by its button.
import { cpSync, existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { buildDocs } from "../../crates/xtask/scripts/docs.mjs";
import { assert, root, useBrowser, visit } from "../browser/harness.mjs";
import { findsByButton, pack, project, tool } from "./lab.mjs";

useBrowser();

test("VitePress builds the search with the site, and its button finds a heading by words and by meaning", async () => {
  const folder = project("vitepress", { offline: false });
  const said = tool(folder, "vitepress", "build");
  assert.match(said, /2 pages, \d+ sections/);
  const dist = join(folder, ".vitepress", "dist");
  assert.equal(JSON.parse(readFileSync(join(dist, "shirube", "shirube.json"), "utf8")).name, "みちしるべ");
  assert.ok(!existsSync(join(dist, "shirube", "shirube.json.part")));
  await visit({ folder: dist }, async (page, { url }) => {
    await page.goto(`${url}index.html`);
    await findsByButton(page, "前の値を使う", "/guide/state#previous-value");
    await findsByButton(page, "画面の描き直しを少なくしたい", "/guide/state#再レンダリングを減らす");
  });
});

test("the project's own documentation is built by the plugin and finds its pages", async () => {
  const served = join(root, "target", "npm", "docs-served");
  rmSync(served, { recursive: true, force: true });
  cpSync(buildDocs(pack(), { stdio: "ignore" }), join(served, "docs"), { recursive: true });
  await visit({ folder: served }, async (page, { url }) => {
    await page.goto(`${url}docs/index.html`);
    // Words of headings: what else the documentation says must not decide here.
    await findsByButton(page, "index and search", "/docs/design.html#_5-index-and-search");
    await findsByButton(page, "your own searcher", "/docs/ui.html#your-own-searcher");
  });
});
