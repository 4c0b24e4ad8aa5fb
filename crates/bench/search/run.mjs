// `npm run bench -- search`: what a question finds, how many bytes it costs and how long the index takes to build, beside the engines that sites use today.
//
// Two sets: `jsquad/valid`, where the question's words stand in the passage, and `docs`, 11,660 sections of documentation with questions in everyday words.
// Shirube is the engine of the package, once by words, once by meaning, once by both. R@1, R@10 and MRR@10 over all questions (`--quick`: 300 a set).
//
// Bytes are of the data, as a server sends it (gzip where the engine does not compress itself); code and model are told apart below the table. `start`: what
// is read before the first question; `a query`: what a question by words reads beside that, with five excerpts, each as if it were the first (the mean of
// at most 100 questions). Engines that read their index whole read nothing later. Build times are of one process on this machine; Shirube's encodes every
// token. Left out: time of a query (the peers' engines differ most in what they read), memory, phones.
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { brotliCompressSync } from "node:zlib";
import { buildEngine, buildPackage, buildWasm } from "../../xtask/scripts/build.mjs";
import { ensureNodePackages, root, run, say } from "../../xtask/scripts/lib.mjs";
import { PACKAGES, peers } from "./peers.mjs";
import { quality, sets } from "./sets.mjs";
import { openShirube } from "./shirube.mjs";

const QUICK = 300;
const MOST_BYTES_ASKED = 100;

const folder = join(root, "target", "bench", "search");

function install() {
  const stamp = join(folder, "node_modules", ".installed");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === PACKAGES.join(" ")) return;
  say(`installing the peers (npm: ${PACKAGES.join(" ")})`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), "{}");
  run("npm", ["install", "--no-fund", "--no-audit", "--ignore-scripts", "--loglevel=error", "--prefix", folder, ...PACKAGES]);
  writeFileSync(stamp, PACKAGES.join(" "));
}

/** Rankings of every question. */
async function ask(engine, questions) {
  const rankings = [];
  for (const { text } of questions) rankings.push(await engine(text));
  return rankings;
}

/** Bytes of a question, the mean over some. */
async function bytesOf(bytes, questions) {
  const asked = questions.filter((_, i) => i % Math.ceil(questions.length / MOST_BYTES_ASKED) === 0);
  let sum = 0;
  for (const { text } of asked) sum += await bytes(text);
  return sum / asked.length;
}

/** The rows of Shirube on one set. */
async function shirubeRows({ name, source, documents, questions }, model, binary) {
  const bundle = join(folder, `bundle-${name.replace("/", "-")}`);
  rmSync(bundle, { recursive: true, force: true });
  const begin = performance.now();
  run(binary, ["build", source, "--model", model, "--out", bundle, "--name", name], { stdio: ["ignore", "ignore", "inherit"] });
  const buildMs = performance.now() - begin;
  const shirube = await openShirube(bundle, model);
  const bytes = await bytesOf(shirube.bytes, questions);
  const row = async (stage, index) => ({
    engine: `Shirube, ${stage}`,
    ...quality(await ask(shirube[stage], questions), questions),
    start: shirube.start,
    query: bytes,
    index,
    buildMs,
    n: documents.length,
  });
  const rows = [await row("words", shirube.wordsIndex), await row("meaning", shirube.index), await row("fused", shirube.index)];
  shirube.close();
  return rows;
}

async function peerRows({ documents, questions }) {
  const rows = [];
  for (const { name, bm25 = false, build } of await peers(folder)) {
    say(`${name}: ${documents.length} documents, ${questions.length} questions`);
    try {
      const begin = performance.now();
      const engine = await build(documents);
      const buildMs = performance.now() - begin;
      const found = quality(await ask(engine.ask, questions), questions);
      rows.push({ engine: name, bm25, ...found, start: engine.start, query: engine.bytes ? await bytesOf(engine.bytes, questions) : 0, index: engine.index, buildMs });
    } catch (error) {
      // A peer that fails is a row that says so, not a table without it.
      rows.push({ engine: name, failed: String(error?.message ?? error).split("\n")[0] });
    }
  }
  return rows;
}

const kb = (bytes) => (bytes < 1e6 ? `${(bytes / 1000).toFixed(bytes < 1e4 ? 1 : 0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

function table(rows) {
  const head = ["engine", "R@1", "R@10", "MRR@10", "start", "a query", "index", "build"];
  const cells = rows.map((r) =>
    r.failed
      ? [r.engine, `failed: ${r.failed}`, "", "", "", "", "", ""]
      : [r.engine, r.r1.toFixed(3), r.r10.toFixed(3), r.mrr.toFixed(3), kb(r.start), r.query ? kb(r.query) : "-", kb(r.index), `${(r.buildMs / 1000).toFixed(1)} s`],
  );
  return [head, head.map(() => "---"), ...cells].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

/** The least over the sets of ours over the best of theirs. */
function ratio(report, ours, theirs) {
  return Math.min(
    ...report.map(({ rows }) => rows.find(({ engine }) => engine === ours).r1 / Math.max(1e-9, ...rows.filter((row) => !row.failed && theirs(row)).map(({ r1 }) => r1))),
  );
}

export async function benchSearch({ quick = false, data = "../shared/data", binary } = {}) {
  ensureNodePackages();
  buildEngine();
  buildWasm("--words");
  buildWasm("--gpu");
  await buildPackage();
  const model = join(root, "pkg", "model");
  if (!binary) run("cargo", ["build", "--quiet", "--release", "-p", "shirube-cli"]);
  install();
  const report = [];
  for (const set of sets(resolve(root, data), quick ? QUICK : Infinity)) {
    say(`${set.name}: ${set.documents.length} documents, ${set.questions.length} questions`);
    const rows = [...(await peerRows(set)), ...(await shirubeRows(set, model, binary ?? join(root, "target", "release", "shirube")))];
    console.log(`\n${set.name}: ${set.documents.length} documents, ${set.questions.length} questions\n\n${table(rows)}\n`);
    report.push({ set: set.name, documents: set.documents.length, questions: set.questions.length, rows });
  }
  const code = readdirSync(join(root, "pkg", "dist")).filter((name) => /^(shirube|worker|chunk-.*|host-.*)\.js$|^shirube_wasm_bg\.wasm$/.test(name));
  const codeBytes = code.reduce((sum, name) => sum + brotliCompressSync(readFileSync(join(root, "pkg", "dist", name))).length, 0);
  const { files } = JSON.parse(readFileSync(join(model, "manifest.json"), "utf8"));
  const modelBytes = files.filter(({ path }) => path !== "tokenizer.json").reduce((sum, { bytes }) => sum + bytes, 0);
  console.log(`beside these, once: Shirube's code ${kb(codeBytes)} (brotli), and for meaning its model ${kb(modelBytes)}`);
  mkdirSync(join(root, "target", "bench"), { recursive: true });
  writeFileSync(join(root, "target", "bench", "search.json"), `${JSON.stringify({ quick, packages: PACKAGES, codeBytes, modelBytes, report }, null, 1)}\n`);
  console.log(`ratio words-r1-vs-best-bm25 ${ratio(report, "Shirube, words", ({ bm25 }) => bm25).toFixed(3)}`);
  console.log(`ratio fused-r1-vs-best-peer ${ratio(report, "Shirube, fused", ({ engine }) => !engine.startsWith("Shirube")).toFixed(3)}`);
}
