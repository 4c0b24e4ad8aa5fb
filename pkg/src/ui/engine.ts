/** One loaded engine for all elements of a page that name the same bundle. */

import { Shirube } from "../index.js";
import type { ProgressEvent } from "../types.js";
import type { Searcher } from "./types.js";

/** What tells engines apart: the attributes of an element. */
export interface EngineWish {
  /** Whether the model follows by itself, or waits until `loadMeaning` is called. */
  meaning: "background" | "off";
  bundle: string;
  model: string | undefined;
  assetBase: string | undefined;
  device: "auto" | "webgpu" | "wasm";
}

interface Shared {
  searcher: Promise<Searcher>;
  listeners: Set<(event: ProgressEvent) => void>;
  last: ProgressEvent | undefined;
}

const engines = new Map<string, Shared>();

/** The engine for `wish`; loads it at the first call. A failed load is tried again by the next call. */
export function engineFor(wish: EngineWish, listener: (event: ProgressEvent) => void): Promise<Searcher> {
  const key = keyOf(wish);
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
  engines.delete(keyOf(wish));
}

/** Elements that differ in `meaning` alone share an engine: the first decides, and any can load the model later. */
function keyOf({ bundle, model, assetBase, device }: EngineWish): string {
  return JSON.stringify([bundle, model, assetBase, device]);
}

/** What loads the model: the attribute `meaning`, and for `auto` whether the reader's line is one to save. */
export function meaningPolicy(attribute: string | null): "background" | "ask" | "off" {
  if (attribute === "eager") return "background";
  if (attribute === "opt-in") return "ask";
  if (attribute === "never") return "off";
  const { connection } = navigator as { connection?: { saveData?: boolean; type?: string; effectiveType?: string } };
  const spare = connection?.saveData === true || connection?.type === "cellular" || /(^|-)[23]g$/.test(connection?.effectiveType ?? "");
  return spare ? "ask" : "background";
}

async function start({ bundle, model, assetBase, device, meaning }: EngineWish, progress_callback: (event: ProgressEvent) => void): Promise<Searcher> {
  const options = { bundle, device, meaning, progress_callback, ...(model !== undefined && { model }), ...(assetBase !== undefined && { assetBase }) };
  return Shirube.load(options);
}
