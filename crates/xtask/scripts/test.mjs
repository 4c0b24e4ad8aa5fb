// `npm test`: every test there is, then one line with the sums. `npm test -- --no-browser` and `--no-cargo` leave a half out.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildAll, buildWasm } from "./build.mjs";
import { ensureDictionary } from "./dictionary.mjs";
import { ensureChromium, ensureNodePackages, ensureRust, root, run, say } from "./lib.mjs";
import { haveMpi, testMpi } from "./test-mpi.mjs";

const only = new Set(process.argv.slice(2));
let passed = 0;
let failed = 0;
const troubles = [];

/** Runs a command with its output shown, and returns that output and the status. */
function watch(program, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text) => {
      output += text;
      process.stdout.write(text);
    });
    child.on("error", reject).on("close", (status) => resolve({ output, status }));
  });
}

async function step(name, action) {
  say(name);
  try {
    await action();
  } catch (error) {
    say(`${name}: ${error.message}`);
    troubles.push(name);
  }
}

/** Mesa's Vulkan driver for the CPU, where no other is there; on Debian as root it is installed. */
function ensureVulkan() {
  const drivers = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"].filter((path) => existsSync(path)).flatMap((path) => readdirSync(path));
  if (drivers.length > 0 || process.env.VK_DRIVER_FILES) return;
  if (!existsSync("/usr/bin/apt-get") || process.getuid?.() !== 0) return say("no Vulkan driver: the GPU tests will skip");
  say("installing a software Vulkan driver (apt-get install mesa-vulkan-drivers libvulkan1)");
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const install = ["-qq", "-o", "Dpkg::Use-Pty=0", "install", "-y", "--no-install-recommends", "mesa-vulkan-drivers", "libvulkan1"];
  if (spawnSync("apt-get", install, { stdio: "ignore", env }).status !== 0) {
    run("apt-get", ["-qq", "update"], { env });
    run("apt-get", install, { env });
  }
}

async function cargoTest(...args) {
  const { output, status } = await watch("cargo", ["test", "--no-fail-fast", ...args]);
  for (const [, ok, bad] of output.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed/gm)) {
    passed += Number(ok);
    failed += Number(bad);
  }
  // A test that does not compile, or a process that dies, has no result line.
  if (status !== 0 && !/^test result: FAILED/m.test(output)) throw new Error(`cargo test ${args.join(" ")} ended with ${status}`);
}

async function browserTest() {
  const folder = join(root, "target", "test-results");
  mkdirSync(folder, { recursive: true });
  const tap = join(folder, "browser.tap");
  const names = readdirSync(join(root, "tests", "browser")).filter((name) => name.endsWith(".test.mjs"));
  const files = [...names.map((name) => join("tests", "browser", name)), ...["package", "node", "documents", "journeys", "vitepress", "mdbook"].map((name) => join("tests", "npm", `${name}.test.mjs`))];
  const { status } = await watch("node", [
    "--test",
    "--test-concurrency=1",
    "--test-reporter=spec",
    "--test-reporter-destination=stdout",
    "--test-reporter=tap",
    `--test-reporter-destination=${tap}`,
    ...files,
  ]);
  const text = readFileSync(tap, "utf8");
  const ok = Number(/^# pass (\d+)$/m.exec(text)?.[1] ?? 0);
  const bad = [...text.matchAll(/^# (?:fail|cancelled) (\d+)$/gm)].reduce((sum, [, n]) => sum + Number(n), 0);
  passed += ok;
  failed += bad;
  if (status !== 0 && bad === 0) throw new Error(`the browser tests ended with ${status}`);
}

const start = Date.now();
await step("looking for Rust and Node packages", async () => {
  ensureRust();
  ensureNodePackages();
});
if (!only.has("--no-cargo")) {
  await step("the dictionary of unidic-lite", ensureDictionary);
  await step("cargo test: all crates", () => cargoTest());
  let mpi = false;
  await step("looking for MPI", () => {
    mpi = haveMpi();
  });
  await step("cargo test: the trainer, the faces of browser and Node, the tools", () =>
    cargoTest("-p", "shirube-train", "-p", "shirube-wasm", "-p", "shirube-node", "-p", "shirube-xtask", "-p", "shirube-bench", ...(mpi ? ["--features", "shirube-train/mpi"] : [])),
  );
  if (mpi) {
    await step("training with two MPI processes", () => {
      testMpi();
      passed += 1;
    });
  }
  await step("cargo test: the shaders on a Vulkan driver", () => {
    ensureVulkan();
    // Mesa's loader complains where this is not set.
    process.env.XDG_RUNTIME_DIR ??= tmpdir();
    return cargoTest("-p", "shirube-gpu", "--features", "native");
  });
}
if (!only.has("--no-browser")) {
  await step("building what the browser tests need", async () => {
    await buildAll();
    // The same engine with its conformance suite, with SIMD, relaxed SIMD and without: they must agree with each other.
    buildWasm("--conformance", "--no-opt", "--out", "target/wasm-test/simd");
    buildWasm("--conformance", "--no-opt", "--relaxed", "--out", "target/wasm-test/relaxed");
    buildWasm("--conformance", "--no-opt", "--no-simd", "--out", "target/wasm-test/plain");
    // All of the default members, because that is what `cargo test` above has compiled.
    run("cargo", ["build", "--quiet"]);
    ensureChromium();
  });
  await step("browser tests", browserTest);
}
failed += troubles.length;
say(`took ${Math.round((Date.now() - start) / 1000)} s${troubles.length > 0 ? `; broken steps: ${troubles.join(", ")}` : ""}`);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 || passed === 0 ? 1 : 0);
