/** `<shirube-modal>`: the search over the whole page, opened by a key, a trigger or `show()`. */

import { Base, adopt, element } from "./dom.js";
import { keyName, listen, shortcutsOf, unlisten, type Opener } from "./keys.js";
import { followScheme } from "./scheme.js";
import { SEARCH_ATTRIBUTES, ShirubeSearch } from "./search.js";
import { TEXT_ATTRIBUTES, languageOf, textFor, type TextKey, type Texts } from "./texts.js";
import css from "./modal.css";
import tokens from "./tokens.css";

/** Attributes that the modal hands on to the search inside it. */
const HANDED = [...SEARCH_ATTRIBUTES, ...TEXT_ATTRIBUTES].filter((name) => !["results", "shortcut", "theme"].includes(name));

const PARTS =
  "form, field, input, clear, progress, panel, state, ask, filters, filter, list, group, row, sub-row, source, title, excerpt, passage, mark, badge, badge-words, badge-meaning, pairs, nothing, problem, retry";

/**
 * A search in a modal dialog. Takes the attributes of `<shirube-search>`.
 *
 * @fires shirube-open
 * @fires shirube-close
 */
export class ShirubeModal extends Base {
  static get observedAttributes(): readonly string[] {
    return [...HANDED, "theme"];
  }

  /** The search inside. */
  readonly search: ShirubeSearch;
  private readonly dialog: HTMLDialogElement;
  private readonly closeButton = element("button", { type: "button", class: "close", part: "close", slot: "end" });
  private readonly hints = element("div", { class: "hints", part: "hints", "aria-hidden": "true" });
  private readonly opener: Opener;
  private stopFollowing: (() => void) | undefined;
  private opened: Element | null = null;

  constructor() {
    super();
    const shadow = this.attachShadow({ mode: "open" });
    adopt(shadow, tokens, css);
    this.search = document.createElement("shirube-search") as ShirubeSearch;
    this.search.setAttribute("results", "modal");
    this.search.setAttribute("exportparts", PARTS);
    // What the page puts into the modal's own slot shows in the search's.
    this.search.append(element("slot", { name: "start", slot: "start" }), this.closeButton);
    this.dialog = element("dialog", { part: "dialog" }, element("div", { class: "box", part: "box" }, this.search, this.hints));
    shadow.append(this.dialog);
    this.opener = { rank: 1, shortcuts: () => shortcutsOf(this), open: () => (this.dialog.open ? this.close() : this.show()) };
    this.closeButton.addEventListener("click", () => this.close());
    // Escape that ends a conversion must not end the dialog, also where its keydown comes after compositionend.
    this.dialog.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      if (!this.search.isComposing(event)) this.close();
    });
    this.dialog.addEventListener("cancel", (event) => {
      if (this.search.isComposing(event)) event.preventDefault();
    });
    this.dialog.addEventListener("close", () => {
      (this.opened as HTMLElement | null)?.focus?.({ preventScroll: true });
      this.opened = null;
      this.dispatchEvent(new CustomEvent("shirube-close", { bubbles: true, composed: true }));
    });
    // Only a press that began outside the box closes: marking text with the mouse may end there.
    this.dialog.addEventListener("pointerdown", (event) => {
      if (event.target === this.dialog) this.close();
    });
    this.search.addEventListener("shirube-select", (event) => {
      const detail = (event as CustomEvent<{ url: string }>).detail;
      // Another page replaces this one; a place on this page is behind the dialog.
      queueMicrotask(() => (event.defaultPrevented || samePage(detail.url)) && this.close());
    });
  }

  connectedCallback(): void {
    listen(this.opener);
    this.handOn();
    this.stopFollowing = followScheme(this, (scheme) => {
      this.dialog.dataset["scheme"] = scheme;
      this.search.setAttribute("theme", scheme);
    });
  }

  disconnectedCallback(): void {
    unlisten(this.opener);
    this.stopFollowing?.();
    if (this.dialog.open) this.dialog.close();
  }

  attributeChangedCallback(name: string): void {
    if (!this.isConnected) return;
    if (name === "theme") {
      this.stopFollowing?.();
      this.connectedCallback();
    } else this.handOn();
  }

  /** Whether it is open. */
  get open(): boolean {
    return this.dialog.open;
  }

  /** Opens it, with `query` in the field where one is given. */
  show(query?: string): void {
    if (!this.dialog.open) {
      this.opened = deepActive();
      this.paint();
      this.dialog.showModal();
      this.dispatchEvent(new CustomEvent("shirube-open", { bubbles: true, composed: true }));
    }
    this.search.focus();
    if (query !== undefined) this.search.value = query;
  }

  close(): void {
    if (this.dialog.open) this.dialog.close();
  }

  /** Loads the engine ahead of the first query. */
  preload(): void {
    this.search.preload();
  }

  /** The shortcuts that open it, as they are written on this machine's keyboard. */
  get shortcutNames(): string[] {
    return this.opener.shortcuts().map(keyName);
  }

  private handOn(): void {
    for (const name of HANDED) {
      const value = this.getAttribute(name);
      if (value === null) this.search.removeAttribute(name);
      else this.search.setAttribute(name, value);
    }
    // `lang` may stand on any ancestor, and the search looks through this shadow root by itself.
    this.paint();
  }

  private paint(): void {
    const own: Partial<Texts> = this.search.texts ?? {};
    const text = (key: TextKey) => textFor(this, own, key);
    this.dialog.lang = languageOf(this);
    this.dialog.setAttribute("aria-label", this.getAttribute("label") ?? text("label"));
    this.closeButton.textContent = text("close");
    const hint = (keys: string[], key: TextKey) => element("span", {}, ...keys.map((name) => element("kbd", {}, name)), text(key));
    this.hints.replaceChildren(hint(["↑", "↓"], "hintMove"), hint(["Enter"], "hintOpen"), hint(["Esc"], "hintClose"));
  }
}

/** The focused element, through all shadow roots. */
function deepActive(): Element | null {
  let node = document.activeElement;
  while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement;
  return node === document.body ? null : node;
}

const samePage = (url: string) => url.replace(/#.*$/, "") === location.href.replace(/#.*$/, "");
