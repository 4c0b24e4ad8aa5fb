/** All words of the page, in both languages. */

export type Language = "ja" | "en";

const ja = {
  documentTitle: "Shirube — ことばの意味で探す",
  title: "ことばの意味で探す。",
  lead: "言い回しが違っても、意味の近い節を見つけます。すべて、このページの中で動いています。",
  label: "日本語の技術文書を検索",
  examples: "例",
  privacy: "入力した文章は、このページの外へ送られません。サーバーも、外部の API もありません。",
  sources: "収録文書（見出しで分け、本文だけを収めています）",
  timing: (total: string, tokenise: string, encode: string, score: string, n: string) =>
    `${total} ミリ秒（分割 ${tokenise}・符号化 ${encode}・照合 ${score}）で ${n} 節すべてと照合`,
  lab: "調整と計測",
  weight: "語と意味の重み",
  meaningAlone: "意味だけ",
  wordsMost: "語を重く",
  heat: "質問の語ごとに、節の中でいちばん近い語との近さ（濃いほど点数に効いています）",
  measure: "この端末で測る",
  measuring: (done: string, all: string) => `測っています ${done} / ${all}`,
  measured: (n: string) => `例の ${n} 問を三度ずつ。中央値（ミリ秒）`,
  columns: ["質問", "符号化", "照合", "全体"],
  device: "計算する装置",
  deviceAuto: "速いほう",
  deviceNow: (encoder: string, scores: string) => `質問の符号化は ${encoder}、照合は ${scores}`,
  compare: "圧縮する前の点と比べる",
  comparing: "節を圧縮せずに計算しています",
  compared: (codec: string, bytes: string) => `意味の点（MaxSim）: この索引は ${codec}、1 トークンあたり ${bytes} バイト。圧縮しなければ 256 バイト`,
  compareColumns: ["節", "索引の点", "圧縮前の点", "差", "圧縮前の順"],
  nothingToCompare: "先に何か検索してください",
  docs: "説明書（英語）",
  ownModel: "自分のモデルで",
  forget: "保存したファイルを消す",
  forgotten: "消しました。次に開くと、もう一度読み込みます。",
  facts: {
    device: "計算",
    thread: "実行場所",
    model: "モデル",
    index: "索引",
    start: "起動",
  },
  thread: { worker: "Web Worker", main: "ページのスレッド" },
  simdReason: "このブラウザーで最も速い命令",
  workerReason: "検索中もページは止まりません",
  cacheReason: "次からは通信なしで動きます",
  counts: (documents: string, tokens: string) => `${documents} 節、${tokens} トークン`,
  size: (bytes: string, fromCache: boolean) => `${bytes} MB${fromCache ? "（保存済み）" : ""}`,
  startMs: (ms: string) => `${ms} ミリ秒`,
};

const en: typeof ja = {
  documentTitle: "Shirube — search by meaning",
  title: "Search by meaning, in Japanese.",
  lead: "Finds passages that mean what you ask, however they are worded. The model and the index run inside this page.",
  label: "Search Japanese technical documents",
  examples: "Try",
  privacy: "What you type never leaves this page. There is no server and no external API.",
  sources: "Documents (cut at headings, text only)",
  timing: (total, tokenise, encode, score, n) =>
    `${total} ms (tokenise ${tokenise}, encode ${encode}, score ${score}) against all ${n} sections`,
  lab: "Test bench",
  weight: "Words and meaning",
  meaningAlone: "meaning alone",
  wordsMost: "mostly words",
  heat: "For each word of the question, how near the nearest word of the section is (darker counts for more)",
  measure: "Measure on this device",
  measuring: (done, all) => `Measuring ${done} / ${all}`,
  measured: (n) => `The ${n} examples three times each; medians in milliseconds`,
  columns: ["Question", "Encode", "Score", "All"],
  device: "Computed on",
  deviceAuto: "the faster",
  deviceNow: (encoder, scores) => `questions encoded on ${encoder}, scores on ${scores}`,
  compare: "Compare with scores before compression",
  comparing: "Computing the sections without compression",
  compared: (codec, bytes) => `Scores by meaning (MaxSim): this index is ${codec}, ${bytes} bytes a token; uncompressed 256`,
  compareColumns: ["Section", "From the index", "Uncompressed", "Difference", "Rank uncompressed"],
  nothingToCompare: "Search for something first",
  docs: "Documentation",
  ownModel: "Your own model",
  forget: "Delete stored files",
  forgotten: "Deleted. The next visit loads them again.",
  facts: { device: "Compute", thread: "Runs in", model: "Model", index: "Index", start: "Start-up" },
  thread: { worker: "Web Worker", main: "page thread" },
  simdReason: "the fastest instructions this browser has",
  workerReason: "the page stays responsive",
  cacheReason: "the next visit needs no network",
  counts: (documents, tokens) => `${documents} sections, ${tokens} tokens`,
  size: (bytes, fromCache) => `${bytes} MB${fromCache ? " (stored)" : ""}`,
  startMs: (ms) => `${ms} ms`,
};

export type Texts = typeof ja;
export const texts: Record<Language, Texts> = { ja, en };

/** Questions as people type them; none repeats the wording of its answer. */
export const EXAMPLES = [
  "再レンダリングを減らしたい",
  "所有権を渡さずに値を使う",
  "親から子にデータを渡す",
  "nullかもしれない値を安全に扱う",
  "リストを並べ替えて表示する",
  "非同期処理の結果を待つ",
];

/** The collections of the demo: their names on the badges, and what their licences ask to be said. */
export const SOURCES: Record<string, { name: string; url: string; owner: string; license: string; licenseUrl: string }> = {
  react: {
    name: "React",
    url: "https://ja.react.dev",
    owner: "Meta Platforms and translators",
    license: "CC BY 4.0",
    licenseUrl: "https://creativecommons.org/licenses/by/4.0/",
  },
  vue: {
    name: "Vue.js",
    url: "https://ja.vuejs.org",
    owner: "Vue.js team and translators",
    license: "CC BY 4.0",
    licenseUrl: "https://creativecommons.org/licenses/by/4.0/",
  },
  "typescript-book": {
    name: "サバイバルTypeScript",
    url: "https://typescriptbook.jp",
    owner: "YYTypeScript",
    license: "CC BY-SA 4.0",
    licenseUrl: "https://creativecommons.org/licenses/by-sa/4.0/",
  },
  "rust-book": {
    name: "The Rust Programming Language",
    url: "https://doc.rust-jp.rs/book-ja/",
    owner: "The Rust Project Developers and translators",
    license: "MIT OR Apache-2.0",
    licenseUrl: "https://github.com/rust-lang-ja/book-ja#license",
  },
};
