/** The elements' own words, in both languages. `{name}` stands for a value. */

const ja = {
  label: "検索",
  placeholder: "やりたいことを、そのまま書いてください",
  keys: "上下の矢印キーで結果を選び、Enter で開きます。",
  clear: "入力を消す",
  close: "閉じる",
  open: "検索",
  results: "検索結果",
  searching: "検索しています",
  preparing: "検索を準備しています",
  downloading: "検索を準備しています　{loaded} / {total} MB",
  refining: "語で {n} 件　意味でも探しています",
  meaningLoading: "{n} 件　意味検索を準備しています {loaded} / {total} MB",
  meaningAsk: "意味でも探す",
  meaningAskWhy: "モデルを読み込むと、言い回しの違う節も見つかります。",
  found: "{n} 件",
  foundAloud: "「{query}」に近い {n} 件",
  refinedAloud: "意味でも探し、{n} 件になりました",
  nothing: "近い節は見つかりませんでした",
  nothingHint: "別の言い方や、もう少し長い文で試してみてください。",
  truncated: "長い文章なので、はじめの部分だけを検索に使いました。",
  meaningFailed: "意味での検索は使えません（{code}）。語だけで探します。",
  filters: "絞り込み",
  clearFilters: "絞り込みをやめる",
  words: "語",
  wordsWhy: "質問の語がこの節によく現れます",
  meaning: "意味",
  meaningWhy: "質問に意味の近い節です",
  matched: "質問と本文の対応",
  retry: "もう一度試す",
  hintMove: "選ぶ",
  hintOpen: "開く",
  hintClose: "閉じる",
  errorMissing: "必要なファイルが見つかりません。サイトのファイルがすべて置かれているか確認してください。",
  errorHtml: "ファイルの代わりに Web ページが返されました。サーバーの設定かパスを確認してください。",
  errorDamaged: "ファイルが壊れています。配置し直すか、しばらく待ってもう一度お試しください。",
  errorNewer: "ファイルの形式がこのページより新しいものです。ページを再読み込みしてください。",
  errorMismatch: "索引とモデルの組み合わせが違います。索引をこのモデルで作り直してください。",
  errorEmpty: "検索できる文字がありません。",
  errorUnsupported: "このブラウザーでは検索が動きません。2023 年以降の Chrome、Edge、Firefox、Safari でお試しください。",
  errorNetwork: "ネットワークにつながりません。接続を確認して、もう一度お試しください。",
  errorOther: "検索の処理が止まりました。ページを再読み込みしてください。",
};

const en: typeof ja = {
  label: "Search",
  placeholder: "Ask in your own words",
  keys: "Choose a result with the up and down arrows, open it with Enter.",
  clear: "Clear the search",
  close: "Close",
  open: "Search",
  results: "Search results",
  searching: "Searching",
  preparing: "Getting the search ready",
  downloading: "Getting the search ready  {loaded} / {total} MB",
  refining: "{n} by words, looking by meaning too",
  meaningLoading: "{n} results, getting search by meaning ready {loaded} / {total} MB",
  meaningAsk: "Search by meaning too",
  meaningAskWhy: "With the model loaded, sections in other words are found as well.",
  found: "{n} results",
  foundAloud: "{n} nearest to “{query}”",
  refinedAloud: "Searched by meaning too: {n} results",
  nothing: "Nothing near was found",
  nothingHint: "Try other words, or a slightly longer sentence.",
  truncated: "The text is long; only its beginning was used.",
  meaningFailed: "Search by meaning is not available ({code}); words alone are searched.",
  filters: "Narrow down",
  clearFilters: "Show all again",
  words: "words",
  wordsWhy: "The words of the question stand in this section",
  meaning: "meaning",
  meaningWhy: "This section is near the question in meaning",
  matched: "How the question met the text",
  retry: "Try again",
  hintMove: "choose",
  hintOpen: "open",
  hintClose: "close",
  errorMissing: "A needed file is missing. Check that all files of the site are in place.",
  errorHtml: "A web page came in place of a file. Check the server's settings or the path.",
  errorDamaged: "A file is damaged. Upload it again, or wait a little and try again.",
  errorNewer: "A file is newer than this page. Reload the page.",
  errorMismatch: "Index and model do not belong together. Build the index again with this model.",
  errorEmpty: "There is nothing to search for.",
  errorUnsupported: "This browser cannot run the search. Use Chrome, Edge, Firefox or Safari from 2023 or later.",
  errorNetwork: "No network. Check the connection and try again.",
  errorOther: "The search stopped. Reload the page.",
};

export type TextKey = keyof typeof ja;
/** All words of the elements; give some of them to the property `texts`, or one as an attribute: `text-no-hits="…"`. */
export type Texts = Record<TextKey, string>;

const tables: Record<"ja" | "en", Texts> = { ja, en };

/** The attribute that overrides a text: `foundAloud` is `text-found-aloud`. */
export const attributeOf = (key: TextKey): string => `text-${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
export const TEXT_KEYS = Object.keys(ja) as TextKey[];
export const TEXT_ATTRIBUTES: string[] = TEXT_KEYS.map(attributeOf);

const ERRORS: Record<string, TextKey> = {
  ASSET_MISSING: "errorMissing",
  ASSET_IS_HTML: "errorHtml",
  ASSET_DAMAGED: "errorDamaged",
  VERSION_NEWER: "errorNewer",
  // The cure is the same: build the index again.
  VERSION_OLDER: "errorMismatch",
  MODEL_MISMATCH: "errorMismatch",
  EMPTY_QUERY: "errorEmpty",
  WASM_UNSUPPORTED: "errorUnsupported",
  NETWORK: "errorNetwork",
};
export const errorText = (code: string): TextKey => ERRORS[code] ?? "errorOther";

/** The language of the element: its own `lang`, or that of what stands around it. Everything but Japanese reads English. */
export function languageOf(host: Element): "ja" | "en" {
  let node: Element | null = host;
  while (node) {
    const near: Element | null = node.closest("[lang]");
    if (near) return /^ja\b/i.test(near.getAttribute("lang") ?? "") ? "ja" : "en";
    const root = node.getRootNode();
    node = root instanceof ShadowRoot ? root.host : null;
  }
  return /^ja\b/i.test(document.documentElement.lang || navigator.language) ? "ja" : "en";
}

/** The text for `key`, with `values` in its braces. */
export function textFor(host: Element, own: Partial<Texts>, key: TextKey, values: Record<string, string> = {}): string {
  const template = own[key] ?? host.getAttribute(attributeOf(key)) ?? tables[languageOf(host)][key];
  return template.replace(/\{(\w+)\}/g, (whole, name: string) => values[name] ?? whole);
}
