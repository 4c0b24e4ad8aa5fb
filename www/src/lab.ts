/** The test bench below the results: weights by hand, times of this device, stored files. */

import { Shirube, type SearchResult } from "shirube";
import type { ShirubeSearch } from "shirube/ui";
import { byId, element } from "./dom.js";
import { EXAMPLES, type Texts } from "./texts.js";

const ROUNDS = 3;

const median = (values: number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

export function startLab(search: ShirubeSearch, words: () => Texts, milliseconds: (ms: number) => string): void {
  const weight = byId<HTMLInputElement>("weight");
  const note = byId("lab-note");
  const table = byId<HTMLTableElement>("measured");
  const measure = byId<HTMLButtonElement>("measure");

  weight.addEventListener("input", () => {
    byId("weight-value").textContent = Number(weight.value).toFixed(1);
    search.setAttribute("lexical-weight", weight.value);
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
