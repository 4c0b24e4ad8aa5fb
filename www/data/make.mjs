// Makes the demo's text from a larger set of documentation sections (JSON Lines, gzip: id, source, page, title, headings, anchor, text).
//
//   node www/data/make.mjs ../shared/data/docs/sections.jsonl.gz            the committed sample, www/data/sections.jsonl.gz
//   node www/data/make.mjs ../shared/data/docs/sections.jsonl.gz --all OUT  every page
//
// The address of each section is added; code blocks and sections of less than 40 characters are left out. The same input gives the same bytes.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";

const REACT = ["memo", "useMemo", "useCallback", "useDeferredValue", "useTransition"].map((page) => `reference/react/${page}`);
const VUE = ["introduction", "essentials", "components", "reusability", "built-ins"].map((part) => `guide/${part}`);
const TYPESCRIPT = ["values-types-variables", "functions", "asynchronous", "generics"].map((part) => `reference/${part}`);

// Where a page stands on the web, and the starts of the paths that are in the sample.
const SOURCES = {
  react: { address: (page) => `https://ja.react.dev/${page}`, sample: ["learn", ...REACT] },
  vue: { address: (page) => `https://ja.vuejs.org/${page}.html`, sample: VUE },
  "typescript-book": { address: (page) => `https://typescriptbook.jp/${page}`, sample: TYPESCRIPT },
  "rust-book": { address: (page) => `https://doc.rust-jp.rs/book-ja/${page}.html`, sample: ["ch03", "ch04", "ch09", "ch10", "ch15"] },
  vite: { address: (page) => `https://ja.vite.dev/${page}`, sample: [] },
  angular: { address: (page) => `https://angular.jp/${page}`, sample: [] },
  astro: { address: (page) => `https://docs.astro.build/ja/${page}/`, sample: [] },
  opentelemetry: { address: (page) => `https://opentelemetry.io/ja/${page}/`, sample: [] },
};
const SHORTEST = 40;

const quote = (text) => encodeURIComponent(text).replace(/%2F/g, "/").replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

export function make(input, { all = false, out = fileURLToPath(new URL("sections.jsonl.gz", import.meta.url)) } = {}) {
  const kept = new Map(Object.keys(SOURCES).map((source) => [source, []]));
  for (const line of gunzipSync(readFileSync(input)).toString("utf8").split("\n")) {
    if (!line) continue;
    const { id, source, page, title, headings, anchor, text } = JSON.parse(line);
    const known = SOURCES[source];
    if (!known) throw new Error(`${input}: section ${id} is from ${source}, whose address is not known; add it to SOURCES`);
    if (!(all || known.sample.some((start) => page.startsWith(start))) || [...text].length < SHORTEST) continue;
    const url = known.address(quote(page)) + (anchor ? `#${quote(anchor)}` : "");
    kept.get(source).push(JSON.stringify({ id, source, page, url, title, headings, anchor, text }));
  }
  const rows = [...kept.values()].flat();
  const packed = gzipSync(`${rows.join("\n")}\n`, { level: 9 });
  packed[9] = 255; // The system that packed it: unknown, so that every system gives the same bytes.
  writeFileSync(out, packed);
  return { counts: new Map([...kept].map(([source, list]) => [source, list.length])), sections: rows.length, bytes: packed.length };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [input, flag, out] = process.argv.slice(2);
  if (!input || (flag && (flag !== "--all" || !out))) {
    console.error("usage: node www/data/make.mjs SECTIONS.jsonl.gz [--all OUT.jsonl.gz]");
    process.exit(2);
  }
  const { counts, sections, bytes } = make(input, flag ? { all: true, out } : {});
  for (const [source, n] of counts) if (n > 0) console.log(`${source.padEnd(16)} ${n} sections`);
  console.log(`${"all".padEnd(16)} ${sections} sections, ${bytes} bytes`);
}
