/** All words of the page, in both languages. */

export type Language = "ja" | "en";

const ja = {
  documentTitle: "Shirube — ことばの意味で探す",
  title: "ことばの意味で探す。",
  lead: "言い回しが違っても、意味の近い節を見つけます。すべて、このページの中で動いています。",
  label: "日本語の技術文書を検索",
  placeholder: "やりたいことを、そのまま書いてください",
  keys: "スラッシュキーで検索欄へ、上下の矢印キーで結果を移動、Enter で開きます。",
  clear: "入力を消す",
  examples: "例",
  privacy: "入力した文章は、このページの外へ送られません。サーバーも、外部の API もありません。",
  sources: "収録文書：Vue、Vite、React、Angular、The Rust Book、サバイバル TypeScript、Astro、OpenTelemetry の日本語文書（各ライセンスによる）。",
  preparing: "準備しています",
  downloading: (loaded: string, total: string) => `モデルと索引を読み込んでいます　${loaded} / ${total} MB`,
  waitingQuery: "読み込みが終わりしだい検索します。",
  ready: (documents: string) => `${documents} の節から探せます`,
  searching: "検索しています",
  found: (n: number, query: string) => `「${query}」に近い ${n} 件`,
  nothing: "近い節は見つかりませんでした",
  nothingHint: "別の言い方や、もう少し長い文で試してみてください。",
  emptyQuery: "検索できる文字がありません",
  truncated: "長い文章なので、はじめの部分だけを検索に使いました。",
  timing: (total: string, tokenise: string, encode: string, score: string, n: string) =>
    `${total} ミリ秒（分割 ${tokenise}・符号化 ${encode}・照合 ${score}）で ${n} 節すべてと照合`,
  score: "MaxSim の点数",
  matched: "質問と本文の対応",
  retry: "もう一度試す",
  cure: "対処",
  code: "エラー",
  facts: {
    device: "計算",
    thread: "実行場所",
    model: "モデル",
    index: "索引",
    start: "起動",
  },
  thread: { worker: "Web Worker", main: "ページのスレッド" },
  size: (bytes: string, fromCache: boolean) => `${bytes} MB${fromCache ? "（保存済み）" : ""}`,
  startMs: (ms: string) => `${ms} ミリ秒`,
  problem: {
    ASSET_MISSING: ["必要なファイルが見つかりません", "サイトのファイルがすべて置かれているか確認して、もう一度お試しください。"],
    ASSET_IS_HTML: ["ファイルの代わりに Web ページが返されました", "サーバーの設定かパスを確認してください。"],
    ASSET_DAMAGED: ["ファイルが壊れています", "配置し直すか、しばらく待ってもう一度お試しください。"],
    VERSION_NEWER: ["ファイルの形式がこのページより新しいものです", "ページを再読み込みしてください。"],
    MODEL_MISMATCH: ["索引とモデルの組み合わせが違います", "索引をこのモデルで作り直してください。"],
    BAD_ARGUMENT: ["指定に誤りがあります", ""],
    ABORTED: ["中断されました", ""],
    EMPTY_QUERY: ["検索できる文字がありません", "ことばを入力してください。"],
    WASM_UNSUPPORTED: ["このブラウザーでは動きません", "2023 年以降の Chrome、Edge、Firefox、Safari でお試しください。"],
    WORKER_FAILED: ["検索の処理が止まりました", "ページを再読み込みしてください。"],
    NETWORK: ["ネットワークにつながりません", "接続を確認して、もう一度お試しください。"],
    INTERNAL: ["内部でエラーが起きました", "ページを再読み込みしてください。"],
  } as Record<string, [string, string]>,
};

const en: typeof ja = {
  documentTitle: "Shirube — search by meaning",
  title: "Search by meaning, in Japanese.",
  lead: "Finds passages that mean what you ask, however they are worded. The model and the index run inside this page.",
  label: "Search Japanese technical documents",
  placeholder: "Ask in your own Japanese",
  keys: "Slash moves to the search box, up and down arrows walk the results, Enter opens one.",
  clear: "Clear the search",
  examples: "Try",
  privacy: "What you type never leaves this page. There is no server and no external API.",
  sources:
    "Documents: the Japanese editions of Vue, Vite, React, Angular, The Rust Book, Survival TypeScript, Astro and OpenTelemetry, each under its own licence.",
  preparing: "Getting ready",
  downloading: (loaded, total) => `Loading model and index  ${loaded} / ${total} MB`,
  waitingQuery: "Your search runs as soon as loading ends.",
  ready: (documents) => `${documents} sections to search`,
  searching: "Searching",
  found: (n, query) => `${n} nearest to “${query}”`,
  nothing: "Nothing near was found",
  nothingHint: "Try other words, or a slightly longer sentence.",
  emptyQuery: "There is nothing to search for",
  truncated: "The text is long; only its beginning was used.",
  timing: (total, tokenise, encode, score, n) =>
    `${total} ms (tokenise ${tokenise}, encode ${encode}, score ${score}) against all ${n} sections`,
  score: "MaxSim score",
  matched: "How the question met the text",
  retry: "Try again",
  cure: "Cure",
  code: "Error",
  facts: { device: "Compute", thread: "Runs in", model: "Model", index: "Index", start: "Start-up" },
  thread: { worker: "Web Worker", main: "page thread" },
  size: (bytes, fromCache) => `${bytes} MB${fromCache ? " (stored)" : ""}`,
  startMs: (ms) => `${ms} ms`,
  problem: {
    ASSET_MISSING: ["A needed file is missing", "Check that all files of the site are in place, then try again."],
    ASSET_IS_HTML: ["A web page came in place of a file", "Check the server's settings or the path."],
    ASSET_DAMAGED: ["A file is damaged", "Upload it again, or wait a little and try again."],
    VERSION_NEWER: ["A file is newer than this page", "Reload the page."],
    MODEL_MISMATCH: ["Index and model do not belong together", "Build the index again with this model."],
    BAD_ARGUMENT: ["Something was given wrongly", ""],
    ABORTED: ["Stopped", ""],
    EMPTY_QUERY: ["There is nothing to search for", "Type some words."],
    WASM_UNSUPPORTED: ["This browser cannot run the search", "Use Chrome, Edge, Firefox or Safari from 2023 or later."],
    WORKER_FAILED: ["The search stopped", "Reload the page."],
    NETWORK: ["No network", "Check the connection and try again."],
    INTERNAL: ["Something went wrong inside", "Reload the page."],
  },
};

export type Texts = typeof ja;
export const texts: Record<Language, Texts> = { ja, en };

/** Questions as people type them; none repeats the wording of its answer. */
export const EXAMPLES = [
  "再レンダリングを減らしたい",
  "画像の読み込みを遅らせたい",
  "所有権を渡さずに値を使う",
  "入力フォームの値を検証する",
  "環境変数を型安全に扱いたい",
  "配列から条件に合うものだけ取り出す",
];

/** Names shown on the badges. */
export const SOURCES: Record<string, string> = {
  vue: "Vue",
  vite: "Vite",
  react: "React",
  angular: "Angular",
  "rust-book": "Rust Book",
  "typescript-book": "TypeScript",
  astro: "Astro",
  opentelemetry: "OpenTelemetry",
};
