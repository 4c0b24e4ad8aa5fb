/** One file of a precache list, as Workbox takes it. */
export interface PrecacheEntry {
  /** `base` and the path inside the folder. */
  url: string;
  /** Changes whenever the file does. */
  revision: string;
}

/**
 * The files of `folder` (as `shirube build` wrote it) for a service worker's precache list. By default the code that a page loads: data and model are
 * kept by the package itself, which verifies them. `all` adds both.
 *
 * @throws where `folder` holds no `shirube.js`.
 */
export function precache(folder: string, options?: { base?: string; all?: boolean }): Promise<PrecacheEntry[]>;
