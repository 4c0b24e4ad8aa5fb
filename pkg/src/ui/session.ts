/** What happens between a text in the field and rows on view: the engine's loading, searches in steps, failures. Draws nothing. */

import type { ProgressEvent } from "../types.js";
import { engineFor, forgetEngine, type EngineWish } from "./engine.js";
import type { FilterChoice, SearchState, Searcher, ShownError, ShownResult } from "./types.js";

/** What a session asks of the element around it. */
export interface SessionHost {
  wish(): EngineWish;
  options(): { limit: number; firstHits: number; lexicalWeight?: number; filters?: FilterChoice };
  /** The text in the field now. */
  text(): string;
  /** Something that is painted is another. */
  changed(): void;
  /** A result has come; a refinement is for the text that is on view already. */
  show(result: ShownResult, refinement: boolean): void;
  /** No result is left. */
  clear(): void;
  /** An event for the page. */
  tell(name: string, detail: unknown): void;
}

export class Session {
  state: SearchState = "idle";
  /** The result on view, and the text it is for. */
  result: ShownResult | undefined;
  shownFor = "";
  failure: ShownError | undefined;
  /** Why rows are by words alone, where the model could not be loaded or used. */
  meaningFailure: ShownError | undefined;
  /** Bytes of the files under way. */
  bytes: { loaded: number; total: number } | undefined;

  /** The page's own searcher; goes before the engine. */
  own: Searcher | undefined;
  private loaded: Searcher | undefined;
  private loading: EngineWish | undefined;
  /** What the bytes under way are for. */
  private heard: EngineWish | undefined;
  private wanted = "";
  private controller: AbortController | undefined;

  constructor(private readonly host: SessionHost) {}

  /** What answers now. */
  get engine(): Searcher | undefined {
    return this.own ?? this.loaded;
  }

  /** Whether the engine or its model is on the way. */
  get busy(): boolean {
    return this.loading !== undefined || (this.engine?.status?.meaning?.state === "loading" && this.bytes !== undefined);
  }

  /** The engine's attributes are others: what is loaded is not asked for any more. */
  forget(): void {
    this.loaded = undefined;
    this.loading = undefined;
    this.again();
  }

  /** Searches for the text in the field once more. */
  again(): void {
    if (this.host.text().trim() !== "") void this.run(this.host.text(), true);
    else this.set(this.engine ? "ready" : "idle");
  }

  stop(): void {
    this.controller?.abort();
  }

  /** Loads the engine, once. */
  preload(): void {
    if (this.engine || this.loading || this.failure) return;
    const wish = this.host.wish();
    this.loading = wish;
    this.heard = wish;
    if (this.state === "idle") this.set("loading");
    engineFor(wish, (event) => this.onProgress(wish, event)).then(
      (engine) => {
        if (this.loading !== wish) return;
        this.loading = undefined;
        this.loaded = engine;
        this.set("ready");
        if (engine.status?.meaning?.state === "loading") void this.followMeaning(engine);
        if (this.host.text().trim() !== "") void this.run(this.host.text(), true);
      },
      (error: unknown) => {
        if (this.loading !== wish) return;
        this.loading = undefined;
        this.fail(error);
      },
    );
  }

  /** Loads the model where it was left out, and refines what is on view. */
  async loadMeaning(): Promise<void> {
    const { engine } = this;
    if (!engine?.loadMeaning) return;
    this.meaningFailure = undefined;
    this.failure = undefined;
    const done = this.followMeaning(engine);
    this.host.changed();
    if (!(await done)) return;
    if (this.host.text().trim() !== "" && this.engine === engine) void this.run(this.host.text(), true, true);
  }

  /** Waits for the model of `engine` and tells the page; whether it came. */
  private async followMeaning(engine: Searcher): Promise<boolean> {
    let failure: unknown;
    // A load under way is joined, not begun again.
    await engine.loadMeaning?.().catch((error: unknown) => (failure = error));
    if (this.engine !== engine) return false;
    this.bytes = undefined;
    this.meaningFailure = failure === undefined ? undefined : shownError(failure);
    this.host.changed();
    this.host.tell("shirube-meaning", engine.status?.meaning);
    if (failure !== undefined) this.host.tell("shirube-error", failure);
    return failure === undefined;
  }

  /** Searches for `text`; `refine` keeps the rows of the same text where they are. */
  async run(text: string, again = false, refine = false): Promise<void> {
    if (text === this.wanted && !again) return;
    this.wanted = text;
    this.controller?.abort();
    if (text.trim() === "") {
      this.result = undefined;
      if (this.engine) this.failure = undefined;
      this.host.clear();
      this.set(this.failure ? "failed" : this.engine ? "ready" : this.loading ? "loading" : "idle");
      return;
    }
    const searcher = this.engine;
    if (!searcher) {
      this.failure = undefined;
      this.preload();
      this.host.changed();
      return;
    }
    const controller = new AbortController();
    this.controller = controller;
    this.set("searching");
    // What is on view for the same text is refined, whoever asked for more.
    const before = refine && this.result && this.shownFor === text ? 1 : 0;
    let steps = before;
    try {
      for await (const result of inSteps(searcher.search(text, { ...this.host.options(), signal: controller.signal }))) {
        if (controller.signal.aborted) return;
        this.failure = undefined;
        this.result = result;
        this.shownFor = text;
        this.host.show(result, steps++ > 0);
        this.set(result.stage === "words" ? "words" : "done");
        this.host.tell("shirube-result", result);
      }
      if (controller.signal.aborted || !this.result) return;
      const meaning = searcher.status?.meaning;
      this.meaningFailure = meaning?.state === "failed" ? shownError(meaning.error) : undefined;
      this.set("done");
    } catch (error) {
      if (controller.signal.aborted || (error as ShownError).code === "ABORTED") return;
      if (steps === before) return this.fail(error);
      // The words' hits stay: they are right, only not refined.
      this.meaningFailure = shownError(error);
      this.host.tell("shirube-error", error);
      this.set("done");
    }
  }

  /** Tries again what failed. */
  retry(): void {
    const { code } = this.failure ?? {};
    this.failure = undefined;
    // After these the engine itself is gone.
    if (code === "WORKER_FAILED" || code === "INTERNAL") {
      forgetEngine(this.host.wish());
      this.loaded = undefined;
    }
    if (this.engine) void this.run(this.host.text(), true);
    else this.preload();
    this.host.changed();
  }

  private fail(error: unknown): void {
    this.failure = shownError(error);
    this.result = undefined;
    this.host.clear();
    this.set("failed");
    this.host.tell("shirube-error", error);
  }

  private set(state: SearchState): void {
    const changed = this.state !== state;
    this.state = state;
    this.host.changed();
    if (changed) this.host.tell("shirube-state", state);
  }

  private onProgress(wish: EngineWish, event: ProgressEvent): void {
    // Also after the engine is there: its model may still be under way.
    if (this.heard !== wish) return;
    this.host.tell("shirube-progress", event);
    if (event.status !== "progress_total") return;
    this.bytes = event;
    this.host.changed();
  }
}

/** Whatever was thrown, in the form that is shown. */
function shownError(error: unknown): ShownError {
  const { code, message } = (error ?? {}) as Partial<ShownError>;
  return { code: typeof code === "string" ? code : "INTERNAL", message: typeof message === "string" ? message : String(error) };
}

/** A promise is one step; an iterable as many as it has. */
async function* inSteps(answer: PromiseLike<ShownResult> | AsyncIterable<ShownResult>): AsyncGenerator<ShownResult> {
  if (Symbol.asyncIterator in answer) yield* answer;
  else yield await answer;
}
