/** The test bench below the results: weights and device by hand, what compression costs, times of this device, stored files. */

import { Shirube, type Hit, type Place, type SearchResult } from "shirube";
import type { ShirubeSearch } from "shirube/ui";
import { bytesPerToken, type Entry } from "./codec.js";
import { byId, element } from "./dom.js";
import { EXAMPLES, type Texts } from "./texts.js";

const ROUNDS = 3;

/** Hits in the heat map. */
const ROWS = 8;

const median = (values: number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** Query words against hits: how near the nearest word of the hit is, darker where it adds more to the score. */
function heat(result: SearchResult | undefined): (HTMLElement | string)[] {
  const hits = result?.hits.filter((hit) => hit.matches.length > 0).slice(0, ROWS) ?? [];
  if (!result || hits.length === 0) return [];
  const words = result.queryTokens.map(({ range }) => result.query.slice(range.start, range.end).trim());
  const most = Math.max(...hits.flatMap((hit) => hit.matches.map((match) => match.contribution)));
  const head = element("tr", {}, element("td"), ...words.map((word) => element("th", { scope: "col", lang: "ja" }, word || "␣")));
  const rows = hits.map((hit) => {
    const cells = words.map((_, i) => {
      const match = hit.matches.find(({ queryToken }) => queryToken === i);
      const cell = element("td", {}, match ? match.similarity.toFixed(2) : "");
      cell.style.setProperty("--heat", String(Math.max(0, (match?.contribution ?? 0) / most)));
      const place = match?.places[0];
      if (place) cell.title = textAt(hit, place);
      return cell;
    });
    return element("tr", {}, element("th", { scope: "row", lang: "ja" }, hit.section.headings.at(-1) ?? hit.section.title), ...cells);
  });
  return [element("thead", {}, head), element("tbody", {}, ...rows)];
}

/** A section as the encoder read it for the index. */
function documentOf({ title, headings, text }: Hit["section"]): string {
  return [title, headings.filter((part) => part !== "").join(" > "), text].filter((part) => part !== "").join("\n");
}

function textAt({ section }: Hit, { part, heading, range }: Place): string {
  const text = part === "title" ? section.title : part === "heading" ? (section.headings[heading] ?? "") : section.text;
  return text.slice(range.start, range.end);
}

export function startLab(search: ShirubeSearch, words: () => Texts, milliseconds: (ms: number) => string, bundle: () => Promise<Entry>): void {
  const weight = byId<HTMLInputElement>("weight");
  const note = byId("lab-note");
  const table = byId<HTMLTableElement>("measured");
  const measure = byId<HTMLButtonElement>("measure");

  weight.addEventListener("input", () => {
    byId("weight-value").textContent = Number(weight.value).toFixed(1);
    search.setAttribute("lexical-weight", weight.value);
  });

  const map = byId<HTMLTableElement>("heat");
  const paintHeat = () => {
    const rows = heat(search.shown);
    map.replaceChildren(...rows);
    byId("heat-note").hidden = rows.length === 0;
  };
  search.addEventListener("shirube-result", paintHeat);
  search.addEventListener("shirube-state", paintHeat);

  const device = byId<HTMLSelectElement>("device");
  const paintDevice = () => {
    const status = (search.engine as Shirube | undefined)?.status;
    if (status?.meaning.state !== "ready") return;
    const { encoder, maxsim } = status.device;
    const name = ({ kind }: typeof encoder) => (kind === "webgpu" ? "GPU" : "CPU");
    byId("device-note").textContent = words().deviceNow(name(encoder), name(maxsim));
    byId("device-note").title = [encoder.reason, maxsim.reason].join("\n");
  };
  device.addEventListener("change", () => {
    byId("device-note").textContent = "";
    // Another device is another engine: the element loads it and searches again.
    search.setAttribute("device", device.value);
    search.preload();
  });
  for (const event of ["shirube-state", "shirube-meaning", "shirube-result"]) search.addEventListener(event, paintDevice);

  const compared = byId<HTMLTableElement>("compared");
  search.addEventListener("shirube-result", () => (compared.hidden = true));
  byId("compare").addEventListener("click", async () => {
    const shirube = search.engine as Shirube | undefined;
    const hits = search.shown?.hits.filter(({ maxsim }) => maxsim > 0).slice(0, ROWS) ?? [];
    const t = words();
    if (!shirube || !search.shown || hits.length === 0) {
      note.textContent = t.nothingToCompare;
      return;
    }
    note.textContent = t.comparing;
    try {
      const entry = await bundle();
      const exact = await shirube.rerank(search.shown.query, hits.map(({ section }) => documentOf(section)));
      const rows = hits.map(({ section, maxsim }, i) => {
        const rank = exact.findIndex(({ index }) => index === i);
        const score = exact[rank]?.score ?? Number.NaN;
        const cells = [maxsim.toFixed(2), score.toFixed(2), (maxsim - score).toFixed(2), String(rank + 1)];
        return element("tr", {}, element("th", { scope: "row", lang: "ja" }, section.headings.at(-1) ?? section.title), ...cells.map((text) => element("td", {}, text)));
      });
      const head = element("tr", {}, ...t.compareColumns.map((name) => element("th", { scope: "col" }, name)));
      compared.replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
      compared.hidden = false;
      const { kind, nbits } = entry.codec;
      note.textContent = t.compared(kind === "product" ? "product" : `${kind} (${nbits} bit)`, bytesPerToken(entry).toFixed(1));
    } catch (error) {
      note.textContent = error instanceof Error ? error.message : String(error);
    }
  });

  byId("forget").addEventListener("click", async () => {
    await Shirube.clearCache();
    note.textContent = words().forgotten;
  });

  measure.addEventListener("click", async () => {
    const shirube = search.engine as Shirube | undefined;
    if (!shirube) return;
    measure.disabled = true;
    table.hidden = true;
    const t = words();
    const rows: HTMLTableRowElement[] = [];
    let done = 0;
    try {
      for (const query of EXAMPLES) {
        const timings: SearchResult["timings"][] = [];
        for (let round = 0; round < ROUNDS; round++) {
          note.textContent = t.measuring(String(done++), String(EXAMPLES.length * ROUNDS));
          timings.push((await shirube.search(query, { queue: true })).timings);
        }
        const of = (key: "encodeMs" | "scoreMs" | "totalMs") => element("td", {}, milliseconds(median(timings.map((timing) => timing[key]))));
        rows.push(element("tr", {}, element("th", { scope: "row", lang: "ja" }, query), of("encodeMs"), of("scoreMs"), of("totalMs")));
      }
      const head = element("tr", {}, ...t.columns.map((name) => element("th", { scope: "col" }, name)));
      table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
      table.hidden = false;
      note.textContent = t.measured(String(EXAMPLES.length));
    } catch (error) {
      note.textContent = error instanceof Error ? error.message : String(error);
    }
    measure.disabled = false;
  });
}
