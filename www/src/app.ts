/** The demo page: loads the package as any page would, and shows what it answers. */

import { Shirube, ShirubeError, type Hit, type SearchResult, type Status } from "shirube";
import { SearchBox } from "./box.js";
import { byId, element } from "./dom.js";
import { excerpt, pairs, runs, telling, type Run } from "./excerpt.js";
import { EXAMPLES, SOURCES, texts, type Language, type Texts } from "./texts.js";

const LIMIT = 10;

const input = byId<HTMLInputElement>("query");
const results = byId<HTMLOListElement>("results");
const state = byId("state");
const live = byId("live");
const timing = byId("timing");
const problem = byId("problem");
const facts = byId("facts");
const examples = byId("examples");
const clear = byId("clear");
const progress = document.querySelector<HTMLElement>(".progress")!;

let language: Language = chosenLanguage();
let shirube: Shirube | undefined;
let loading = false;
let loadedBytes: { loaded: number; total: number } | undefined;
let failure: ShirubeError | undefined;
let shown: SearchResult | undefined;
let wanted = "";
let controller: AbortController | undefined;

const words = (): Texts => texts[language];
const number = (value: number, digits = 0) => value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
const megabytes = (bytes: number) => number(bytes / 1e6, 1);
const milliseconds = (ms: number) => number(ms, ms < 10 ? 1 : 0);

function chosenLanguage(): Language {
  const asked = new URLSearchParams(location.search).get("lang");
  if (asked === "en" || asked === "ja") return asked;
  try {
    return localStorage.getItem("shirube-language") === "en" ? "en" : "ja";
  } catch {
    return "ja";
  }
}

const box = new SearchBox(input, {
  onQuery: (text) => void search(text),
  onEnter: () => {
    if (shown && shown.query === input.value) focusHit(0);
  },
  onDown: () => focusHit(0),
  onEscape: () => {
    if (input.value === "") input.blur();
  },
});

async function load(): Promise<void> {
  if (loading) return;
  loading = true;
  failure = undefined;
  loadedBytes = undefined;
  paint();
  try {
    shirube = await Shirube.load({
      bundle: "./bundle/",
      progress_callback: (event) => {
        if (event.status !== "progress_total") return;
        loadedBytes = event;
        paintState();
      },
    });
  } catch (error) {
    failure = asShirubeError(error);
  }
  loading = false;
  paint();
  if (shirube && input.value.trim() !== "") void search(input.value, true);
}

async function search(text: string, again = false): Promise<void> {
  if (text === wanted && !again) return;
  wanted = text;
  remember(text);
  controller?.abort();
  if (text.trim() === "") {
    shown = undefined;
    if (shirube) failure = undefined;
    paint();
    return;
  }
  paintState();
  if (!shirube) return;
  controller = new AbortController();
  results.setAttribute("aria-busy", "true");
  try {
    const result = await shirube.search(text, { limit: LIMIT, signal: controller.signal });
    if (text !== wanted) return;
    shown = result;
    failure = undefined;
  } catch (error) {
    const reason = asShirubeError(error);
    if (reason.code === "ABORTED" || text !== wanted) return;
    shown = undefined;
    failure = reason;
  }
  results.removeAttribute("aria-busy");
  paint();
}

function asShirubeError(error: unknown): ShirubeError {
  return error instanceof ShirubeError ? error : new ShirubeError("INTERNAL", String(error));
}

/** The query stands in the address, so that a search can be shared and survives a reload. */
function remember(text: string): void {
  const url = new URL(location.href);
  // Addresses have limits that a pasted book does not.
  if (text.trim() === "" || text.length > 500) url.searchParams.delete("q");
  else url.searchParams.set("q", text.toWellFormed?.() ?? text);
  history.replaceState(null, "", url);
}

/* Painting */

function paint(): void {
  paintTexts();
  paintState();
  paintProblem();
  paintResults();
  paintFacts(shirube?.status);
}

function paintTexts(): void {
  const t = words();
  document.documentElement.lang = language;
  document.title = input.value.trim() === "" ? t.documentTitle : `${input.value.slice(0, 60)} — Shirube`;
  input.placeholder = t.placeholder;
  clear.setAttribute("aria-label", t.clear);
  for (const node of document.querySelectorAll<HTMLElement>("[data-text]")) {
    node.textContent = t[node.dataset["text"] as "title"];
  }
  for (const button of document.querySelectorAll<HTMLElement>("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset["language"] === language));
  }
  const chips = EXAMPLES.map((text) => {
    const chip = element("button", { type: "button", class: "chip", lang: "ja" }, text);
    chip.addEventListener("click", () => {
      box.set(text);
      input.focus({ preventScroll: true });
    });
    return chip;
  });
  byId("sources").replaceChildren(
    ...Object.values(SOURCES).map(({ name, url, owner, license, licenseUrl }) =>
      element(
        "li",
        {},
        element("a", { href: url, rel: "noopener", lang: "ja" }, name),
        ` © ${owner}, `,
        element("a", { href: licenseUrl, rel: "noopener" }, license),
      ),
    ),
  );
  examples.replaceChildren(element("span", { class: "examples-label" }, t.examples), ...chips);
  document.body.classList.toggle("has-query", input.value.trim() !== "");
}

function paintState(): void {
  const t = words();
  const busy = loading && !failure;
  progress.hidden = !busy;
  if (busy) {
    const share = loadedBytes && loadedBytes.total > 0 ? loadedBytes.loaded / loadedBytes.total : 0;
    progress.setAttribute("aria-valuenow", String(Math.round(100 * share)));
    progress.setAttribute("aria-label", t.preparing);
    progress.style.setProperty("--share", String(share));
    const text = loadedBytes ? t.downloading(megabytes(loadedBytes.loaded), megabytes(loadedBytes.total)) : t.preparing;
    state.textContent = input.value.trim() === "" ? text : `${text}　${t.waitingQuery}`;
  } else if (shown) {
    state.textContent = shown.hits.length > 0 ? t.found(shown.hits.length, short(shown.query)) : t.nothing;
  } else if (shirube && !failure) {
    state.textContent = t.ready(number(shirube.status.bundle.documents));
  } else {
    state.textContent = "";
  }
}

const short = (text: string) => ([...text.slice(0, 80)].length > 40 ? `${[...text.slice(0, 80)].slice(0, 40).join("")}…` : text);

function paintProblem(): void {
  const t = words();
  problem.hidden = !failure;
  document.body.classList.toggle("has-problem", failure !== undefined);
  if (!failure) {
    problem.replaceChildren();
    return;
  }
  const [title, cure] = t.problem[failure.code] ?? [failure.code, ""];
  const gentle = failure.code === "EMPTY_QUERY";
  problem.classList.toggle("gentle", gentle);
  const retry = element("button", { type: "button", class: "retry" }, t.retry);
  retry.addEventListener("click", () => (shirube && failure?.code !== "WORKER_FAILED" && failure?.code !== "INTERNAL" ? void search(input.value, true) : restart()));
  problem.replaceChildren(
    element("h2", {}, title),
    element("p", {}, cure),
    ...(gentle ? [] : [element("p", { class: "detail", lang: "en" }, `${failure.code}: ${failure.message}`), retry]),
  );
}

function restart(): void {
  shirube?.dispose();
  shirube = undefined;
  void load();
}

function paintResults(): void {
  const t = words();
  const result = shown;
  timing.hidden = !result;
  if (!result) {
    results.replaceChildren();
    timing.textContent = "";
    live.textContent = failure ? (t.problem[failure.code]?.[0] ?? "") : "";
    return;
  }
  results.replaceChildren(
    ...(result.hits.length > 0
      ? result.hits.map((hit) => card(result, hit))
      : [element("li", { class: "nothing" }, element("p", {}, t.nothing), element("p", {}, t.nothingHint))]),
  );
  const { totalMs, tokenizeMs, encodeMs, scoreMs } = result.timings;
  timing.textContent = t.timing(milliseconds(totalMs), milliseconds(tokenizeMs), milliseconds(encodeMs), milliseconds(scoreMs), number(result.nScored));
  if (result.truncated) timing.append(element("span", { class: "note" }, t.truncated));
  live.textContent = result.hits.length > 0 ? t.found(result.hits.length, short(result.query)) : t.nothing;
}

function card(result: SearchResult, hit: Hit): HTMLLIElement {
  const { section, highlights } = hit;
  const href = safeUrl(section.url);
  const link = element("a", href ? { href, rel: "noopener", class: "hit-link" } : { class: "hit-link" });
  link.append(
    element("span", { class: "crumb" }, ...marked(runs(section.title, telling(section.title, highlights.title)))),
    ...section.headings.map((heading, i) => element("span", { class: "crumb" }, ...marked(runs(heading, telling(heading, highlights.headings[i] ?? []))))),
  );
  const list = pairs(result, hit).map((pair) =>
    element(
      "li",
      { class: `pair s${pair.level}` },
      element("span", { class: "asked" }, pair.asked),
      element("span", { class: "to", "aria-hidden": "true" }, "→"),
      element("span", { class: "found" }, pair.found),
    ),
  );
  return element(
    "li",
    { class: "card", "data-document": String(hit.document), "data-id": section.id, "data-score": String(hit.score) },
    element(
      "div",
      { class: "meta" },
      element("span", { class: "source" }, SOURCES[section.source]?.name ?? section.source),
      element("span", { class: "score", title: words().score }, words().scores(number(hit.maxsim, 1), number(hit.lexical, 1))),
    ),
    element("h2", { lang: "ja" }, link),
    element("p", { class: "excerpt", lang: "ja" }, ...marked(excerpt(hit))),
    list.length > 0 && element("ul", { class: "pairs", lang: "ja", "aria-label": words().matched }, ...list),
  );
}

function marked(list: Run[]): (Node | string)[] {
  return list.map((run) => (run.level > 0 ? element("mark", { class: `s${run.level}` }, run.text) : run.text));
}

/** Only web addresses: an index is data from elsewhere. */
function safeUrl(url: string): string | undefined {
  try {
    const parsed = new URL(url, location.href);
    return parsed.protocol === "https:" || parsed.protocol === "http:" ? parsed.href : undefined;
  } catch {
    return undefined;
  }
}

function paintFacts(status: Status | undefined): void {
  const t = words();
  facts.hidden = !status;
  if (!status) return;
  const row = (name: string, value: string, note: string) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value), element("dd", { class: "fact-note" }, note));
  const { backend, thread, model, bundle } = status;
  facts.replaceChildren(
    // Reasons arrive in English; the usual ones have words of the page's language.
    row(t.facts.device, `WASM ${backend.kind}`, backend.kind === "simd128" ? t.simdReason : backend.reason),
    row(t.facts.thread, t.thread[thread.kind], thread.kind === "worker" ? t.workerReason : thread.reason),
    row(t.facts.model, t.size(megabytes(model.bytes), model.fromCache), `${model.name}, ${model.license}`),
    row(t.facts.index, t.size(megabytes(bundle.bytes), bundle.fromCache), t.counts(number(bundle.documents), number(bundle.tokens))),
    row(t.facts.start, t.startMs(milliseconds(status.loadMs)), status.cache.kind === "memory" ? status.cache.reason : t.cacheReason),
  );
}

/* Keys */

function hitLinks(): HTMLAnchorElement[] {
  return [...results.querySelectorAll<HTMLAnchorElement>("a.hit-link[href]")];
}

function focusHit(index: number): void {
  hitLinks()[index]?.focus();
}

results.addEventListener("keydown", (event) => {
  const links = hitLinks();
  const at = links.indexOf(document.activeElement as HTMLAnchorElement);
  if (at < 0) return;
  if (event.key === "ArrowDown") focusHit(Math.min(at + 1, links.length - 1));
  else if (event.key === "ArrowUp") at === 0 ? input.focus() : focusHit(at - 1);
  else if (event.key === "Escape") input.focus();
  else return;
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || box.isComposing(event)) return;
  const target = event.target as HTMLElement;
  if (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) return;
  event.preventDefault();
  input.focus();
  input.select();
});

document.querySelector(".language")?.addEventListener("click", (event) => {
  const chosen = (event.target as HTMLElement).closest<HTMLElement>("[data-language]")?.dataset["language"];
  if (chosen !== "ja" && chosen !== "en") return;
  language = chosen;
  try {
    localStorage.setItem("shirube-language", chosen);
  } catch {
    // Storage is switched off: the choice lasts for this visit.
  }
  paint();
});

input.addEventListener("input", () => document.body.classList.toggle("has-query", input.value.trim() !== ""));

clear.addEventListener("click", () => {
  box.set("");
  input.focus();
});

/* Start */

input.value = new URLSearchParams(location.search).get("q") ?? "";
wanted = input.value;
void load();
if ("serviceWorker" in navigator && window.isSecureContext) {
  navigator.serviceWorker.register("./sw.js").catch(() => {
    // Without it the page works as long as there is a network.
  });
}
