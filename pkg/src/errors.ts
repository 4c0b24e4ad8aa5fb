/**
 * What went wrong, stable across versions: test `error.code`, show `error.message` and `error.cure`.
 *
 * | Code | When |
 * |---|---|
 * | `ASSET_MISSING` | the server has no such file (404 and other refusals) |
 * | `ASSET_IS_HTML` | a web page stands in the file's place |
 * | `ASSET_DAMAGED` | wrong length, wrong SHA-256 or a broken structure, also after a second download |
 * | `VERSION_NEWER` | the file's format is newer than this build reads |
 * | `VERSION_OLDER` | the bundle's format is older than this build reads; build it again |
 * | `MODEL_MISMATCH` | the bundle was built with another model or tokenizer |
 * | `NOT_CONVERTED` | a folder holds a checkpoint of another library; `cure` is the command that makes a model of it |
 * | `NO_MODEL` | something was asked that needs the model, which is not loaded |
 * | `EMPTY_QUERY` | nothing is left of the query after normalisation |
 * | `BAD_ARGUMENT` | an option or argument of the wrong type |
 * | `ABORTED` | your signal fired, a newer query took the place of this one, or `dispose()` was called |
 * | `WASM_UNSUPPORTED` | no WebAssembly with SIMD, or the page's CSP forbids it |
 * | `WORKER_FAILED` | the Web Worker could not start or stopped, and the main thread was not allowed instead |
 * | `NETWORK` | the network or the server failed |
 * | `INTERNAL` | a fault of this library; please report it |
 */
export type ShirubeErrorCode =
  | "ASSET_MISSING"
  | "ASSET_IS_HTML"
  | "ASSET_DAMAGED"
  | "VERSION_NEWER"
  | "VERSION_OLDER"
  | "MODEL_MISMATCH"
  | "NOT_CONVERTED"
  | "NO_MODEL"
  | "EMPTY_QUERY"
  | "BAD_ARGUMENT"
  | "ABORTED"
  | "WASM_UNSUPPORTED"
  | "WORKER_FAILED"
  | "NETWORK"
  | "INTERNAL";

/** The one error class of this package. */
export class ShirubeError extends Error {
  override readonly name = "ShirubeError";
  /** What went wrong. */
  readonly code: ShirubeErrorCode;
  /** What to do about it, in one sentence; may be empty. */
  readonly cure: string;

  constructor(code: ShirubeErrorCode, message: string, cure = "", cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.cure = cure;
  }
}

/** The form in which an error crosses the worker's and WebAssembly's borders. */
export interface PlainError {
  code: ShirubeErrorCode;
  message: string;
  cure: string;
}

function isPlain(value: unknown): value is PlainError {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as PlainError).code === "string" &&
    typeof (value as PlainError).message === "string" &&
    typeof (value as PlainError).cure === "string"
  );
}

/** Any thrown value as a {@link ShirubeError}. */
export function toShirubeError(value: unknown): ShirubeError {
  if (value instanceof ShirubeError) return value;
  if (isPlain(value)) return new ShirubeError(value.code, value.message, value.cure, value instanceof Error ? value : undefined);
  if (value instanceof DOMException && value.name === "AbortError") return aborted();
  const message = value instanceof Error ? value.message : String(value);
  return new ShirubeError("INTERNAL", message, "Reload the page; if it happens again, please report it.", value);
}

/** An error in the form that survives `postMessage`. */
export function toPlain(value: unknown): PlainError {
  const { code, message, cure } = toShirubeError(value);
  return { code, message, cure };
}

export function aborted(message = "the request was aborted"): ShirubeError {
  return new ShirubeError("ABORTED", message);
}
