/** Rows of the list, kept by key from one result to the next so that nothing flickers. */

import type { Hit, SearchResult } from "../types.js";
import { element, safeUrl, type Child } from "./dom.js";
import { excerpt, explain, passageText, reasons, runs, telling, type Run } from "../excerpt.js";
import type { Group } from "./refine.js";
import type { TextKey } from "./texts.js";

const SUB_EXCERPT_SHARE = 0.5;
const FRAGMENT_LENGTH = 60;

/** What rows look like. */
export interface RowLook {
  text(key: TextKey): string;
  /** Names of collections by `section.source`; those without one are not named. */
  sources: Record<string, string>;
  /** Language of the sections, for fonts and voices. */
  language: string;
  excerptLength: number;
  /** Whether question and text are held against each other below the excerpt. */
  explain: boolean;
  /** Whether links scroll to the best-matching sentence. */
  textFragment: boolean;
}

export interface Row {
  node: HTMLAnchorElement;
  hit: Hit;
}

/** The list: a listbox whose options are links, in groups by page. */
export class Rows {
  private groups: { group: Group; node: HTMLElement; rows: Row[] }[] = [];
  private serial = 0;

  constructor(private readonly list: HTMLElement) {}

  get all(): Row[] {
    return this.groups.flatMap(({ rows }) => rows);
  }

  get shown(): Group[] {
    return this.groups.map(({ group }) => group);
  }

  /** The key of the group that `node` stands in. */
  keyOf(node: Node): string | undefined {
    return this.groups.find((group) => group.node.contains(node))?.group.key;
  }

  /** Shows `groups`; a group that is the same object as before keeps its nodes. */
  show(groups: Group[], look: RowLook): void {
    const old = new Map(this.groups.map((entry) => [entry.group, entry]));
    this.groups = groups.map((group) => old.get(group) ?? this.build(group, look));
    const keep = new Set<Node>(this.groups.map(({ node }) => node));
    for (const child of [...this.list.children]) if (!keep.has(child)) child.remove();
    // Only what stands in the wrong place is moved: a moved node would lose its scroll anchor.
    for (const [i, { node }] of this.groups.entries()) {
      if (this.list.children[i] !== node) this.list.insertBefore(node, this.list.children[i] ?? null);
    }
  }

  private build(group: Group, look: RowLook): { group: Group; node: HTMLElement; rows: Row[] } {
    const rows = group.hits.map((hit, i) => this.row(group.result, hit, i > 0, look));
    const label = rows[0]?.node.querySelector(".title")?.id ?? "";
    const node = element("div", { class: "group", role: "group", part: "group", "aria-labelledby": label }, ...rows.map((row) => row.node));
    return { group, node, rows };
  }

  private row(result: SearchResult, hit: Hit, sub: boolean, look: RowLook): Row {
    const id = `row-${++this.serial}`;
    const { section, highlights } = hit;
    const lang = look.language;
    const found = excerpt(hit, sub ? Math.round(look.excerptLength * SUB_EXCERPT_SHARE) : look.excerptLength);
    const headings = section.headings.map((heading, i) => element("span", { class: "crumb" }, ...marked(runs(heading, telling(heading, highlights.headings[i] ?? [])))));
    const title = element("span", { class: "crumb page" }, ...marked(runs(section.title, telling(section.title, highlights.title))));
    const crumbs = sub && headings.length > 0 ? headings : [title, ...headings];
    const why = reasons(result, hit);
    const badge = (name: "words" | "meaning") =>
      element("span", { class: `badge ${name}`, part: `badge badge-${name}`, title: look.text(`${name}Why`) }, look.text(name));
    const source = sub ? undefined : look.sources[section.source];
    const list = look.explain && !sub ? explain(result, hit) : [];
    const parts: Child[] = [
      source !== undefined && element("span", { class: "source", part: "source", lang }, source),
      element("span", { class: "head" }, element("span", { class: "title", part: "title", id: `${id}-title`, lang }, ...crumbs), element("span", { class: "badges" }, why.words && badge("words"), why.meaning && badge("meaning"))),
      element("span", { class: "excerpt", part: "excerpt", lang }, ...marked(found)),
      list.length > 0 &&
        element(
          "span",
          { class: "pairs", part: "pairs", lang },
          ...list.map((pair) =>
            element("span", { class: "pair" }, element("span", { class: "asked" }, pair.asked), element("span", { class: "to", "aria-hidden": "true" }, " → "), element("span", { class: `found s${pair.level}` }, pair.found)),
          ),
        ),
    ];
    const href = safeUrl(section.url);
    const node = element(
      "a",
      {
        id,
        role: "option",
        tabindex: "-1",
        "aria-selected": "false",
        class: sub ? "row sub" : "row",
        part: sub ? "row sub-row" : "row",
        "data-id": section.id,
        ...(href !== undefined && { href: look.textFragment ? withFragment(href, passageText(found)) : href }),
      },
      ...parts,
    );
    return { node, hit };
  }
}

function marked(list: Run[]): (Node | string)[] {
  const out: (Node | string)[] = [];
  let passage: HTMLElement | undefined;
  for (const run of list) {
    const node = run.level > 0 ? element("mark", { class: `s${run.level}`, part: "mark" }, run.text) : run.text;
    if (!run.passage) {
      passage = undefined;
      out.push(node);
      continue;
    }
    if (!passage) out.push((passage = element("span", { class: "passage", part: "passage" })));
    passage.append(node);
  }
  return out;
}

/** `href` with a text directive: browsers scroll to `text` and mark it, and ignore it where it is not found. */
function withFragment(href: string, text: string): string {
  const start = [...text].slice(0, FRAGMENT_LENGTH).join("").trim();
  if (start === "") return href;
  // A dash, a comma and an ampersand have meanings of their own inside the directive.
  const encoded = encodeURIComponent(start.toWellFormed?.() ?? start).replaceAll("-", "%2D");
  return `${href}${href.includes("#") ? "" : "#"}:~:text=${encoded}`;
}
