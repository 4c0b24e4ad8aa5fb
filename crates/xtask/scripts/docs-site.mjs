// Renders the documentation corpus as a site of plain HTML pages, to build a search over and to time that.
//
//   node crates/xtask/scripts/docs-site.mjs ../shared/data/docs/markdown.tar.zst OUT
//
// 1,478 pages of Markdown of eight projects, rendered by `marked` with GitHub's heading ids into one template with a navigation and a footer around the content, as
// sites have them. Needs tar and zstd.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, extname, join, relative } from "node:path";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Marked } from "marked";

const escape = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

/** The fragment that GitHub gives a heading. */
const slug = (text) => text.trim().toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").replace(/\s/g, "-");

function render(markdown, fallback) {
  let title = fallback;
  let body = markdown.replace(/^\uFEFF/, "").replace(/\r\n/g, "\n");
  const front = /^---\n([\s\S]*?)\n---\n/.exec(body);
  if (front) {
    body = body.slice(front[0].length);
    title = /^title:\s*["']?(.*?)["']?\s*$/m.exec(front[1])?.[1] || title;
  }
  body = body.replace(/^(#+ .*?)\{\/\*(.*?)\*\/\}\s*$/gm, "$1{#$2}").replace(/^:::\s*\w*\s*(.*)$/gm, "\n$1\n");
  const used = new Map();
  const marked = new Marked({ gfm: true });
  marked.use({
    renderer: {
      heading({ tokens, depth, text }) {
        const named = /^(.*?)\s*\{#([^}]+)\}\s*$/.exec(text);
        const html = this.parser.parseInline(tokens).replace(/\s*\{#[^}]+\}\s*$/, "");
        let id = named ? named[2] : slug(text.replace(/[`*_]/g, ""));
        const n = used.get(id) ?? 0;
        used.set(id, n + 1);
        if (n > 0) id += `-${n}`;
        return `<h${depth} id="${escape(id)}">${html} <a class="header-anchor" href="#${encodeURIComponent(id)}">#</a></h${depth}>\n`;
      },
    },
  });
  const html = marked.parse(body);
  const heading = /<h1\b/.test(html) ? "" : `<h1>${escape(title)}</h1>\n`;
  return { title, html: heading + html };
}

const page = ({ title, html }) => `<!doctype html>
<html lang="ja">
<head><meta charset="utf-8"><title>${escape(title)} | ドキュメント</title><meta name="viewport" content="width=device-width"></head>
<body>
<header><nav><a href="/">ホーム</a> <a href="/guide/">ガイド</a></nav></header>
<main>
${html}
</main>
<footer>このページを編集 · 前のページ · 次のページ</footer>
</body>
</html>
`;

function filesUnder(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesUnder(path) : [path];
  });
}

export function renderDocs(archive, out) {
  const folder = mkdtempSync(join(tmpdir(), "shirube-docs-"));
  try {
    const tar = spawnSync("tar", ["--zstd", "-xf", archive, "-C", folder], { stdio: "inherit" });
    if (tar.status !== 0) throw new Error(`${archive} could not be unpacked: tar and zstd are needed`);
    let n = 0;
    for (const path of filesUnder(folder).sort()) {
      if (![".md", ".mdx"].includes(extname(path))) continue;
      const to = join(out, relative(folder, path).replace(/\.mdx?$/, ".html"));
      mkdirSync(dirname(to), { recursive: true });
      const name = relative(folder, path).replace(/\.mdx?$/, "");
      writeFileSync(to, page(render(readFileSync(path, "utf8"), name)));
      n += 1;
    }
    return n;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [archive, out] = process.argv.slice(2);
  if (!archive || !out) {
    console.error("usage: node crates/xtask/scripts/docs-site.mjs MARKDOWN.tar.zst OUT");
    process.exit(2);
  }
  console.log(`${renderDocs(archive, out)} pages in ${out}`);
}
