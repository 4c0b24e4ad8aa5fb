/** The demo page: the package's search element, as any page would use it, with examples and figures around it. */

import type { Shirube, SearchResult, Status } from "shirube";
import type { ShirubeSearch, SearchState } from "shirube/ui";
import "shirube/ui";
import { byId, element } from "./dom.js";
import { startCodec } from "./codec.js";
import { startLab } from "./lab.js";
import { chosenLanguage, onLanguage } from "./language.js";
import { fact, paintPage } from "./paint.js";
import { SOURCES, texts, type Language, type Texts } from "./texts.js";

const search = byId<ShirubeSearch>("search");
const timing = byId("timing");
const facts = byId("facts");

let language: Language = chosenLanguage();

const words = (): Texts => texts[language];
const number = (value: number, digits = 0) => value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
const megabytes = (bytes: number) => number(bytes / 1e6, 1);
const milliseconds = (ms: number) => number(ms, ms < 10 ? 1 : 0);

function paint(): void {
  const t = words();
  paintPage(search, language, t);
  byId<HTMLTextAreaElement>("own-text").placeholder = t.ownText;
  byId("sources").replaceChildren(
    ...Object.values(SOURCES).map(({ name, url, owner, license, licenseUrl }) =>
      element("li", {}, element("a", { href: url, rel: "noopener", lang: "ja" }, name), ` © ${owner}, `, element("a", { href: licenseUrl, rel: "noopener" }, license)),
    ),
  );
  paintQuery();
  paintTiming(search.shown);
  paintFacts((search.engine as Shirube | undefined)?.status);
}

function paintQuery(): void {
  const query = search.value.trim();
  document.body.classList.toggle("has-query", query !== "");
  document.title = query === "" ? words().documentTitle : `${[...query].slice(0, 60).join("")} — Shirube`;
}

function paintTiming(result: SearchResult | undefined): void {
  timing.hidden = !result;
  if (!result) return;
  const { totalMs, tokenizeMs, encodeMs, scoreMs } = result.timings;
  timing.textContent = words().timing(milliseconds(totalMs), milliseconds(tokenizeMs), milliseconds(encodeMs), milliseconds(scoreMs), number(result.nScored));
}

function paintFacts(status: Status | undefined): void {
  const t = words();
  facts.hidden = !status;
  byId("lab").hidden = !status;
  if (!status) return;
  const { backend, thread, model, bundle } = status;
  facts.replaceChildren(
    // Reasons arrive in English; the usual ones have words of the page's language.
    fact(t.facts.device, `WASM ${backend.kind}`, ["simd128", "relaxed-simd"].includes(backend.kind) ? t.simdReason : backend.reason),
    fact(t.facts.thread, t.thread[thread.kind], thread.kind === "worker" ? t.workerReason : thread.reason),
    fact(t.facts.model, t.size(megabytes(model.bytes), model.fromCache), `${model.name}, ${model.license}`),
    fact(t.facts.index, t.size(megabytes(bundle.bytes), bundle.fromCache), t.counts(number(bundle.documents), number(bundle.tokens))),
    fact(t.facts.start, t.startMs(milliseconds(status.loadMs)), status.cache.kind === "memory" ? status.cache.reason : t.cacheReason),
  );
}

let kept = false;

/** Searches fetch their shards as they go; the rest follows while the reader reads. */
function keepForOffline(shirube: Shirube | undefined): void {
  if (kept || !shirube) return;
  kept = true;
  shirube
    .keepForOffline()
    .then((all) => (document.documentElement.dataset["offline"] = all ? "ready" : "no"))
    .catch(() => {
      // No network, or a host that lost a file: the search that needs it says so.
    });
}

search.addEventListener("shirube-state", (event) => {
  const state = (event as CustomEvent<SearchState>).detail;
  if (state === "ready") paintFacts((search.engine as Shirube | undefined)?.status);
  if (state === "ready") keepForOffline(search.engine as Shirube | undefined);
  if (state !== "searching") paintTiming(search.shown);
  paintQuery();
});
search.addEventListener("shirube-meaning", () => paintFacts((search.engine as Shirube | undefined)?.status));
search.addEventListener("shirube-result", (event) => paintTiming((event as CustomEvent<SearchResult>).detail));
search.addEventListener("input", paintQuery);

onLanguage((chosen) => {
  language = chosen;
  paint();
});

search.sources = Object.fromEntries(Object.entries(SOURCES).map(([id, { name }]) => [id, name]));
paint();
const bundle = startCodec(search, words, milliseconds);
startLab(search, words, milliseconds, bundle);
if ("serviceWorker" in navigator && window.isSecureContext) {
  navigator.serviceWorker.register("./sw.js").catch(() => {
    // Without it the page works as long as there is a network.
  });
}
