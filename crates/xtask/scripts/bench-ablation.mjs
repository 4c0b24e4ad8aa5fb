// `npm run bench -- ablation [--quick] [--only NAME,...] [--resume] [--binary shirube-train]`: small models that differ in one thing, each trained on the same
// tokens of the default model's data, one worker, one seed. What docs/training.md says about shapes comes from here. `--resume` keeps what is done.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root, run, say } from "./lib.mjs";

const BASE = { hidden_size: 256, n_layers: 4, n_heads: 4, intermediate_size: 512, dim: 64, static: true, cooccurrence: false, pretrain: false };
/** What each differs in from `base`. */
const VARIANTS = {
  base: {},
  "dim-48": { dim: 48 },
  "dim-96": { dim: 96 },
  "2-blocks": { n_layers: 2 },
  "6-blocks": { n_layers: 6 },
  "width-192": { hidden_size: 192, n_heads: 3, intermediate_size: 384 },
  "width-384": { hidden_size: 384, n_heads: 6, intermediate_size: 768 },
  "no-static": { static: false },
  "masked-first": { pretrain: true },
  // In place of random embeddings, with the trained table after it and without.
  cooccurrence: { cooccurrence: true },
  "cooccurrence-no-static": { cooccurrence: true, static: false },
};

const QUESTIONS = `{ kind = "questions", share = 0.4, files = ["jaquad/train"] }`;
const HEADINGS = `{ kind = "headings", share = 0.25, files = ["docs/sections.jsonl.gz", "pretrain/kyoto-wiki.jsonl.zst"] }`;
const CLOZE = `{ kind = "cloze", share = 0.35, files = ["docs/sections.jsonl.gz", "pretrain/kyoto-wiki.jsonl.zst"] }`;
const sources = `sources = [\n  ${QUESTIONS},\n  ${HEADINGS},\n  ${CLOZE},\n]`;

/** What the two steps that train the student share. */
const train = (depth, steps, tokens, rate) => `depth = ${depth}
steps = ${steps}
batch_tokens = ${tokens}
document_length = 256
learning_rate = ${rate}
warmup = 40
${sources}`;

/** A recipe: the table, then (for one of them) masked words, then context. */
function recipe(name, shape, { data, quick }) {
  const steps = (n) => (quick ? 4 : n);
  const model = Object.entries(shape).filter(([key]) => !["static", "cooccurrence", "pretrain"].includes(key));
  return `name = "ablation-${name}"
seed = 20261120
tokenizer = "${join(root, "pkg", "model")}"
data = "${data}"
bf16 = true
eval = ["jaquad/dev"]

[model]
${model.map(([key, value]) => `${key} = ${value}`).join("\n")}
global_attention_every = 2
local_window = 64
query_length = 64
document_length = 300
query_weight = true
${shape.cooccurrence ? `
[[step]]
kind = "cooccurrence"
name = "cooccurrence"
files = ["docs/sections.jsonl.gz", "pretrain/kyoto-wiki.jsonl.zst"]
` : ""}${shape.static ? `
[[step]]
kind = "train"
name = "static"
${train(0, steps(400), 24_000, "5e-3")}
` : ""}${shape.pretrain ? `
[[step]]
kind = "pretrain"
name = "masked"
depth = ${shape.n_layers}
steps = ${steps(200)}
batch_tokens = 12000
length = 256
learning_rate = 1.5e-3
warmup = 40
weight_decay = 0.01
files = ["docs/sections.jsonl.gz", "pretrain/kyoto-wiki.jsonl.zst"]
` : ""}
[[step]]
kind = "train"
name = "context"
${train(shape.n_layers, steps(300), 12_000, "1.5e-3")}
weight_decay = 0.01
query_dropout = 0.1
`;
}

/** Mean metrics of MaxSim alone and of the fusion after a step. */
function measured(folder) {
  const file = join(folder, "eval.json");
  if (!existsSync(file)) return undefined;
  const [{ methods }] = JSON.parse(readFileSync(file, "utf8"));
  const mean = (name) => methods.find(({ method }) => method === name).mean;
  return { r1: mean("maxsim").recall[0], ndcg: mean("maxsim").ndcg_10, fused: mean("fused").recall[0] };
}

export function benchAblation({ quick, resume, only, binary, data = join(root, "..", "shared", "data") }) {
  if (!existsSync(data)) throw new Error(`no training data at ${data}: tell the folder that holds jaquad, docs and pretrain by --data`);
  const unknown = (only ?? []).filter((name) => !(name in VARIANTS));
  if (unknown.length > 0) throw new Error(`no variant ${unknown.join(", ")}: there are ${Object.keys(VARIANTS).join(", ")}`);
  const trainer = binary ?? join(root, "target", "release", "shirube-train");
  if (!binary) run("cargo", ["build", "--quiet", "--release", "-p", "shirube-train"]);
  const out = join(root, "target", "bench", quick ? "ablation-quick" : "ablation");
  if (!resume) rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  const point = (value) => (value === undefined ? "-" : value.toFixed(3).replace(/^0/, ""));
  const rows = [];
  for (const [name, change] of Object.entries(VARIANTS)) {
    if (only && !only.includes(name)) continue;
    const shape = { ...BASE, ...change };
    const file = join(out, `${name}.toml`);
    const text = recipe(name, shape, { data, quick });
    if (!existsSync(file) || readFileSync(file, "utf8") !== text) writeFileSync(file, text);
    say(`ablation: ${name}`);
    run(trainer, ["run", file, "--out", join(out, name), "--workers", "1"]);
    const table = measured(join(out, name, "static"));
    const context = measured(join(out, name, "context"));
    rows.push(`| ${name} | ${point(table?.r1)} | ${point(context.r1)} | ${point(context.ndcg)} | ${point(context.fused)} |`);
  }
  console.log(["| variant | table R@1 | R@1 | nDCG@10 | fused R@1 |", "|---|---|---|---|---|", ...rows].join("\n"));
}
