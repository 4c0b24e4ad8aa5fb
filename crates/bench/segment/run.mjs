// `npm run bench -- segment`, and the last part of `npm run bench -- checkpoints`: words against fugashi with unidic-lite on a million characters, in
// Chromium; what the dictionary weighs, how long it takes to open and what memory it takes. Closes with `ratio fugashi-parity`: the share of lines
// with the same words, 1 where all are.
//
// Left out: fetching (parts come from this machine) and NFKC. `--quick` takes a fifth of the text. A throw-away Python environment is made in
// target/bench/segment; BENCH_PYTHON names an interpreter that has fugashi, unidic-lite and zstandard already.
import { createServer } from "node:http";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join, normalize } from "node:path";
import { chromium } from "playwright-core";
import { PACKAGE, dicdirOf, ensureDictionary } from "../../xtask/scripts/dictionary.mjs";
import { processorClock } from "../engine/run.mjs";
import { ask, ensureChromium, ensureNodePackages, root, run, say } from "../../xtask/scripts/lib.mjs";

const folder = join(root, "target", "bench", "segment");
const parts = join(root, "target", "dictionary");

function ensurePython() {
  if (process.env.BENCH_PYTHON) return process.env.BENCH_PYTHON;
  const python = join(folder, "venv", "bin", "python");
  if (!existsSync(join(folder, "venv", "ready"))) {
    const packages = ["fugashi==1.5.2", PACKAGE, "zstandard"];
    say(`installing ${packages.join(", ")} into ${join(folder, "venv")} (260 MB; remove the folder afterwards if you like)`);
    run("python3", ["-m", "venv", "--clear", join(folder, "venv")]);
    run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", ...packages]);
    writeFileSync(join(folder, "venv", "ready"), "");
  }
  return python;
}

function serve() {
  const mounts = { "/wasm/": join(folder, "wasm"), "/dictionary/": parts, "/reference/": folder, "/page/": join(root, "crates/bench/segment") };
  const types = { js: "text/javascript", wasm: "application/wasm", html: "text/html" };
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url, "http://x").pathname);
    const mount = Object.keys(mounts).find((prefix) => path.startsWith(prefix));
    const file = mount && join(mounts[mount], path.slice(mount.length));
    if (!file || !existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": types[path.split(".").at(-1)] ?? "application/octet-stream" }).end(readFileSync(file));
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

export async function fugashiParity({ quick, data = "../shared/data" }) {
  if (!existsSync(join(root, data, "pretrain"))) throw new Error(`${data}/pretrain does not exist: this bench compares on its text`);
  ensureNodePackages();
  mkdirSync(folder, { recursive: true });
  const python = ensurePython();
  process.env.UNIDIC_LITE ??= dicdirOf(python);
  if (!(await ensureDictionary())) throw new Error("the dictionary could not be made");
  run("cargo", ["run", "--quiet", "-p", "shirube-xtask", "--", "wasm", "--bench", "--out", "target/bench/segment/wasm"]);
  say("fugashi cuts the text");
  const said = ask(python, [join(root, "crates/bench/segment/reference.py"), join(root, data), folder, quick ? "200000" : "1000000"]);
  if (said === undefined) throw new Error(`crates/bench/segment/reference.py failed with ${python}`);
  const reference = JSON.parse(said);
  const names = readdirSync(parts).filter((name) => /^dictionary-\d+\.bin$/.test(name)).sort();
  const server = await serve();
  const chrome = await chromium.launch({ executablePath: ensureChromium(), args: ["--no-sandbox", "--disable-background-networking"] });
  try {
    const loads = [];
    let compared;
    for (let turn = 0; turn < 5; turn++) {
      // A page of its own: wasm memory never shrinks.
      const page = await chrome.newPage();
      page.setDefaultTimeout(0);
      await page.goto(`http://127.0.0.1:${server.address().port}/page/page.html`);
      await page.waitForFunction(() => window.load, undefined, { timeout: 60_000 });
      await page.evaluate((paths) => window.fetchParts(paths), names.map((name) => `/dictionary/${name}`));
      // Other work on the machine counts in wall time, not in that of the page's thread.
      const processor = await processorClock(chrome, page);
      const start = processor?.();
      const load = await page.evaluate(() => window.load());
      loads.push({ ...load, processorMs: processor && processor() - start });
      if (turn === 4) compared = await page.evaluate(() => window.compare());
      await page.close();
    }
    loads.sort((a, b) => a.ms - b.ms);
    const { bytes, memoryBytes } = loads[0];
    const longest = Math.max(...names.map((name) => statSync(join(parts, name)).size));
    const record = { commit: ask("git", ["rev-parse", "--short=12", "HEAD"]), cpu: cpus()[0]?.model, chromium: chrome.version(), quick, reference, loads, compared };
    writeFileSync(join(folder, "segment.json"), `${JSON.stringify(record, null, 1)}\n`);
    const megabytes = (n) => `${(n / 1e6).toFixed(2)} MB`;
    console.log(`dictionary        ${megabytes(bytes)} in ${names.length} parts, the longest ${megabytes(longest)}`);
    const least = Math.min(...loads.map(({ processorMs }) => processorMs ?? Infinity));
    console.log(`opened in         ${Math.round(loads[0].ms)} ms, median ${Math.round(loads[2].ms)} ms; ${least === Infinity ? "-" : Math.round(least)} ms of processor time (Chromium ${chrome.version()})`);
    console.log(`wasm memory       ${megabytes(memoryBytes)} at most while it was opened`);
    console.log(`words             ${(compared.megabytes / (compared.ms / 1000)).toFixed(1)} MB/s, fugashi ${(compared.megabytes / reference.seconds).toFixed(1)} MB/s with its Python lists`);
    console.log(`compared          ${reference.real} lines of ${reference.characters} characters of text and ${reference.lines - reference.real} adversarial lines`);
    console.log(`differing         ${compared.differing} of ${compared.lines} lines`);
    for (const [expected, found] of compared.first) console.log(`  expected ${JSON.stringify(expected)}\n  found    ${JSON.stringify(found)}`);
    if (compared.lines !== reference.lines || compared.found !== reference.lines) throw new Error(`${compared.found} lines were cut, ${compared.lines} compared, of ${reference.lines}`);
    console.log(`ratio dictionary-budget-over-bytes ${(5e6 / bytes).toFixed(3)}`);
    console.log(`ratio fugashi-parity ${(1 - compared.differing / compared.lines).toFixed(6)}`);
    if (compared.differing > 0) process.exitCode = 1;
  } finally {
    await chrome.close();
    server.close();
  }
}
