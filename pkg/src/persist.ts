/** Asking the browser to keep what was stored: some delete the files of pages that were not visited for a week, or when a disk runs full. */

/**
 * Whether the browser keeps this origin's files until somebody deletes them; `undefined` where it cannot be asked. `ask` may make it ask the reader, as
 * Firefox does: only for pages that were told to work without a network.
 */
export async function persist(ask: boolean): Promise<boolean | undefined> {
  const storage = globalThis.navigator?.storage as StorageManager | undefined;
  if (typeof storage?.persist !== "function") return undefined;
  try {
    if (await storage.persisted()) return true;
    // The others decide by themselves, without a question to the reader.
    const asksReaders = /firefox\//i.test(navigator.userAgent);
    return asksReaders && !ask ? false : await storage.persist();
  } catch {
    return undefined;
  }
}
