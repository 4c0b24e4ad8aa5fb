// `npm run bench -- site`: `shirube build` over the documentation corpus as HTML, natively and through npm, on two threads: from nothing, and again
// after one page changed. The bundles of both must be equal byte for byte. `--quick` takes one project of the eight; `--native` or `--npm` one of the two.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg } from "node:os";
import { join, relative } from "node:path";
import { buildWasm } from "./build.mjs";
import { renderDocs } from "./docs-site.mjs";
import { ask, ensureNodePackages, filesUnder, root, run, say } from "./lib.mjs";

const DATA = "../shared/data/docs/markdown.tar.zst";
const THREADS = "2";

/** Runs a build; its seconds by the clock and of the processor, and what it said. */
function timed(program, args, env) {
  // The shell's times are those of the process and all it started.
  const start = performance.now();
  const { status, stdout, stderr } = spawnSync("bash", ["-c", 'TIMEFORMAT="cpu %U %S"; time "$0" "$@"', program, ...args], { cwd: root, encoding: "utf8", env: { ...process.env, ...env } });
  const seconds = (performance.now() - start) / 1000;
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}\n${stdout}\n${stderr}`);
  const [, user, system] = /cpu ([\d.]+) ([\d.]+)/.exec(stderr);
  return { seconds, cpu: Number(user) + Number(system), said: stdout };
}

export async function benchSite({ quick = false, only } = {}) {
  if (!existsSync(join(root, DATA))) throw new Error(`${DATA} does not exist: this bench needs the documentation corpus (crates/xtask/scripts/docs-site.mjs says which)`);
  ensureNodePackages();
  const folder = join("target", "bench", "site");
  const pages = join(folder, "pages");
  if (!existsSync(join(root, pages))) {
    say("rendering the corpus as HTML");
    renderDocs(join(root, DATA), join(root, pages));
  }
  const source = quick ? join(pages, "vue") : pages;
  const common = ["build", source, "--model", "pkg/model", "--quiet"];
  const ways = {
    native: () => {
      run("cargo", ["build", "--quiet", "--release", "-p", "shirube-cli"]);
      return (out) => timed("target/release/shirube", [...common, "--out", out], { RAYON_NUM_THREADS: THREADS });
    },
    npm: () => {
      buildWasm("--node");
      return (out) => timed(process.execPath, ["pkg/node/cli.mjs", ...common, "--no-assets", "--threads", THREADS, "--out", out]);
    },
  };
  const page = filesUnder(source).find((path) => path.endsWith(".html"));
  const before = readFileSync(page, "utf8");
  const rows = [];
  try {
    for (const [name, prepare] of Object.entries(ways).filter(([name]) => !only || name === only)) {
      const build = prepare();
      const out = join(folder, `${name}-bundle`);
      rmSync(join(root, out), { recursive: true, force: true });
      for (const what of ["from nothing", "one page changed"]) {
        // Text that no other page has: a few passages are new, all others known.
        writeFileSync(page, what === "from nothing" ? before : before.replace("</main>", "<p>この段落は、あとから書き足されました。</p></main>"));
        const load = loadavg()[0];
        const { seconds, cpu, said } = build(out);
        const known = Number(/([\d,]+) passages were known already/.exec(said)?.[1].replaceAll(",", "") ?? 0);
        const passages = Number(/([\d,]+) sections(?: in ([\d,]+) passages)?/.exec(said).slice(1).filter(Boolean).at(-1).replaceAll(",", ""));
        const fine = what === "from nothing" ? known === 0 : passages - known > 0 && passages - known < 100;
        if (!fine) throw new Error(`${name}, ${what}: ${known} of ${passages} passages were known\n${said}`);
        rows.push({ name, what, seconds, cpu, load, passages, known });
        say(`${name.padEnd(6)} ${what.padEnd(17)} ${seconds.toFixed(1).padStart(7)} s, ${cpu.toFixed(1)} s of processor time, ${passages - known} of ${passages} passages encoded, load ${load.toFixed(1)} before`);
        if (what === "from nothing") console.log(said);
      }
    }
  } finally {
    writeFileSync(page, before);
  }
  if (!only) {
    const [native, npm] = ["native", "npm"].map((name) => contents(join(folder, `${name}-bundle`)));
    if (native.size !== npm.size || [...native].some(([path, bytes]) => !npm.get(path)?.equals(bytes))) throw new Error("the two bundles differ");
    say(`the ${native.size} files of the two bundles are equal byte for byte`);
  }
  const record = {
    name: "site",
    quick,
    date: new Date().toISOString(),
    commit: ask("git", ["rev-parse", "--short", "HEAD"]),
    cpu: cpus()[0]?.model,
    cores: availableParallelism(),
    node: process.version,
    threads: Number(THREADS),
    rows,
  };
  const out = join(root, "target", "bench", "site.json");
  mkdirSync(join(root, "target", "bench"), { recursive: true });
  writeFileSync(out, `${JSON.stringify(record, null, 1)}\n`);
  console.log(`\nrecord: ${relative(root, out)}`);
  const seconds = (name, what) => rows.find((row) => row.name === name && row.what === what)?.seconds;
  if (!only) console.log(`ratio npm-against-native ${(seconds("npm", "from nothing") / seconds("native", "from nothing")).toFixed(2)}`);
}

/** Every file under `folder`. */
const contents = (folder) => new Map(filesUnder(folder).map((path) => [relative(join(root, folder), path), readFileSync(path)]));
