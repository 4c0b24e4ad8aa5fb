// The search by words in JavaScript (pkg/src/words) beside the one in Rust, compiled to WebAssembly: the same answers to the last bit.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { assert, root } from "./harness.mjs";

const SAMPLE = join(root, "www", "bundle");
const folder = mkdtempSync(join(tmpdir(), "shirube-first-words-"));
/** The two sides. */
let words, wasm;

before(async () => {
  const { build } = await import("esbuild");
  const out = join(folder, "words.mjs");
  const contents = ["engine", "normalize", "bytes", "files"].map((name) => `export * from "./${name}.ts";`).join("");
  await build({ stdin: { contents, resolveDir: join(root, "pkg", "src", "words"), loader: "ts" }, bundle: true, format: "esm", target: "es2022", outfile: out, logLevel: "warning" });
  words = await import(pathToFileURL(out).href);
  const simd = join(root, "target", "wasm-test", "simd");
  wasm = await import(pathToFileURL(join(simd, "shirube_wasm.js")).href);
  await wasm.default({ module_or_path: readFileSync(join(simd, "shirube_wasm_bg.wasm")) });
});
after(() => rmSync(folder, { recursive: true }));

const read = (bundle, path) => new Uint8Array(readFileSync(join(bundle, path)));

async function open(engine, bundle) {
  for (const { path } of engine.openBundle(read(bundle, "shirube.json")).words) await engine.provideBundle(path, read(bundle, path));
  if (!engine.openTerms) await engine.open();
  else {
    await engine.openTerms();
    await engine.openSections();
  }
  return engine;
}

/** What a search comes to, an error as its code, and the files it read. */
async function ask(engine, bundle, query, { limit = 10, filters, sort } = {}) {
  const asked = [];
  try {
    for (;;) {
      const answer = engine.searchWords(query, limit, filters, sort);
      if (!answer.needs) return { ...answer, timings: undefined, asked };
      for (const { path, start, end } of answer.needs) {
        asked.push(`${path} ${start}-${end}`);
        await engine.provide(path, start, read(bundle, path).subarray(start, end));
      }
      assert.ok(asked.length < 500, `${query} asks for more and more`);
    }
  } catch (error) {
    assert.ok(error.code, String(error.stack));
    return { error: error.code };
  }
}

/** Asks both sides; both must read and answer the same. */
async function same(bundle, asks) {
  const [ours, rust] = [await open(new words.WordsEngine(), bundle), await open(new wasm.Engine(), bundle)];
  const { status, ...rest } = { status: ours.status(), shards: ours.shards() };
  assert.deepEqual(status, rust.status());
  assert.deepEqual(rest.shards, rust.shards());
  let nHits = 0;
  for (const [query, options] of asks) {
    const [found, expected] = [await ask(ours, bundle, query, options), await ask(rust, bundle, query, options)];
    assert.deepEqual(found, expected, `${query} ${JSON.stringify(options ?? {})}`);
    nHits += found.hits?.length ?? 0;
  }
  rust.free();
  return nHits;
}

/** A generator of small numbers, the same in every run. */
function dice(seed) {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

/** The places and texts in which the two normalisers differ. */
function differences(lines) {
  const expected = wasm.normalized(lines.map((line) => `${line}\u0001`).join(""));
  assert.equal(expected.length, lines.length);
  return lines.filter((line, i) => {
    const { text, starts, ends } = words.normalize(line);
    return JSON.stringify([text, ...starts.flatMap((start, j) => [start, ends[j]])]) !== JSON.stringify(expected[i]);
  });
}

test("every character that this Unicode knows is normalised as in Rust, alone and between others", () => {
  let n = 0;
  for (let first = 0; first < 0x110000; first += 0x4000) {
    const lines = [];
    for (let code = first; code < first + 0x4000; code++) {
      const c = String.fromCodePoint(code);
      // Unassigned here, perhaps assigned in the newer tables of the other side; a half of a pair; what ends a line of this test.
      if (/[\p{Cn}\p{Cs}\u0001]/u.test(c)) continue;
      lines.push(c, `か${c}\u3099A${c}\u0301`);
    }
    n += lines.length;
    assert.deepEqual(differences(lines), []);
  }
  assert.ok(n > 280_000, `${n} texts`);
});

test("sequences of marks, dashes, jamo and iteration marks are normalised as in Rust, with the same places", () => {
  const alphabets = ["ー-‐–—−アあ", "がかは\u3099\u309a゛゜ゝゞヽヾカハー", "a\u0301\u0300\u0323\u0327\u0302eAÉ\u0345\u0334ὀ", "가각각ᄒ\u1161\u11a8", " \t\n　a東京サーバー", "﨑髙邊々人ヶ", "ＡＢ１２㍿㈱½ǆ\u200b\ufe0f", "\u0cc6\u0cc2\u0cd5\u09c7\u09be\u09d7\u0f71\u0f72\u0f74\u0fb2\u0f80"];
  const roll = dice(7);
  const lines = Array.from({ length: 20_000 }, () => {
    const letters = [...(roll(4) > 0 ? alphabets[roll(alphabets.length)] : alphabets.join(""))];
    return Array.from({ length: 1 + roll(9) }, () => letters[roll(letters.length)]).join("");
  });
  assert.deepEqual(differences(lines), []);
});

const TYPED = ["サーバー", "サーバ", "ｻｰﾊﾞｰ設定", "konpo-nento", "shinbun", "取り扱い", "取扱", "りんご", "useState", "状態管理", "データベース 接続", "三ヶ月", "3か月", "人々", "ウエブ アプリ", "フェース", "ボウル", "配列 filter", "引数", "ヴァイオリン", "インターフェイスの実装", "a", "ア", "の", "東", "", "  ", "🍣", "state 更新", "𠮷野家", "C++", "2024年", "コンピューター", "メモリー", "再レンダリングを減らしたい", "所有権を渡さずに値を使う", "サーバー側のコンポーネント", "状態管理とは何か。なぜ必要なのか。", "配列から条件に合うものだけ取り出す", "x".repeat(300), "日本語".repeat(40)];

test("searches by words find the same, with the same scores, marks and reads, on the demo's index", async () => {
  // Beside what is typed: pieces of the sections themselves, so that whole texts are held.
  const asks = TYPED.map((query) => [query]);
  const texts = [];
  const [first] = [await ask(await open(new wasm.Engine(), SAMPLE), SAMPLE, "の", { limit: 60 })];
  for (const { section } of first.hits) texts.push(section.text);
  const roll = dice(3);
  for (let i = 0; i < 120; i++) {
    const text = [...texts[roll(texts.length)]];
    const start = roll(text.length);
    asks.push([text.slice(start, start + 2 + roll(roll(3) === 0 ? 40 : 8)).join(""), { limit: 1 + roll(12) }]);
  }
  assert.ok((await same(SAMPLE, asks)) > 800);
});

test("filters, orders, weights and passages count as in Rust", async () => {
  const shelf = ["本", "雑誌", "新聞"];
  const sections = Array.from({ length: 36 }, (_, i) => ({
    id: `p${i}`,
    url: `/p${i}`,
    title: `頁${i % 7} サーバー`,
    headings: i % 3 === 0 ? ["設定", `節${i}`] : [],
    text: `${"言語の設定と接続を書く。".repeat(1 + (i % 5) * (i % 11 === 0 ? 25 : 1))}${i % 2 === 0 ? "サーバの更新" : "配列を並べ替える"} ${i}`,
    filters: { 種類: [shelf[i % 3], ...(i % 5 === 0 ? ["特集"] : [])], ...(i % 4 === 0 && { 年: [String(2020 + (i % 6))] }) },
    ...(i % 3 !== 2 && { sort: { 日付: ["9", "10", "1e1", "-3", "二月", "2026-11-20", "nan", "+.5", ".5."][i % 9] } }),
    ...(i % 6 === 0 && { weight: [0.3, 2.5, 1000][i % 3] }),
  }));
  const source = join(folder, "sections.jsonl");
  writeFileSync(source, sections.map((section) => `${JSON.stringify(section)}\n`).join(""));
  const bundle = join(folder, "bundle");
  mkdirSync(bundle);
  const { status, stderr } = spawnSync(join(root, "target", "debug", "shirube"), ["build", source, "--model", join(root, "pkg", "model"), "--out", bundle, "--quiet"], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  const asks = ["サーバー", "サーバの更新", "言語の設定", "配列", "節12", "の"].flatMap((query) =>
    [{}, { filters: { 種類: ["本"] } }, { filters: { 種類: ["雑誌", "特集"], 年: ["2024"] } }, { filters: { 種類: [] } }, { filters: { 色: ["赤"] } }, { sort: { name: "日付", descending: false } }, { sort: { name: "日付", descending: true }, limit: 40 }, { sort: { name: "値段", descending: false } }].map((options) => [query, options]),
  );
  assert.ok((await same(bundle, asks)) > 150);
});

test("the checksum is SHA-256", async () => {
  const roll = dice(5);
  for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000]) {
    const bytes = Uint8Array.from({ length }, () => roll(256));
    const expected = createHash("sha256").update(bytes).digest("hex");
    assert.equal(await words.sha256(bytes), expected, `${length} bytes, by the browser's own`);
    assert.equal(words.sha256Here(bytes), expected, `${length} bytes`);
  }
});

test("damaged files are refused with a code, whatever byte is wrong, and never crash the search", async () => {
  const entry = JSON.parse(readFileSync(join(SAMPLE, "shirube.json"), "utf8"));
  const roll = dice(11);
  const codes = new Set(["ASSET_DAMAGED", "VERSION_NEWER", "VERSION_OLDER", "ASSET_IS_HTML"]);
  const engine = await open(new words.WordsEngine(), SAMPLE);
  const readers = [
    ...[["lexical", words.LexicalDirectory], ["sections", words.SectionsDirectory]].map(([kind, reader]) => {
      const { path } = entry.files.find((file) => file.kind === kind);
      return [path, (bytes) => reader.read(path, bytes)];
    }),
    ...["lexical/", "sections/"].map((kind) => {
      const { path } = engine.shards().find(({ path }) => path.startsWith(kind));
      return [path, (bytes) => engine.provide(path, 0, bytes)];
    }),
  ];
  for (const [path, take] of readers) {
    const whole = read(SAMPLE, path);
    await take(whole);
    for (let i = 0; i < 150; i++) {
      const bytes = i % 3 === 0 ? whole.slice(0, roll(whole.length)) : whole.slice();
      if (i % 3 !== 0) bytes[roll(i % 3 === 1 ? 24 : bytes.length)] ^= 1 << roll(8);
      const error = await take(bytes).then(() => undefined, (error) => error);
      assert.ok(error && codes.has(error.code), `${path}, try ${i}: ${error ? error.stack : "taken"}`);
    }
  }
  for (const text of ["", "<!doctype html>", "{}", "null", '{"format":3}', '{"format":2}', '{"format":4}', JSON.stringify({ ...entry, files: [{ ...entry.files[0], path: "../x" }] })]) {
    assert.throws(() => new words.WordsEngine().openBundle(new TextEncoder().encode(text)), (error) => codes.has(error.code), text);
  }
});
