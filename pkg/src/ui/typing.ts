/**
 * When to search, and which keys to take, while somebody types Japanese.
 *
 * A conversion in progress is not a query: its letters are readings that the next key may turn into anything. A key belongs to the
 * input method if the event says so, if its code is 229, between compositionstart and compositionend, or within 50 ms after the end,
 * because Safari sends the keydown of the closing Enter after compositionend. Keyboards of touch screens compose all the time, so
 * there a query is sent after a stillness of `composingDelay`. The field's value is never rewritten.
 */

const TYPING_MS = 90;
export const TOUCH_COMPOSING_MS = 400;
const AFTER_COMPOSITION_MS = 50;

/** What a search box hears about. */
export interface TypingEvents {
  /** The text to search for; also called with an empty text. */
  onQuery(text: string): void;
  /** A key that no input method wants. `onQuery` comes before an Enter. */
  onKey(event: KeyboardEvent): void;
  /** Stillness in milliseconds after which an unfinished conversion is searched for; `undefined` waits for its end. */
  composingDelay(): number | undefined;
}

export class Typing {
  private composing = false;
  private endedAt = Number.NEGATIVE_INFINITY;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly input: HTMLInputElement,
    private readonly events: TypingEvents,
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
      if (!this.composing && !(event as InputEvent).isComposing) return this.soon(TYPING_MS);
      const delay = this.events.composingDelay();
      if (delay !== undefined) this.soon(delay);
    });
    // A conversion that loses its field (blur, a removed element) ends without compositionend in some browsers.
    input.addEventListener("blur", () => (this.composing = false));
    input.addEventListener("keydown", (event) => {
      if (this.isComposing(event)) return;
      if (event.key === "Enter") this.now();
      this.events.onKey(event);
    });
  }

  /** Whether `event` belongs to an input method. */
  isComposing(event: Event): boolean {
    const { isComposing, keyCode } = event as KeyboardEvent;
    return isComposing === true || keyCode === 229 || this.composing || event.timeStamp - this.endedAt < AFTER_COMPOSITION_MS;
  }

  /** Puts a text in and searches for it at once. */
  set(text: string): void {
    this.input.value = text;
    this.now();
  }

  stop(): void {
    clearTimeout(this.timer);
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
