/** The page where a visitor searches the demo with a model from the own disk. */

import { Reranker, Shirube, ShirubeError, findModel, type FolderFiles, type FoundModel, type ProgressEvent } from "shirube";
import type { Searcher, ShirubeSearch } from "shirube/ui";
import "shirube/ui";
import { byId, element } from "./dom.js";
import { droppedFiles } from "./drop.js";
import { chosenLanguage, onLanguage } from "./language.js";
import { modelSearcher, type Progress } from "./model-search.js";
import { modelTexts, type ModelTexts } from "./model-texts.js";
import { fact, paintPage } from "./paint.js";
import { SOURCES, type Language } from "./texts.js";

const search = byId<ShirubeSearch>("search");
const zone = byId("zone");
const folder = byId<HTMLInputElement>("folder");
const bar = byId<HTMLProgressElement>("bar");
const line = byId("line");

/** A model that is loaded, and what it searches. */
interface Loaded {
  mine: Searcher;
  /** The site's own model over the same documents; none where the folder brought an index along. */
  own: Searcher | undefined;
  facts: { name: string; license: string; dim: number; bytes: number; loadMs: number; documents: number | undefined };
  /** Whether an index in the folder could not be used. */
  mismatch: boolean;
  memory(): Promise<number>;
  dispose(): void;
}

let language: Language = chosenLanguage();
let loaded: Loaded | undefined;
let failure: unknown;
/** Bytes of WebAssembly memory, as last asked. */
let memory = 0;
/** Ends the loading of a folder that another one replaces. */
let controller = new AbortController();

const words = (): ModelTexts => modelTexts[language];
const number = (value: number, digits = 0) => value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
const megabytes = (bytes: number) => number(bytes / 1e6, 1);

/* Painting */

function paint(): void {
  const t = words();
  paintPage(search, language, t);
  document.title = t.documentTitle;
  paintFailure();
  paintFacts();
}

function paintFailure(): void {
  const box = byId("failure");
  const before = box.hidden;
  box.hidden = failure === undefined;
  if (failure === undefined) return box.replaceChildren();
  const t = words();
  const { code, message, cure } = failure instanceof ShirubeError ? failure : { code: "other", message: String(failure), cure: "" };
  const known = t.errors[code as "other"] ?? t.errors.other;
  box.replaceChildren(
    element("p", {}, known),
    code === "NOT_CONVERTED" ? element("pre", { tabindex: "0" }, element("code", {}, cure)) : element("p", { class: "failure-detail", lang: "en" }, message),
  );
  if (before) box.scrollIntoView({ block: "nearest" });
}

function paintFacts(): void {
  byId("chooser").hidden = loaded !== undefined;
  byId("searching").hidden = loaded === undefined;
  document.body.classList.toggle("has-query", loaded !== undefined);
  if (!loaded) return;
  const t = words();
  const { name, license, dim, bytes, loadMs, documents } = loaded.facts;
  byId("model-facts").replaceChildren(
    fact(t.facts.model, name, `${license}, ${t.width(number(dim))}`),
    fact(t.facts.size, t.megabytes(megabytes(bytes)), t.checked),
    fact(t.facts.start, t.milliseconds(number(loadMs)), documents === undefined ? "" : t.sections(number(documents))),
    fact(t.facts.memory, t.megabytes(megabytes(memory)), t.wasm),
  );
  byId("choice").hidden = loaded.own === undefined;
  byId("note").textContent = loaded.own === undefined ? t.noteBundle : loaded.mismatch ? `${t.noteMismatch} ${t.note}` : t.note;
}

function paintProgress(progress: Progress | undefined): void {
  const node = byId("ranking");
  node.hidden = progress === undefined;
  if (progress) node.textContent = words().ranking(number(progress.done), number(progress.total));
}

/* Loading */

let demo: Promise<Shirube> | undefined;

/** The site's documents and model, once. */
function site(): Promise<Shirube> {
  demo ??= Shirube.load({ bundle: "./bundle/", model: "./model/", meaning: "background" });
  demo.catch(() => (demo = undefined));
  return demo;
}

async function open({ model, bundle }: FoundModel, signal: AbortSignal, progress_callback: (event: ProgressEvent) => void): Promise<Loaded> {
  let mismatch = false;
  if (bundle) {
    try {
      const shirube = await Shirube.load({ bundle, model, signal, progress_callback });
      const { status } = shirube;
      return {
        mine: shirube,
        own: undefined,
        facts: { ...status.model, loadMs: status.loadMs, documents: status.bundle.documents },
        mismatch,
        memory: () => shirube.memoryBytes(),
        dispose: () => shirube.dispose(),
      };
    } catch (error) {
      // An index of another model: the model itself may be whole.
      if (!(error instanceof ShirubeError) || error.code !== "MODEL_MISMATCH") throw error;
      mismatch = true;
    }
  }
  const [own, reranker] = await Promise.all([site(), Reranker.load({ model, signal, progress_callback })]);
  return {
    mine: modelSearcher(own, reranker, paintProgress),
    own,
    facts: { ...reranker.status.model, loadMs: reranker.status.loadMs, documents: undefined },
    mismatch,
    memory: () => reranker.memoryBytes(),
    dispose: () => reranker.dispose(),
  };
}

/** Back to choosing a folder. The search keeps its question for the next one. */
function close(): void {
  loaded?.dispose();
  loaded = undefined;
  paintFacts();
}

async function take(files: Promise<FolderFiles> | Iterable<File>): Promise<void> {
  controller.abort();
  close();
  const mine = new AbortController();
  controller = mine;
  failure = undefined;
  paintFailure();
  const t = words();
  byId("loading").hidden = false;
  bar.removeAttribute("value");
  line.textContent = t.reading;
  const onProgress = (event: ProgressEvent) => {
    if (mine.signal.aborted || event.status !== "progress_total") return;
    bar.max = event.total;
    bar.value = event.loaded;
    line.textContent = event.loaded < event.total ? t.loading(megabytes(event.loaded), megabytes(event.total)) : t.preparing;
  };
  try {
    const next = await open(await findModel(await files), mine.signal, onProgress);
    if (mine.signal.aborted) return next.dispose();
    loaded = next;
    memory = await next.memory();
    for (const radio of document.querySelectorAll<HTMLInputElement>("[name=searcher]")) radio.checked = radio.value === "mine";
    paintFacts();
    search.searcher = next.mine;
    search.focus({ preventScroll: true });
  } catch (error) {
    if (mine.signal.aborted) return;
    failure = error;
    paintFailure();
  }
  byId("loading").hidden = true;
  line.textContent = "";
  // The same folder can be chosen again.
  folder.value = "";
}

/* Events */

byId("pick").addEventListener("click", () => folder.click());
folder.addEventListener("change", () => void (folder.files && folder.files.length > 0 && take([...folder.files])));

// Anywhere on the page: who misses the frame by a little would leave the page for a listing of the folder.
let inside = 0;
document.addEventListener("dragenter", () => zone.classList.toggle("over", ++inside > 0));
document.addEventListener("dragleave", () => zone.classList.toggle("over", --inside > 0));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  zone.classList.remove("over");
  if (event.dataTransfer) void take(droppedFiles(event.dataTransfer));
});

byId("another").addEventListener("click", () => {
  close();
  byId("pick").focus();
});

byId("choice").addEventListener("change", (event) => {
  if (!loaded) return;
  const chosen = (event.target as HTMLInputElement).value === "own" ? loaded.own : loaded.mine;
  search.searcher = chosen ?? loaded.mine;
});

search.addEventListener("shirube-state", (event) => {
  if ((event as CustomEvent<string>).detail !== "done" || !loaded) return;
  const asked = loaded;
  void asked.memory().then(
    (bytes) => {
      if (loaded !== asked) return;
      memory = bytes;
      paintFacts();
    },
    () => {
      // The worker is gone: another folder was chosen.
    },
  );
});

onLanguage((chosen) => {
  language = chosen;
  paint();
});

search.sources = Object.fromEntries(Object.entries(SOURCES).map(([id, { name }]) => [id, name]));
paint();
