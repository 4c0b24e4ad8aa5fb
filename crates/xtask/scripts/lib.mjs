// Shared by the scripts: running commands, plain lines, and getting what is missing.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");

export function say(line) {
  console.log(`shirube: ${line}`);
}

/** Runs a command with its output shown; throws when it fails. */
export function run(program, args, options = {}) {
  const result = spawnSync(program, args, { cwd: root, stdio: "inherit", ...options });
  if (result.error) throw new Error(`${program} did not start: ${result.error.message}`);
  if (result.status !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${result.status ?? result.signal}`);
  return result;
}

/** Runs a command and returns its output, or undefined when it fails. */
export function ask(program, args) {
  const result = spawnSync(program, args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  return result.status === 0 ? result.stdout.trim() : undefined;
}

/** All files under the given paths, sorted. */
export function filesUnder(...paths) {
  const files = [];
  const walk = (path) => {
    if (!existsSync(path)) return;
    if (statSync(path).isFile()) files.push(path);
    else for (const name of readdirSync(path).sort()) walk(join(path, name));
  };
  paths.forEach((path) => walk(join(root, path)));
  return files;
}

export function digest(files) {
  const hash = createHash("sha256");
  for (const file of files) hash.update(`${file.slice(root.length)}\0${statSync(file).size}\0`).update(readFileSync(file));
  return hash.digest("hex");
}

/** Runs `action` unless the same inputs gave these outputs before. */
export async function once(name, inputs, outputs, action) {
  const stamp = join(root, "target", "stamps", name);
  const now = digest(inputs);
  if (outputs.every((path) => existsSync(join(root, path))) && existsSync(stamp) && readFileSync(stamp, "utf8") === now) {
    say(`${name} is up to date`);
    return;
  }
  await action();
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, now);
}

/** Installs the Node packages of the lockfile where they are absent or of an older lockfile. */
export function ensureNodePackages() {
  const stamp = join(root, "node_modules", ".shirube-lock");
  const now = digest([join(root, "package-lock.json")]);
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === now) return;
  say("installing Node packages (npm ci)");
  run("npm", ["ci", "--no-fund", "--no-audit", "--ignore-scripts", "--loglevel=error"]);
  writeFileSync(stamp, now);
}

export function ensureRust() {
  if (ask("cargo", ["--version"])) return;
  throw new Error("cargo was not found: install Rust stable (https://rustup.rs) and run this again");
}

const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/usr/bin/google-chrome-stable"];

/** The path of a Chromium; on Debian as root it is installed where absent. */
export function ensureChromium() {
  const named = process.env.CHROMIUM;
  if (named) return named;
  const found = CHROMIUM.find((path) => existsSync(path));
  if (found) return found;
  if (existsSync("/usr/bin/apt-get") && process.getuid?.() === 0) {
    say("installing Chromium (apt-get install chromium fonts-noto-cjk)");
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    const install = ["-qq", "-o", "Dpkg::Use-Pty=0", "install", "-y", "--no-install-recommends", "chromium", "fonts-noto-cjk"];
    if (spawnSync("apt-get", install, { stdio: "ignore", env }).status !== 0) {
      run("apt-get", ["-qq", "update"], { env });
      run("apt-get", install, { env });
    }
    const installed = CHROMIUM.find((path) => existsSync(path));
    if (installed) return installed;
  }
  throw new Error("no Chromium was found: install one, or name it in the variable CHROMIUM");
}
