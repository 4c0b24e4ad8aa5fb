// `npm run bench -- engine`: query encoding and MaxSim natively and in Chromium, beside onnxruntime (native and web, one thread) on the same
// weights in the same run; MaxSim beside maxsim-cpu and next-plaid. Peers are installed under target/bench and target/peers on first use. Prints tables, writes
// target/bench/engine-peers.json.
//
// WebGPU stands beside onnxruntime-web's on the adapter that Chromium has; a program on the CPU runs the smallest model alone, for the order of things. Left out: threads, reading
// files. `--quick` is noisier and leaves out BERT-base in f32.
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join, normalize } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import { ask, ensureChromium, ensureNodePackages, root, run, say } from "../../xtask/scripts/lib.mjs";

const ORT_WEB = "1.30.0";
const PYTHON = ["numpy", "onnx", "onnxruntime", "safetensors"];
const MODELS = ["default", "minilm", "bert-base"];
const LENGTHS = [16, 32, 128];
const folder = join(root, "target", "bench");
const models = join(folder, "models");

/** A child that answers each line with one line of JSON. */
function talk(program, args) {
  const env = { ...process.env, OPENBLAS_NUM_THREADS: "1", RAYON_NUM_THREADS: "1" };
  const child = spawn(program, args, { cwd: root, env, stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`${program} ${args.join(" ")} ended`);
    return JSON.parse(value);
  };
  return {
    next,
    ask: (...words) => (child.stdin.write(`${words.join(" ")}\n`), next()),
    end: () => child.stdin.end(),
  };
}

function prepare() {
  ensureNodePackages();
  mkdirSync(folder, { recursive: true });
  run("cargo", ["build", "--quiet", "--release", "-p", "shirube-bench"]);
  const bench = join(root, "target", "release", "shirube-bench");
  const python = join(folder, "venv", "bin", "python");
  if (!existsSync(join(folder, "venv", "ready"))) {
    say(`installing the peers (pip: ${PYTHON.join(" ")}, maxsim-cpu)`);
    run("python3", ["-m", "venv", join(folder, "venv")]);
    run(python, ["-m", "pip", "install", "-q", "--disable-pip-version-check", ...PYTHON]);
    // Not everywhere: the report then says so.
    if (ask(python, ["-m", "pip", "install", "-q", "--disable-pip-version-check", "maxsim-cpu"]) === undefined) say("maxsim-cpu does not install here");
    writeFileSync(join(folder, "venv", "ready"), "");
  }
  const ort = join(folder, "node_modules", "onnxruntime-web");
  if (!existsSync(join(ort, "package.json"))) {
    say(`installing onnxruntime-web ${ORT_WEB}`);
    writeFileSync(join(folder, "package.json"), "{}");
    run("npm", ["install", "--no-fund", "--no-audit", "--loglevel=error", "--prefix", folder, `onnxruntime-web@${ORT_WEB}`]);
  }
  if (!existsSync(join(models, "ready"))) {
    say("writing the models of the bench");
    run(bench, ["engine-models", "--out", models]);
    for (const name of MODELS) run(python, [join(root, "crates/bench/engine/peers.py"), "write", join(models, name)]);
    writeFileSync(join(models, "ready"), "");
  }
  const wasm = (...options) => run("cargo", ["run", "--quiet", "-p", "shirube-xtask", "--", "wasm", ...options]);
  wasm("--relaxed", "--bench", "--out", "target/bench/wasm");
  wasm("--gpu", "--out", "target/bench/gpu");
  const plaid = join(root, "target", "peers", "next-plaid", "target");
  if (!existsSync(join(plaid, "release", "peer-next-plaid"))) say("building next-plaid");
  const manifest = join(root, "crates", "bench", "peers", "next-plaid", "Cargo.toml");
  const built = ask("cargo", ["build", "--quiet", "--release", "--manifest-path", manifest, "--target-dir", plaid]);
  // It wants OpenBLAS, which is not everywhere.
  if (built === undefined) say("next-plaid does not build here (Debian: libopenblas-dev)");
  return { bench, python, ort: join(ort, "dist"), nextPlaid: built === undefined ? undefined : join(plaid, "release", "peer-next-plaid") };
}

function cosine(a, b, dim) {
  let sum = 0;
  for (let row = 0; row < a.length; row += dim) {
    let [dot, aa, bb] = [0, 0, 0];
    for (let i = row; i < row + dim; i++) [dot, aa, bb] = [dot + a[i] * b[i], aa + a[i] * a[i], bb + b[i] * b[i]];
    sum += dot / Math.sqrt(aa * bb);
  }
  return sum / (a.length / dim);
}

const digits = (x) => (x === undefined ? "-" : x.toPrecision(3));
function table(head, rows) {
  const all = [head, ...rows.map((row) => row.map(String))];
  const widths = head.map((_, i) => Math.max(...all.map((row) => row[i].length)));
  for (const row of all) console.log(row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  ").trimEnd());
  console.log("");
}

/**
 * One line of a model's table. Outside products are norms, softmax, activations, quantising, copies: all but the products with weights and attention's own, each
 * of which was timed alone in the same turns.
 */
function line(what, cell, macs, peak, reference, dim) {
  return [
    what,
    digits(cell.least),
    digits(cell.median),
    digits(macs / cell.least / 1e6),
    cell.products === undefined ? "-" : `${Math.round((1 - (cell.products + cell.attention) / cell.least) * 100)} %`,
    cell.products === undefined ? "-" : `${Math.round((cell.attention / cell.least) * 100)} %`,
    peak === undefined || cell.products === undefined ? "-" : `${Math.round((macs / (cell.products / 1000) * peak) * 100)} %`,
    reference === undefined ? "-" : cosine(cell.embeddings, reference, dim).toFixed(4),
  ];
}
const HEAD = ["", "ms", "median", "GMAC/s", "outside products", "attention's products", "of peak", "cosine to ort f32"];

async function native({ bench, python, nextPlaid }, quick, record) {
  const ours = talk(bench, ["engine-server", "--out", models]);
  const theirs = talk(python, [join(root, "crates/bench/engine/peers.py"), "serve", models]);
  const { backends } = await ours.next();
  const { onnxruntime } = await theirs.next();
  const best = backends.at(-1);
  const vectors = backends.slice(2);
  const peaks = {};
  for (const name of vectors) peaks[name] = (await ours.ask("peak", name, 1)).least;
  say(`native, one thread, onnxruntime ${onnxruntime}; peaks of the integer multiply-add in GMAC/s: ${vectors.map((v) => `${v} ${digits(1e-9 / peaks[v])}`).join(", ")}`);
  record.native = { onnxruntime, peaks, encode: {}, maxsim: {} };
  const seconds = quick ? 0.1 : 0.3;
  for (const name of MODELS) {
    const racers = [
      ...vectors.map((backend) => ({ what: `${backend} int8`, backend, words: ["encode", backend, name, "int8"] })),
      { what: `${best} int4`, backend: best, words: ["encode", best, name, "int4"] },
      { what: "onnxruntime int8", words: [name, "int8"] },
      { what: "onnxruntime f32", words: [name, "f32"] },
    ];
    const found = Object.fromEntries(LENGTHS.map((n) => [n, {}]));
    // Turns, so that a slow spell hits several racers. A racer's model is loaded once a turn, outside the clock: that takes longer than the runs.
    for (let turn = 0; turn < 2; turn++) {
      for (const { what, backend, words } of racers) {
        for (const n of LENGTHS) {
          const cells = found[n];
          const a = await (backend ? ours : theirs).ask(...words, n, seconds);
          const old = cells[what];
          const ms = (key) => a[key] && Math.min(a[key] * 1000, old?.[key] ?? Infinity);
          cells[what] = { least: ms("least"), median: ms("median"), products: ms("products"), attention: ms("attention"), macs: a.macs ?? old?.macs, embeddings: a.embeddings };
        }
      }
    }
    for (const n of LENGTHS) {
      const cells = found[n];
      const macs = cells[`${best} int8`].macs;
      const reference = cells["onnxruntime f32"].embeddings;
      const dim = reference.length / n;
      console.log(`${name}, ${n} tokens, native`);
      table(HEAD, racers.map(({ what, backend }) => line(what, cells[what], macs, peaks[backend], reference, dim)));
      for (const cell of Object.values(cells)) delete cell.embeddings;
      record.native.encode[`${name} ${n}`] = cells;
    }
  }
  const plaidSide = nextPlaid && talk(nextPlaid, ["maxsim"]);
  const rows = [];
  for (const [documents, repeat, dim] of [[1000, 1, 64], [1000, 1, 128], [10_000, 1, 64], ...(quick ? [] : [[10_000, 10, 64]])]) {
    const compressed = await ours.ask("maxsim", best, "compressed", documents, repeat, dim, seconds);
    const plain = await ours.ask("maxsim", best, "plain", documents, repeat, dim, seconds);
    // Documents of 100 tokens each there, of about 100 here.
    const perToken = ({ least }) => least / documents / 100;
    const cpu = await theirs.ask("maxsim", documents, 100, dim, seconds);
    const plaid = plaidSide ? await plaidSide.ask(documents, 100, dim, seconds) : { missing: true };
    const peers = [cpu, plaid].map((peer) => (peer.missing ? undefined : perToken(peer)));
    rows.push([`${documents * repeat} documents, ${dim} values`, ...[compressed.least, plain.least, ...peers].map((t) => digits(t && 1e-6 / t)), digits(plain.least / compressed.least), ...peers.map((t) => digits(t && t / compressed.least))]);
    record.native.maxsim[`${documents * repeat} ${dim}`] = { compressed, plain, "maxsim-cpu": cpu, "next-plaid": plaid };
  }
  console.log(`MaxSim, 32 query tokens, ${best}, Mtoken/s (100,000 documents are 10,000 scored ten times)`);
  table(["", "4-bit codes", "f32 loop", "maxsim-cpu f32", "next-plaid f32", "codes / loop", "codes / maxsim-cpu", "codes / next-plaid"], rows);
  for (const side of [ours, theirs, plaidSide]) side?.end();
}

/** A clock of milliseconds that the main thread of a page has run, where the system tells it (Linux). It advances in steps of some milliseconds. */
export async function processorClock(chrome, page) {
  const client = await chrome.newBrowserCDPSession();
  const { processInfo } = await client.send("SystemInfo.getProcessInfo");
  const read = (id) => Number(readFileSync(`/proc/${id}/task/${id}/schedstat`, "utf8").split(" ")[0]) / 1e6;
  const renderers = processInfo.filter(({ type, id }) => type === "renderer" && existsSync(`/proc/${id}/task/${id}/schedstat`)).map(({ id }) => id);
  // The page's renderer is the one that gets busy when the page is.
  const before = renderers.map(read);
  await page.evaluate(() => {
    const end = performance.now() + 150;
    while (performance.now() < end);
  });
  const spent = renderers.map((id, i) => read(id) - before[i]);
  const most = Math.max(...spent);
  if (!(most > 10)) return undefined;
  const id = renderers[spent.indexOf(most)];
  return () => read(id);
}

/** Our files and onnxruntime-web's, with the headers of a page that has a fine clock. */
async function serveBench(ort) {
  const mounts = { "/wasm/": join(folder, "wasm"), "/gpu/": join(folder, "gpu"), "/models/": models, "/ort/": ort, "/page/": join(root, "crates/bench/engine") };
  const types = { js: "text/javascript", mjs: "text/javascript", wasm: "application/wasm", json: "application/json", html: "text/html" };
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url, "http://x").pathname);
    const headers = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp", "content-type": types[path.split(".").at(-1)] ?? "application/octet-stream" };
    if (path === "/") return response.writeHead(200, { ...headers, "content-type": "text/html" }).end('<!doctype html><link rel="icon" href="data:,"><script type="module" src="/page/page.mjs"></script>');
    const mount = Object.keys(mounts).find((prefix) => path.startsWith(prefix));
    const file = mount && join(mounts[mount], path.slice(mount.length));
    if (!file || !existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, headers).end(readFileSync(file));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

const FLAGS = ["--no-sandbox", "--disable-background-networking"];
const GPU_FLAGS = ["--enable-unsafe-webgpu", "--enable-features=Vulkan"];

/** Encoders on WebGPU, on the machine's adapter or, for the order of things, on Chromium's own program for the CPU. */
async function gpu({ ort }, quick, record) {
  const server = await serveBench(ort);
  let chrome;
  try {
    let adapter;
    let page;
    for (const more of [[], ["--use-webgpu-adapter=swiftshader"]]) {
      await chrome?.close();
      chrome = await chromium.launch({ executablePath: ensureChromium(), args: [...FLAGS, ...GPU_FLAGS, ...more] });
      page = await chrome.newPage();
      page.setDefaultTimeout(0);
      await page.goto(`http://127.0.0.1:${server.address().port}/`);
      await page.waitForFunction(() => window.startGpu);
      adapter = await page.evaluate(() => window.startGpu());
      if (adapter) break;
    }
    if (!adapter) return say("WebGPU: Chromium has no adapter here; left out");
    record.webgpu = { adapter, encode: {} };
    say(`WebGPU on ${adapter.name || "an adapter without a name"}, extensions ${adapter.extensions.join(", ") || "none"}${adapter.software ? ": a program on the CPU, so these times give an order of things and no speed" : ""}`);
    const rows = [];
    for (const name of adapter.software ? MODELS.slice(0, 1) : MODELS) {
      for (const n of adapter.software && quick ? [32] : LENGTHS) {
        const { cells, cosine: same } = await page.evaluate((a) => window.encodeGpu(...a), [name, n, adapter.software ? 0.1 : 0.5]);
        record.webgpu.encode[`${name} ${n}`] = cells;
        rows.push([`${name}, ${n} tokens`, ...cells.map(({ least }) => digits(least)), digits(cells[1].least / cells[0].least), same.toFixed(4)]);
      }
    }
    table(["ms", "int8", "ort-web f32", "ort-web / int8", "cosine"], rows);
  } finally {
    await chrome?.close();
    server.close();
  }
}

async function browser({ ort }, quick, record) {
  const server = await serveBench(ort);
  const chrome = await chromium.launch({ executablePath: ensureChromium(), args: FLAGS });
  try {
    record.browser = { chromium: chrome.version(), ortWeb: ORT_WEB, encode: {}, products: {}, maxsim: {} };
    const open = async () => {
      const page = await chrome.newPage();
      page.setDefaultTimeout(0);
      await page.goto(`http://127.0.0.1:${server.address().port}/`);
      await page.waitForFunction(() => window.start);
      return { page, backends: (await page.evaluate(() => window.start())).slice(2) };
    };
    const seconds = quick ? 0.15 : 0.5;
    let { page, backends } = await open();
    const peaks = await page.evaluate(([b, s]) => window.peaks(b, s), [backends, quick ? 0.15 : 2]);
    const peak = Object.fromEntries(backends.map((name, i) => [name, peaks[i]]));
    record.browser.peaks = peak;
    say(`Chromium ${chrome.version()}, one thread, onnxruntime-web ${ORT_WEB}; peaks of the integer multiply-add in GMAC/s: ${backends.map((b) => `${b} ${digits(1e-9 / peak[b])}`).join(", ")}`);
    const rows = [];
    for (const [m, k] of [[32, 384], [128, 384], [32, 768], [128, 768]]) {
      const cells = await page.evaluate((a) => window.products(...a), [backends, m, k, seconds]);
      record.browser.products[`${m} ${k}`] = cells;
      for (const { backend, dtype, least } of cells) {
        const rate = (m * k * k) / (least / 1000);
        rows.push([`${m} x ${k} x ${k}, ${backend}, ${dtype}`, digits(rate / 1e9), `${Math.round(rate * peak[backend] * 100)} %`]);
      }
    }
    table(["product", "GMAC/s", "of peak"], rows);
    const ratios = {};
    for (const name of MODELS) {
      // A page of its own: wasm memory never shrinks.
      ({ page } = await open());
      const ours = [...backends.map((backend) => ({ backend, dtype: "int8" })), { backend: backends.at(-1), dtype: "int4" }];
      const others = quick && name === "bert-base" ? ["int8"] : ["int8", "f32"];
      const { names, memoryBytes } = await page.evaluate((a) => window.load(...a), [name, ours, others]);
      const processor = await processorClock(chrome, page);
      for (const n of LENGTHS) {
        const { macs, cells: found } = await page.evaluate((a) => window.encode(...a), [n, seconds]);
        // Long runs are never left alone on a busy machine: processor time of the page's thread instead, in turns.
        for (let turn = 0; processor && turn < 3; turn++) {
          for (const [at, cell] of found.entries()) {
            const calls = Math.ceil(60 / cell.least);
            const start = processor();
            await page.evaluate((a) => window.repeat(...a), [at, n, calls]);
            cell.least = Math.min(cell.least, (processor() - start) / calls);
          }
        }
        const cells = found.filter((c) => !/ (products|attention)$/.test(c.name));
        for (const cell of cells) for (const part of ["products", "attention"]) cell[part] = found.find((c) => c.name === `${cell.name} ${part}`)?.least;
        const reference = (cells.find((c) => c.name === "ort-web f32") ?? cells.find((c) => c.name === "ort-web int8")).embeddings;
        console.log(`${name}, ${n} tokens, Chromium`);
        table(HEAD, cells.map((cell) => line(cell.name, cell, macs, peak[cell.name.split(" ")[0]], reference, reference.length / n)));
        for (const cell of cells) delete cell.embeddings;
        record.browser.encode[`${name} ${n}`] = cells;
        if (n === 32) ratios[name] = cells;
      }
      record.browser.encode[`${name} memory`] = memoryBytes;
      await page.close();
    }
    const maxsimRows = [];
    for (const [documents, repeat, dim] of [[1000, 1, 64], [1000, 1, 128], [10_000, 1, 64], ...(quick ? [] : [[10_000, 10, 64]])]) {
      ({ page } = await open());
      const { worst, cells } = await page.evaluate((a) => window.maxsim(...a), [backends, documents, repeat, dim, seconds]);
      if (worst > 32 * 0.004) throw new Error(`MaxSim of codes and of what they decode to differ by ${worst}`);
      for (const { backend, tokens, compressed, plain } of cells) {
        const rate = (t) => tokens / t.least / 1e3;
        maxsimRows.push([`${documents * repeat} documents, ${dim} values, ${backend}`, digits(rate(compressed)), digits(rate(plain)), digits(plain.least / compressed.least)]);
      }
      record.browser.maxsim[`${documents * repeat} ${dim}`] = cells;
      await page.close();
    }
    console.log("MaxSim, 32 query tokens, Chromium, Mtoken/s (100,000 documents are 10,000 scored ten times)");
    table(["", "4-bit codes", "f32 SIMD", "codes / f32"], maxsimRows);
  } finally {
    await chrome.close();
    server.close();
  }
}

/** All parts, or `only` one of `browser`, `webgpu` and `native`; the ratios that close the bench need all. */
export async function enginePeers({ quick, only }) {
  const parts = { browser, webgpu: gpu, native };
  if (only !== undefined && !Object.hasOwn(parts, only)) throw new Error(`--only takes one of ${Object.keys(parts).join(", ")}`);
  const tools = prepare();
  const record = { commit: ask("git", ["rev-parse", "--short=12", "HEAD"]), cpu: cpus()[0]?.model, quick };
  for (const [name, part] of Object.entries(parts)) if (only === undefined || only === name) await part(tools, quick, record);
  if (only !== undefined) return;
  writeFileSync(join(folder, "engine-peers.json"), `${JSON.stringify(record, null, 1)}\n`);
  const web = record.browser;
  const least = (cells, name) => cells.find((c) => c.name === name).least;
  const chosen = Object.keys(web.peaks).at(-1);
  const print = (name, value) => console.log(`ratio ${name} ${value.toFixed(3)}`);
  for (const name of MODELS) {
    const cells = web.encode[`${name} 32`];
    for (const backend of Object.keys(web.peaks)) print(`encode-wasm-${backend}-vs-ort-web-int8-${name}`, least(cells, "ort-web int8") / least(cells, `${backend} int8`));
    const own = Object.keys(record.native.peaks).at(-1);
    const there = record.native.encode[`${name} 32`];
    print(`encode-native-vs-ort-int8-${name}`, there["onnxruntime int8"].least / there[`${own} int8`].least);
  }
  // The lines that stand for the bench: MiniLM's shape at 32 tokens, 10,000 documents.
  const cells = web.encode["minilm 32"];
  print("encode-wasm-vs-ort-web-int8", least(cells, "ort-web int8") / least(cells, `${chosen} int8`));
  const there = record.native.encode["minilm 32"];
  print("encode-native-vs-ort-int8", there["onnxruntime int8"].least / there[`${Object.keys(record.native.peaks).at(-1)} int8`].least);
  const maxsim = web.maxsim["10000 64"].find((c) => c.backend === chosen);
  print("maxsim-wasm-vs-f32", maxsim.plain.least / maxsim.compressed.least);
}
