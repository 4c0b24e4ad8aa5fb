/**
 * Files that a script brought along instead of a server: pages opened from `file://` may not fetch.
 *
 * `shirube/inline` writes such a script. It fills `globalThis.shirubeFiles` with base64 by path, and its code believes to stand at
 * {@link INLINE}, so that every address it makes for itself leads here.
 */

/** A host that can never exist (RFC 2606). */
export const INLINE = "https://inline.shirube.invalid/";

/** Whether `url` is one of the script's own files. */
export const isInline = (url: string): boolean => url.startsWith(INLINE);

/** The answer to a request for one of the script's own files. */
export function inlineResponse(url: string): Response {
  const { shirubeFiles } = globalThis as { shirubeFiles?: Record<string, string> };
  const text = shirubeFiles?.[decodeURI(url.slice(INLINE.length))];
  if (text === undefined) return new Response(null, { status: 404 });
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Response(bytes);
}

/** Where the code of `shirube/slim` believes to stand: it looks for no file beside itself, so that bundlers have nothing to follow. */
export const SLIM = "https://slim.shirube.invalid/";

/** Whether `url` is that of `shirube/slim`. */
export const isSlim = (url: string): boolean => url.startsWith(SLIM);
