// `npm run bench -- NAME [--quick]`: one frame for all benches; see crates/bench. `train` needs Python beside Rust: see bench-train.mjs.
import { benchTrain } from "./bench-train.mjs";
import { ensureRust, run, say } from "./lib.mjs";

const args = process.argv.slice(2);
try {
  ensureRust();
  if (args[0] === "train") await benchTrain({ quick: args.includes("--quick"), device: args.includes("--device") ? args[args.indexOf("--device") + 1] : "cpu" });
  else {
    run("cargo", ["run", "--quiet", "--release", "-p", "shirube-bench", "--", ...args]);
    if (args.length === 0) console.log("train      one distillation step beside PyLate on PyTorch (installs them)");
  }
} catch (error) {
  say(error.message);
  process.exit(1);
}
