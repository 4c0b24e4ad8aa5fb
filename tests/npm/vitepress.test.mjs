// A site that VitePress built with the plugin, opened in Chromium and searched by its button.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assert, useBrowser, visit } from "../browser/harness.mjs";
import { findsByButton, project, tool } from "./lab.mjs";

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
