// A book that mdBook rendered with the backend, opened in Chromium. `npm test` takes an mdBook that is there; `npm run test:plugins` compiles one, which takes minutes.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { root, useBrowser, visit } from "../browser/harness.mjs";
import { findsByButton, fresh, run } from "./lab.mjs";

useBrowser();

const tools = join(root, "target", "tools");
const installed = join(tools, "bin", "mdbook");
const mdbook = existsSync(installed) ? installed : spawnSync("mdbook", ["--version"]).status === 0 ? "mdbook" : undefined;
const skip = !mdbook && process.env.npm_lifecycle_event !== "test:plugins" && "mdbook is not installed: `npm run test:plugins` compiles it";

test("mdBook runs the backend after its own, and its headings are found", { skip }, async () => {
  if (!mdbook) run(root, "cargo", "install", "mdbook", "--version", "0.5.4", "--locked", "--debug", "--no-default-features", "--root", tools);
  const folder = fresh("mdbook");
  const native = join(root, "target", "debug", "shirube");
  const settings = ["[output.html]", "[output.shirube]", `command = "${native} mdbook"`, `model = "${join(root, "pkg", "model")}"`];
  mkdirSync(join(folder, "src"));
  writeFileSync(join(folder, "book.toml"), ["[book]", 'title = "Rustの本"', 'language = "ja"', ...settings, ""].join("\n"));
  writeFileSync(join(folder, "src", "SUMMARY.md"), "# 目次\n\n- [所有権](ownership.md)\n- [借用](borrowing.md)\n");
  writeFileSync(join(folder, "src", "ownership.md"), "# 所有権\n\n値には所有者があります。\n\n## 移動する\n\n値を渡すと、所有権が移ります。\n");
  writeFileSync(join(folder, "src", "borrowing.md"), "# 借用\n\n参照について述べます。\n\n## 借用する\n\n参照を渡すと、所有権は移りません。\n");
  run(folder, mdbook ?? installed, "build");
  const html = join(folder, "book", "html");
  const roots = { "/shirube/model/": join(root, "pkg", "model"), "/shirube/code/": join(root, "pkg", "dist") };
  const pages = { "/try.html": '<!doctype html><html lang="ja"><title>本</title><link rel="icon" href="data:,"><script type="module" src="/shirube/code/ui.js"></script><shirube-trigger bundle="/shirube/" model="/shirube/model/"></shirube-trigger></html>' };
  await visit({ folder: html, roots, pages }, async (page, { url }) => {
    await page.goto(`${url}try.html`);
    await findsByButton(page, "借用する", "/borrowing.html#借用する");
    // mdBook writes the first chapter twice, as index.html and by its name: it is found once.
    await findsByButton(page, "移動する", "/#移動する");
  });
});
