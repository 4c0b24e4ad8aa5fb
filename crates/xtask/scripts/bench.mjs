// `npm run bench -- NAME [--quick] ...`: every bench of the project. Those of crates/bench run natively; the others are loaded when they are named, because
// they need a browser, Python or Node packages, which each installs.
import { ensureNodePackages, ensureRust, run, say } from "./lib.mjs";

const args = process.argv.slice(2);
const flag = (name) => args.includes(`--${name}`);
const value = (name) => (flag(name) ? args[args.indexOf(`--${name}`) + 1] : undefined);
const quick = flag("quick");

/** A bench of crates/bench. */
const native = () => run("cargo", ["run", "--quiet", "--release", "-p", "shirube-bench", "--", ...args.filter((arg) => arg !== "--no-peers")]);
const segment = async () => (await import("../../bench/segment/run.mjs")).fugashiParity({ quick, ...(value("data") ? { data: value("data") } : {}) });

/** What is run here, beside or after the native part: a line for the list, and the bench. */
const BENCHES = {
  ablation: ["small models that differ in one thing, trained on the same tokens (hours)", async () =>
    (await import("./bench-ablation.mjs")).benchAblation({ quick, resume: flag("resume"), only: value("only")?.split(","), binary: value("binary"), data: value("data") })],
  "browser-index": ["a query over 100,000 passages in Chromium, both builds of the wasm (installs it)", async () =>
    (await import("../../bench/index/run.mjs")).browserIndex({ quick, data: value("data"), build: value("build"), made: flag("no-build") })],
  checkpoints: [undefined, async () =>
    (await import("./bench-checkpoints.mjs")).benchCheckpoints({ quick, ...(value("data") ? { data: value("data") } : {}) })],
  "checkpoints-browser": ["a converted BERT-base in Chromium: memory, time to load, milliseconds a query", async () =>
    (await import("../../bench/checkpoints/browser.mjs")).benchCheckpointsInBrowser({ quick })],
  // The second part needs a browser and the peers; `--no-peers` leaves it out, `--only browser`, `webgpu` or `native` runs one piece of it alone.
  engine: [undefined, async () => {
    if (!flag("only")) native();
    if (!flag("no-peers")) await (await import("../../bench/engine/run.mjs")).enginePeers({ quick, only: value("only") });
  }],
  "first-query": ["from loading to the first answer, cold and warm, on the CPU and on WebGPU, in Chromium", async () =>
    (await import("./bench-first-query.mjs")).benchFirstQuery({ quick })],
  search: ["the npm package beside Pagefind, MiniSearch, lunr, Orama and FlexSearch (installs them)", async () =>
    (await import("../../bench/search/run.mjs")).benchSearch({ quick, resume: flag("resume"), minutes: Number(value("minutes") ?? 15), data: value("data"), binary: value("binary"), only: value("only"), build: !flag("no-build") })],
  segment: ["words beside fugashi's on a million characters, in Chromium (installs it)", segment],
  site: ["shirube build over the documentation corpus, natively and through npm", async () =>
    (await import("./bench-site.mjs")).benchSite({ quick, only: ["native", "npm"].find(flag) })],
  train: ["one distillation step beside PyLate on PyTorch (installs them)", async () =>
    (await import("./bench-train.mjs")).benchTrain({ quick, device: value("device") ?? "cpu" })],
  visit: ["what a visitor waits for and fetches on a slow line, in Chromium", async () =>
    (await import("./bench-visit.mjs")).benchVisit({ quick, bundle: value("bundle") })],
};

try {
  ensureRust();
  const bench = Object.hasOwn(BENCHES, args[0] ?? "") ? BENCHES[args[0]] : undefined;
  if (bench) {
    ensureNodePackages();
    await bench[1]();
  } else {
    native();
    if (args.length === 0) for (const [name, [line]] of Object.entries(BENCHES)) if (line) console.log(`${name.padEnd(19)} ${line}`);
  }
} catch (error) {
  say(error.message);
  process.exit(1);
}
