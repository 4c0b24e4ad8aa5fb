// `npm run test:neon`: the kernels of aarch64 against the oracle, on a machine of another kind: compiled for it and run under qemu-user. On aarch64 itself
// `npm test` runs them. Needs the target's standard library, a linker and qemu; as root on Debian they are installed.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ask, root, run, say } from "./lib.mjs";

const TARGET = "aarch64-unknown-linux-gnu";
const PACKAGES = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user"];

const here = () => ask("aarch64-linux-gnu-gcc", ["--version"]) && ask("qemu-aarch64", ["--version"]);
if (!here() && process.getuid?.() === 0 && existsSync("/usr/bin/apt-get")) {
  say(`installing ${PACKAGES.join(", ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const install = ["-qq", "install", "-y", "--no-install-recommends", ...PACKAGES];
  if (spawnSync("apt-get", install, { stdio: "ignore", env }).status !== 0) {
    run("apt-get", ["-qq", "update"], { env });
    run("apt-get", install, { env });
  }
}
if (!here()) throw new Error(`a cross compiler and qemu-user are needed (Debian: ${PACKAGES.join(", ")})`);
run("rustup", ["target", "add", TARGET]);
const name = TARGET.toUpperCase().replaceAll("-", "_");
const env = {
  ...process.env,
  [`CARGO_TARGET_${name}_LINKER`]: "aarch64-linux-gnu-gcc",
  // Every extension, so that both backends run.
  [`CARGO_TARGET_${name}_RUNNER`]: "qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu",
};
run("cargo", ["test", "-p", "shirube-kernels", "--target", TARGET, "--target-dir", join(root, "target", "neon"), "--lib"], { env });
