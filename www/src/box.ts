/**
 * The search box: when to search while somebody types Japanese.
 *
 * A conversion in progress is not a query: its letters are readings that the next key may turn into anything. A key belongs to the
 * input method if the event says so, if its code is 229, between compositionstart and compositionend, or within 50 ms after the end,
 * because Safari sends the keydown of the closing Enter after compositionend. Keyboards of touch screens compose all the time, so
 * there a query is sent after 400 ms of stillness. The field's value is never rewritten.
 */

const TYPING_MS = 90;
const TOUCH_COMPOSING_MS = 400;
const AFTER_COMPOSITION_MS = 50;

export interface BoxEvents {
  /** The text to search for; also called with an empty text. */
  onQuery(text: string): void;
  /** Enter outside a conversion, after `onQuery`. */
  onEnter(): void;
  /** Arrow down outside a conversion. */
  onDown(): void;
  /** Escape outside a conversion. */
  onEscape(): void;
}

export class SearchBox {
  private composing = false;
  private endedAt = Number.NEGATIVE_INFINITY;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly input: HTMLInputElement,
    private readonly events: BoxEvents,
  ) {
    input.addEventListener("compositionstart", () => {
      this.composing = true;
      clearTimeout(this.timer);
    });
    input.addEventListener("compositionend", (event) => {
      this.composing = false;
      this.endedAt = event.timeStamp;
      this.soon(TYPING_MS);
    });
    input.addEventListener("input", (event) => {
      if (!this.composing && !(event as InputEvent).isComposing) this.soon(TYPING_MS);
      else if (matchMedia("(pointer: coarse)").matches) this.soon(TOUCH_COMPOSING_MS);
    });
    input.addEventListener("keydown", (event) => this.onKey(event));
    input.form?.addEventListener("submit", (event) => event.preventDefault());
  }

  /** Whether `event` belongs to an input method. */
  isComposing(event: KeyboardEvent): boolean {
    return event.isComposing || event.keyCode === 229 || this.composing || event.timeStamp - this.endedAt < AFTER_COMPOSITION_MS;
  }

  /** Puts a text in and searches for it at once. */
  set(text: string): void {
    this.input.value = text;
    this.now();
  }

  private onKey(event: KeyboardEvent): void {
    if (this.isComposing(event)) return;
    if (event.key === "Enter") {
      event.preventDefault();
      this.now();
      this.events.onEnter();
    } else if (event.key === "ArrowDown") {
      event.preventDefault();
      this.events.onDown();
    } else if (event.key === "Escape") {
      this.events.onEscape();
    }
  }

  private soon(ms: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.now(), ms);
  }

  private now(): void {
    clearTimeout(this.timer);
    this.events.onQuery(this.input.value);
  }
}
