// `npm run bench -- train [--quick] [--device cuda]`: one distillation step of ours beside PyLate's, same weights, same batches, f32, one thread
// each, or on a GPU (then larger batches, wall time and the GPU's memory; `--features cuda` must build: native-trainer/scripts/build-cuda.sh).
// Both sides are started once and then take steps in turn, so that whatever else the machine does meets both alike. Speeds are tokens per second
// of processor time. Gradients of the first batch and the first losses are compared before anything is timed.
// A throw-away Python environment is made in target/bench; BENCH_PYTHON names an interpreter that has torch and pylate already.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { root, run, say } from "./lib.mjs";

const PACKAGES = ["pylate==1.6.0", "transformers==5.3.0", "torch==2.11.0"];
const MAX_GRADIENT_DIFFERENCE = 2e-3; // of a parameter's gradient, relative to its length; f32 sums in another order give 1e-5 to 1e-4

/** An interpreter with torch and PyLate, and `more`. */
export function ensurePython(folder, more = []) {
  const packages = [...PACKAGES, ...more];
  if (process.env.BENCH_PYTHON) return process.env.BENCH_PYTHON;
  const venv = join(folder, "venv");
  const stamp = join(venv, "shirube-packages");
  const python = join(venv, "bin", "python");
  if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== packages.join("\n")) {
    say(`installing ${packages.join(", ")} into ${venv} (minutes, some gigabytes; remove the folder afterwards if you like)`);
    run("python3", ["-m", "venv", "--clear", venv]);
    run(python, ["-m", "pip", "install", "--quiet", ...packages]);
    writeFileSync(stamp, packages.join("\n"));
  }
  return python;
}

/** Numbers below `n`, the same on every run. */
function lcg(seed) {
  let state = BigInt(seed);
  return (n) => {
    state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn;
    return Number((state >> 33n) % BigInt(n));
  };
}

/** Lists of `nWay` documents for `nQueries` queries; lengths between `from` and `to`, markers included. */
function batch(seed, vocabulary, { nQueries, nWay, queryLength, from, to }) {
  const draw = lcg(seed);
  const text = (length) => Array.from({ length }, () => 7 + draw(vocabulary - 7));
  return {
    queries: Array.from({ length: nQueries }, () => text(queryLength)),
    documents: Array.from({ length: nQueries * nWay }, () => text(from + draw(to - from + 1))),
    scores: Array.from({ length: nQueries }, () => Array.from({ length: nWay }, () => draw(1000) / 250 - 2)),
  };
}

/** A child that answers each line with one line of JSON. */
function side(program, args, env = {}) {
  const child = spawn(program, args, { cwd: root, stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, OMP_NUM_THREADS: "1", ...env } });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`${program} ended early`);
    return value.startsWith("{") ? JSON.parse(value) : next();
  };
  return { next, step: (name) => (child.stdin.write(`${name}\n`), next()), end: () => child.stdin.end() };
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

export async function benchTrain({ quick, device = "cpu" }) {
  const onGpu = device !== "cpu" && device !== "composed"; // composed: what a GPU runs, on the CPU
  const folder = join(root, "target", "bench", "train");
  mkdirSync(folder, { recursive: true });
  const python = ensurePython(folder);
  run("cargo", ["build", "--quiet", "--release", "-p", "shirube-train", "--example", "distill_step", ...(onGpu ? ["--features", "cuda"] : [])]);

  const { encoder, projection } = JSON.parse(readFileSync(join(root, "pkg", "model", "manifest.json"), "utf8"));
  const shape = { ...encoder, dim: projection.dense.at(-1).out_features };
  const common = onGpu ? { nQueries: 16, nWay: 32, queryLength: 32 } : { nQueries: 2, nWay: 16, queryLength: 32 };
  const batches = {
    equal: batch(1, shape.vocab_size, { ...common, from: 160, to: 160 }),
    mixed: batch(2, shape.vocab_size, { ...common, from: 40, to: 280 }),
  };
  writeFileSync(join(folder, "task.json"), JSON.stringify({ shape, first: "equal", batches }));

  const theirs = side(python, ["native-trainer/scripts/pylate_step.py", folder, onGpu ? "cuda" : "cpu"]);
  const { ready: versions } = await theirs.next();
  const ours = side(join(root, "target", "release", "examples", "distill_step"), [folder, device]);
  const { ready } = await ours.next();
  if (!(ready.gradient_difference < MAX_GRADIENT_DIFFERENCE))
    throw new Error(`the gradients differ by ${ready.gradient_difference} of their length from PyTorch's`);

  const names = Object.keys(batches);
  const times = Object.fromEntries(names.map((name) => [name, { ours: [], theirs: [] }]));
  const rounds = quick ? 3 : 9;
  for (let round = -1; round < rounds; round++) {
    for (const name of names) {
      // Who goes first changes from round to round.
      const order = round % 2 ? [theirs, ours] : [ours, theirs];
      const answers = new Map();
      for (const one of order) answers.set(one, await one.step(name));
      const [a, b] = [answers.get(ours), answers.get(theirs)];
      if (a.tokens !== b.tokens) throw new Error(`${name}: ${a.tokens} tokens against ${b.tokens}`);
      if (round < 0) {
        if (Math.abs(a.loss - b.loss) > 1e-3 * Math.abs(b.loss)) throw new Error(`${name}: loss ${a.loss} against ${b.loss}`);
        continue; // the first step warms caches and allocators
      }
      times[name].ours.push(a);
      times[name].theirs.push(b);
    }
  }
  ours.end();
  theirs.end();

  console.log(`One distillation step, ${common.nQueries} queries x ${common.nWay} documents, ${shape.n_layers} blocks of ${shape.hidden_size}, ${ready.parameters} parameters, f32, ${onGpu ? device : `one thread, ${device}`}`);
  console.log(`PyLate ${versions.pylate}, PyTorch ${versions.torch}; ours with ${ready.instructions}; gradients differ by at most ${ready.gradient_difference.toExponential(1)} of their length`);
  console.log(`${rounds} pairs of steps in turn; tokens per second${onGpu ? "" : " of processor time"}, medians\n`);
  console.log("lengths          tokens      ours   PyLate   ratio (least to most)");
  const ratios = {};
  for (const name of names) {
    const { ours: a, theirs: b } = times[name];
    const time = onGpu ? "wall_s" : "cpu_s";
    const pairs = a.map((x, i) => b[i][time] / x[time]);
    const speed = (steps) => median(steps.map((s) => s.tokens / s[time])).toFixed(0).padStart(8);
    ratios[name] = median(pairs);
    const label = name === "equal" ? "all equal" : "40 to 280";
    console.log(`${label.padEnd(14)} ${String(a[0].tokens).padStart(8)}  ${speed(a)} ${speed(b)}   ${ratios[name].toFixed(2)} (${Math.min(...pairs).toFixed(2)} to ${Math.max(...pairs).toFixed(2)})`);
  }
  if (onGpu) {
    const most = (side) => (Math.max(...names.flatMap((name) => times[name][side].map((s) => s.device_bytes))) / 2 ** 20).toFixed(0);
    console.log(`\nGPU memory: ${most("theirs")} MiB allocated by PyTorch; ${most("ours")} MiB in use on the device, both programs together`);
  }
  const record = join(root, "target", "bench", "train.json");
  writeFileSync(record, JSON.stringify({ shape, versions, ready, times, ratios }, null, 1));
  console.log(`\nrecord: ${record}`);
  console.log(`ratio step-${device}-vs-pytorch-mixed-lengths ${ratios.mixed.toFixed(2)}`);
  console.log(`ratio step-${device}-vs-pytorch ${ratios.equal.toFixed(2)}`);
}
