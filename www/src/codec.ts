/** An index made in this page, of the sections on view or of the visitor's own text, with a codec of choice; it is searched in place of the site's. */

import { Shirube } from "shirube";
import type { IndexDocument, IndexOptions } from "shirube/build";
import type { ShirubeSearch } from "shirube/ui";
import { byId } from "./dom.js";
import type { Texts } from "./texts.js";

/** What an entry says of its codes. */
export interface Entry {
  codec: { kind: string; nbits: number };
  counts: { tokens: number };
  files: { kind: string; bytes: number; shard_bytes?: number }[];
}

/** Bytes of codes for each stored token. */
export function bytesPerToken({ counts, files }: Entry): number {
  const codes = files.filter(({ kind }) => kind === "codes").reduce((sum, { bytes, shard_bytes = 0 }) => sum + bytes + shard_bytes, 0);
  return codes / counts.tokens;
}

const parse = async (file: Blob | Response): Promise<Entry> => JSON.parse(await file.text()) as Entry;

/** Paragraphs of a text, or the sections that a search has found. */
function documentsOf(text: string, search: ShirubeSearch): IndexDocument[] {
  const paragraphs = text.split(/\n\s*\n/).map((paragraph) => paragraph.trim()).filter((paragraph) => paragraph !== "");
  if (paragraphs.length > 0) return paragraphs.map((text) => ({ title: [...text].slice(0, 24).join(""), text }));
  return (search.shown?.hits ?? []).map(({ section: { title, headings, text, url, anchor } }) => ({ title, headings, text, url, anchor }));
}

/** Wires the form; returns what reads the entry of the index that is searched. */
export function startCodec(search: ShirubeSearch, words: () => Texts, milliseconds: (ms: number) => string): () => Promise<Entry> {
  const note = byId("codec-note");
  const original = byId<HTMLButtonElement>("original");
  const form = byId<HTMLFormElement>("rebuild");
  const submit = form.querySelector<HTMLButtonElement>("[type=submit]");
  let mine: { engine: Shirube; entry: Entry } | undefined;

  const back = () => {
    search.searcher = undefined;
    mine?.engine.dispose();
    mine = undefined;
    original.hidden = true;
    note.textContent = "";
  };
  original.addEventListener("click", back);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const t = words();
    const documents = documentsOf(byId<HTMLTextAreaElement>("own-text").value, search);
    if (documents.length === 0 || !submit) {
      note.textContent = t.nothingToBuild;
      return;
    }
    submit.disabled = true;
    const start = performance.now();
    try {
      const codec = byId<HTMLSelectElement>("codec").value as NonNullable<IndexOptions["codec"]>;
      const progress: NonNullable<IndexOptions["progress"]> = ({ stage, done, of }) => stage === "encoding" && (note.textContent = t.building(String(done), String(of)));
      const { buildIndex } = await import("shirube/build");
      const bundle = await buildIndex(documents, { codec, progress, model: "./model/" });
      const entry = await parse(bundle.get("shirube.json") as Blob);
      const took = performance.now() - start;
      const engine = await Shirube.load({ bundle, model: "./model/" });
      mine?.engine.dispose();
      mine = { engine, entry };
      search.searcher = engine;
      original.hidden = false;
      note.textContent = t.built(String(documents.length), bytesPerToken(entry).toFixed(1), milliseconds(took));
    } catch (error) {
      note.textContent = error instanceof Error ? error.message : String(error);
    }
    submit.disabled = false;
  });

  return async () => mine?.entry ?? parse(await fetch(new URL("shirube.json", new URL((search.getAttribute("bundle") ?? ".").replace(/\/?$/, "/"), document.baseURI))));
}
