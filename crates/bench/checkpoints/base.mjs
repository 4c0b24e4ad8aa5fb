// A colbert-ai checkpoint of BERT-base's widths and vocabulary with random weights, converted by `shirube convert` and indexed by `shirube build`:
// for the browser's bench and its test. All of it depends on the seed alone.
import { spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { root } from "../../xtask/scripts/lib.mjs";

const VOCAB = 32_768;
const HIDDEN = 768;
const INNER = 3072;
const POSITIONS = 512;
const DIM = 128;
const SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"];

export const QUERIES = ["再レンダリングを減らしたい", "所有権を渡さずに値を使う", "状態管理とは何か。なぜ必要なのか。"];

/** Texts of the bench's index: enough to rank, few enough to encode in seconds. */
const SECTIONS = 24;

/** Numbers from a xorshift generator (Marsaglia 2003), triangular around 0. */
function numbers(seed) {
  let state = seed;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  return (deviation) => (next() + next() - 1) * deviation * Math.sqrt(6);
}

/** Characters as a Japanese WordPiece vocabulary has them, alone and as continuations. */
function vocabulary() {
  const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => String.fromCodePoint(from + i));
  const kana = [...range(0x3041, 0x3096), ...range(0x30a1, 0x30fa), "ー", "、", "。", "「", "」"];
  const alone = [...range(0x21, 0x7e), ...kana, ...range(0x4e00, 0x9fff)];
  const pieces = [...new Set([...SPECIALS, ...alone, ...alone.map((character) => `##${character}`)])];
  return pieces.slice(0, VOCAB);
}

/** Name and shape of every tensor, as colbert-ai saves them. */
function tensors(layers) {
  const all = [
    ["bert.embeddings.word_embeddings.weight", [VOCAB, HIDDEN]],
    ["bert.embeddings.position_embeddings.weight", [POSITIONS, HIDDEN]],
    ["bert.embeddings.token_type_embeddings.weight", [2, HIDDEN]],
  ];
  const norm = (stem) => all.push([`${stem}.weight`, [HIDDEN], 1], [`${stem}.bias`, [HIDDEN], 0]);
  const linear = (stem, rows, columns) => all.push([`${stem}.weight`, [rows, columns]], [`${stem}.bias`, [rows], 0]);
  norm("bert.embeddings.LayerNorm");
  for (let i = 0; i < layers; i++) {
    const layer = `bert.encoder.layer.${i}`;
    for (const part of ["query", "key", "value"]) linear(`${layer}.attention.self.${part}`, HIDDEN, HIDDEN);
    linear(`${layer}.attention.output.dense`, HIDDEN, HIDDEN);
    norm(`${layer}.attention.output.LayerNorm`);
    linear(`${layer}.intermediate.dense`, INNER, HIDDEN);
    linear(`${layer}.output.dense`, HIDDEN, INNER);
    norm(`${layer}.output.LayerNorm`);
  }
  all.push(["linear.weight", [DIM, HIDDEN]]);
  return all;
}

/** Writes `model.safetensors` in BF16, tensor by tensor. */
function writeWeights(path, layers) {
  const list = tensors(layers);
  const header = {};
  let end = 0;
  for (const [name, shape] of list) {
    const bytes = 2 * shape.reduce((a, b) => a * b, 1);
    header[name] = { dtype: "BF16", shape, data_offsets: [end, (end += bytes)] };
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const file = openSync(path, "w");
  writeSync(file, length);
  writeSync(file, json);
  const draw = numbers(20261120);
  const one = new Float32Array(1);
  const bits = new Uint32Array(one.buffer);
  for (const [, shape, around] of list) {
    const values = new Uint16Array(shape.reduce((a, b) => a * b, 1));
    // Wide enough that attention is far from uniform and every layer changes the result.
    const deviation = around === undefined ? 1 / Math.sqrt(shape.at(-1)) : 0.05;
    for (let i = 0; i < values.length; i++) {
      one[0] = (around ?? 0) + draw(deviation);
      values[i] = bits[0] >>> 16;
    }
    writeSync(file, values);
  }
  closeSync(file);
}

/** Writes the checkpoint: a BERT of `layers` layers. */
export function writeCheckpoint(folder, layers) {
  mkdirSync(folder, { recursive: true });
  const json = (name, value) => writeFileSync(join(folder, name), `${JSON.stringify(value, null, 1)}\n`);
  json("config.json", {
    architectures: ["HF_ColBERT"],
    model_type: "bert",
    vocab_size: VOCAB,
    hidden_size: HIDDEN,
    num_hidden_layers: layers,
    num_attention_heads: 12,
    intermediate_size: INNER,
    max_position_embeddings: POSITIONS,
    type_vocab_size: 2,
    hidden_act: "gelu",
    layer_norm_eps: 1e-12,
    position_embedding_type: "absolute",
  });
  json("artifact.metadata", {
    query_token_id: "[unused0]",
    doc_token_id: "[unused1]",
    query_maxlen: 32,
    doc_maxlen: 300,
    dim: DIM,
    similarity: "cosine",
    interaction: "colbert",
    attend_to_mask_tokens: false,
    mask_punctuation: true,
  });
  json("tokenizer_config.json", { tokenizer_class: "BertTokenizer", do_lower_case: false, tokenize_chinese_chars: true, strip_accents: false, model_max_length: POSITIONS });
  writeFileSync(join(folder, "vocab.txt"), `${vocabulary().join("\n")}\n`);
  writeWeights(join(folder, "model.safetensors"), layers);
}

/** The command line, the last built. */
export function commandLine() {
  const [program] = ["release", "debug"]
    .map((kind) => join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), kind, "shirube"))
    .filter((path) => existsSync(path))
    .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  if (!program) throw new Error("build the command line first: cargo build -p shirube-cli");
  return program;
}

/** Runs the command line; its output. */
export function shirube(...args) {
  const { status, stdout, stderr, error } = spawnSync(commandLine(), args, { cwd: root, encoding: "utf8", maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`shirube ${args.join(" ")}: ${error?.message ?? stderr}`);
  return stdout;
}

/** The largest difference of a score to that of the same document. */
export function furthest(found, expected) {
  let most = 0;
  for (const [i, hits] of found.entries()) {
    const scores = new Map(expected[i].map(({ document, score }) => [document, score]));
    const least = expected[i].at(-1).score;
    // A document that the other side has not among its hits is at most as near as its last.
    for (const { document, score } of hits) most = Math.max(most, Math.abs(score - (scores.get(document) ?? Math.min(score, least))));
  }
  return most;
}

/** Bytes of the files of a folder whose names match. */
export function bytesOf(folder, pattern) {
  return readdirSync(folder)
    .filter((name) => pattern.test(name))
    .reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}

/** Converted models and an index for each, made once: `{ int8: { model, bundle }, int4: … }`. */
export function baseModels(folder, layers, dtypes = ["int8", "int4"]) {
  const found = {};
  const sections = join(folder, "sections.jsonl");
  for (const dtype of dtypes) {
    const [model, bundle] = ["model", "bundle"].map((name) => join(folder, `${name}-${dtype}`));
    found[dtype] = { model, bundle };
    // Its own command line made it: an older one may have written another format.
    const stamp = join(folder, `${dtype}.stamp`);
    const now = `${layers} ${statSync(commandLine()).mtimeMs} ${readFileSync(new URL(import.meta.url)).length}`;
    if (existsSync(stamp) && readFileSync(stamp, "utf8") === now) continue;
    const checkpoint = join(folder, "checkpoint");
    if (!existsSync(join(checkpoint, "model.safetensors"))) writeCheckpoint(checkpoint, layers);
    for (const old of [model, bundle]) rmSync(old, { recursive: true, force: true });
    shirube("convert", checkpoint, model, "--dtype", dtype, "--quiet", "--license", "MIT");
    writeFileSync(sections, texts().map((line) => `${JSON.stringify(line)}\n`).join(""));
    shirube("build", sections, "--model", model, "--out", bundle, "--name", "base");
    writeFileSync(stamp, now);
  }
  rmSync(join(folder, "checkpoint"), { recursive: true, force: true });
  return found;
}

/** Short texts of random words of the vocabulary, some with words of the queries. */
function texts() {
  const draw = numbers(7);
  const any = (list) => list[Math.floor(((draw(1) + 10) * 1e6) % list.length)];
  const words = ["状態", "所有権", "値", "再レンダリング", "関数", "参照", "並べ替え", "管理", "必要", "渡す", "減らす", "非同期", "結果", "リスト", "部品"];
  return Array.from({ length: SECTIONS }, (_, i) => ({
    id: `text-${i}`,
    url: `/texts/#${i}`,
    title: `${any(words)}と${any(words)}`,
    text: Array.from({ length: 6 + (i % 5) }, () => `${any(words)}を${any(words)}で${any(words)}。`).join(""),
  }));
}
