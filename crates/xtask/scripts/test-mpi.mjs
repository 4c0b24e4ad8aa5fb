// Two MPI processes of one worker against one process of two: the smoke recipe must give the same losses and the same weights.
// Needs an MPI with headers and libclang; on Debian as root they are installed where absent. Without them this is skipped with a line that says
// why, or fails where REQUIRE_MPI=1.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ask, root, run, say } from "./lib.mjs";

const PACKAGES = ["libopenmpi-dev", "openmpi-bin", "libclang-dev"];

/** Why MPI cannot be used here, or undefined. */
function missing() {
  if (process.platform !== "linux") return "MPI is tested on Linux only";
  for (const [program, what] of [["mpirun", "an MPI launcher"], ["mpicc", "an MPI with headers"]]) {
    if (!ask(program, ["--version"])) return `${what} (${program}) was not found`;
  }
  const libraries = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].filter(existsSync);
  const found = process.env.LIBCLANG_PATH || ask("find", [...libraries, "-maxdepth", "4", "-name", "libclang[.-]*so*"]);
  return found ? undefined : "libclang was not found";
}

function install() {
  if (process.getuid?.() !== 0 || !existsSync("/usr/bin/apt-get")) return;
  say(`installing ${PACKAGES.join(", ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const apt = (...args) => spawnSync("apt-get", ["-qq", "-o", "Dpkg::Use-Pty=0", ...args], { stdio: "ignore", env });
  const args = ["install", "-y", "--no-install-recommends", ...PACKAGES];
  if (apt(...args).status !== 0) {
    apt("update");
    apt(...args);
  }
}

/** Whether the trainer can be built with MPI here; installs it where it may. Throws under REQUIRE_MPI=1 where not. */
export function haveMpi() {
  if (missing()) install();
  const reason = missing();
  if (!reason) return true;
  if (process.env.REQUIRE_MPI === "1") throw new Error(`${reason}, and REQUIRE_MPI=1`);
  say(`MPI is not tested: ${reason}; install ${PACKAGES.join(", ")}`);
  return false;
}

function losses(folder) {
  const lines = readFileSync(join(folder, "metrics.jsonl"), "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line)).map(({ step, loss }) => ({ step, loss }));
}

/** The test, with `target/debug/shirube-train` built with feature `mpi`. */
export function testMpi() {
  const folder = join(root, "target", "test-results", "mpi");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const binary = join(root, "target", "debug", "shirube-train");
  const recipe = "native-trainer/recipes/smoke.toml";
  const [one, two] = ["one", "two"].map((name) => join(folder, name));
  const quiet = { stdio: ["ignore", "ignore", "inherit"] };
  run(binary, ["run", recipe, "--out", one, "--workers", "2"], quiet);
  const asRoot = process.getuid?.() === 0 ? ["--allow-run-as-root"] : [];
  const local = ["--mca", "btl", "self,vader"]; // shared memory alone: nothing to ask of a firewall
  run("mpirun", [...asRoot, "--oversubscribe", ...local, "-n", "2", binary, "run", recipe, "--out", two, "--workers", "1"], quiet);

  const steps = readdirSync(one).filter((name) => existsSync(join(one, name, "metrics.jsonl")));
  if (steps.length < 3) throw new Error(`only ${steps.length} steps were trained`);
  for (const step of steps) {
    const [a, b] = [losses(join(one, step)), losses(join(two, step))];
    const near = a.length === b.length && a.every((row, i) => row.step === b[i].step && Math.abs(row.loss - b[i].loss) <= 1e-5 * Math.abs(row.loss));
    if (!near) throw new Error(`${step}: losses ${JSON.stringify(a)} with one process, ${JSON.stringify(b)} with two`);
    const weights = [one, two].map((folder) => readFileSync(join(folder, step, "model.safetensors")));
    if (!weights[0].equals(weights[1])) throw new Error(`${step}: the weights differ`);
  }
}
