// The browser's half of the index bench: one build of our wasm over one index. Called by run.mjs.
import init, * as shirube from "/wasm/shirube_wasm.js";

let index;
let queries = [];
let memory;

const buffer = async (name) => (await fetch(`/parts/${name}`)).arrayBuffer();

/** Loads everything. Answers the kernels that run here, best last, what the index is, and the bytes of our memory. */
window.start = async () => {
  ({ memory } = await init({ module_or_path: "/wasm/shirube_wasm_bg.wasm" }));
  const about = JSON.parse(new TextDecoder().decode(await buffer("description.json")));
  const backend = shirube.backends().at(-1);
  index = new shirube.BenchIndex(
    new Uint8Array(await buffer("tables.bin")),
    new Uint16Array(await buffer("lengths.bin")),
    new Uint16Array(await buffer("codes.bin")),
    new Uint8Array(await buffer("residuals.bin")),
    backend,
  );
  const values = new Float32Array(await buffer("queries.bin"));
  let at = 0;
  for (const n of about.query_tokens) queries.push(values.subarray(at, (at += n * about.dim)));
  return { about, backend, memoryBytes: memory.buffer.byteLength };
};

/** Rankings of all questions in one mode, and the milliseconds of each. */
window.search = (mode, nProbe, nCandidates) => {
  const [rankings, ms] = [[], []];
  for (const query of queries) {
    const start = performance.now();
    const found = index.search(query, mode, nProbe, nCandidates);
    ms.push(performance.now() - start);
    rankings.push(Array.from(found));
  }
  return { rankings, ms };
};

/** Milliseconds of scoring every document of some questions, by centroids alone and exactly. */
window.scoreAll = (n) =>
  [false, true].map((exact) =>
    queries.slice(0, n).map((query) => {
      const start = performance.now();
      index.score_all(query, exact);
      return performance.now() - start;
    }),
  );
