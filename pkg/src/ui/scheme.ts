/**
 * Light or dark, as the page around the element is.
 *
 * `theme="light"` and `theme="dark"` settle it. Otherwise the page's `color-scheme` counts, as most generators set it with their own
 * switch; then the usual marks of such switches on the root; then how bright the page's background is; then the system.
 */

export type Scheme = "light" | "dark";

export function schemeOf(host: Element): Scheme {
  const system: Scheme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const asked = host.getAttribute("theme");
  if (asked === "light" || asked === "dark") return asked;
  let declared = getComputedStyle(host).colorScheme;
  if (declared === "normal" || !declared) declared = document.querySelector<HTMLMetaElement>('meta[name="color-scheme"]')?.content ?? "";
  const light = /\blight\b/.test(declared);
  const dark = /\bdark\b/.test(declared);
  if (light && dark) return system;
  if (light || dark) return dark ? "dark" : "light";
  const root = document.documentElement;
  const mark = ["data-theme", "data-color-mode", "data-bs-theme", "data-md-color-scheme"].map((name) => root.getAttribute(name) ?? document.body?.getAttribute(name) ?? "").join(" ");
  if (/\b(dark|slate)\b/.test(mark) || root.classList.contains("dark")) return "dark";
  if (/\b(light|default)\b/.test(mark) || root.classList.contains("light")) return "light";
  for (const node of [document.body, root]) {
    const colour = node && getComputedStyle(node).backgroundColor.match(/^rgba?\((\d+), (\d+), (\d+)(?:, ([\d.]+))?\)$/);
    if (!colour || Number(colour[4] ?? 1) < 0.5) continue;
    const [red = 0, green = 0, blue = 0] = colour.slice(1, 4).map(Number);
    return 0.299 * red + 0.587 * green + 0.114 * blue < 128 ? "dark" : "light";
  }
  // A page that says nothing is drawn on white, whatever the system prefers.
  return "light";
}

/** Calls `changed` now and whenever the answer may be another. Returns what ends it. */
export function followScheme(host: Element, changed: (scheme: Scheme) => void): () => void {
  const tell = () => changed(schemeOf(host));
  const query = matchMedia("(prefers-color-scheme: dark)");
  query.addEventListener("change", tell);
  const observer = new MutationObserver(tell);
  for (const node of [document.documentElement, document.body]) {
    if (node) observer.observe(node, { attributes: true, attributeFilter: ["class", "style", "data-theme", "data-color-mode", "data-bs-theme", "data-md-color-scheme"] });
  }
  tell();
  return () => {
    query.removeEventListener("change", tell);
    observer.disconnect();
  };
}
