// The peers of `npm run bench -- search`, each with the settings its own documentation gives for Japanese. They are installed in a folder under
// target/bench, never in this repository.
//
// A peer is `{ name, bm25?, build(documents) }`; `build` gives `{ ask(text): ids, start, index, bytes? }`: bytes before the first query, bytes of the whole
// index (both gzip, code not counted), and what one question reads beside that on an engine that has only started.
import { createRequire } from "node:module";
import { mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

/** The versions measured. */
export const PACKAGES = ["pagefind@1.6.0", "minisearch@7.2.0", "lunr@2.3.9", "lunr-languages@1.22.0", "@orama/orama@3.1.18", "@orama/tokenizers@3.1.18", "flexsearch@0.8.212"];

const packed = (value) => gzipSync(typeof value === "string" ? value : JSON.stringify(value)).length;
/** An index that is read as a whole. */
const whole = (ask, bytes) => ({ ask, start: bytes, index: bytes });

const CJK = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}ー]+/gu;

/** NFKC in lower case; bigrams of Japanese, words of the rest: the cheap tokenizer that people write for themselves. */
function bigrams(text) {
  const plain = text.normalize("NFKC").toLowerCase();
  const terms = [];
  for (const [run] of plain.matchAll(CJK)) {
    const chars = [...run];
    if (chars.length === 1) terms.push(run);
    for (let i = 0; i + 1 < chars.length; i++) terms.push(chars[i] + chars[i + 1]);
  }
  terms.push(...(plain.replace(CJK, " ").match(/[\p{L}\p{N}]+/gu) ?? []));
  return terms;
}

async function miniSearch(load, documents, options) {
  const { default: MiniSearch } = await load("minisearch");
  const index = new MiniSearch({ fields: ["title", "text"], ...options });
  index.addAll(documents);
  return whole((text) => index.search(text).slice(0, 10).map(({ id }) => id), packed(index));
}

async function lunrJa(load, documents) {
  const { require } = load;
  const lunr = require("lunr");
  require("lunr-languages/lunr.stemmer.support")(lunr);
  require("lunr-languages/tinyseg")(lunr);
  require("lunr-languages/lunr.ja")(lunr);
  const index = lunr(function () {
    this.use(lunr.ja);
    this.ref("id");
    this.field("title");
    this.field("text");
    documents.forEach((document) => this.add(document));
  });
  // As documented, `search(text)` splits at blanks only and finds nothing for a sentence: its own segmenter cuts the question.
  const segmenter = new lunr.TinySegmenter();
  const ask = (text) => index.query((query) => segmenter.segment(text).map((word) => word.trim().toLowerCase()).filter((word) => word !== "").forEach((word) => query.term(word, {}))).slice(0, 10).map(({ ref }) => ref);
  return whole(ask, packed(index));
}

async function orama(load, documents) {
  const { create, insertMultiple, save, search } = await load("@orama/orama");
  const { createTokenizer } = await load("@orama/tokenizers/japanese");
  const db = create({ schema: { title: "string", text: "string" }, components: { tokenizer: await createTokenizer({ language: "japanese", stemming: false }) } });
  await insertMultiple(db, documents);
  return whole(async (text) => (await search(db, { term: text, limit: 10, properties: ["title", "text"] })).hits.map(({ id }) => id), packed(save(db)));
}

async function flexSearch(load, documents, suggest) {
  const { default: FlexSearch } = await load("flexsearch");
  const index = new FlexSearch.Index({ encoder: FlexSearch.Charset.CJK, tokenize: "forward" });
  documents.forEach(({ title, text }, i) => index.add(i, `${title}\n${text}`));
  let bytes = 0;
  await index.export((_, data) => {
    if (data) bytes += packed(data);
  });
  return whole((text) => index.search(text, { limit: 10, suggest }).map((i) => documents[i].id), bytes);
}

async function pagefind(load, documents, scratch) {
  const { createIndex, close } = await load("pagefind");
  const { index } = await createIndex({});
  for (const { id, title, text } of documents) await index.addCustomRecord({ url: `/${id}`, content: `${title}\n${text}`, language: "ja", meta: { title } });
  const folder = join(scratch, "pagefind");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  await index.writeFiles({ outputPath: folder });
  await close();
  const bytesOf = (path) => (statSync(path).isDirectory() ? readdirSync(path).reduce((sum, name) => sum + bytesOf(join(path, name)), 0) : statSync(path).size);
  const total = ["index", "fragment"].reduce((sum, name) => sum + bytesOf(join(folder, name)), readdirSync(folder).filter((name) => /\.pf_meta$|entry\.json$/.test(name)).reduce((sum, name) => sum + bytesOf(join(folder, name)), 0));
  // Its script fetches; here it reads the folder, and data are counted.
  let fetched = 0;
  const { fetch } = globalThis;
  globalThis.fetch = async (url, init) => {
    const path = String(url);
    if (!path.includes("/pagefind/")) return fetch(url, init);
    const bytes = readFileSync(join(folder, decodeURIComponent(path.replace(/^.*\/pagefind\//, "").replace(/\?.*$/, ""))));
    if (!/\.(js|pagefind)\b/.test(path)) fetched += bytes.length;
    return new Response(bytes);
  };
  const engine = await import(pathToFileURL(join(folder, "pagefind.js")).href);
  const begin = async () => {
    await engine.destroy();
    await engine.options({ basePath: "http://pagefind.invalid/pagefind/", baseUrl: "/" });
    await engine.init();
    // Loads what every question needs.
    await engine.filters();
  };
  await begin();
  const start = fetched;
  const urls = new Map();
  const ask = async (text) => {
    const { results } = await engine.search(text);
    const ids = [];
    for (const result of results.slice(0, 10)) {
      if (!urls.has(result.id)) urls.set(result.id, await result.data().then((data) => (data.raw_url ?? data.url).replace(/^.*\//, "")));
      ids.push(urls.get(result.id));
    }
    return ids;
  };
  const bytes = async (text) => {
    await begin();
    const before = fetched;
    const { results } = await engine.search(text);
    for (const result of results.slice(0, 5)) await result.data();
    return fetched - before;
  };
  return { ask, bytes, start, index: total };
}

const PEERS = [
  { name: "Pagefind 1.6", build: (load, documents, folder) => pagefind(load, documents, folder) },
  { name: "MiniSearch", bm25: true, build: (load, documents) => miniSearch(load, documents, {}) },
  { name: "MiniSearch, bigrams", bm25: true, build: (load, documents) => miniSearch(load, documents, { tokenize: bigrams, processTerm: (term) => term }) },
  { name: "lunr ja", bm25: true, build: lunrJa },
  { name: "Orama, Japanese tokenizer", bm25: true, build: orama },
  { name: "FlexSearch, CJK", build: (load, documents) => flexSearch(load, documents, false) },
  { name: "FlexSearch, CJK, suggest", build: (load, documents) => flexSearch(load, documents, true) },
];

/** Names of all, in the order of the table. */
export const NAMES = PEERS.map(({ name }) => name);

/** Every peer; `folder` holds their node_modules. */
export async function peers(folder) {
  // A module of that folder, so that names lead to its packages.
  writeFileSync(join(folder, "load.mjs"), "export const load = (name) => import(name);\n");
  const { load: imported } = await import(pathToFileURL(join(folder, "load.mjs")).href);
  const load = Object.assign((name) => imported(name), { require: createRequire(join(folder, "package.json")) });
  return PEERS.map((peer) => ({ ...peer, build: (documents) => peer.build(load, documents, folder) }));
}
