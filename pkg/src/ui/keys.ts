/** Shortcuts that open a search from anywhere on the page: Ctrl+K or Cmd+K, and `/` outside of fields. */

/** What a shortcut opens. */
export interface Opener {
  /** `"mod+k"`, `"/"`, both with a blank between, or `"none"`. */
  shortcuts(): string[];
  open(): void;
  /** Modals go before fields of the page. */
  readonly rank: number;
  /** Another element may have taken or left a shortcut. */
  changed?(): void;
}

const openers = new Set<Opener>();

export const onApple = (): boolean => /mac|iphone|ipad/i.test(navigator.platform);

/** How a shortcut is written on this machine's keyboard. */
export function keyName(shortcut: string): string {
  return shortcut === "mod+k" ? (onApple() ? "⌘K" : "Ctrl K") : shortcut;
}

export function listen(opener: Opener): void {
  if (openers.size === 0) document.addEventListener("keydown", onKey);
  openers.add(opener);
  tell();
}

export function unlisten(opener: Opener): void {
  openers.delete(opener);
  tell();
  if (openers.size === 0) document.removeEventListener("keydown", onKey);
}

function tell(): void {
  for (const { changed } of openers) changed?.();
}

/** What `shortcut` opens: a modal, else the first of the page. */
function ownerOf(shortcut: string): Opener | undefined {
  return [...openers].filter((opener) => opener.shortcuts().includes(shortcut)).sort((a, b) => b.rank - a.rank)[0];
}

/** The shortcuts that open `opener` and no other. */
export function owned(opener: Opener): string[] {
  return opener.shortcuts().filter((shortcut) => ownerOf(shortcut) === opener);
}

function onKey(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.isComposing || event.keyCode === 229 || event.altKey || event.shiftKey) return;
  const name = event.key === "/" && !event.ctrlKey && !event.metaKey ? "/" : event.key.toLowerCase() === "k" && (onApple() ? event.metaKey : event.ctrlKey) ? "mod+k" : undefined;
  if (!name) return;
  // The innermost target, through all shadow roots.
  const target = event.composedPath()[0];
  if (name === "/" && target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))) return;
  const first = ownerOf(name);
  if (!first) return;
  event.preventDefault();
  first.open();
}

/** An element's attribute `shortcut` as a list. */
export function shortcutsOf(host: Element): string[] {
  const text = host.getAttribute("shortcut") ?? "mod+k /";
  return text.trim().split(/\s+/).filter((name) => name !== "none");
}
