/** `<shirube-trigger>`: the button that opens a modal. */

import { Base, LENS, adopt, element, icon } from "./dom.js";
import { ShirubeModal } from "./modal.js";
import { followScheme } from "./scheme.js";
import { TEXT_ATTRIBUTES, languageOf, textFor } from "./texts.js";
import css from "./trigger.css";
import tokens from "./tokens.css";

/**
 * A button. Opens the modal that `for` names, else the page's first; where there is none it makes one with its own attributes.
 */
export class ShirubeTrigger extends Base {
  static get observedAttributes(): readonly string[] {
    return ["lang", "label", "theme", ...TEXT_ATTRIBUTES];
  }

  private readonly words = element("span", { class: "words", part: "label" });
  private readonly hint = element("kbd", { part: "hint", "aria-hidden": "true" });
  private readonly button = element("button", { type: "button", class: "trigger", part: "button", "aria-haspopup": "dialog" }, icon("lens", ...LENS), element("slot", {}, this.words), this.hint);
  private made: ShirubeModal | undefined;
  private stopFollowing: (() => void) | undefined;

  constructor() {
    super();
    const shadow = this.attachShadow({ mode: "open", delegatesFocus: true });
    adopt(shadow, tokens, css);
    shadow.append(this.button);
    this.button.addEventListener("click", () => this.modal?.show());
    // The engine's code and index may arrive while the pointer is still on its way.
    this.button.addEventListener("pointerenter", () => this.getAttribute("load") === "hover" && this.modal?.preload());
  }

  connectedCallback(): void {
    this.stopFollowing = followScheme(this, (scheme) => (this.button.dataset["scheme"] = scheme));
    // After the parser has seen the whole page: its modal may stand below.
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => this.isConnected && this.attach(), { once: true });
    else queueMicrotask(() => this.isConnected && this.attach());
    this.paint();
  }

  disconnectedCallback(): void {
    this.stopFollowing?.();
    this.made?.remove();
    this.made = undefined;
  }

  attributeChangedCallback(name: string): void {
    if (!this.isConnected) return;
    if (name === "theme") {
      this.stopFollowing?.();
      this.stopFollowing = followScheme(this, (scheme) => (this.button.dataset["scheme"] = scheme));
    }
    this.paint();
  }

  /** The modal that this button opens. */
  get modal(): ShirubeModal | undefined {
    const id = this.getAttribute("for");
    const node = id ? document.getElementById(id) : document.querySelector("shirube-modal");
    return node instanceof ShirubeModal ? node : undefined;
  }

  private attach(): void {
    if (!this.modal && !this.hasAttribute("for")) {
      this.made = document.createElement("shirube-modal") as ShirubeModal;
      for (const { name, value } of this.attributes) if (!["id", "class", "style", "slot"].includes(name)) this.made.setAttribute(name, value);
      document.body.append(this.made);
    }
    this.paint();
  }

  private paint(): void {
    const label = this.getAttribute("label") ?? textFor(this, {}, "open");
    this.button.lang = languageOf(this);
    this.words.textContent = label;
    const [shortcut] = this.modal?.shortcutNames ?? [];
    this.hint.textContent = shortcut ?? "";
    this.hint.hidden = !shortcut;
    if (shortcut) this.button.setAttribute("aria-keyshortcuts", shortcut === "⌘K" ? "Meta+K" : shortcut === "Ctrl K" ? "Control+K" : shortcut);
    else this.button.removeAttribute("aria-keyshortcuts");
  }
}
