/** What both pages paint alike. */

import type { ShirubeSearch } from "shirube/ui";
import { element } from "./dom.js";
import { paintExamples } from "./examples.js";
import { paintLanguage } from "./language.js";
import type { Language } from "./texts.js";

/** The page in `language`: every `data-text` from `texts`, the search element's own words, the examples. */
export function paintPage(search: ShirubeSearch, language: Language, texts: { label: string }): void {
  paintLanguage(language);
  // The element looks for `lang` when it paints.
  search.lang = language;
  search.setAttribute("label", texts.label);
  for (const node of document.querySelectorAll<HTMLElement>("[data-text]")) node.textContent = String(texts[node.dataset["text"] as "label"]);
  paintExamples(search);
}

/** One fact of a list: name, value and a note. */
export function fact(name: string, value: string, note: string): HTMLElement {
  return element("div", {}, element("dt", {}, name), element("dd", {}, value), element("dd", { class: "fact-note" }, note));
}
