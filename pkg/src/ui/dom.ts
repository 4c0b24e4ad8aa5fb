/** Small helpers: elements from parts, text always as text nodes. */

export type Child = Node | string | false | undefined;

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  for (const child of children) if (child) node.append(child);
  return node;
}

/** A line drawing on a square of 24. */
export function icon(name: string, ...paths: string[]): SVGSVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `icon ${name}`);
  for (const d of paths) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

export const LENS = ["M17 10.5a6.5 6.5 0 1 1-13 0 6.5 6.5 0 0 1 13 0Z", "m15.5 15.5 5 5"];
export const CROSS = ["m6 6 12 12M18 6 6 18"];

/** Only addresses a reader may be led to: an index is data from elsewhere. */
export function safeUrl(url: string): string | undefined {
  if (url === "") return undefined;
  try {
    const parsed = new URL(url, document.baseURI);
    const fine = ["https:", "http:", ...(location.protocol === "file:" ? ["file:"] : [])];
    return fine.includes(parsed.protocol) ? parsed.href : undefined;
  } catch {
    return undefined;
  }
}

/** Style sheets that a strict CSP allows: made by script, not written into the page. */
export function adopt(root: ShadowRoot, ...texts: string[]): void {
  root.adoptedStyleSheets = texts.map((css) => {
    const sheet = sheets.get(css) ?? new CSSStyleSheet();
    if (!sheets.has(css)) sheet.replaceSync(css);
    sheets.set(css, sheet);
    return sheet;
  });
}
const sheets = new Map<string, CSSStyleSheet>();

/** `HTMLElement`, or an empty class where there is no document: importing the elements on a server is harmless. */
export const Base: typeof HTMLElement = globalThis.HTMLElement ?? (class {} as typeof HTMLElement);
