// The package as users get it: packed once, installed into copies of the fixtures under target/npm, opened in Chromium.
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { assert, root, site, visit } from "../browser/harness.mjs";

const lab = join(root, "target", "npm");
const packed = join(lab, "packed");

function npm(folder, ...args) {
  const { status, stdout, stderr } = spawnSync("npm", [...args, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: folder, encoding: "utf8" });
  assert.equal(status, 0, `npm ${args.join(" ")}\n${stdout}\n${stderr}`);
  return stdout;
}

/** Runs a program; what it printed. */
export function run(folder, program, ...args) {
  // Vite's dev server, run by a test before, leaves NODE_ENV behind; a production build must not inherit it.
  const { NODE_ENV: _, ...inherited } = process.env;
  const env = { ...inherited, NEXT_TELEMETRY_DISABLED: "1", ASTRO_TELEMETRY_DISABLED: "1", CI: "1" };
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd: folder, encoding: "utf8", env });
  assert.equal(status, 0, `${program} ${args.join(" ")}\n${error ?? ""}\n${stdout}\n${stderr}`);
  return stdout + stderr;
}

/** Runs a command-line tool that a fixture installed; what it printed. */
export const tool = (folder, script, ...args) => run(folder, join(folder, "node_modules", ".bin", script), ...args);

/** Opens the modal by the page's first button and expects a hit at `address`; generators write it encoded, some with voicing marks apart. */
export async function findsByButton(page, query, address) {
  await page.locator("shirube-trigger").first().click();
  const modal = page.locator("shirube-modal").first();
  // A modal that is opened again still shows the query before.
  const before = await modal.evaluateHandle((modal) => modal.search?.shown);
  await modal.locator("#query").fill(query);
  await page.waitForFunction(
    (before) => {
      const { search } = document.querySelector("shirube-modal");
      return search.state === "done" && search.shown !== before;
    },
    before,
    { timeout: 60_000 },
  );
  const found = await modal.evaluate((modal) => modal.search.shown.hits.map((hit) => hit.section.url));
  assert.ok(found.some((url) => decodeURI(url).normalize("NFC") === address), `${query}: ${found.join(", ")}`);
  await modal.evaluate((modal) => modal.close());
}

let tarball;

/** The path of the packed package. */
export function pack() {
  if (!tarball) {
    rmSync(packed, { recursive: true, force: true });
    mkdirSync(packed, { recursive: true });
    npm(join(root, "pkg"), "pack", "--pack-destination", packed);
    tarball = join(packed, readdirSync(packed)[0]);
  }
  return tarball;
}

/** A fresh copy of a fixture with the package installed, and what its own package.json asks for. */
export function project(name, { offline = true } = {}) {
  const folder = join(lab, name);
  // Other installed packages stay from run to run.
  rmSync(join(folder, "node_modules", "shirube"), { recursive: true, force: true });
  rmSync(join(folder, "node_modules", ".vite"), { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const old of readdirSync(folder)) if (old !== "node_modules") rmSync(join(folder, old), { recursive: true, force: true });
  cpSync(join(root, "tests", "npm", "fixtures", name), folder, { recursive: true });
  npm(folder, "install", "--no-save", "--no-package-lock", ...(offline ? ["--offline"] : []), pack());
  return folder;
}

export const bundle = join(site, "bundle");

/** Serves `folder` with the demo's bundle, and expects the fixture's page to find sections by script and by the element. */
export async function works(folder, options = {}) {
  await visit({ folder, roots: { "/bundle/": bundle }, ...options }, async (page, { url }) => answers(page, options.url ?? url));
}

/** Expects the page at `url` to find sections by script, in a worker, and by the element. */
export async function answers(page, url) {
  await page.goto(url);
  await page.waitForFunction(() => globalThis.answer, undefined, { timeout: 60_000 });
  assert.equal(await page.evaluate(() => globalThis.answer), "5 worker");
  await page.locator("#query").fill("所有権");
  await page.waitForFunction(() => document.querySelector("shirube-search").state === "done", undefined, { timeout: 60_000 });
  assert.ok((await page.locator("#list a.row").count()) > 0, "the element shows rows");
}

/** A throw-away folder under target/npm. */
export function fresh(name) {
  const folder = join(root, "target", "npm", name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  return folder;
}
