/** The nodes of `<shirube-search>` and what they say. Knows the session only to read it. */

import { Announcer } from "./announce.js";
import { CROSS, LENS, element, icon } from "./dom.js";
import type { FilterPanel } from "./filters.js";
import type { Session } from "./session.js";
import { errorText, languageOf, type TextKey } from "./texts.js";

/** Room between a popup and the window's edge. */
const EDGE = 8;

/** Where the panel stands. */
export type Layout = "popup" | "inline" | "modal";

/** What a view needs to know of the element around it. */
export interface ViewHost {
  readonly element: HTMLElement;
  readonly session: Session;
  readonly filters: FilterPanel;
  text(key: TextKey, values?: Record<string, string>): string;
  layout(): Layout;
  /** How the shortcut of this element is written, if it has one to itself. */
  shortcut(): string | undefined;
  /** Whether readers are asked before the model is loaded. */
  asks(): boolean;
  /** Whether the popup may show. */
  open(): boolean;
}

export class View {
  readonly input = element("input", {
    id: "query",
    part: "input",
    type: "text",
    inputmode: "search",
    enterkeyhint: "search",
    role: "combobox",
    "aria-autocomplete": "list",
    "aria-haspopup": "listbox",
    "aria-controls": "list",
    "aria-expanded": "false",
    "aria-describedby": "keys",
    autocomplete: "off",
    autocapitalize: "off",
    autocorrect: "off",
    spellcheck: "false",
  });
  readonly clear = element("button", { type: "button", class: "clear", part: "clear" }, icon("cross", ...CROSS));
  readonly ask = element("button", { type: "button", class: "ask", part: "ask" });
  readonly retry = element("button", { type: "button", part: "retry" });
  readonly list = element("div", { class: "list", part: "list", id: "list", role: "listbox" });
  readonly startSlot = element("slot", { name: "start" });
  readonly panel: HTMLElement;
  readonly root: HTMLElement;
  readonly announcer = new Announcer();

  private readonly label = element("label", { class: "hidden", for: "query" });
  private readonly keysHelp = element("span", { class: "hidden", id: "keys" });
  private readonly hint = element("kbd", { part: "hint", "aria-hidden": "true" });
  private readonly bar = element("div", { class: "progress", part: "progress", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, element("i"));
  private readonly line = element("p", { class: "state", part: "state" });
  private readonly problem = element("div", { class: "problem", part: "problem", role: "alert" });
  private readonly nothing = element("div", { class: "nothing", part: "nothing" });
  private readonly start = element("div", { class: "start" }, this.startSlot);
  private readonly form: HTMLElement;

  constructor(private readonly host: ViewHost) {
    this.panel = element("div", { class: "panel", part: "panel" }, element("div", { class: "status" }, this.line, this.ask), this.problem, host.filters.node, this.nothing, this.list, this.start);
    const field = element("div", { class: "field", part: "field" }, icon("lens", ...LENS), this.input, this.hint, this.clear, element("slot", { name: "end" }));
    this.form = element("div", { class: "form", part: "form" }, this.label, field, this.bar, this.keysHelp);
    this.root = element("div", { class: "root" }, this.form, this.panel, ...this.announcer.nodes);
  }

  private get typed(): boolean {
    return this.input.value.trim() !== "";
  }

  paint(): void {
    const { host } = this;
    this.root.lang = languageOf(host.element);
    // Inside a dialog, which has a name of its own, a landmark would be a second one.
    if (host.layout() === "modal") this.form.removeAttribute("role");
    else this.form.setAttribute("role", "search");
    this.label.textContent = host.element.getAttribute("label") ?? host.text("label");
    this.list.setAttribute("aria-label", host.text("results"));
    this.input.placeholder = host.element.getAttribute("placeholder") ?? host.text("placeholder");
    this.keysHelp.textContent = host.text("keys");
    this.clear.setAttribute("aria-label", host.text("clear"));
    this.paintField();
    this.paintBar();
    this.paintLine();
    this.paintProblem();
    this.paintPanel();
  }

  paintField(): void {
    const shortcut = this.host.shortcut();
    const empty = this.input.value === "";
    this.hint.textContent = shortcut ?? "";
    this.hint.hidden = !shortcut || !empty;
    this.clear.hidden = empty;
  }

  private paintBar(): void {
    const { session } = this.host;
    this.bar.hidden = !session.busy;
    if (!session.busy) return;
    const share = session.bytes && session.bytes.total > 0 ? session.bytes.loaded / session.bytes.total : 0;
    this.bar.setAttribute("aria-label", this.host.text("preparing"));
    this.bar.setAttribute("aria-valuenow", String(Math.round(100 * share)));
    this.bar.style.setProperty("--share", String(share));
  }

  private paintLine(): void {
    const { session } = this.host;
    const text = this.stateText();
    this.line.textContent = text;
    this.line.hidden = text === "";
    this.line.title = session.meaningFailure?.message ?? "";
    // What failed can be tried again; what was left out can be asked for.
    const again = session.meaningFailure !== undefined && session.engine?.loadMeaning !== undefined;
    const left = this.typed && session.result !== undefined && session.engine?.status?.meaning?.state === "off" && this.host.asks();
    this.ask.hidden = session.busy || session.failure !== undefined || !(again || left);
    this.ask.textContent = this.host.text(again ? "retry" : "meaningAsk");
    this.ask.title = again ? "" : this.host.text("meaningAskWhy");
    this.list.toggleAttribute("data-stale", session.state === "searching");
  }

  private stateText(): string {
    const { session } = this.host;
    const { result, bytes } = session;
    const n = String(result?.hits.length ?? 0);
    const found = result !== undefined && result.hits.length > 0;
    const megabytes = (count: number) => (count / 1e6).toFixed(1);
    const progress = bytes && { n, loaded: megabytes(bytes.loaded), total: megabytes(bytes.total) };
    if (session.busy && session.engine) return found && progress ? this.host.text("meaningLoading", progress) : "";
    if (session.busy) return progress ? this.host.text("downloading", progress) : this.host.text("preparing");
    if (session.failure) return "";
    if (session.meaningFailure) return this.host.text("meaningFailed", { code: session.meaningFailure.code });
    if (!this.typed) return "";
    if (session.state === "words") return this.host.text("refining", { n });
    if (found) return this.host.text("found", { n }) + (result.truncated ? `　${this.host.text("truncated")}` : "");
    return session.state === "searching" ? this.host.text("searching") : "";
  }

  private paintProblem(): void {
    const { failure } = this.host.session;
    this.problem.hidden = !failure;
    if (!failure) return this.problem.replaceChildren();
    this.retry.textContent = this.host.text("retry");
    const detail = failure.code === "EMPTY_QUERY" ? [] : [element("p", { class: "detail", lang: "en" }, `${failure.code}: ${failure.message}`), this.retry];
    this.problem.replaceChildren(element("p", {}, this.host.text(errorText(failure.code))), ...detail);
  }

  paintPanel(): void {
    const { session } = this.host;
    const found = this.list.childElementCount > 0;
    const none = this.typed && session.result !== undefined && !found && !session.failure;
    this.list.hidden = !found;
    this.nothing.hidden = !none;
    this.nothing.replaceChildren(...(none ? [element("p", {}, this.host.text("nothing")), element("p", {}, this.host.text("nothingHint"))] : []));
    this.start.hidden = this.typed || this.startSlot.assignedNodes().length === 0 || session.failure !== undefined;
    const popup = this.host.layout() === "popup";
    const content = found || none || session.failure !== undefined || !this.start.hidden || ((this.typed || popup === false) && !this.line.hidden);
    const visible = content && (!popup || this.host.open());
    this.panel.hidden = !visible;
    this.input.setAttribute("aria-expanded", String(visible && found));
    if (visible && popup) this.place();
  }

  /** Pushes the popup sideways where it would stick out of the window. */
  private place(): void {
    this.panel.style.setProperty("--shift", "0px");
    const { left, right } = this.panel.getBoundingClientRect();
    const end = document.documentElement.clientWidth - EDGE;
    const shift = Math.max(EDGE - left, Math.min(0, end - right));
    this.panel.style.setProperty("--shift", `${left < EDGE || right > end ? shift : 0}px`);
  }
}
