/**
 * Custom elements for searching a page: `<shirube-search>`, `<shirube-modal>`, `<shirube-trigger>`.
 *
 * ```html
 * <script type="module" src="/shirube/ui.js"></script>
 * <shirube-trigger></shirube-trigger>
 * ```
 *
 * Importing this module defines the elements where there is a document, and does nothing on a server. The engine is fetched when
 * somebody wants to search.
 *
 * @module
 */

import { ShirubeModal } from "./modal.js";
import { ShirubeSearch } from "./search.js";
import { ShirubeTrigger } from "./trigger.js";

export { ShirubeModal, ShirubeSearch, ShirubeTrigger };
export type { TextKey, Texts } from "./texts.js";
export type * from "./types.js";

declare global {
  interface HTMLElementTagNameMap {
    "shirube-search": ShirubeSearch;
    "shirube-modal": ShirubeModal;
    "shirube-trigger": ShirubeTrigger;
  }
}

if (globalThis.customElements) {
  for (const [name, kind] of [
    ["shirube-search", ShirubeSearch],
    ["shirube-modal", ShirubeModal],
    ["shirube-trigger", ShirubeTrigger],
  ] as const) {
    // Two copies of the package on one page: the first stays.
    if (!customElements.get(name)) customElements.define(name, kind);
  }
}
