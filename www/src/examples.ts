/** Questions to try, as buttons that put themselves into the search box. */

import type { ShirubeSearch } from "shirube/ui";
import { byId, element } from "./dom.js";
import { EXAMPLES } from "./texts.js";

/** Fills the page's list of examples for `search`. */
export function paintExamples(search: ShirubeSearch): void {
  byId("examples").replaceChildren(
    ...EXAMPLES.map((text) => {
      const chip = element("button", { type: "button", class: "chip", lang: "ja" }, text);
      chip.addEventListener("click", () => {
        search.value = text;
        search.focus({ preventScroll: true });
      });
      return chip;
    }),
  );
}
