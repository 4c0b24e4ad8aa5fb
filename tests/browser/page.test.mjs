// The demo page, as somebody uses it.
import { test } from "node:test";
import { assert, ask, hits, ready, rows, settled, useBrowser, visit } from "./harness.mjs";

useBrowser();

/** Hits that the page asks for. */
const LIMIT = 20;

/** Questions, and what at least one of the first five sections must be about: said in its title or headings. */
const QUESTIONS = [
  ["再レンダリングを減らしたい", /memo|メモ化|再レンダ/i],
  ["所有権を渡さずに値を使う", /参照と借用/],
  ["親から子にデータを渡す", /props|プロップ|スロット|コンテクスト/i],
  ["nullかもしれない値を安全に扱う", /オプショナルチェーン|Null合体/],
  ["リストを並べ替えて表示する", /並べ替え/],
  ["非同期処理の結果を待つ", /Promise|async|await|非同期/],
  ["関数の引数に初期値を設定する", /デフォルト引数/],
];

/**
 * Questions that the text answers and the page does not, in any run: a search gives the same hits every time (words.test.mjs), so only another model, index or
 * weight can mend them. They are asked and reported, and move up when they hold.
 */
const OPEN = [
  ["配列から条件に合うものだけ取り出す", /フィルタ|filter/i],
];

for (const [question, about] of [...QUESTIONS, ...OPEN]) {
  const todo = OPEN.some(([open]) => open === question);
  test(`the page answers 「${question}」`, { todo }, async () => {
    await visit({}, async (page, { url }) => {
      await page.goto(url);
      await ready(page);
      await ask(page, question);
      const found = await hits(page);
      assert.equal(found.length, LIMIT);
      assert.ok(
        found.slice(0, 5).some((hit) => about.test(hit.heading)),
        `none of the first five is about ${about}:\n${found.slice(0, 5).map((hit) => hit.heading).join("\n")}`,
      );
      for (let i = 1; i < found.length; i++) assert.ok(found[i - 1].score >= found[i].score, "best first");
      assert.ok((await page.locator("#list mark").count()) > 0, "matches are marked");
      assert.ok((await page.locator("#list .pair").count()) > 0, "words and their matches stand under a hit");
    });
  });
}

test("アドレスに書かれた質問には、打たなくても答える", async () => {
  await visit({}, async (page, { url }) => {
    await page.goto(`${url}?q=${encodeURIComponent("再レンダリングを減らしたい")}`);
    await settled(page, "再レンダリングを減らしたい");
    assert.equal((await hits(page)).length, LIMIT);
  });
});

/** Counts the searches that the page sends to its worker; each begins with words. */
async function countSearches(page) {
  await page.addInitScript(() => {
    globalThis.searches = [];
    const post = Worker.prototype.postMessage;
    Worker.prototype.postMessage = function (message, ...rest) {
      if (message?.op === "search" && message.stage !== "meaning") globalThis.searches.push(message.query);
      return post.call(this, message, ...rest);
    };
  });
}

test("変換を確定するまで、質問は送られない", async () => {
  await visit({}, async (page, { url }) => {
    await countSearches(page);
    await page.goto(url);
    await ready(page);
    const ime = await page.context().newCDPSession(page);
    await page.locator("#query").focus();
    for (const reading of ["さ", "さい", "さいれ", "さいれんだりんぐ", "再レンダリング"]) {
      await ime.send("Input.imeSetComposition", { text: reading, selectionStart: reading.length, selectionEnd: reading.length });
      await page.waitForTimeout(60);
    }
    await page.waitForTimeout(700);
    assert.deepEqual(await page.evaluate(() => globalThis.searches), [], "nothing is searched while converting");
    assert.equal(await page.locator("#query").inputValue(), "再レンダリング", "the field is left alone");
    await ime.send("Input.insertText", { text: "再レンダリング" });
    await settled(page, "再レンダリング");
    assert.deepEqual(await page.evaluate(() => globalThis.searches), ["再レンダリング"]);
  });
});

test("変換を確定する Enter は、二度検索もしなければ、結果を開きもしない", async () => {
  await visit({}, async (page, { url }) => {
    await countSearches(page);
    await page.goto(url);
    await ready(page);
    // Safari's order of events: the keydown of the closing Enter comes after compositionend.
    await page.evaluate(() => {
      const input = document.querySelector("shirube-search").shadowRoot.querySelector("#query");
      input.focus();
      input.dispatchEvent(new CompositionEvent("compositionstart", { bubbles: true }));
      input.value = "再レンダリング";
      input.dispatchEvent(new InputEvent("input", { bubbles: true, isComposing: true }));
      input.dispatchEvent(new CompositionEvent("compositionend", { bubbles: true, data: "再レンダリング" }));
      input.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", keyCode: 229, bubbles: true, cancelable: true }));
    });
    await settled(page, "再レンダリング");
    assert.deepEqual(await page.evaluate(() => globalThis.searches), ["再レンダリング"]);
    assert.equal(await page.evaluate(() => document.activeElement.shadowRoot?.activeElement?.id), "query");
    assert.deepEqual((await rows(page)).filter((row) => row.selected), []);
  });
});

test("結果を押すと、その節のあるサイトへ移る", async () => {
  await visit({}, async (page, { url, context }) => {
    await context.route(/^https:/, (route) => route.fulfill({ contentType: "text/html", body: "<title>outside</title>" }));
    await page.goto(url);
    await ready(page);
    await ask(page, "再レンダリングを減らしたい");
    const [first] = await hits(page);
    assert.match(first.href, /^https:\/\/(ja\.|angular\.jp|doc\.rust-jp\.rs|typescriptbook\.jp|docs\.astro\.build|opentelemetry\.io)/);
    await page.locator("#list a.row").first().click();
    await page.waitForURL(first.href);
    assert.equal(await page.title(), "outside");
    await page.goBack();
    await settled(page, "再レンダリングを減らしたい");
  });
});

test("キーだけで結果まで行き、戻ってこられる", async () => {
  await visit({}, async (page, { url }) => {
    await page.goto(url);
    await ready(page);
    await page.keyboard.press("/");
    assert.equal(await page.evaluate(() => document.activeElement.localName), "shirube-search");
    assert.equal(await page.locator("#query").inputValue(), "", "the slash is not typed");
    await page.keyboard.insertText("所有権");
    await settled(page, "所有権");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    assert.equal((await rows(page)).findIndex((row) => row.selected), 1, "the second row is chosen");
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("ArrowUp");
    assert.equal((await rows(page)).findIndex((row) => row.selected), -1, "back in the field");
  });
});

test("続けて打った質問のうち、いちばん新しいものの結果が出ている", async () => {
  await visit({}, async (page, { url }) => {
    await page.goto(url);
    await ready(page);
    await page.locator("#query").pressSequentially("所有権と借用の違い", { delay: 15 });
    await settled(page, "所有権と借用の違い");
    assert.equal(await page.locator(".problem").isVisible(), false);
  });
});

test("英語に切り替えても、結果はそのまま残る", async () => {
  await visit({}, async (page, { url }) => {
    await page.goto(url);
    await ready(page);
    await ask(page, "所有権");
    const before = (await hits(page)).map((hit) => hit.id);
    await page.getByRole("button", { name: "English" }).click();
    assert.equal(await page.getAttribute("html", "lang"), "en");
    assert.match(await page.locator("#timing").textContent(), /ms \(tokenise/);
    assert.deepEqual((await hits(page)).map((hit) => hit.id), before);
    await page.reload();
    await ready(page);
    assert.equal(await page.getAttribute("html", "lang"), "en", "the choice is remembered");
  });
});

test("システムが暗ければ、ページも暗くなる", async () => {
  await visit({ colorScheme: "dark" }, async (page, { url }) => {
    await page.goto(url);
    await ready(page);
    const [paper, ink] = await page.evaluate(() => {
      const style = getComputedStyle(document.body);
      return [style.backgroundColor, style.color].map((colour) => colour.match(/\d+/g).slice(0, 3).map(Number));
    });
    assert.ok(Math.max(...paper) < 60 && Math.min(...ink) > 200, `paper ${paper}, ink ${ink}`);
  });
});

test("電話では、どこも横に動かない", async () => {
  await visit({ viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }, async (page, { url }) => {
    await page.goto(url);
    await ready(page);
    for (const query of ["", "再レンダリングを減らしたい", "https://example.com/a-very-long-address-without-any-break/".repeat(5)]) {
      if (query) await ask(page, query);
      const [content, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
      assert.ok(content <= screen, `${content} is wider than ${screen} with ${JSON.stringify(query.slice(0, 30))}`);
    }
  });
});

test("axe はどの状態にも障壁を見つけない", async () => {
  const { source } = (await import("axe-core")).default;
  for (const colorScheme of ["light", "dark"]) {
    await visit({ colorScheme, bypassCSP: true }, async (page, { url }) => {
      await page.goto(url);
      await ready(page);
      await ask(page, "再レンダリングを減らしたい");
      await page.evaluate(source);
      await page.locator("#lab summary").click();
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      assert.deepEqual(violations.map((found) => `${found.id}: ${found.nodes[0].html} ${found.nodes[0].failureSummary}`), [], colorScheme);
    });
  }
});

test("二度目は、網が切れていても検索できる", async () => {
  await visit({}, async (page, { url, close, context, requests }) => {
    await page.goto(url);
    await ready(page);
    await page.evaluate(() => navigator.serviceWorker.ready);
    await page.reload();
    await ready(page);
    assert.match(await page.locator("#facts").textContent(), /保存済み.*保存済み/s, "model and index come from the cache");
    const large = requests.filter((path) => /\.safetensors$|\/codes\//.test(path));
    assert.equal(new Set(large).size, large.length, "no large file is fetched twice");
    await page.waitForSelector("html[data-offline=ready]");
    await close();
    await context.setOffline(true);
    await page.reload();
    await ready(page);
    await ask(page, "再レンダリングを減らしたい");
    assert.equal((await hits(page)).length, LIMIT);
  });
});

test("読み込みの間に打った質問は、読み込みが済むと検索される", async () => {
  const damage = (path) => (/\.safetensors$/.test(path) ? { delay: 700 } : undefined);
  await visit({ damage }, async (page, { url }) => {
    await page.goto(url);
    await page.locator("#query").fill("所有権");
    await page.locator(".progress").waitFor({ state: "visible" });
    await settled(page, "所有権");
    assert.equal((await hits(page)).length, LIMIT);
  });
});

test("重みを動かすと、意味だけの順に並べ直る", async () => {
  await visit({}, async (page, { url }) => {
    await page.goto(url);
    await ready(page);
    await ask(page, "再レンダリングを減らしたい");
    await page.locator("#lab summary").click();
    await page.locator("#weight").fill("0");
    await page.waitForFunction(() => {
      const { shown, state } = document.querySelector("shirube-search");
      return state === "done" && shown.hits.every((hit) => hit.score === hit.maxsim);
    });
    assert.equal(await page.locator("#weight-value").textContent(), "0.0");
  });
});

test("語ごとの近さが、質問の語の数だけ並ぶ", async () => {
  await visit({}, async (page, { url }) => {
    await page.goto(url);
    await ready(page);
    await ask(page, "所有権を渡す");
    await page.locator("#lab summary").click();
    const shape = await page.evaluate(() => {
      const { hits, queryTokens } = document.querySelector("shirube-search").shown;
      const rows = [...document.querySelectorAll("#heat tbody tr")];
      return { tokens: queryTokens.length, hits: Math.min(8, hits.length), rows: rows.map((row) => row.querySelectorAll("td").length), values: [...document.querySelectorAll("#heat td")].map((cell) => cell.textContent).filter(Boolean).map(Number) };
    });
    assert.deepEqual(shape.rows, Array(shape.hits).fill(shape.tokens));
    assert.ok(shape.values.length > 0 && shape.values.every((value) => value >= -1 && value <= 1));
  });
});

test("計算する装置を選べ、選んでも同じ節が見つかる", async () => {
  await visit({}, async (page, { url }) => {
    await page.goto(url);
    await ready(page);
    await ask(page, "所有権を渡す");
    const before = (await hits(page)).map(({ id }) => id);
    await page.locator("#lab summary").click();
    await page.locator("#device-note", { hasText: "CPU" }).waitFor();
    for (const device of ["wasm", "auto"]) {
      await page.locator("#device").selectOption(device);
      await page.waitForFunction((device) => document.querySelector("shirube-search").getAttribute("device") === device, device);
      await ready(page);
      await settled(page, "所有権を渡す");
      await page.locator("#device-note", { hasText: "照合は CPU" }).waitFor({ timeout: 60_000 });
      assert.deepEqual((await hits(page)).map(({ id }) => id), before, device);
    }
  });
});

test("圧縮した索引の点と圧縮する前の点が並び、違いはわずかである", async () => {
  await visit({}, async (page, { url }) => {
    await page.goto(url);
    await ready(page);
    await page.locator("#lab summary").click();
    await page.locator("#compare").click();
    await page.locator("#lab-note", { hasText: "先に何か" }).waitFor();
    await ask(page, "再レンダリングを減らしたい");
    await page.locator("#compare").click();
    await page.locator("#compared:not([hidden])").waitFor({ timeout: 60_000 });
    const rows = await page.$$eval("#compared tbody tr", (all) => all.map((row) => [...row.querySelectorAll("td")].map((cell) => Number(cell.textContent))));
    assert.ok(rows.length >= 5, `${rows.length} rows`);
    assert.deepEqual(rows.map(([, , , rank]) => rank).sort((a, b) => a - b), rows.map((_, i) => i + 1));
    for (const [index, exact, difference] of rows) {
      assert.ok(Math.abs(index - exact - difference) < 0.02);
      assert.ok(Math.abs(difference) < 0.1 * exact, `${index} and ${exact}`);
    }
    assert.match(await page.locator("#lab-note").textContent(), /product.*バイト/);
  });
});

test("圧縮の仕方を選んで、結果の節や自分の文章から索引を作り直せる", async () => {
  await visit({}, async (page, { url, requests }) => {
    await page.goto(url);
    await ready(page);
    await page.locator("#lab summary").click();
    await page.locator("#rebuild [type=submit]").click();
    await page.locator("#codec-note", { hasText: "先に何か" }).waitFor();
    assert.ok(!requests.some((path) => path.includes("shirube_node")), "the builder is fetched when it is needed");
    await ask(page, "所有権を渡す");
    const before = (await hits(page)).length;
    const bytes = {};
    for (const [codec, named] of [["sign", "sign (1 bit)"], ["bits4", "residual (4 bit)"]]) {
      await page.locator("#original").isVisible() && (await page.locator("#original").click());
      await settled(page, "所有権を渡す");
      await page.locator("#codec").selectOption(codec);
      await page.locator("#rebuild [type=submit]").click();
      await page.locator("#codec-note", { hasText: "いまはこの索引" }).waitFor({ timeout: 60_000 });
      await settled(page, "所有権を渡す");
      const note = await page.locator("#codec-note").textContent();
      assert.match(note, new RegExp(`^${before} 節`));
      bytes[codec] = Number(/([\d.]+) バイト/.exec(note)[1]);
      await page.locator("#compare").click();
      await page.locator("#lab-note", { hasText: `この索引は ${named}` }).waitFor({ timeout: 60_000 });
    }
    assert.ok(bytes.bits4 > bytes.sign + 15, JSON.stringify(bytes));
    await page.locator("#own-text").fill("猫は炬燵で丸くなる。\n\n犬は庭を駆け回る。");
    await page.locator("#rebuild [type=submit]").click();
    await page.locator("#codec-note", { hasText: /^2 節/ }).waitFor({ timeout: 60_000 });
    await ask(page, "寒い日の猫");
    assert.match(await page.evaluate(() => document.querySelector("shirube-search").shown.hits[0].section.text), /炬燵/);
    await page.locator("#original").click();
    await page.waitForFunction(() => document.querySelector("shirube-search").shown?.nScored > 100, undefined, { timeout: 60_000 });
  });
});

test("この端末での時間が測れ、保存したファイルが消せる", async () => {
  await visit({}, async (page, { url }) => {
    await page.goto(url);
    await ready(page);
    await page.locator("#lab summary").click();
    await page.locator("#measure").click();
    await page.locator("#measured:not([hidden])").waitFor({ timeout: 60_000 });
    const cells = await page.$$eval("#measured td", (all) => all.map((cell) => Number(cell.textContent)));
    assert.equal(cells.length, 18);
    assert.ok(cells.every((value) => value >= 0 && value < 60_000), cells.join());
    const stored = () => page.evaluate(async () => (await (await caches.open("shirube-files-1")).keys()).length);
    assert.ok((await stored()) > 0);
    await page.locator("#forget").click();
    await page.waitForFunction(() => document.querySelector("#lab-note").textContent.startsWith("消しました"));
    assert.equal(await stored(), 0);
  });
});

test("どの通信も、ページのサーバーの外へは出ない", async () => {
  await visit({}, async (page, { url }) => {
    const outside = [];
    page.on("request", (request) => {
      if (!request.url().startsWith(url) && !request.url().startsWith("data:")) outside.push(request.url());
    });
    await page.goto(url);
    await ready(page);
    await ask(page, "所有権");
    assert.deepEqual(outside, []);
  });
});
