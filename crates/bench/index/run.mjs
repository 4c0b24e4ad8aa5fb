// `npm run bench -- browser-index`: queries over 100,000 passages (about 4.7 million token vectors of 64 dimensions) in Chromium, one thread, after
// encoding: centroid scores, candidates and exact MaxSim. Both builds of the wasm, one with simd128 and one with relaxed SIMD. Each question's fastest of several
// turns counts, for load only ever adds time; the median over the questions is shown, and nDCG@10 beside that of scoring every document exactly.
//
// `--quick`: 10,000 passages and fewer turns. `--build simd128` or `--build relaxed`: one build alone. `--no-build`: parts and wasm as an earlier run left them, so
// that nothing but the measuring runs. Writes target/bench/browser-index.json.
import { createServer } from "node:http";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join, normalize } from "node:path";
import { chromium } from "playwright-core";
import { ask, ensureChromium, ensureNodePackages, root, run, say } from "../../xtask/scripts/lib.mjs";

const folder = join(root, "target", "bench");
const BUILDS = ["simd128", "relaxed"];
/** Modes with their probes and candidates; 0 is the default. The first is what others are compared with, the second what a search takes. */
const MODES = [
  ["exact", 0, 0],
  ["auto", 0, 0],
  ["scan", 0, 0],
  ["scan", 0, 128],
  ["probe", 2, 256],
  ["probe", 8, 512],
];

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Mean nDCG@10 of rankings, best first. */
export function ndcg(rankings, relevant) {
  const gain = (rank) => 1 / Math.log2(rank + 2);
  const each = rankings.map((ranking, q) => {
    const found = ranking.slice(0, 10).reduce((sum, document, rank) => sum + (relevant[q].includes(document) ? gain(rank) : 0), 0);
    const ideal = relevant[q].slice(0, 10).reduce((sum, _, rank) => sum + gain(rank), 0);
    return found / ideal;
  });
  return each.reduce((a, b) => a + b, 0) / each.length;
}

function serve(wasm) {
  const mounts = { "/wasm/": wasm, "/parts/": join(folder, "browser-index"), "/page/": join(root, "crates/bench/index") };
  const types = { js: "text/javascript", mjs: "text/javascript", wasm: "application/wasm", json: "application/json" };
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url, "http://x").pathname);
    // Isolated: the clock then has steps of 5 microseconds.
    const headers = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp", "content-type": types[path.split(".").at(-1)] ?? "application/octet-stream" };
    if (path === "/") return response.writeHead(200, { ...headers, "content-type": "text/html" }).end('<!doctype html><link rel="icon" href="data:,"><script type="module" src="/page/page.mjs"></script>');
    const mount = Object.keys(mounts).find((prefix) => path.startsWith(prefix));
    const file = mount && join(mounts[mount], path.slice(mount.length));
    if (!file || !existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, headers).end(readFileSync(file));
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

async function measure(chrome, build, quick) {
  const server = await serve(join(folder, `wasm-index-${build}`));
  try {
    const page = await chrome.newPage();
    page.setDefaultTimeout(0);
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    await page.waitForFunction(() => window.start);
    const { about, backend, memoryBytes } = await page.evaluate(() => window.start());
    const cells = [];
    for (const mode of MODES) {
      const turns = mode[0] === "exact" ? 1 : quick ? 3 : 7;
      let least;
      let rankings;
      for (let turn = 0; turn < turns; turn++) {
        const found = await page.evaluate((a) => window.search(...a), mode);
        rankings ??= found.rankings;
        if (JSON.stringify(rankings) !== JSON.stringify(found.rankings)) throw new Error(`${build}, ${mode}: two turns answer differently`);
        least = found.ms.map((ms, q) => Math.min(ms, least?.[q] ?? Infinity));
      }
      cells.push({ mode: mode.join(" "), p50: median(least), p95: least.toSorted((a, b) => a - b)[Math.floor(least.length * 0.95)], ndcg: ndcg(rankings, about.relevant), rankings });
    }
    const [approximate, exact] = (await page.evaluate((n) => window.scoreAll(n), quick ? 10 : 20)).map(median);
    await page.close();
    return { about, backend, memoryBytes, cells, approximate, exact };
  } finally {
    server.close();
  }
}

export async function browserIndex({ quick, data, build: only, made }) {
  const builds = only ? BUILDS.filter((build) => build === only) : BUILDS;
  if (builds.length === 0) throw new Error(`--build takes ${BUILDS.join(" or ")}, not ${only}`);
  ensureNodePackages();
  mkdirSync(folder, { recursive: true });
  if (!made) run("cargo", ["run", "--quiet", "--release", "-p", "shirube-bench", "--", "index-parts", ...(quick ? ["--quick"] : []), ...(data ? ["--data", data] : [])]);
  for (const build of made ? [] : builds) {
    run("cargo", ["run", "--quiet", "-p", "shirube-xtask", "--", "wasm", ...(build === "relaxed" ? ["--relaxed"] : []), "--bench", "--out", `target/bench/wasm-index-${build}`]);
  }
  const chrome = await chromium.launch({ executablePath: ensureChromium(), args: ["--no-sandbox", "--disable-background-networking"] });
  const record = { commit: ask("git", ["rev-parse", "--short=12", "HEAD"]), cpu: cpus()[0]?.model, chromium: chrome.version(), quick, builds: {} };
  const lines = [];
  try {
    for (const build of builds) {
      const found = await measure(chrome, build, quick);
      const { about, backend, memoryBytes, cells, approximate, exact } = found;
      say(`${build} (kernels ${backend}), Chromium ${record.chromium}: ${about.n_passages} passages, ${about.n_tokens} vectors, ${about.n_centroids} centroids, ${about.query_tokens.length} questions, ${Math.round(memoryBytes / 1e6)} MB of memory, model ${about.model}`);
      for (const { mode, p50, p95, ndcg } of cells) {
        console.log(`  ${mode.padEnd(14)} p50 ${p50.toFixed(2).padStart(8)} ms   p95 ${p95.toFixed(2).padStart(8)} ms   nDCG@10 ${ndcg.toFixed(4)}   kept ${((100 * ndcg) / cells[0].ndcg).toFixed(2)} %`);
      }
      console.log(`  every document by centroids alone ${approximate.toFixed(2)} ms, exactly ${exact.toFixed(2)} ms, preparing the query included\n`);
      lines.push([`search-wasm-ms-${build}`, cells[1].p50], [`ndcg-kept-wasm-${build}`, cells[1].ndcg / cells[0].ndcg]);
      const first = Object.values(record.builds)[0];
      // Integers: both builds must give the same exact ranking.
      if (first && JSON.stringify(first.exactRankings) !== JSON.stringify(cells[0].rankings)) throw new Error("the two builds rank differently");
      record.builds[build] = { ...found, exactRankings: cells[0].rankings, cells: cells.map(({ rankings, ...rest }) => rest) };
    }
  } finally {
    await chrome.close();
  }
  for (const build of Object.values(record.builds)) delete build.exactRankings;
  writeFileSync(join(folder, "browser-index.json"), `${JSON.stringify(record, null, 1)}\n`);
  for (const [name, value] of lines) console.log(`ratio ${name} ${value.toFixed(3)}`);
}
