/** The language of a page: asked for in the address, chosen earlier, or Japanese. */

import type { Language } from "./texts.js";

const KEY = "shirube-language";

export function chosenLanguage(): Language {
  const asked = new URLSearchParams(location.search).get("lang");
  if (asked === "en" || asked === "ja") return asked;
  try {
    return localStorage.getItem(KEY) === "en" ? "en" : "ja";
  } catch {
    return "ja";
  }
}

/** Shows `language` on the buttons of the page's head. */
export function paintLanguage(language: Language): void {
  document.documentElement.lang = language;
  for (const button of document.querySelectorAll<HTMLElement>("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset["language"] === language));
  }
}

/** Tells `changed` when a visitor presses one of them. */
export function onLanguage(changed: (language: Language) => void): void {
  document.querySelector(".language")?.addEventListener("click", (event) => {
    const chosen = (event.target as HTMLElement).closest<HTMLElement>("[data-language]")?.dataset["language"];
    if (chosen !== "ja" && chosen !== "en") return;
    try {
      localStorage.setItem(KEY, chosen);
    } catch {
      // Storage is switched off: the choice lasts for this visit.
    }
    changed(chosen);
  });
}
