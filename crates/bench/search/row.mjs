// One engine over one set, in a process of its own: what an engine leaves in memory burdens no other, and one that does not end can be stopped.
//
//   node row.mjs '{"set": "docs", "engine": "lunr ja", "data": "../shared/data", "most": 300, "folder": "target/bench/search", "binary": "target/release/shirube"}'
//
// Prints the rows as one line of JSON, the last one of its output.
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { root } from "../../xtask/scripts/lib.mjs";
import { peers } from "./peers.mjs";
import { quality, sets } from "./sets.mjs";
import { openShirube } from "./shirube.mjs";

/** Questions whose bytes are counted. */
const MOST_BYTES_ASKED = 100;

const { set: name, engine: wanted, data, most, folder, binary } = JSON.parse(process.argv[2]);
const { source, documents, questions } = sets(resolve(root, data), most ?? Infinity).find((set) => set.name === name);

/** Seconds of processor time of this process and of those it waited for; the clock's where the system does not tell. */
function seconds() {
  try {
    const [user, system, ofChildren, systemOfChildren] = readFileSync("/proc/self/stat", "utf8").replace(/^.*\) /s, "").split(" ").slice(11, 15).map(Number);
    return (user + system + ofChildren + systemOfChildren) / 100;
  } catch {
    return performance.now() / 1000;
  }
}

/** Rankings of every question. */
async function ask(engine) {
  const rankings = [];
  for (const { text } of questions) rankings.push(await engine(text));
  return rankings;
}

/** Bytes of a question, the mean over some. */
async function bytesOf(bytes) {
  const asked = questions.filter((_, i) => i % Math.ceil(questions.length / MOST_BYTES_ASKED) === 0);
  let sum = 0;
  for (const { text } of asked) sum += await bytes(text);
  return sum / asked.length;
}

async function ofPeer() {
  const { name: engine, bm25 = false, build } = (await peers(folder)).find(({ name }) => name === wanted);
  const begin = seconds();
  const built = await build(documents);
  const buildSeconds = seconds() - begin;
  return [{ engine, bm25, ...quality(await ask(built.ask), questions), start: built.start, query: built.bytes ? await bytesOf(built.bytes) : 0, index: built.index, buildSeconds }];
}

async function ofShirube() {
  const model = join(root, "pkg", "model");
  const bundle = join(folder, `bundle-${name.replace("/", "-")}`);
  rmSync(bundle, { recursive: true, force: true });
  const begin = seconds();
  const { status, stderr } = spawnSync(binary, ["build", source, "--model", model, "--out", bundle, "--name", name, "--quiet"], { cwd: root, encoding: "utf8" });
  if (status !== 0) throw new Error(`shirube build: ${stderr}`);
  const buildSeconds = seconds() - begin;
  const shirube = await openShirube(bundle, model);
  const query = await bytesOf(shirube.bytes);
  const row = async (stage, index) => ({ engine: `Shirube, ${stage}`, ...quality(await ask(shirube[stage]), questions), start: shirube.start, query, index, buildSeconds });
  return [await row("words", shirube.wordsIndex), await row("meaning", shirube.index), await row("fused", shirube.index)];
}

const rows = wanted === "Shirube" ? await ofShirube() : await ofPeer();
console.log(JSON.stringify(rows));
process.exit(0);
