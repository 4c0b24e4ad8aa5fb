// The search elements with a searcher that the test decides: what readers see, hear and press. Every page has a strict CSP.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { assert, root, rows, useBrowser, visit } from "./harness.mjs";

useBrowser();

const CSP = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'none'; connect-src 'self'; worker-src 'self'; img-src data:; base-uri 'none'";
const page = (body, { lang = "ja", head = "", csp = CSP, dir = "ltr" } = {}) => ({
  csp,
  html: `<!doctype html><html lang="${lang}" dir="${dir}"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>見本</title>
<link rel="icon" href="data:,">${head}<script type="module" src="/shirube/ui.js"></script><script type="module" src="/fixtures/fake.js"></script>
<body><main><h1>見本</h1>${body}</main></body></html>`,
});
const SEARCH = "<shirube-search></shirube-search>";
const MODAL = '<button id="before">前</button><shirube-trigger></shirube-trigger><input id="own" aria-label="own"><shirube-modal></shirube-modal>';

/** Opens a page with `body`, gives its search a fake whose answers `answer` (a key of ANSWERS) decides, and runs `action`. */
async function scenario(body, answer, action, { look, before, ...options } = {}) {
  const roots = { "/fixtures/": join(root, "tests", "browser", "fixtures") };
  await visit({ pages: { "/index.html": page(body, look), "/p0.html": "<!doctype html><title>開いた先</title><link rel=icon href=data:,>" }, roots, ...options }, async (tab, more) => {
    await withAnswers(more.context);
    await before?.(more.context);
    await tab.goto(`${more.url}index.html`);
    await tab.waitForFunction(() => globalThis.Fake && customElements.get("shirube-trigger"));
    await tab.evaluate((source) => {
      globalThis.search = document.querySelector("shirube-search") ?? document.querySelector("shirube-modal")?.search;
      globalThis.fake = new globalThis.Fake(globalThis.answers[source]);
      if (globalThis.search) globalThis.search.searcher = globalThis.fake;
    }, answer);
    await action(tab, more);
  });
}

/** Answers by name; they live in the page, because its CSP forbids making functions from text there. */
const ANSWERS = {
  default: (query) => globalThis.result(query, globalThis.pages(6, query)),
  many: (query) => globalThis.result(query, globalThis.pages(40, query)),
  none: (query) => globalThis.result(query, []),
  steps: (query) => [globalThis.result(query, globalThis.pages(12, query), { stage: "words" }), globalThis.result(query, globalThis.pages(12, query).reverse(), { stage: "meaning" })],
  halfBroken: (query) => [globalThis.result(query, globalThis.pages(3, query), { stage: "words" }), Object.assign(new Error("no model"), { code: "NETWORK" })],
  broken: (query) => (globalThis.mended ? globalThis.result(query, globalThis.pages(1, query)) : Object.assign(new Error("/x.bin: 404"), { code: "ASSET_MISSING" })),
  slowFirst: (query) => new Promise((resolve) => setTimeout(resolve, query === "遅い" ? 600 : 0, globalThis.result(query, globalThis.pages(2, query)))),
  evil: (query) => {
    const bad = "<img src=x onerror='globalThis.hacked=1'><script>globalThis.hacked=1</script>";
    const one = (url) => globalThis.hit({ page: url, url, title: bad, headings: [bad], text: `${bad}${query}` }, { word: query });
    return globalThis.result(query, [one("javascript:globalThis.hacked=1"), one("data:text/html,<script>1</script>"), one("/fine.html")], { filters: { [bad]: [{ value: bad, nSections: 1 }] } });
  },
  sections: (query) => {
    const part = (page, heading, lexical, maxsim) => globalThis.hit({ page, url: `/${page}.html#${heading}`, title: `${page}の章`, headings: heading ? [heading] : [], text: `ここは前置きです。${query}はここで説明します。そのほかの話もあります。` }, { word: query, lexical, maxsim });
    return globalThis.result(query, [part("甲", "はじめに", 9, 1), part("乙", "", 0, 9), part("甲", "使い方", 5, 8), part("甲", "三", 5, 5), part("甲", "四", 5, 5), part("甲", "五", 5, 5)]);
  },
  filtered: (query, { filters }) => {
    const version = filters?.["版"]?.[0];
    const hits = globalThis.pages(6, query).filter((_, i) => !version || i % 2 === (version === "v3" ? 0 : 1));
    return globalThis.result(query, hits, { filters: { 版: [{ value: "v3", nSections: 3 }, { value: "v4", nSections: 12 }], 言語: [{ value: "日本語", nSections: 6 }] } });
  },
};
const withAnswers = (context) => context.addInitScript(`globalThis.answers = { ${Object.entries(ANSWERS).map(([name, action]) => `${name}: ${action}`).join(", ")} };`);

/** A named scenario: `answer` is a key of ANSWERS. */
function scene(name, { body = SEARCH, answer = "default", ...options }, action) {
  test(name, () => scenario(body, answer, action, options));
}

const type = async (tab, text) => {
  await tab.locator("#query").first().fill(text);
  await tab.waitForFunction((text) => globalThis.search.shown?.query === text && !["searching"].includes(globalThis.search.state), text);
};
const state = (tab, wanted) => tab.waitForFunction((wanted) => globalThis.search.state === wanted, wanted);
const queries = (tab) => tab.evaluate(() => globalThis.fake.calls.map((call) => call.query));
const chosen = async (tab) => (await rows(tab)).findIndex((row) => row.selected);
const isOpen = (tab) => tab.evaluate(() => document.querySelector("shirube-modal").open);
/** Replays events of an input method on the field, in a row, as another browser orders them. */
const replay = (tab, events) =>
  tab.evaluate((events) => {
    const input = globalThis.search.shadowRoot.querySelector("#query");
    for (const [kind, init] of events) {
      if (init.value !== undefined) input.value = init.value;
      const Kind = kind.startsWith("key") ? KeyboardEvent : kind.startsWith("comp") ? CompositionEvent : InputEvent;
      input.dispatchEvent(new Kind(kind, { bubbles: true, cancelable: true, composed: true, ...init }));
    }
  }, events);
/** Colours and places are judged where a transition ends, not on its way; what turns for ever stays. */
const settle = (tab) =>
  tab.evaluate(() => {
    const roots = [document];
    for (const root of roots) {
      for (const element of root.querySelectorAll("*")) if (element.shadowRoot) roots.push(element.shadowRoot);
      for (const animation of root.getAnimations()) if (animation.effect.getComputedTiming().iterations !== Infinity) animation.finish();
    }
  });
const axe = async (tab) => {
  const { source } = (await import("axe-core")).default;
  await tab.evaluate(source);
  await settle(tab);
  const { violations } = await tab.evaluate(() => globalThis.axe.run());
  return violations.map((found) => `${found.id}: ${found.nodes[0].html.slice(0, 200)} ${found.nodes[0].failureSummary}`);
};

/* Japanese input */

scene("変換を確定するまで検索せず、前の結果を見せたままにする", {}, async (tab) => {
  await type(tab, "所有権");
  const before = (await rows(tab)).map((row) => row.id);
  const ime = await tab.context().newCDPSession(tab);
  await tab.locator("#query").fill("");
  await type(tab, "所有権");
  for (const reading of ["し", "しゃ", "しゃくよう", "借用"]) {
    await ime.send("Input.imeSetComposition", { text: reading, selectionStart: reading.length, selectionEnd: reading.length });
    await tab.waitForTimeout(40);
  }
  await tab.waitForTimeout(600);
  assert.deepEqual((await queries(tab)).filter((query) => query !== "所有権"), []);
  assert.equal((await rows(tab)).length, before.length, "the old results stay on view");
  await ime.send("Input.insertText", { text: "借用" });
  await tab.waitForFunction(() => globalThis.search.shown?.query === "所有権借用");
  assert.equal((await queries(tab)).at(-1), "所有権借用");
});

scene("変換中の入力欄は決して書き換えない", {}, async (tab) => {
  await tab.evaluate(() => {
    const input = globalThis.search.shadowRoot.querySelector("#query");
    const { set, get } = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value");
    globalThis.writes = [];
    Object.defineProperty(input, "value", { get: () => get.call(input), set: (text) => (globalThis.writes.push(text), set.call(input, text)) });
  });
  const ime = await tab.context().newCDPSession(tab);
  await tab.locator("#query").focus();
  for (const reading of ["き", "きー", "きーぼーど"]) await ime.send("Input.imeSetComposition", { text: reading, selectionStart: reading.length, selectionEnd: reading.length });
  await ime.send("Input.insertText", { text: "キーボード" });
  await tab.waitForFunction(() => globalThis.search.shown?.query === "キーボード");
  assert.deepEqual(await tab.evaluate(() => globalThis.writes), []);
});

scene("Safari の順序で届く確定の Enter は、選んだ行を開かない", {}, async (tab) => {
  await type(tab, "検索");
  await tab.keyboard.press("ArrowDown");
  await replay(tab, [
    ["compositionstart", {}],
    ["input", { value: "検索語", isComposing: true, inputType: "insertCompositionText" }],
    ["compositionend", { data: "語" }],
    ["keydown", { key: "Enter", keyCode: 229 }],
    ["keydown", { key: "Enter", keyCode: 13 }],
  ]);
  await tab.waitForTimeout(300);
  assert.match(tab.url(), /index\.html$/, "nothing was opened");
  assert.deepEqual(await queries(tab), ["検索", "検索語"]);
});

scene("Windows の Firefox の順序でも、確定後に一度だけ検索する", {}, async (tab) => {
  await tab.locator("#query").focus();
  await replay(tab, [
    ["keydown", { key: "Process", keyCode: 229 }],
    ["compositionstart", {}],
    ["input", { value: "け", isComposing: true, inputType: "insertCompositionText" }],
    ["keydown", { key: "Process", keyCode: 229 }],
    ["input", { value: "検", isComposing: true, inputType: "insertCompositionText" }],
    ["keydown", { key: "Process", keyCode: 229 }],
    ["compositionend", { data: "検" }],
    ["input", { value: "検", isComposing: false, inputType: "insertCompositionText" }],
    ["keyup", { key: "Enter", keyCode: 13 }],
  ]);
  await tab.waitForTimeout(300);
  assert.deepEqual(await queries(tab), ["検"]);
});

scene("変換中の矢印キーは候補のもので、行の選択は動かない", {}, async (tab) => {
  await type(tab, "検索");
  await tab.keyboard.press("ArrowDown");
  assert.equal(await chosen(tab), 0);
  await replay(tab, [
    ["compositionstart", {}],
    ["keydown", { key: "ArrowDown", keyCode: 40, isComposing: true }],
    ["keydown", { key: "ArrowDown", keyCode: 229 }],
    ["keydown", { key: "ArrowUp", keyCode: 38 }],
    ["keydown", { key: "Tab", keyCode: 9 }],
    ["keydown", { key: "Enter", keyCode: 13 }],
  ]);
  assert.equal(await chosen(tab), 0);
  assert.match(tab.url(), /index\.html$/);
});

scene("Mac の Ctrl+N と Ctrl+P は行を選び、変換中は選ばない", { before: (context) => context.addInitScript(() => Object.defineProperty(navigator, "platform", { value: "MacIntel" })) }, async (tab) => {
  await type(tab, "検索");
  await replay(tab, [["keydown", { key: "n", ctrlKey: true }], ["keydown", { key: "n", ctrlKey: true }]]);
  assert.equal(await chosen(tab), 1);
  await replay(tab, [["keydown", { key: "p", ctrlKey: true }]]);
  assert.equal(await chosen(tab), 0);
  await replay(tab, [["compositionstart", {}], ["keydown", { key: "n", ctrlKey: true, isComposing: true }]]);
  assert.equal(await chosen(tab), 0);
});

scene("変換を取り消す Escape ではモーダルが閉じない", { body: MODAL }, async (tab) => {
  await tab.keyboard.press("Control+k");
  const ime = await tab.context().newCDPSession(tab);
  await ime.send("Input.imeSetComposition", { text: "けんさく", selectionStart: 4, selectionEnd: 4 });
  await replay(tab, [["keydown", { key: "Escape", keyCode: 229, isComposing: true }]]);
  assert.ok(await isOpen(tab), "while converting");
  // Safari: the keydown comes after the end, and looks like any other.
  await ime.send("Input.imeSetComposition", { text: "", selectionStart: 0, selectionEnd: 0 });
  await replay(tab, [["compositionstart", {}], ["compositionend", { data: "" }], ["keydown", { key: "Escape", keyCode: 27 }]]);
  assert.ok(await isOpen(tab), "just after the end");
  await tab.waitForTimeout(120);
  await tab.keyboard.press("Escape");
  assert.ok(!(await isOpen(tab)), "an Escape of its own closes");
});

scene("タッチ端末では未確定でも、手が止まって 400 ミリ秒で検索する", { hasTouch: true, isMobile: true }, async (tab) => {
  await tab.locator("#query").focus();
  await replay(tab, [["compositionstart", {}], ["input", { value: "けんさ", isComposing: true }]]);
  await tab.waitForTimeout(200);
  assert.deepEqual(await queries(tab), []);
  await tab.waitForFunction(() => globalThis.fake.calls.length === 1);
  assert.deepEqual(await queries(tab), ["けんさ"]);
});

scene("composing-delay=\"never\" ならタッチ端末でも確定を待つ", { body: '<shirube-search composing-delay="never"></shirube-search>', hasTouch: true, isMobile: true }, async (tab) => {
  await tab.locator("#query").focus();
  await replay(tab, [["compositionstart", {}], ["input", { value: "けんさ", isComposing: true }]]);
  await tab.waitForTimeout(700);
  assert.deepEqual(await queries(tab), []);
  await replay(tab, [["compositionend", { data: "検査", value: "検査" }]]);
  await tab.waitForFunction(() => globalThis.fake.calls.length === 1);
  assert.deepEqual(await queries(tab), ["検査"]);
});

/* Keys, roles, voices */

scene("Ctrl+K でモーダルが開いて閉じ、フォーカスは元へ戻る", { body: MODAL }, async (tab) => {
  await tab.locator("#before").focus();
  await tab.keyboard.press("Control+k");
  assert.ok(await isOpen(tab));
  assert.equal(await tab.evaluate(() => globalThis.search.shadowRoot.activeElement?.id), "query");
  await tab.keyboard.press("Control+k");
  assert.ok(!(await isOpen(tab)));
  assert.equal(await tab.evaluate(() => document.activeElement.id), "before");
});

scene("Mac では Cmd+K で開き、Ctrl+K では開かない", { body: MODAL, before: (context) => context.addInitScript(() => Object.defineProperty(navigator, "platform", { value: "MacIntel" })) }, async (tab) => {
  await tab.keyboard.press("Control+k");
  assert.ok(!(await isOpen(tab)));
  assert.equal(await tab.locator("shirube-trigger kbd").textContent(), "⌘K");
  await tab.keyboard.press("Meta+k");
  assert.ok(await isOpen(tab));
});

scene("スラッシュは検索を開くが、ページの入力欄では文字のまま", { body: MODAL }, async (tab) => {
  await tab.locator("#own").focus();
  await tab.keyboard.press("/");
  assert.ok(!(await isOpen(tab)));
  assert.equal(await tab.locator("#own").inputValue(), "/");
  await tab.locator("#before").focus();
  await tab.keyboard.press("/");
  assert.ok(await isOpen(tab));
  assert.equal(await tab.locator("#query").inputValue(), "");
});

scene("取り除いた要素はショートカットを奪わない", { body: MODAL }, async (tab) => {
  await tab.evaluate(() => document.querySelector("shirube-modal").remove());
  const taken = await tab.evaluate(() => !document.dispatchEvent(new KeyboardEvent("keydown", { key: "k", ctrlKey: true, cancelable: true })));
  assert.equal(taken, false);
});

scene("コンボボックスの役割と選択が支援技術に伝わる", {}, async (tab) => {
  const field = () => tab.locator("#query").evaluate((input) => ({ role: input.getAttribute("role"), expanded: input.getAttribute("aria-expanded"), active: input.getAttribute("aria-activedescendant"), exists: !input.getAttribute("aria-activedescendant") || input.getRootNode().getElementById(input.getAttribute("aria-activedescendant"))?.getAttribute("aria-selected") === "true" }));
  assert.deepEqual(await field(), { role: "combobox", expanded: "false", active: null, exists: true });
  await type(tab, "検索");
  await tab.keyboard.press("ArrowDown");
  const now = await field();
  assert.equal(now.expanded, "true");
  assert.ok(now.active && now.exists, "it points at the chosen option");
  assert.equal(await tab.getByRole("option").count(), 6);
  await tab.keyboard.press("Escape");
  assert.equal((await field()).expanded, "false");
});

scene("Enter は一行目を選び、もう一度で開く", {}, async (tab) => {
  await type(tab, "検索");
  await tab.keyboard.press("Enter");
  assert.equal(await chosen(tab), 0);
  await tab.keyboard.press("Enter");
  await tab.waitForURL(/p0\.html$/);
});

scene("Ctrl+Enter は新しいタブで開く", {}, async (tab, { context }) => {
  await type(tab, "検索");
  await tab.keyboard.press("ArrowDown");
  const [other] = await Promise.all([context.waitForEvent("page"), tab.keyboard.press("Control+Enter")]);
  await other.waitForURL(/p0\.html$/);
  assert.match(tab.url(), /index\.html$/);
});

scene("Escape は一覧を閉じ、次に入力を消す", {}, async (tab) => {
  await type(tab, "検索");
  await tab.keyboard.press("Escape");
  assert.equal(await tab.locator("#list").isVisible(), false);
  assert.equal(await tab.locator("#query").inputValue(), "検索");
  await tab.keyboard.press("Escape");
  assert.equal(await tab.locator("#query").inputValue(), "");
});

scene("件数は読み上げられ、同じ文でも二度読まれる", {}, async (tab) => {
  const regions = () => tab.evaluate(() => [...globalThis.search.shadowRoot.querySelectorAll("[role=status]")].map((node) => node.textContent));
  await type(tab, "検索");
  await tab.waitForFunction(() => [...globalThis.search.shadowRoot.querySelectorAll("[role=status]")].some((node) => node.textContent === "「検索」に近い 6 件"));
  const before = await regions();
  await tab.evaluate(() => (globalThis.search.choice = undefined));
  await tab.waitForTimeout(700);
  const after = await regions();
  assert.deepEqual([...before].sort(), [...after].sort());
  assert.notDeepEqual(before, after, "the other region speaks");
});

scene("外側を押すと閉じ、内側では閉じない", { body: MODAL }, async (tab) => {
  await tab.locator("shirube-trigger").click();
  await tab.locator("#query").click();
  assert.ok(await isOpen(tab));
  await tab.mouse.click(5, 5);
  assert.ok(!(await isOpen(tab)));
});

scene("引き金だけを置けば、モーダルは自分で用意される", { body: '<shirube-trigger label="探す" limit="3"></shirube-trigger>' }, async (tab) => {
  await tab.waitForSelector("shirube-modal", { state: "attached" });
  await tab.evaluate(() => ((globalThis.search = document.querySelector("shirube-modal").search), (globalThis.search.searcher = globalThis.fake)));
  await tab.getByRole("button", { name: "探す" }).click();
  await type(tab, "検索");
  assert.equal(await tab.evaluate(() => globalThis.fake.calls[0].limit), 3);
});

for (const [name, look, colorScheme] of [["日本語の明るいページ", { lang: "ja" }, "light"], ["日本語の暗いページ", { lang: "ja", head: '<meta name="color-scheme" content="light dark">' }, "dark"], ["英語のページ", { lang: "en" }, "light"]]) {
  scene(`axe は${name}のどの状態にも障壁を見つけない`, { body: '<shirube-search explain></shirube-search><shirube-trigger></shirube-trigger>', answer: "filtered", look, colorScheme, bypassCSP: true }, async (tab) => {
    assert.deepEqual(await axe(tab), [], "idle");
    await type(tab, "検索");
    await tab.locator("summary").first().click();
    await tab.locator("#query").first().press("ArrowDown");
    assert.deepEqual(await axe(tab), [], "popup with filters");
    await tab.evaluate(() => (globalThis.search.searcher = new globalThis.Fake(globalThis.answers.broken)));
    await state(tab, "failed");
    assert.deepEqual(await axe(tab), [], "an error");
    await tab.evaluate(() => {
      const modal = document.querySelector("shirube-modal");
      modal.search.searcher = globalThis.fake;
      modal.show("検索");
    });
    await tab.waitForFunction(() => document.querySelector("shirube-modal").search.state === "done");
    assert.deepEqual(await axe(tab), [], "the modal");
  });
}

/* Rows */

scene("題も見出しも本文も文字として出し、HTML にはしない", { answer: "evil" }, async (tab) => {
  await type(tab, "検索");
  await tab.locator("summary").click();
  await tab.waitForTimeout(200);
  const found = await rows(tab);
  assert.equal(found.length, 3);
  for (const { title, excerpt } of found) {
    assert.match(title, /<img src=x onerror=/);
    assert.match(excerpt, /<script>/);
  }
  assert.deepEqual(found.map((row) => row.href && new URL(row.href).protocol), [null, null, "http:"], "no address that runs script");
  const made = await tab.evaluate(() => globalThis.search.shadowRoot.querySelectorAll("img, script").length);
  assert.equal(made, 0);
  assert.equal(await tab.evaluate(() => globalThis.hacked), undefined);
});

scene("抜粋はいちばん合う一文を際立たせ、語に印を付ける", { answer: "sections" }, async (tab) => {
  await type(tab, "所有権");
  const [first] = await rows(tab);
  assert.equal(first.passage, "所有権はここで説明します。");
  assert.deepEqual(first.marks, ["所有権"]);
  assert.match(first.excerpt, /前置き/);
});

scene("同じページの節は見出しごとに下へ並び、三つまで", { answer: "sections" }, async (tab) => {
  await type(tab, "所有権");
  const found = await rows(tab);
  assert.deepEqual(found.map(({ title, sub }) => [title, sub]), [["甲の章はじめに", false], ["使い方", true], ["三", true], ["四", true], ["乙の章", false]]);
  assert.match(decodeURI(found[1].href), /甲\.html#使い方$/);
});

scene("語と意味の札が、その節が出た理由を示す", { answer: "sections" }, async (tab) => {
  await type(tab, "所有権");
  const badges = Object.fromEntries((await rows(tab)).map(({ title, badges }) => [title, badges.join("")]));
  assert.deepEqual(badges, { 甲の章はじめに: "語", 使い方: "語意味", 三: "語意味", 四: "語意味", 乙の章: "意味" });
});

scene("text-fragment のリンクは、合う一文まで動く", { body: "<shirube-search text-fragment></shirube-search>", answer: "sections" }, async (tab) => {
  await type(tab, "所有権");
  const [first] = await rows(tab);
  assert.ok(first.href.endsWith(`:~:text=${encodeURIComponent("所有権はここで説明します。")}`), first.href);
});

scene("絞り込みは件数つきで並び、選ぶと検索し直す", { answer: "filtered" }, async (tab) => {
  await type(tab, "検索");
  await tab.locator("summary").click();
  const labels = await tab.$$eval(".choice", (all) => all.map((label) => label.textContent));
  assert.deepEqual(labels, ["v412", "v33", "日本語6"], "most first");
  await tab.getByLabel("v3").check();
  await tab.waitForFunction(() => globalThis.search.shown.hits.length === 3);
  assert.deepEqual(await tab.evaluate(() => globalThis.fake.calls.at(-1).filters), { 版: ["v3"] });
  assert.equal(await tab.evaluate(() => globalThis.search.shadowRoot.activeElement?.value), "v3", "the box keeps the focus");
  assert.match(await tab.locator("summary").textContent(), /\(1\)/);
  await tab.getByLabel("v3").uncheck();
  await tab.waitForFunction(() => globalThis.search.shown.hits.length === 6);
  assert.equal(await tab.evaluate(() => "filters" in globalThis.fake.calls.at(-1)), false);
});

scene("同じ結果でも、新しい問いの答えが勝つ", { answer: "slowFirst" }, async (tab) => {
  await tab.locator("#query").fill("遅い");
  await tab.waitForFunction(() => globalThis.fake.calls.length === 1);
  await type(tab, "速い");
  await tab.waitForTimeout(800);
  assert.equal(await tab.evaluate(() => globalThis.search.shown.query), "速い");
  assert.equal(await tab.evaluate(() => globalThis.fake.calls[0].signal.aborted), true);
});

scene("見つからないときは、そう言って言い換えを勧める", { answer: "none" }, async (tab) => {
  await type(tab, "ない");
  assert.match(await tab.locator(".nothing").textContent(), /見つかりませんでした.*別の言い方/);
  assert.equal(await tab.locator("#list").isVisible(), false);
});

scene("失敗は対処と符号を示し、もう一度試せる", { answer: "broken" }, async (tab) => {
  await tab.locator("#query").fill("検索");
  await state(tab, "failed");
  assert.match(await tab.locator(".problem").textContent(), /必要なファイルが見つかりません.*ASSET_MISSING: \/x\.bin: 404/);
  await tab.evaluate(() => (globalThis.mended = true));
  await tab.getByRole("button", { name: "もう一度試す" }).click();
  await state(tab, "done");
  assert.equal((await rows(tab)).length, 1);
});

/* Refinement */

scene("まず語の結果を出し、意味の結果で静かに並べ直す", { answer: "steps" }, async (tab) => {
  await type(tab, "検索");
  assert.equal(await tab.evaluate(() => globalThis.search.state), "words");
  assert.match(await tab.locator(".state").textContent(), /意味でも探しています/);
  const words = (await rows(tab)).map((row) => row.title);
  await tab.evaluate(() => globalThis.fake.next());
  await state(tab, "done");
  assert.deepEqual((await rows(tab)).map((row) => row.title), words.reverse(), "nobody is on a row: the whole list is new");
});

for (const [how, stand] of [
  ["キーで選んだ", async (tab) => { for (let i = 0; i < 3; i++) await tab.keyboard.press("ArrowDown"); }],
  ["ポインターを置いた", async (tab) => { await tab.locator("#list a.row").nth(2).hover(); await tab.mouse.move(300, 300, { steps: 3 }); await tab.locator("#list a.row").nth(2).hover(); }],
]) {
  scene(`${how}行は、意味の結果が届いても動かない`, { answer: "steps" }, async (tab) => {
    await type(tab, "検索");
    await stand(tab);
    const before = await rows(tab);
    await tab.evaluate(() => globalThis.fake.next());
    await state(tab, "done");
    const after = await rows(tab);
    assert.deepEqual(after.slice(0, 3).map(({ title, top }) => [title, top]), before.slice(0, 3).map(({ title, top }) => [title, top]), "down to the reader's row nothing moves");
    assert.equal(after[3].title, "11 番のページ", "the best of meaning comes directly below");
    assert.equal(new Set(after.map((row) => row.title)).size, after.length, "no row twice");
    assert.deepEqual(after.map((row) => row.selected), before.map((row) => row.selected));
  });
}

scene("巻き上げて読んでいる所も動かない", { answer: "steps" }, async (tab) => {
  await type(tab, "検索");
  await tab.locator("#list").evaluate((list) => (list.scrollTop = 150));
  const onView = async () => {
    const { top, bottom } = await tab.locator("#list").evaluate((list) => list.getBoundingClientRect().toJSON());
    return (await rows(tab)).filter((row) => row.top >= top && row.top < bottom).map((row) => [row.title, row.top]);
  };
  const before = await onView();
  await tab.evaluate(() => globalThis.fake.next());
  await state(tab, "done");
  assert.deepEqual(await onView(), before);
});

scene("意味の検索が使えなくても、語の結果は残る", { answer: "halfBroken" }, async (tab) => {
  await type(tab, "検索");
  await tab.evaluate(() => globalThis.fake.next());
  await state(tab, "done");
  assert.equal((await rows(tab)).length, 3);
  assert.match(await tab.locator(".state").textContent(), /NETWORK.*語だけで探します/);
  assert.equal(await tab.locator(".problem").isVisible(), false);
});

/** Puts a searcher with a model of its own time in. */
const lazy = (tab, fails = false) => tab.evaluate((fails) => (globalThis.search.searcher = globalThis.fake = new globalThis.Lazy(fails)), fails);

scene("opt-in では、押すまで意味のモデルを読み込まず、押せば読んでいる行を動かさず並べ直す", { body: '<shirube-search meaning="opt-in"></shirube-search>' }, async (tab) => {
  await lazy(tab);
  await type(tab, "検索");
  await state(tab, "done");
  const words = await rows(tab);
  assert.equal(await tab.evaluate(() => globalThis.fake.loads), 0);
  await tab.keyboard.press("ArrowDown");
  await tab.getByRole("button", { name: "意味でも探す" }).click();
  await tab.waitForFunction(() => globalThis.search.shown.stage === "meaning");
  const after = await rows(tab);
  assert.deepEqual([after[0].title, after[0].top, after[0].selected], [words[0].title, words[0].top, true]);
  assert.equal(after[1].title, words.at(-1).title);
  assert.equal(await tab.getByRole("button", { name: "意味でも探す" }).isVisible(), false);
});

for (const [name, connection, asked] of [
  ["データ節約中は、意味のモデルを読み込む前にたずねる", { saveData: true }, true],
  ["遅い回線でも、たずねる", { effectiveType: "3g" }, true],
  ["ふつうの回線では、たずねない", { effectiveType: "4g", saveData: false }, false],
]) {
  scene(name, { before: (context) => context.addInitScript((connection) => Object.defineProperty(navigator, "connection", { value: connection }), connection) }, async (tab) => {
    await lazy(tab);
    await type(tab, "検索");
    await state(tab, "done");
    assert.equal(await tab.getByRole("button", { name: "意味でも探す" }).isVisible(), asked);
  });
}

scene("頼んだモデルが読み込めなければ、語の結果のままそう伝える", { body: '<shirube-search meaning="opt-in"></shirube-search>' }, async (tab) => {
  await lazy(tab, true);
  await type(tab, "検索");
  await tab.getByRole("button", { name: "意味でも探す" }).click();
  await tab.waitForFunction(() => globalThis.search.shadowRoot.querySelector(".state").textContent.includes("語だけで探します"));
  assert.equal((await rows(tab)).length, 8);
});

/* Words and looks */

scene("英語のページでは英語で話し、属性で言い換えられる", { body: '<shirube-search text-found="{n} treffer" placeholder="Suche"></shirube-search>', look: { lang: "de" } }, async (tab) => {
  assert.equal(await tab.locator("#query").getAttribute("placeholder"), "Suche");
  await type(tab, "検索");
  assert.equal(await tab.locator(".state").textContent(), "6 treffer");
  assert.equal((await rows(tab))[0].badges.join(), "words,meaning");
  await tab.evaluate(() => globalThis.search.setAttribute("lang", "ja"));
  assert.equal((await rows(tab))[0].badges.join(), "語,意味");
  await tab.evaluate(() => (globalThis.search.texts = { found: "{n} 個" }));
  assert.equal(await tab.locator(".state").textContent(), "6 個");
});

for (const [name, body, head, colorScheme, dark] of [
  ["暗いページでは引き金も暗くなる", "<shirube-trigger></shirube-trigger>", '<meta name="color-scheme" content="light dark">', "dark", "button.trigger"],
  ["暗い表示に対応したページでは、システムに合わせて暗くなる", SEARCH, '<meta name="color-scheme" content="light dark">', "dark", true],
  ["明るいだけのページでは、システムが暗くても明るいまま", SEARCH, "", "dark", false],
  ["ページの切り替えに付いて暗くなる", SEARCH, "", "light", "data-theme"],
  ["theme 属性はすべてに勝つ", '<shirube-search theme="dark"></shirube-search>', "", "light", true],
]) {
  scene(name, { body, look: { head }, colorScheme }, async (tab) => {
    const bright = () => tab.locator(dark === "button.trigger" ? dark : ".root").first().evaluate((node) => Number(getComputedStyle(node).color.match(/\d+/)[0]) > 150);
    if (dark === "data-theme") {
      assert.equal(await bright(), false);
      await tab.evaluate(() => document.documentElement.setAttribute("data-theme", "dark"));
      await tab.waitForFunction(() => globalThis.search.shadowRoot.querySelector(".root").dataset.scheme === "dark");
    }
    assert.equal(await bright(), Boolean(dark), "ink");
  });
}

scene("電話ではモーダルが画面いっぱいになり、閉じるボタンが出る", { body: MODAL, answer: "many", viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }, async (tab) => {
  await tab.locator("shirube-trigger").click();
  await type(tab, "https://example.com/とても長くて切れ目のない".repeat(4));
  await settle(tab);
  const box = await tab.locator("shirube-modal .box").boundingBox();
  assert.deepEqual([box.x, box.y, Math.round(box.width)], [0, 0, 360]);
  assert.ok(box.height >= 735);
  const [content, screen] = await tab.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= screen);
  assert.ok(await tab.locator("#list").evaluate((list) => list.scrollWidth <= list.clientWidth && list.scrollHeight > list.clientHeight), "the list scrolls, and only down");
  await tab.getByRole("button", { name: "閉じる" }).click();
  assert.ok(!(await isOpen(tab)));
});

scene("モーダルの一覧は窓の中で巻き上げられ、操作の説明を隠さない", { body: MODAL, answer: "many", viewport: { width: 1000, height: 600 } }, async (tab) => {
  await tab.keyboard.press("/");
  await type(tab, "検索");
  await settle(tab);
  const list = await tab.locator("#list").boundingBox();
  const hints = await tab.locator(".hints").boundingBox();
  assert.ok(list.y + list.height <= hints.y + 1 && hints.y + hints.height <= 600, JSON.stringify([list, hints]));
  assert.ok(await tab.locator("#list").evaluate((node) => node.scrollHeight > node.clientHeight));
});

scene("ショートカットの印は、それで開くものだけに付く", { body: "<shirube-search></shirube-search><shirube-trigger></shirube-trigger>" }, async (tab) => {
  await tab.waitForSelector("shirube-modal", { state: "attached" });
  assert.equal(await tab.locator("shirube-search kbd").first().isVisible(), false);
  assert.equal(await tab.locator("shirube-trigger kbd").isVisible(), true);
});

scene("右から左へ書くページでは左右が入れ替わり、はみ出さない", { answer: "sections", look: { dir: "rtl" } }, async (tab) => {
  await type(tab, "所有権");
  const places = await tab.evaluate(() => {
    const at = (selector) => globalThis.search.shadowRoot.querySelector(selector).getBoundingClientRect();
    return { lens: at(".lens").left, input: at("#query").left, title: at(".title").left, badges: at(".badges").left, sub: at(".sub").right, row: at(".row").right, wide: document.documentElement.scrollWidth - document.documentElement.clientWidth };
  });
  assert.ok(places.lens > places.input && places.title > places.badges && places.sub < places.row, JSON.stringify(places));
  assert.ok(places.wide <= 0);
});

scene("窓の端でも、ポップアップは窓の中に開く", { body: '<div id="corner"><shirube-search></shirube-search></div>', viewport: { width: 800, height: 600 } }, async (tab) => {
  await tab.evaluate(() => {
    const corner = document.querySelector("#corner");
    corner.style.setProperty("margin-left", "560px");
    corner.style.setProperty("width", "200px");
  });
  await type(tab, "検索");
  const { x, width } = await tab.locator(".panel").boundingBox();
  assert.ok(x >= 0 && x + width <= 800, `${x} to ${x + width}`);
});

scene("電話の狭い窓でも、隅の入力欄のポップアップは窓に収まる", { body: '<div id="corner"><shirube-search></shirube-search></div>', viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }, async (tab) => {
  await tab.evaluate(() => {
    const corner = document.querySelector("#corner");
    corner.style.setProperty("margin-left", "120px");
    corner.style.setProperty("width", "180px");
  });
  await type(tab, "検索");
  const { x, width } = await tab.locator(".panel").boundingBox();
  assert.ok(x >= 0 && x + width <= 360, `${x} to ${x + width}`);
});

scene("前もって置いた値と searcher は、定義のあとで生きる", {}, async (tab) => {
  const shown = await tab.evaluate(async () => {
    // As a framework does: properties before the element is in the page.
    const early = document.createElement("shirube-search");
    Object.assign(early, { searcher: globalThis.fake, value: "早い" });
    document.body.append(early);
    await new Promise((resolve) => setTimeout(resolve, 100));
    return early.shown?.query;
  });
  assert.equal(shown, "早い");
});

scene("選んだことは取り消せるイベントで伝わり、ページが自分で移れる", { body: MODAL }, async (tab) => {
  await tab.evaluate(() => document.addEventListener("shirube-select", (event) => (event.preventDefault(), (globalThis.selected = event.detail.url))));
  await tab.keyboard.press("/");
  await type(tab, "検索");
  await tab.locator("#list a.row").nth(1).click();
  assert.match(await tab.evaluate(() => globalThis.selected), /\/p1\.html$/);
  assert.match(tab.url(), /index\.html$/);
  assert.ok(!(await isOpen(tab)), "the modal makes way");
});

scene("変数で色を変えられる", { body: '<shirube-search></shirube-search>' }, async (tab) => {
  await tab.evaluate(() => document.documentElement.style.setProperty("--shirube-ink", "rgb(1, 2, 3)"));
  assert.equal(await tab.locator(".root").evaluate((node) => getComputedStyle(node).color), "rgb(1, 2, 3)");
});

/* Files */

test("every CSS variable is documented, and every documented one is used", () => {
  const names = (text) => [...new Set(text.match(/--shirube-[a-z]+(?:-[a-z]+)*/g))].sort();
  const used = names(["tokens", "search", "modal", "trigger"].map((name) => readFileSync(join(root, "pkg", "src", "ui", `${name}.css`), "utf8")).join("\n"));
  assert.deepEqual(names(readFileSync(join(root, "docs", "ui.md"), "utf8")), used);
  assert.ok(used.length >= 40, `${used.length} variables`);
});

test("every attribute and part of the elements is documented", () => {
  const documented = readFileSync(join(root, "docs", "ui.md"), "utf8");
  const source = ["search", "view", "modal", "trigger", "rows", "filters"].map((name) => readFileSync(join(root, "pkg", "src", "ui", `${name}.ts`), "utf8")).join("\n");
  const attributes = [...source.matchAll(/(?:getAttribute|hasAttribute|number)\("([a-z-]+)"/g)].map(([, name]) => name).filter((name) => !["for", "autofocus"].includes(name));
  const parts = [...source.matchAll(/part: "([a-z -]+)"/g)].flatMap(([, list]) => list.split(" "));
  for (const name of new Set([...attributes, ...parts])) assert.match(documented, new RegExp(`\`${name}[\`=]`), `${name} is not in docs/ui.md`);
});

test("the elements are one file of at most 30 kB gzip that starts the engine in a worker, or fetches it, only when asked", () => {
  const code = readFileSync(join(root, "pkg", "dist", "ui.js"));
  const bytes = gzipSync(code).length;
  assert.ok(bytes <= 30_000, `${bytes} bytes`);
  assert.doesNotMatch(code.toString(), /\bimport\s*[{*"']|\bfrom\s*["']/, "no static import");
  assert.deepEqual(code.toString().match(/import\("[^"]*"\)/g), ['import("./host.js")']);
  assert.match(code.toString(), /new Worker\(new URL\("\.\/worker\.js",/);
});

test("importing the elements on a server defines nothing and harms nothing", async () => {
  assert.equal(globalThis.HTMLElement, undefined);
  const ui = await import(join(root, "pkg", "dist", "ui.js"));
  assert.equal(typeof ui.ShirubeSearch, "function");
});
