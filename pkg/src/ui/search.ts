/** `<shirube-search>`: a field and the list of what it found. */

import type { ProgressEvent } from "../types.js";
import { Announcer } from "./announce.js";
import { Base, CROSS, LENS, adopt, element, icon } from "./dom.js";
import { engineFor, forgetEngine, meaningPolicy, type EngineWish } from "./engine.js";
import { FilterPanel } from "./filters.js";
import { keyName, listen, onApple, owned, shortcutsOf, unlisten, type Opener } from "./keys.js";
import { grouped, refined } from "./refine.js";
import { Rows, type Row } from "./rows.js";
import { followScheme } from "./scheme.js";
import { TEXT_ATTRIBUTES, errorText, languageOf, textFor, type TextKey, type Texts } from "./texts.js";
import { TOUCH_COMPOSING_MS, Typing } from "./typing.js";
import type { FilterChoice, SearchState, Searcher, SelectDetail, ShownError, ShownResult } from "./types.js";
import css from "./search.css";
import tokens from "./tokens.css";

const LIMIT = 15;
const SUB_RESULTS = 3;
const EXCERPT_LENGTH = 120;
/** Room between a popup and the window's edge. */
const EDGE = 8;
/** Addresses have limits that a pasted book does not. */
const LONGEST_IN_ADDRESS = 500;

/** Attributes that make another engine, and those that only change the look. */
const ENGINE_ATTRIBUTES = ["bundle", "model", "asset-base"];
const LOOK_ATTRIBUTES = ["lexical-weight", "lang", "placeholder", "label", "theme", "results", "shortcut", "explain", "content-lang", "sub-results", "excerpt-length", "text-fragment", "filters", ...TEXT_ATTRIBUTES];
export const SEARCH_ATTRIBUTES: readonly string[] = [...ENGINE_ATTRIBUTES, ...LOOK_ATTRIBUTES, "limit", "load", "meaning", "composing-delay"];

/**
 * A search box. Attributes, properties, events, parts and CSS variables: `docs/ui.md`.
 *
 * @fires shirube-result `CustomEvent<ShownResult>`: rows were shown, or refined.
 * @fires shirube-select `CustomEvent<SelectDetail>`, cancelable: somebody opens a section.
 * @fires shirube-error `CustomEvent<ShownError>`.
 * @fires shirube-progress `CustomEvent<ProgressEvent>`: files arrive.
 * @fires shirube-state `CustomEvent<SearchState>`.
 * @fires shirube-meaning the model is there, or could not be loaded: `{ state }`.
 */
export class ShirubeSearch extends Base {
  static get observedAttributes(): readonly string[] {
    return [...ENGINE_ATTRIBUTES, ...LOOK_ATTRIBUTES];
  }

  private readonly input = element("input", {
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
  private readonly label = element("label", { class: "hidden", for: "query" });
  private readonly keysHelp = element("span", { class: "hidden", id: "keys" });
  private readonly hint = element("kbd", { part: "hint", "aria-hidden": "true" });
  private readonly clearButton = element("button", { type: "button", class: "clear", part: "clear" }, icon("cross", ...CROSS));
  private readonly bar = element("div", { class: "progress", part: "progress", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, element("i"));
  private readonly stateLine = element("p", { class: "state", part: "state" });
  private readonly ask = element("button", { type: "button", class: "ask", part: "ask" });
  private readonly problem = element("div", { class: "problem", part: "problem", role: "alert" });
  private readonly nothing = element("div", { class: "nothing", part: "nothing" });
  private readonly list = element("div", { class: "list", part: "list", id: "list", role: "listbox" });
  private readonly start = element("div", { class: "start" }, element("slot", { name: "start" }));
  private readonly form: HTMLElement;
  private readonly panel: HTMLElement;
  private readonly root: HTMLElement;
  private readonly announcer = new Announcer();
  private readonly rows = new Rows(this.list);
  private readonly filters = new FilterPanel(() => void this.run(this.input.value, true));
  private readonly typing: Typing;
  private readonly opener: Opener;

  private ownSearcher: Searcher | undefined;
  private ownTexts: Partial<Texts> = {};
  private sourceNames: Record<string, string> = {};
  private loaded: Searcher | undefined;
  private engineLoading: EngineWish | undefined;
  private wanting: EngineWish | undefined;
  private loadedBytes: { loaded: number; total: number } | undefined;
  private current: SearchState = "idle";
  private wanted = "";
  private controller: AbortController | undefined;
  private result: ShownResult | undefined;
  private shownFor = "";
  private failure: ShownError | undefined;
  private meaningFailed = false;
  private active: HTMLAnchorElement | undefined;
  private pointed: HTMLElement | undefined;
  private open = false;
  private stopFollowing: (() => void) | undefined;

  constructor() {
    super();
    const shadow = this.attachShadow({ mode: "open" });
    adopt(shadow, tokens, css);
    this.panel = element("div", { class: "panel", part: "panel" }, element("div", { class: "status" }, this.stateLine, this.ask), this.problem, this.filters.node, this.nothing, this.list, this.start);
    const field = element("div", { class: "field", part: "field" }, icon("lens", ...LENS), this.input, this.hint, this.clearButton, element("slot", { name: "end" }));
    this.form = element("div", { class: "form", part: "form" }, this.label, field, this.bar, this.keysHelp);
    this.root = element("div", { class: "root" }, this.form, this.panel, ...this.announcer.nodes);
    shadow.append(this.root);
    this.typing = new Typing(this.input, {
      onQuery: (text) => void this.run(text),
      onKey: (event) => this.onKey(event),
      composingDelay: () => this.composingDelay(),
    });
    this.opener = { rank: 0, shortcuts: () => (this.inModal ? [] : shortcutsOf(this)), open: () => (this.input.focus(), this.input.select()), changed: () => this.paintField() };
    this.input.addEventListener("input", () => this.paintField());
    this.clearButton.addEventListener("click", () => this.clear());
    this.ask.addEventListener("click", () => void this.loadMeaning());
    this.list.addEventListener("click", (event) => this.onClick(event));
    this.list.addEventListener("pointermove", (event) => (this.pointed = (event.target as HTMLElement).closest<HTMLElement>(".row") ?? undefined));
    this.list.addEventListener("pointerleave", () => (this.pointed = undefined));
    // The field keeps the focus while somebody points at rows; buttons and check boxes take it.
    this.list.addEventListener("pointerdown", (event) => event.pointerType === "mouse" && event.button === 0 && event.preventDefault());
    this.start.firstElementChild?.addEventListener("slotchange", () => this.paint());
    shadow.addEventListener("focusin", () => {
      this.setOpen(true);
      if (this.getAttribute("load") !== "manual") this.preload();
    });
    shadow.addEventListener("focusout", (event) => {
      const next = (event as FocusEvent).relatedTarget;
      if (!(next instanceof Node) || (!shadow.contains(next) && !this.contains(next))) this.setOpen(false);
    });
    // Keys inside the panel (check boxes, the retry button).
    this.panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !this.inModal) this.input.focus();
    });
  }

  connectedCallback(): void {
    for (const name of ["searcher", "texts", "sources", "value", "choice"] as const) {
      // Set before the element was defined: the plain property hides the accessor.
      if (!Object.hasOwn(this, name)) continue;
      const value = this[name];
      delete (this as Partial<ShirubeSearch>)[name];
      Object.assign(this, { [name]: value });
    }
    listen(this.opener);
    this.stopFollowing = followScheme(this, (scheme) => (this.root.dataset["scheme"] = scheme));
    const parameter = this.getAttribute("query-param");
    const asked = parameter ? new URLSearchParams(location.search).get(parameter) : null;
    if (asked && this.input.value === "") this.input.value = asked;
    this.paint();
    const load = this.getAttribute("load");
    if (load === "eager" || this.input.value.trim() !== "") this.preload();
    if (this.input.value.trim() !== "") void this.run(this.input.value);
    if (this.hasAttribute("autofocus")) this.input.focus();
  }

  disconnectedCallback(): void {
    unlisten(this.opener);
    this.stopFollowing?.();
    this.typing.stop();
    this.announcer.stop();
    this.controller?.abort();
  }

  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    if (!this.isConnected || before === after) return;
    if (ENGINE_ATTRIBUTES.includes(name)) {
      this.loaded = undefined;
      this.engineLoading = undefined;
      if (this.input.value.trim() !== "") void this.run(this.input.value, true);
    }
    if (name === "lexical-weight" && this.input.value.trim() !== "") void this.run(this.input.value, true);
    if (name === "theme") {
      this.stopFollowing?.();
      this.stopFollowing = followScheme(this, (scheme) => (this.root.dataset["scheme"] = scheme));
    }
    this.paint(true);
  }

  /** What answers queries; by default an engine over the attribute `bundle`. */
  get searcher(): Searcher | undefined {
    return this.ownSearcher;
  }
  set searcher(searcher: Searcher | undefined) {
    this.ownSearcher = searcher;
    if (!this.isConnected) return;
    if (this.input.value.trim() === "") this.setState(this.engine ? "ready" : "idle");
    else void this.run(this.input.value, true);
  }

  /** What answers queries now, once it is loaded: `Shirube` with its `status`, or the property `searcher`. */
  get engine(): Searcher | undefined {
    return this.ownSearcher ?? this.loaded;
  }

  /** Texts in place of the built-in ones. */
  get texts(): Partial<Texts> {
    return this.ownTexts;
  }
  set texts(texts: Partial<Texts>) {
    this.ownTexts = texts;
    this.paint(true);
  }

  /** Names of collections, by `section.source`, to stand above their sections. */
  get sources(): Record<string, string> {
    return this.sourceNames;
  }
  set sources(names: Record<string, string>) {
    this.sourceNames = names;
    this.paint(true);
  }

  /** What stands in the field; setting it searches. Not to be set while somebody types. */
  get value(): string {
    return this.input.value;
  }
  set value(text: string) {
    this.typing.set(text);
    this.paintField();
  }

  /** The ticked filters; setting them searches again. */
  get choice(): FilterChoice | undefined {
    return this.filters.choice;
  }
  set choice(choice: FilterChoice | undefined) {
    this.filters.choice = choice;
    if (this.isConnected) void this.run(this.input.value, true);
  }

  /** Where the search stands; also the attribute `state`. */
  get state(): SearchState {
    return this.current;
  }

  /** The result on view. */
  get shown(): ShownResult | undefined {
    return this.result;
  }

  override focus(options?: FocusOptions): void {
    this.input.focus(options);
  }

  /** Empties the field and the list. */
  clear(): void {
    this.value = "";
    this.input.focus();
  }

  /** Loads the engine ahead of the first query. */
  preload(): void {
    if (this.engine || this.engineLoading || this.failure) return;
    const wish = this.wish();
    this.engineLoading = wish;
    this.wanting = wish;
    if (this.current === "idle") this.setState("loading");
    engineFor(wish, (event) => this.onProgress(wish, event)).then(
      (engine) => {
        if (this.engineLoading !== wish) return;
        this.engineLoading = undefined;
        this.loaded = engine;
        this.setState("ready");
        if (engine.status?.meaning?.state === "loading") void this.followMeaning(engine);
        if (this.input.value.trim() !== "") void this.run(this.input.value, true);
      },
      (error: unknown) => {
        if (this.engineLoading !== wish) return;
        this.engineLoading = undefined;
        this.fail(error);
      },
    );
  }

  /** Loads the model where the attribute `meaning` left it out, and refines what is on view. */
  async loadMeaning(): Promise<void> {
    const { engine } = this;
    if (!engine?.loadMeaning) return;
    this.meaningFailed = false;
    this.failure = undefined;
    const done = this.followMeaning(engine);
    this.paint();
    this.input.focus();
    if (!(await done)) return;
    if (this.input.value.trim() !== "" && this.engine === engine) void this.run(this.input.value, true, true);
  }

  /** Waits for the model of `engine` and tells the page; whether it came. */
  private async followMeaning(engine: Searcher): Promise<boolean> {
    let failure: unknown;
    // A load under way is joined, not begun again.
    await engine.loadMeaning?.().catch((error: unknown) => (failure = error));
    if (this.engine !== engine) return false;
    this.loadedBytes = undefined;
    this.meaningFailed = failure !== undefined;
    this.paint();
    this.emit("shirube-meaning", engine.status?.meaning);
    if (failure !== undefined) this.emit("shirube-error", failure);
    return failure === undefined;
  }

  /** Whether `event` belongs to an input method: a modal around the element must let it pass. */
  isComposing(event: Event): boolean {
    return this.typing.isComposing(event);
  }

  private get inModal(): boolean {
    return this.getAttribute("results") === "modal";
  }

  private wish(): EngineWish {
    const absolute = (name: string) => {
      const value = this.getAttribute(name);
      return value === null ? undefined : new URL(value, document.baseURI).href;
    };
    // Beside this script, as `shirube build` lays its folder out.
    const meaning = meaningPolicy(this.getAttribute("meaning")) === "background" ? "background" : "off";
    return { meaning, bundle: absolute("bundle") ?? import.meta.url.replace(/[^/]*$/, ""), model: absolute("model"), assetBase: absolute("asset-base") };
  }

  private number(name: string, otherwise: number): number {
    const value = Number.parseInt(this.getAttribute(name) ?? "", 10);
    return Number.isFinite(value) && value >= 0 ? value : otherwise;
  }

  private composingDelay(): number | undefined {
    const wish = this.getAttribute("composing-delay");
    if (wish === "never") return undefined;
    if (wish !== null) return this.number("composing-delay", TOUCH_COMPOSING_MS);
    return matchMedia("(pointer: coarse)").matches ? TOUCH_COMPOSING_MS : undefined;
  }

  private text(key: TextKey, values?: Record<string, string>): string {
    return textFor(this, this.ownTexts, key, values);
  }

  private emit<T>(name: string, detail: T, cancelable = false): boolean {
    return this.dispatchEvent(new CustomEvent(name, { detail, cancelable, bubbles: true, composed: true }));
  }

  /* Searching */

  private async run(text: string, again = false, refine = false): Promise<void> {
    if (text === this.wanted && !again) return;
    this.wanted = text;
    this.remember(text);
    this.controller?.abort();
    if (text.trim() === "") {
      this.result = undefined;
      this.meaningFailed = false;
      if (this.engine) this.failure = undefined;
      this.select(undefined);
      this.rows.show([], this.look());
      this.setState(this.failure ? "failed" : this.engine ? "ready" : this.engineLoading ? "loading" : "idle");
      return;
    }
    const searcher = this.engine;
    if (!searcher) {
      this.failure = undefined;
      this.preload();
      this.paint();
      return;
    }
    const controller = new AbortController();
    this.controller = controller;
    this.setState("searching");
    const filters = this.filters.choice;
    const weight = Number.parseFloat(this.getAttribute("lexical-weight") ?? "");
    // What is on view for the same text is refined, whoever asked for more.
    let steps = refine && this.result && this.shownFor === text ? 1 : 0;
    const before = steps;
    try {
      const answer = searcher.search(text, { limit: Math.min(100, Math.max(1, this.number("limit", LIMIT))), signal: controller.signal, ...(Number.isFinite(weight) && { lexicalWeight: weight }), ...(filters && { filters }) });
      for await (const result of inSteps(answer)) {
        if (controller.signal.aborted) return;
        this.show(text, result, steps++ > 0);
      }
      if (controller.signal.aborted || !this.result) return;
      this.meaningFailed = searcher.status?.meaning?.state === "failed";
      this.setState("done");
    } catch (error) {
      if (controller.signal.aborted || (error as ShownError).code === "ABORTED") return;
      if (steps === before) return this.fail(error);
      // The words' hits stay: they are right, only not refined.
      this.meaningFailed = true;
      this.emit("shirube-error", error);
      this.setState("done");
    }
  }

  private show(text: string, result: ShownResult, refinement: boolean): void {
    const groups = grouped(result, this.number("sub-results", SUB_RESULTS));
    const pinned = refinement ? this.reading() : undefined;
    this.failure = undefined;
    this.meaningFailed = false;
    this.result = result;
    this.shownFor = text;
    if (!refinement) {
      this.select(undefined);
      this.pointed = undefined;
      this.list.scrollTop = 0;
    }
    this.rows.show(refinement ? refined(this.rows.shown, groups, pinned) : groups, this.look());
    if (this.active && !this.active.isConnected) this.select(undefined);
    this.setState(result.stage === "words" ? "words" : "done");
    const n = String(result.hits.length);
    this.announcer.say(result.hits.length === 0 ? this.text("nothing") : this.text(refinement ? "refinedAloud" : "foundAloud", { n, query: short(result.query) }));
    this.emit("shirube-result", result);
  }

  /** The group that the reader is on: chosen by keys, under the pointer, or the last on view after scrolling. */
  private reading(): string | undefined {
    const node = this.active ?? this.pointed;
    if (node?.isConnected) return this.rows.keyOf(node);
    const frame = this.list.scrollHeight > this.list.clientHeight + 1 ? this.list.getBoundingClientRect() : { top: 0, bottom: innerHeight };
    const places = this.rows.all.map(({ node }) => ({ node, rect: node.getBoundingClientRect() }));
    const scrolled = places[0] !== undefined && places[0].rect.top < frame.top - 1;
    const last = places.filter(({ rect }) => rect.top < frame.bottom).at(-1);
    return scrolled && last ? this.rows.keyOf(last.node) : undefined;
  }

  private fail(error: unknown): void {
    const { code, message } = error as Partial<ShownError>;
    this.failure = { code: typeof code === "string" ? code : "INTERNAL", message: typeof message === "string" ? message : String(error) };
    this.result = undefined;
    this.select(undefined);
    this.rows.show([], this.look());
    this.setState("failed");
    this.emit("shirube-error", error);
  }

  private retry(): void {
    const { code } = this.failure ?? {};
    this.failure = undefined;
    // After these the engine itself is gone.
    if (code === "WORKER_FAILED" || code === "INTERNAL") {
      forgetEngine(this.wish());
      this.loaded = undefined;
    }
    if (this.engine) void this.run(this.input.value, true);
    else this.preload();
    this.paint();
    this.input.focus();
  }

  private onProgress(wish: EngineWish, event: ProgressEvent): void {
    // Also after the engine is there: its model may still be under way.
    if (this.wanting !== wish) return;
    this.emit("shirube-progress", event);
    if (event.status !== "progress_total") return;
    this.loadedBytes = event;
    this.paintState();
  }

  /** The query stands in the address where the page wants it, so that a search can be shared and survives a reload. */
  private remember(text: string): void {
    const parameter = this.getAttribute("query-param");
    if (!parameter || !this.isConnected) return;
    const url = new URL(location.href);
    if (text.trim() === "" || text.length > LONGEST_IN_ADDRESS) url.searchParams.delete(parameter);
    else url.searchParams.set(parameter, text.toWellFormed?.() ?? text);
    history.replaceState(history.state, "", url);
  }

  /* Keys and pointer */

  private onKey(event: KeyboardEvent): void {
    const { key } = event;
    const emacs = onApple() && event.ctrlKey && !event.metaKey && !event.altKey;
    if (key === "ArrowDown" || (emacs && key === "n")) this.move(1, event);
    else if (key === "ArrowUp" || (emacs && key === "p")) this.move(-1, event);
    else if (key === "Enter") this.onEnter(event);
    else if (key === "Escape" && !this.inModal) {
      if (this.popup && this.open) this.setOpen(false);
      else if (this.input.value !== "") this.clear();
      else return this.input.blur();
      event.preventDefault();
    }
  }

  private move(by: 1 | -1, event: KeyboardEvent): void {
    const rows = this.rows.all;
    if (event.altKey || rows.length === 0) return;
    event.preventDefault();
    this.setOpen(true);
    const at = rows.findIndex(({ node }) => node === this.active);
    this.select(at < 0 ? (by > 0 ? rows[0] : rows.at(-1)) : rows[at + by] ?? (by < 0 ? undefined : rows[at]));
  }

  private onEnter(event: KeyboardEvent): void {
    event.preventDefault();
    this.setOpen(true);
    if (this.failure) return this.retry();
    // Rows of an older text are not what somebody who presses Enter has read.
    if (!this.result || this.shownFor !== this.input.value || this.current === "searching") return;
    if (!this.active) return this.select(this.rows.all[0]);
    this.active.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true, composed: true, ctrlKey: event.ctrlKey, metaKey: event.metaKey, shiftKey: event.shiftKey }));
  }

  private select(row: Row | undefined): void {
    this.active?.setAttribute("aria-selected", "false");
    this.active = row?.node;
    if (!row) {
      this.input.removeAttribute("aria-activedescendant");
      return;
    }
    row.node.setAttribute("aria-selected", "true");
    this.input.setAttribute("aria-activedescendant", row.node.id);
    row.node.scrollIntoView({ block: "nearest" });
  }

  private onClick(event: MouseEvent): void {
    const node = (event.target as HTMLElement).closest<HTMLAnchorElement>("a.row");
    const row = this.rows.all.find((other) => other.node === node);
    if (!node || !row || !node.href) return;
    const detail: SelectDetail = { hit: row.hit, url: node.href, query: this.result?.query ?? this.input.value };
    if (!this.emit("shirube-select", detail, true)) event.preventDefault();
    // A link into the page itself leaves the panel standing over its target.
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) this.setOpen(false);
  }

  /* Painting */

  private get popup(): boolean {
    const results = this.getAttribute("results");
    return results !== "inline" && results !== "modal";
  }

  private setOpen(open: boolean): void {
    if (this.open === open) return;
    this.open = open;
    this.paintPanel();
  }

  private setState(state: SearchState): void {
    const changed = this.current !== state;
    this.current = state;
    this.setAttribute("state", state);
    this.paint();
    if (changed) this.emit("shirube-state", state);
  }

  private look() {
    return {
      text: (key: TextKey) => this.text(key),
      sources: this.sourceNames,
      language: this.getAttribute("content-lang") ?? "ja",
      excerptLength: Math.max(20, this.number("excerpt-length", EXCERPT_LENGTH)),
      explain: this.hasAttribute("explain"),
      textFragment: this.hasAttribute("text-fragment"),
    };
  }

  private paint(rowsToo = false): void {
    this.root.lang = languageOf(this);
    // Inside a dialog, which has a name of its own, a landmark would be a second one.
    if (this.inModal) this.form.removeAttribute("role");
    else this.form.setAttribute("role", "search");
    this.label.textContent = this.getAttribute("label") ?? this.text("label");
    this.list.setAttribute("aria-label", this.text("results"));
    this.input.placeholder = this.getAttribute("placeholder") ?? this.text("placeholder");
    this.keysHelp.textContent = this.text("keys");
    this.clearButton.setAttribute("aria-label", this.text("clear"));
    if (rowsToo && this.result) {
      this.select(undefined);
      this.rows.show(grouped(this.result, this.number("sub-results", SUB_RESULTS)), this.look());
    }
    const only = this.getAttribute("filters");
    this.filters.show(only === "none" ? undefined : this.result?.filters, only?.split(",").map((name) => name.trim()), this.text("filters"), this.look().language);
    this.paintField();
    this.paintState();
    this.paintProblem();
    this.paintPanel();
  }

  private paintField(): void {
    const [shortcut] = owned(this.opener);
    const empty = this.input.value === "";
    this.hint.textContent = shortcut ? keyName(shortcut) : "";
    this.hint.hidden = !shortcut || !empty;
    this.clearButton.hidden = empty;
  }

  private paintState(): void {
    const typed = this.input.value.trim() !== "";
    const meaning = this.engine?.status?.meaning?.state;
    const busy = this.engineLoading !== undefined || (meaning === "loading" && this.loadedBytes !== undefined);
    this.bar.hidden = !busy;
    const { loaded, total } = this.loadedBytes ?? { loaded: 0, total: 0 };
    const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
    if (busy) {
      const share = total > 0 ? loaded / total : 0;
      this.bar.setAttribute("aria-label", this.text("preparing"));
      this.bar.setAttribute("aria-valuenow", String(Math.round(100 * share)));
      this.bar.style.setProperty("--share", String(share));
    }
    const n = String(this.result?.hits.length ?? 0);
    let line = "";
    const found = this.result !== undefined && this.result.hits.length > 0;
    if (busy && this.engine) line = found ? this.text("meaningLoading", { n, loaded: megabytes(loaded), total: megabytes(total) }) : "";
    else if (busy) line = total > 0 ? this.text("downloading", { loaded: megabytes(loaded), total: megabytes(total) }) : this.text("preparing");
    else if (this.failure || !typed) line = "";
    else if (this.meaningFailed) line = this.text("meaningFailed");
    else if (this.current === "words") line = this.text("refining", { n });
    else if (this.result && found) line = this.text("found", { n }) + (this.result.truncated ? `　${this.text("truncated")}` : "");
    else if (this.current === "searching") line = this.text("searching");
    this.stateLine.textContent = line;
    this.stateLine.hidden = line === "";
    this.ask.hidden = !(typed && !busy && meaning === "off" && this.result && meaningPolicy(this.getAttribute("meaning")) === "ask");
    this.ask.textContent = this.text("meaningAsk");
    this.ask.title = this.text("meaningAskWhy");
    this.list.toggleAttribute("data-stale", this.current === "searching");
  }

  private paintProblem(): void {
    this.problem.hidden = !this.failure;
    if (!this.failure) return this.problem.replaceChildren();
    const { code, message } = this.failure;
    const gentle = code === "EMPTY_QUERY";
    const retry = element("button", { type: "button", part: "retry" }, this.text("retry"));
    retry.addEventListener("click", () => this.retry());
    this.problem.replaceChildren(
      element("p", {}, this.text(errorText(code))),
      ...(gentle ? [] : [element("p", { class: "detail", lang: "en" }, `${code}: ${message}`), retry]),
    );
  }

  private paintPanel(): void {
    const typed = this.input.value.trim() !== "";
    const found = this.rows.all.length > 0;
    const none = typed && this.result !== undefined && !found && !this.failure;
    this.list.hidden = !found;
    this.nothing.hidden = !none;
    this.nothing.replaceChildren(...(none ? [element("p", {}, this.text("nothing")), element("p", {}, this.text("nothingHint"))] : []));
    const slot = this.start.firstElementChild as HTMLSlotElement;
    const hasStart = slot.assignedNodes().length > 0;
    this.start.hidden = typed || !hasStart || this.failure !== undefined;
    const content = found || none || this.failure !== undefined || !this.start.hidden || (typed && !this.stateLine.hidden);
    const visible = content && (!this.popup || this.open);
    this.panel.hidden = !visible;
    this.input.setAttribute("aria-expanded", String(visible && found));
    if (visible && this.popup) this.place();
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

const short = (text: string) => ([...text.slice(0, 80)].length > 40 ? `${[...text.slice(0, 80)].slice(0, 40).join("")}…` : text);

/** A promise is one step; an iterable as many as it has. */
async function* inSteps(answer: PromiseLike<ShownResult> | AsyncIterable<ShownResult>): AsyncGenerator<ShownResult> {
  if (Symbol.asyncIterator in answer) yield* answer;
  else yield await answer;
}
