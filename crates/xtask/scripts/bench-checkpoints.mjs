// The checkpoints that `npm run bench -- checkpoints` converts, made once by PyLate under target/bench/checkpoints.
// A throw-away Python environment is made in target/bench; BENCH_PYTHON names an interpreter that has torch and pylate already.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ensurePython } from "./bench-train.mjs";
import { root, run, say } from "./lib.mjs";

export function makeCheckpoints({ quick, data }) {
  const folder = join(root, "target", "bench");
  const out = join(folder, "checkpoints");
  if (existsSync(join(out, "colbert-ai-base", "golden.json"))) return;
  say(`making checkpoints with PyLate in ${out} (minutes, half a gigabyte; made once)`);
  const python = ensurePython(folder);
  run(python, [join("crates", "bench", "checkpoints", "make.py"), data, out, ...(quick ? ["--quick"] : [])]);
}
