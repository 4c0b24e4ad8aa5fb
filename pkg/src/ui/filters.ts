/** Check boxes to narrow a search down, with the number of sections that each would leave. */

import { element } from "./dom.js";
import type { FilterChoice, FilterValue } from "./types.js";

export class FilterPanel {
  readonly node: HTMLDetailsElement;
  private readonly summary = element("summary");
  private readonly body = element("div", { class: "filter-sets" });
  private readonly chosen = new Map<string, Set<string>>();
  private drawn = "";

  constructor(private readonly changed: () => void) {
    this.node = element("details", { class: "filters", part: "filters" }, this.summary, this.body);
    this.node.hidden = true;
    this.body.addEventListener("change", (event) => {
      const box = event.target as HTMLInputElement;
      const values = this.chosen.get(box.name) ?? new Set();
      if (box.checked) values.add(box.value);
      else values.delete(box.value);
      this.chosen.set(box.name, values);
      this.changed();
    });
  }

  /** What is ticked; `undefined` where nothing is. */
  get choice(): FilterChoice | undefined {
    const entries = [...this.chosen].filter(([, values]) => values.size > 0).map(([name, values]): [string, string[]] => [name, [...values]]);
    return entries.length > 0 ? Object.fromEntries(entries) : undefined;
  }

  set choice(choice: FilterChoice | undefined) {
    this.chosen.clear();
    for (const [name, values] of Object.entries(choice ?? {})) this.chosen.set(name, new Set(values));
  }

  /** `only` are the names to show; `undefined` shows all. */
  show(filters: Record<string, FilterValue[]> | undefined, only: string[] | undefined, title: string, language: string): void {
    const names = Object.keys(filters ?? {}).filter((name) => (only ? only.includes(name) : true) && (filters?.[name]?.length ?? 0) > 0);
    if (only) names.sort((a, b) => only.indexOf(a) - only.indexOf(b));
    this.node.hidden = names.length === 0;
    const n = Object.values(this.choice ?? {}).flat().length;
    this.summary.textContent = n > 0 ? `${title} (${n})` : title;
    const valuesOf = (name: string) => filters?.[name] ?? [];
    const now = JSON.stringify([language, names.map((name) => [name, valuesOf(name).map(({ value }) => value).sort()])]);
    if (now !== this.drawn) {
      this.drawn = now;
      this.body.replaceChildren(...names.map((name) => this.fieldset(name, valuesOf(name), language)));
    }
    // Counts change in place, so that the box under the finger stays there and keeps the focus.
    for (const box of this.body.querySelectorAll("input")) {
      const count = valuesOf(box.name).find(({ value }) => value === box.value)?.nSections ?? 0;
      box.checked = this.chosen.get(box.name)?.has(box.value) ?? false;
      box.parentElement?.classList.toggle("none", count === 0);
      const label = box.parentElement?.querySelector(".count");
      if (label) label.textContent = String(count);
    }
  }

  private fieldset(name: string, values: FilterValue[], language: string): HTMLFieldSetElement {
    const sorted = [...values].sort((a, b) => b.nSections - a.nSections || (a.value < b.value ? -1 : 1));
    return element(
      "fieldset",
      { part: "filter" },
      element("legend", { lang: language }, name),
      ...sorted.map(({ value }) =>
        element("label", { class: "choice" }, element("input", { type: "checkbox", name, value }), element("span", { lang: language }, value), element("span", { class: "count" })),
      ),
    );
  }
}
