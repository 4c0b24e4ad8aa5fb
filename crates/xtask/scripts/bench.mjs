// `npm run bench -- NAME [--quick]`: one frame for all benches; see crates/bench. `train` needs Python beside Rust: see bench-train.mjs; `search` Node
// packages: see crates/bench/search.
import { benchCheckpointsInBrowser } from "../../bench/checkpoints/browser.mjs";
import { enginePeers } from "../../bench/engine/run.mjs";
import { browserIndex } from "../../bench/index/run.mjs";
import { benchSearch } from "../../bench/search/run.mjs";
import { fugashiParity } from "../../bench/segment/run.mjs";
import { makeCheckpoints } from "./bench-checkpoints.mjs";
import { benchSite } from "./bench-site.mjs";
import { benchTrain } from "./bench-train.mjs";
import { benchVisit } from "./bench-visit.mjs";
import { ensureRust, run, say } from "./lib.mjs";

const args = process.argv.slice(2);
const segment = () => fugashiParity({ quick: args.includes("--quick"), ...(args.includes("--data") ? { data: args[args.indexOf("--data") + 1] } : {}) });
try {
  ensureRust();
  if (args[0] === "train") await benchTrain({ quick: args.includes("--quick"), device: args.includes("--device") ? args[args.indexOf("--device") + 1] : "cpu" });
  else if (args[0] === "segment") await segment();
  else if (args[0] === "browser-index") {
    const value = (name) => (args.includes(name) ? args[args.indexOf(name) + 1] : undefined);
    await browserIndex({ quick: args.includes("--quick"), data: value("--data"), build: value("--build"), made: args.includes("--no-build") });
  }
  // What sites search with today: JavaScript, all of it.
  else if (args[0] === "search") {
    const value = (name) => (args.includes(name) ? args[args.indexOf(name) + 1] : undefined);
    await benchSearch({ quick: args.includes("--quick"), resume: args.includes("--resume"), minutes: Number(value("--minutes") ?? 15), data: value("--data"), binary: value("--binary"), only: value("--only"), build: !args.includes("--no-build") });
  }
  else if (args[0] === "checkpoints-browser") await benchCheckpointsInBrowser({ quick: args.includes("--quick") });
  else if (args[0] === "site") await benchSite({ quick: args.includes("--quick"), only: ["native", "npm"].find((name) => args.includes(`--${name}`)) });
  else if (args[0] === "visit") await benchVisit({ quick: args.includes("--quick"), bundle: args.includes("--bundle") ? args[args.indexOf("--bundle") + 1] : undefined });
  else {
    if (args[0] === "checkpoints") makeCheckpoints({ quick: args.includes("--quick"), data: args.includes("--data") ? args[args.indexOf("--data") + 1] : "../shared/data" });
    run("cargo", ["run", "--quiet", "--release", "-p", "shirube-bench", "--", ...args.filter((a) => a !== "--no-peers")]);
    // The rest of `engine` needs a browser and the peers; `--no-peers` leaves it out.
    if (args[0] === "engine" && !args.includes("--no-peers")) await enginePeers({ quick: args.includes("--quick") });
    if (args[0] === "checkpoints") await segment();
    if (args.length === 0) console.log("segment    words beside fugashi's on a million characters, in Chromium (installs it)");
    if (args.length === 0) console.log("browser-index  a query over 100,000 passages in Chromium, both builds of the wasm (installs it)");
    if (args.length === 0) console.log("search     the npm package beside Pagefind, MiniSearch, lunr, Orama and FlexSearch (installs them)");
    if (args.length === 0) console.log("train      one distillation step beside PyLate on PyTorch (installs them)");
    if (args.length === 0) console.log("visit      what a visitor waits for and fetches on a slow line, in Chromium");
    if (args.length === 0) console.log("checkpoints-browser  a converted BERT-base in Chromium: memory, time to load, milliseconds a query");
    if (args.length === 0) console.log("site       shirube build over the documentation corpus, natively and through npm");
  }
} catch (error) {
  say(error.message);
  process.exit(1);
}
