// The folders that `npm run bench -- checkpoints` converts, made once under target/bench/checkpoints, piece by piece: a tokenizer as bert-base-japanese-v3 has
// one, a small BERT that our own trainer trains on it and exports for colbert-ai and PyLate, random networks beside them, and what PyLate and the original
// procedure compute with all of them. What is there is kept, and a training that broke off goes on.
// A throw-away Python environment is made in target/bench; BENCH_PYTHON names an interpreter that has torch, pylate, fugashi,
// unidic-lite and zstandard already.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fugashiParity } from "../../bench/segment/run.mjs";
import { ensurePython } from "./bench-train.mjs";
import { PACKAGE, dicdirOf, ensureDictionary } from "./dictionary.mjs";
import { root, run, say } from "./lib.mjs";

const out = join(root, "target", "bench", "checkpoints");
const scripts = join("crates", "bench", "checkpoints");
const release = (binary) => join(root, "target", "release", binary);

async function makeCheckpoints({ quick, data }) {
  mkdirSync(out, { recursive: true });
  const python = ensurePython(join(root, "target", "bench"), ["fugashi==1.5.2", PACKAGE]);
  process.env.UNIDIC_LITE ??= dicdirOf(python);
  if (!(await ensureDictionary())) throw new Error("the dictionary could not be made");
  const train = (...args) => run(release("shirube-train"), args);
  const layouts = ["colbert-ai", "pylate"].map((layout) => [layout, join(out, `trained-${layout}`)]);
  if (!layouts.every(([, model]) => existsSync(model))) {
    say(`training a small BERT in ${out} (ten minutes on two cores; made once)`);
    run("cargo", ["build", "--quiet", "--release", "-p", "shirube-train"]);
    const files = join(out, "tokenizer-files");
    if (!existsSync(join(files, "tokenizer_config.json"))) run(python, [join(scripts, "tokenizer.py"), data, files]);
    const tokenizer = join(out, "tokenizer");
    if (!existsSync(join(tokenizer, "tokenizer.bin"))) train("tokenizer-import", files, "--dictionary", join("target", "dictionary"), "--out", tokenizer);
    const recipe = join(out, "trained.toml");
    const text = readFileSync(join(root, scripts, "trained.toml"), "utf8").replace(/^data = .*$/m, `data = ${JSON.stringify(data)}`);
    writeFileSync(recipe, text);
    train("run", recipe, "--out", join(out, "run"), "--workers", "2");
    for (const [layout, model] of layouts) {
      rmSync(model, { recursive: true, force: true });
      train("export", recipe, "--out", join(out, "run"), "--layout", layout, "--model", model);
    }
  }
  run(python, [join(scripts, "make.py"), data, out, ...(quick ? ["--quick"] : [])]);
}

/** `shirube convert` of the BERT-base as a user runs it: seconds by the clock, and the most memory it had. */
async function timeConversion() {
  run("cargo", ["build", "--quiet", "--release", "-p", "shirube-cli"]);
  for (const dtype of ["int8", "int4"]) {
    const to = join(out, `converted-${dtype}`);
    const start = performance.now();
    const child = spawn(release("shirube"), ["convert", join(out, "colbert-ai-base"), to, "--dtype", dtype, "--dictionary", join(out, "tokenizer"), "--quiet"], { stdio: ["ignore", "ignore", "inherit"] });
    let peak = 0;
    const watch = setInterval(() => {
      // Linux only; elsewhere the memory is not known.
      try {
        peak = Math.max(peak, Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1] ?? 0));
      } catch {}
    }, 20);
    const code = await new Promise((resolve) => child.on("close", resolve));
    clearInterval(watch);
    if (code !== 0) throw new Error(`shirube convert ended with ${code}`);
    console.log(`conversion of a BERT-base to ${dtype}: ${((performance.now() - start) / 1000).toFixed(1)} s, ${peak ? `${(peak / 1024).toFixed(0)} MiB at most` : "memory not known"}`);
    rmSync(to, { recursive: true, force: true });
  }
}

export async function benchCheckpoints({ quick, data = "../shared/data" }) {
  await makeCheckpoints({ quick, data });
  run("cargo", ["run", "--quiet", "--release", "-p", "shirube-bench", "--", "checkpoints", "--data", data, ...(quick ? ["--quick"] : [])]);
  await timeConversion();
  await fugashiParity({ quick, data });
  // The closing lines stand together: words above, embeddings again.
  const { ratios } = JSON.parse(readFileSync(join(root, "target", "bench", "checkpoints.json"), "utf8"));
  for (const { name, value } of ratios.filter(({ name }) => name.startsWith("cosine-"))) console.log(`ratio ${name} ${value.toFixed(5)}`);
}
