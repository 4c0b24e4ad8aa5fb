// The sets of `npm run bench -- search`: documents `{ id, title, text }`, questions `{ text, relevant }`.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { root } from "../../xtask/scripts/lib.mjs";

const lines = (path) => gunzipSync(readFileSync(path)).toString("utf8").split("\n").filter((line) => line !== "");

/** At most `most` of `all`, evenly. */
function some(all, most) {
  const step = Math.max(1, Math.ceil(all.length / most));
  return all.filter((_, i) => i % step === 0);
}

/** JSQuAD's validation set: a passage of Wikipedia for each question. */
function jsquad(data, most) {
  const folder = join(data, "jsquad", "valid");
  const source = join(folder, "passages.jsonl.gz");
  const documents = lines(source).map((line) => JSON.parse(line)).map(({ id, title, text }) => ({ id, title, text }));
  const relevant = new Map();
  for (const line of lines(join(folder, "qrels.tsv.gz"))) {
    const [query, passage] = line.split("\t");
    relevant.set(query, [...(relevant.get(query) ?? []), passage]);
  }
  const questions = lines(join(folder, "queries.jsonl.gz")).map((line) => JSON.parse(line)).map(({ id, text }) => ({ text, relevant: relevant.get(id) ?? [] }));
  return { name: "jsquad/valid", source, documents, questions: some(questions.filter(({ relevant }) => relevant.length > 0), most) };
}

/** Every section of the documentation set, and questions in everyday words that share few words with the section they ask for. */
function docs(data, most) {
  const source = join(data, "docs", "sections.jsonl.gz");
  const documents = lines(source)
    .map((line) => JSON.parse(line))
    .map(({ id, title, headings, text }) => ({ id, title: [title, ...headings].filter((part) => part !== "").join(" > "), text }));
  const known = new Set(documents.map(({ id }) => id));
  const written = readFileSync(join(root, "native-trainer", "data", "docs-questions.tsv"), "utf8").split("\n").filter((line) => line !== "");
  const questions = written.map((line) => line.split("\t")).map(([id, text]) => ({ text, relevant: [id] }));
  return { name: "docs", source, documents, questions: some(questions.filter(({ relevant }) => known.has(relevant[0])), most) };
}

export function sets(data, most) {
  if (!existsSync(data)) throw new Error(`the retrieval sets are not in ${data}; name their folder with --data`);
  return [jsquad(data, most), docs(data, most)];
}

/** Means over the questions, from the ids each engine ranked, best first. */
export function quality(rankings, questions) {
  let [r1, r10, mrr] = [0, 0, 0];
  rankings.forEach((ranking, q) => {
    const at = ranking.slice(0, 10).findIndex((id) => questions[q].relevant.includes(id));
    if (at === 0) r1 += 1;
    if (at >= 0) [r10, mrr] = [r10 + 1, mrr + 1 / (at + 1)];
  });
  const n = Math.max(1, rankings.length);
  return { r1: r1 / n, r10: r10 / n, mrr: mrr / n };
}
