// `npm run bench -- search`: what a question finds, how many bytes it costs and how long the index takes to build, beside the engines that sites use today.
//
// Two sets: `jsquad/valid`, where the question's words stand in the passage, and `docs`, 11,660 sections of documentation with questions in everyday words.
// Shirube is the engine of the package, once by words, once by meaning, once by both. R@1, R@10 and MRR@10 over all questions (`--quick`: 300 a set).
//
// Each engine has a process of its own and `--minutes` for a set (15); one that fails or does not end is a row that says so. Rows are recorded as they come,
// and `--resume` takes those of an earlier run with the same settings. `--only NAME` is one engine, `--no-build` takes the package as it is built.
//
// Bytes are of the data, as a server sends it (gzip where the engine does not compress itself); code and model are told apart below the table. `start`: what
// is read before the first question; `a query`: what a question by words reads beside that, with five excerpts, each as if it were the first (the mean of
// at most 100 questions). Engines that read their index whole read nothing later. `build` is processor time, so that other jobs of the machine count less;
// Shirube's encodes every token. Left out: time of a query (the peers' engines differ most in what they read), memory, phones.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync } from "node:zlib";
import { buildEngine, buildPackage, buildWasm } from "../../xtask/scripts/build.mjs";
import { ensureNodePackages, root, run, say } from "../../xtask/scripts/lib.mjs";
import { NAMES, PACKAGES } from "./peers.mjs";
import { sets } from "./sets.mjs";

const QUICK = 300;
/** An index of a peer may take some gigabytes while it is made. */
const MEMORY = "--max-old-space-size=8192";

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

/** The rows that `row.mjs` makes of `asked`, or one that says why there are none. */
async function rowsOf(asked, minutes) {
  const child = spawn(process.execPath, [MEMORY, fileURLToPath(new URL("./row.mjs", import.meta.url)), JSON.stringify(asked)], { cwd: root });
  let [said, complained, late] = ["", "", false];
  child.stdout.on("data", (chunk) => (said += chunk));
  child.stderr.on("data", (chunk) => (complained += chunk));
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, minutes * 60_000);
  const status = await new Promise((done) => child.on("close", done));
  clearTimeout(timer);
  const failed = (why) => [{ engine: asked.engine, failed: why }];
  if (late) return failed(`not done after ${minutes} minutes`);
  if (status !== 0) return failed(/^\w*Error: .*|^FATAL ERROR: .*|(?<=message: )'.*'/m.exec(complained)?.[0] ?? `ended with ${status}`);
  return JSON.parse(said.trim().split("\n").at(-1));
}

const kb = (bytes) => (bytes < 1e6 ? `${(bytes / 1000).toFixed(bytes < 1e4 ? 1 : 0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

function table(rows) {
  const head = ["engine", "R@1", "R@10", "MRR@10", "start", "a query", "index", "build"];
  const cells = rows.map((r) =>
    r.failed
      ? [r.engine, r.failed, "", "", "", "", "", ""]
      : [r.engine, r.r1.toFixed(3), r.r10.toFixed(3), r.mrr.toFixed(3), kb(r.start), r.query ? kb(r.query) : "-", kb(r.index), `${r.buildSeconds.toFixed(1)} s`],
  );
  return [head, head.map(() => "---"), ...cells].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

/** The least over the sets of ours over the best of theirs. */
function ratio(report, ours, theirs) {
  return Math.min(
    ...report.map(({ rows }) => (rows.find(({ engine }) => engine === ours)?.r1 ?? NaN) / Math.max(1e-9, ...rows.filter((row) => !row.failed && theirs(row)).map(({ r1 }) => r1))),
  );
}

export async function benchSearch({ quick = false, resume = false, minutes = 15, data = "../shared/data", binary, only, build = true } = {}) {
  if (build) {
    ensureNodePackages();
    buildEngine();
    buildWasm("--gpu");
    buildWasm("--node");
    await buildPackage();
  }
  if (!binary) run("cargo", ["build", "--quiet", "--release", "-p", "shirube-cli"]);
  install();
  const most = quick ? QUICK : undefined;
  const path = join(root, "target", "bench", "search-rows.json");
  const settings = JSON.stringify({ quick, packages: PACKAGES });
  const old = resume && existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : undefined;
  const done = old?.settings === settings ? old.done : {};
  const report = [];
  for (const set of sets(resolve(root, data), most ?? Infinity)) {
    say(`${set.name}: ${set.documents.length} documents, ${set.questions.length} questions`);
    const rows = [];
    for (const engine of [...NAMES, "Shirube"].filter((name) => !only || name === only)) {
      const key = `${set.name}: ${engine}`;
      const begin = performance.now();
      const known = done[key];
      const found = known ?? (await rowsOf({ set: set.name, engine, data, most, folder, binary: binary ?? join(root, "target", "release", "shirube") }, minutes));
      done[key] = found;
      writeFileSync(path, `${JSON.stringify({ settings, done }, null, 1)}\n`);
      say(`${engine.padEnd(26)} ${known ? "known" : `${((performance.now() - begin) / 1000).toFixed(0)} s`}${found[0].failed ? `: ${found[0].failed}` : ""}`);
      rows.push(...found);
    }
    console.log(`\n${set.name}: ${set.documents.length} documents, ${set.questions.length} questions\n\n${table(rows)}\n`);
    report.push({ set: set.name, documents: set.documents.length, questions: set.questions.length, rows });
  }
  const code = readdirSync(join(root, "pkg", "dist")).filter((name) => /^(shirube|worker)\.js$|^shirube_wasm_bg\.wasm$/.test(name));
  const codeBytes = code.reduce((sum, name) => sum + brotliCompressSync(readFileSync(join(root, "pkg", "dist", name))).length, 0);
  const { files } = JSON.parse(readFileSync(join(root, "pkg", "model", "manifest.json"), "utf8"));
  const modelBytes = files.filter(({ path }) => path !== "tokenizer.json").reduce((sum, { bytes }) => sum + bytes, 0);
  console.log(`beside these, once: Shirube's code ${kb(codeBytes)} (brotli), and for meaning its model ${kb(modelBytes)}`);
  writeFileSync(join(root, "target", "bench", "search.json"), `${JSON.stringify({ quick, packages: PACKAGES, codeBytes, modelBytes, report }, null, 1)}\n`);
  if (only) return;
  console.log(`ratio words-r1-vs-best-bm25 ${ratio(report, "Shirube, words", ({ bm25 }) => bm25).toFixed(3)}`);
  console.log(`ratio fused-r1-vs-best-peer ${ratio(report, "Shirube, fused", ({ engine }) => !engine.startsWith("Shirube")).toFixed(3)}`);
}
