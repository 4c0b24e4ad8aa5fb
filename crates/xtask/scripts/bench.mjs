// `npm run bench -- NAME [--quick]`: one frame for all benches; see crates/bench.
import { ensureRust, run, say } from "./lib.mjs";

try {
  ensureRust();
  run("cargo", ["run", "--quiet", "--release", "-p", "shirube-bench", "--", ...process.argv.slice(2)]);
} catch (error) {
  say(error.message);
  process.exit(1);
}
