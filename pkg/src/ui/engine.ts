/** One loaded engine for all elements of a page that name the same bundle. */

import type { ProgressEvent } from "../types.js";
import type { Searcher } from "./types.js";

/** What tells engines apart: the attributes of an element. */
export interface EngineWish {
  bundle: string;
  model: string | undefined;
  assetBase: string | undefined;
}

interface Shared {
  searcher: Promise<Searcher>;
  listeners: Set<(event: ProgressEvent) => void>;
  last: ProgressEvent | undefined;
}

const engines = new Map<string, Shared>();

/** The engine for `wish`; loads it at the first call. A failed load is tried again by the next call. */
export function engineFor(wish: EngineWish, listener: (event: ProgressEvent) => void): Promise<Searcher> {
  const key = JSON.stringify([wish.bundle, wish.model, wish.assetBase]);
  let shared = engines.get(key);
  if (!shared) {
    const fresh: Shared = { listeners: new Set(), last: undefined, searcher: undefined as never };
    fresh.searcher = start(wish, (event) => {
      if (event.status === "progress_total") fresh.last = event;
      for (const tell of fresh.listeners) tell(event);
    });
    fresh.searcher.catch(() => engines.delete(key));
    engines.set(key, fresh);
    shared = fresh;
  }
  shared.listeners.add(listener);
  if (shared.last) listener(shared.last);
  return shared.searcher;
}

/** Forgets the engine for `wish`, so that the next call loads it anew. */
export function forgetEngine(wish: EngineWish): void {
  engines.delete(JSON.stringify([wish.bundle, wish.model, wish.assetBase]));
}

async function start({ bundle, model, assetBase }: EngineWish, progress_callback: (event: ProgressEvent) => void): Promise<Searcher> {
  // Fetched when somebody wants to search, not with the page.
  const { Shirube } = await import("../index.js");
  return Shirube.load({ bundle, progress_callback, ...(model !== undefined && { model }), ...(assetBase !== undefined && { assetBase }) });
}
