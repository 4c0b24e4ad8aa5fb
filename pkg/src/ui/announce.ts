/** Speaks to screen readers. Two regions take turns, so that the same words twice in a row are spoken twice. */

import { element } from "./dom.js";

/** Results change with every key; only what stays is spoken. */
const STILL_MS = 500;

export class Announcer {
  readonly nodes = [element("div", { class: "hidden", role: "status" }), element("div", { class: "hidden", role: "status" })] as const;
  private turn = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  say(text: string): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const [on, off] = this.turn === 0 ? this.nodes : [this.nodes[1], this.nodes[0]];
      this.turn = 1 - this.turn;
      off.textContent = "";
      on.textContent = text;
    }, STILL_MS);
  }

  stop(): void {
    clearTimeout(this.timer);
  }
}
