/** `<shirube-search>`: a field and the list of what it found. */

import { Base, adopt } from "./dom.js";
import { meaningPolicy, type EngineWish } from "./engine.js";
import { FilterPanel } from "./filters.js";
import { keyName, listen, onApple, owned, shortcutsOf, unlisten, type Opener } from "./keys.js";
import { grouped, refined } from "./refine.js";
import { Rows, type Row } from "./rows.js";
import { followScheme } from "./scheme.js";
import { Session } from "./session.js";
import { TEXT_ATTRIBUTES, textFor, type TextKey, type Texts } from "./texts.js";
import { TOUCH_COMPOSING_MS, Typing } from "./typing.js";
import type { FilterChoice, SearchState, Searcher, SelectDetail, ShownResult } from "./types.js";
import { View, type Layout } from "./view.js";
import css from "./search.css";
import tokens from "./tokens.css";

const LIMIT = 12;
/** Hits that are shown before the texts of the others are here: about as many as the panel has room for. */
const FIRST_HITS = 5;
const SUB_RESULTS = 3;
const EXCERPT_LENGTH = 120;
/** Addresses have limits that a pasted book does not. */
const LONGEST_IN_ADDRESS = 500;

/** Attributes that make another engine, and those that only change the look. */
const ENGINE_ATTRIBUTES = ["bundle", "model", "asset-base", "device"];
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

  private readonly session = new Session({
    wish: () => this.wish(),
    options: () => this.options(),
    text: () => this.input.value,
    changed: () => this.paint(),
    show: (result, refinement) => this.showRows(result, refinement),
    clear: () => (this.select(undefined), this.rows.show([], this.look())),
    tell: (name, detail) => void this.emit(name, detail),
  });
  private readonly filters = new FilterPanel(() => void this.session.run(this.input.value, true));
  private readonly opener: Opener = {
    rank: 0,
    shortcuts: () => (this.layout === "modal" ? [] : shortcutsOf(this)),
    open: () => (this.input.focus(), this.input.select()),
    changed: () => this.view.paintField(),
  };
  private readonly view = new View({
    element: this,
    session: this.session,
    filters: this.filters,
    text: (key, values) => this.text(key, values),
    layout: () => this.layout,
    shortcut: () => owned(this.opener).map(keyName)[0],
    asks: () => meaningPolicy(this.getAttribute("meaning")) === "ask",
    open: () => this.open,
  });
  private readonly input = this.view.input;
  private readonly list = this.view.list;
  private readonly rows = new Rows(this.list);
  private readonly typing = new Typing(this.input, {
    onQuery: (text) => (this.remember(text), void this.session.run(text)),
    onKey: (event) => this.onKey(event),
    composingDelay: () => this.composingDelay(),
  });

  private ownTexts: Partial<Texts> = {};
  private sourceNames: Record<string, string> = {};
  private active: HTMLAnchorElement | undefined;
  private pointed: HTMLElement | undefined;
  private open = false;
  private stopFollowing: (() => void) | undefined;

  constructor() {
    super();
    const shadow = this.attachShadow({ mode: "open" });
    adopt(shadow, tokens, css);
    shadow.append(this.view.root);
    const { clear, ask, retry, startSlot, panel } = this.view;
    this.input.addEventListener("input", () => this.view.paintField());
    clear.addEventListener("click", () => this.clear());
    ask.addEventListener("click", () => (this.input.focus(), void this.loadMeaning()));
    retry.addEventListener("click", () => (this.session.retry(), this.input.focus()));
    startSlot.addEventListener("slotchange", () => this.paint());
    this.list.addEventListener("click", (event) => this.onClick(event));
    this.list.addEventListener("pointermove", (event) => (this.pointed = (event.target as HTMLElement).closest<HTMLElement>(".row") ?? undefined));
    this.list.addEventListener("pointerleave", () => (this.pointed = undefined));
    // The field keeps the focus while somebody points at rows; buttons and check boxes take it.
    this.list.addEventListener("pointerdown", (event) => event.pointerType === "mouse" && event.button === 0 && event.preventDefault());
    shadow.addEventListener("focusin", () => {
      this.setOpen(true);
      if (this.getAttribute("load") !== "manual") this.preload();
    });
    shadow.addEventListener("focusout", (event) => {
      const next = (event as FocusEvent).relatedTarget;
      if (!(next instanceof Node) || (!shadow.contains(next) && !this.contains(next))) this.setOpen(false);
    });
    // Keys inside the panel (check boxes, the retry button).
    panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.layout !== "modal") this.input.focus();
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
    this.stopFollowing = followScheme(this, (scheme) => (this.view.root.dataset["scheme"] = scheme));
    const parameter = this.getAttribute("query-param");
    const asked = parameter ? new URLSearchParams(location.search).get(parameter) : null;
    if (asked && this.input.value === "") this.input.value = asked;
    this.paint();
    const load = this.getAttribute("load");
    if (load === "eager" || this.input.value.trim() !== "") this.preload();
    if (this.input.value.trim() !== "") void this.session.run(this.input.value);
    if (this.hasAttribute("autofocus")) this.input.focus();
  }

  disconnectedCallback(): void {
    unlisten(this.opener);
    this.stopFollowing?.();
    this.typing.stop();
    this.view.announcer.stop();
    this.session.stop();
  }

  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    if (!this.isConnected || before === after) return;
    if (ENGINE_ATTRIBUTES.includes(name)) this.session.forget();
    if (name === "lexical-weight") this.session.again();
    if (name === "theme") {
      this.stopFollowing?.();
      this.stopFollowing = followScheme(this, (scheme) => (this.view.root.dataset["scheme"] = scheme));
    }
    this.paint(true);
  }

  /** What answers queries; by default an engine over the attribute `bundle`. */
  get searcher(): Searcher | undefined {
    return this.session.own;
  }
  set searcher(searcher: Searcher | undefined) {
    this.session.own = searcher;
    if (this.isConnected) this.session.again();
  }

  /** What answers queries now, once it is loaded: `Shirube` with its `status`, or the property `searcher`. */
  get engine(): Searcher | undefined {
    return this.session.engine;
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
    this.view.paintField();
  }

  /** The ticked filters; setting them searches again. */
  get choice(): FilterChoice | undefined {
    return this.filters.choice;
  }
  set choice(choice: FilterChoice | undefined) {
    this.filters.choice = choice;
    if (this.isConnected) this.session.again();
  }

  /** Where the search stands; also the attribute `state`. */
  get state(): SearchState {
    return this.session.state;
  }

  /** The result on view. */
  get shown(): ShownResult | undefined {
    return this.session.result;
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
    this.session.preload();
  }

  /** Loads the model where the attribute `meaning` left it out, and refines what is on view. */
  loadMeaning(): Promise<void> {
    return this.session.loadMeaning();
  }

  /** Whether `event` belongs to an input method: a modal around the element must let it pass. */
  isComposing(event: Event): boolean {
    return this.typing.isComposing(event);
  }

  private get layout(): Layout {
    const results = this.getAttribute("results");
    return results === "inline" || results === "modal" ? results : "popup";
  }

  private options(): { limit: number; firstHits: number; lexicalWeight?: number; filters?: FilterChoice } {
    const lexicalWeight = Number.parseFloat(this.getAttribute("lexical-weight") ?? "");
    const filters = this.filters.choice;
    return { limit: Math.min(100, Math.max(1, this.number("limit", LIMIT))), firstHits: FIRST_HITS, ...(Number.isFinite(lexicalWeight) && { lexicalWeight }), ...(filters && { filters }) };
  }

  private wish(): EngineWish {
    const absolute = (name: string) => {
      const value = this.getAttribute(name);
      return value === null ? undefined : new URL(value, document.baseURI).href;
    };
    // Beside this script, as `shirube build` lays its folder out.
    const meaning = meaningPolicy(this.getAttribute("meaning")) === "background" ? "background" : "off";
    const asked = this.getAttribute("device");
    const device = asked === "webgpu" || asked === "wasm" ? asked : "auto";
    return { meaning, device, bundle: absolute("bundle") ?? import.meta.url.replace(/[^/]*$/, ""), model: absolute("model"), assetBase: absolute("asset-base") };
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

  /* Rows */

  private showRows(result: ShownResult, refinement: boolean): void {
    const groups = grouped(result, this.number("sub-results", SUB_RESULTS));
    const pinned = refinement ? this.reading() : undefined;
    if (!refinement) {
      this.select(undefined);
      this.pointed = undefined;
      this.list.scrollTop = 0;
    }
    this.rows.show(refinement ? refined(this.rows.shown, groups, pinned) : groups, this.look());
    if (this.active && !this.active.isConnected) this.select(undefined);
    const n = String(result.hits.length);
    this.view.announcer.say(result.hits.length === 0 ? this.text("nothing") : this.text(refinement ? "refinedAloud" : "foundAloud", { n, query: short(result.query) }));
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
    else if (key === "Escape" && this.layout !== "modal") {
      if (this.layout === "popup" && this.open) this.setOpen(false);
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
    const { session } = this;
    if (session.failure) return session.retry();
    // Rows of an older text are not what somebody who presses Enter has read.
    if (!session.result || session.shownFor !== this.input.value || session.state === "searching") return;
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
    const detail: SelectDetail = { hit: row.hit, url: node.href, query: this.session.result?.query ?? this.input.value };
    if (!this.emit("shirube-select", detail, true)) event.preventDefault();
    // A link into the page itself leaves the panel standing over its target.
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) this.setOpen(false);
  }

  /* Painting */

  private setOpen(open: boolean): void {
    if (this.open === open) return;
    this.open = open;
    this.view.paintPanel();
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
    const { state, result } = this.session;
    if (this.getAttribute("state") !== state && this.isConnected) this.setAttribute("state", state);
    if (rowsToo && result) {
      this.select(undefined);
      this.rows.show(grouped(result, this.number("sub-results", SUB_RESULTS)), this.look());
    }
    const only = this.getAttribute("filters");
    this.filters.show(only === "none" ? undefined : result?.filters, only?.split(",").map((name) => name.trim()), this.text("filters"), this.look().language);
    this.view.paint();
  }
}

const short = (text: string) => ([...text.slice(0, 80)].length > 40 ? `${[...text.slice(0, 80)].slice(0, 40).join("")}…` : text);
