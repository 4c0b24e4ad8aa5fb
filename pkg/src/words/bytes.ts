/** Reading the bundle's binary files (docs/format.md): numbers, compressed bodies, checksums. Every refusal is a `ShirubeError`. */

import { ShirubeError } from "../errors.js";

const MAX_FILE_BYTES = 64 << 20;

/** Bytes that one byte of a deflate stream can stand for, at most. */
const LARGEST_RATIO = 1032;

const again = "Fetch it again; if that does not help, build it again.";

export const damaged = (path: string, what: string): ShirubeError => new ShirubeError("ASSET_DAMAGED", `${path}: ${what}`, again);

/** An error for bytes that are not what their table promises: a page in their place, or damage. */
export function notThePromised(path: string, bytes: Uint8Array, what: string): ShirubeError {
  const head = new TextDecoder().decode(bytes.subarray(0, 200)).trimStart().toLowerCase();
  if (head.startsWith("<!doctype html") || head.startsWith("<html")) {
    return new ShirubeError("ASSET_IS_HTML", `${path}: an HTML page stands in place of the file`, "The server answers missing files with a page: check the path.");
  }
  return damaged(path, what);
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A reader that refuses to go past the end. */
export class Cursor {
  private readonly view: DataView;

  constructor(
    readonly path: string,
    readonly bytes: Uint8Array,
    public at = 0,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return this.bytes.length - this.at;
  }

  fail(what: string): ShirubeError {
    return damaged(`${this.path}, byte ${this.at}`, what);
  }

  take(n: number): Uint8Array {
    if (n > this.left) throw this.fail(`${n} bytes announced, ${this.left} left`);
    this.at += n;
    return this.bytes.subarray(this.at - n, this.at);
  }

  u32(): number {
    this.take(4);
    return this.view.getUint32(this.at - 4, true);
  }

  f32(): number {
    this.take(4);
    const value = this.view.getFloat32(this.at - 4, true);
    if (!Number.isFinite(value)) throw this.fail("a float is not finite");
    return value;
  }

  /** An unsigned LEB128 of at most five bytes in `low` to `high`. */
  number(what: string, low = 0, high = 0xffff_ffff): number {
    // Most are below 128.
    const first = this.bytes[this.at] as number;
    if (first < 0x80 && first >= low && first <= high) {
      this.at += 1;
      return first;
    }
    let value = 0;
    for (let i = 0; i < 5; i++) {
      if (this.at >= this.bytes.length) break;
      const byte = this.bytes[this.at++] as number;
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte >= 0x80) continue;
      if (i > 0 && byte === 0) break;
      if (value < low || value > high) throw this.fail(`${what} is ${value}, expected ${low} to ${high}`);
      return value;
    }
    throw this.fail(`${what}: a number has a needless byte, more than five, or no end`);
  }

  /** A number of items of at least `itemBytes` each: refused where the rest of the file cannot hold them. */
  items(what: string, itemBytes = 1): number {
    const n = this.number(what);
    if (n * itemBytes > this.left) throw this.fail(`${n} ${what} announced, ${this.left} bytes left`);
    return n;
  }

  text(n: number): string {
    try {
      return UTF8.decode(this.take(n));
    } catch (error) {
      throw error instanceof ShirubeError ? error : this.fail("text is not UTF-8");
    }
  }

  /** A list of documents that ascend below `nDocuments`, each with what `each` reads. */
  documents<T>(nDocuments: number, each: () => T): [document: number, value: T][] {
    const out: [number, T][] = [];
    let next = 0;
    for (let n = this.items("documents"); n > 0; n--) {
      next += this.number("a distance between documents", 1, nDocuments - next);
      out.push([next - 1, each()]);
    }
    return out;
  }

  /** Refuses what is left. */
  end(): void {
    if (this.left > 0) throw this.fail(`${this.left} bytes too many`);
  }
}

/** The compressed body that fills `bytes` from `at`: its length, and a zlib stream. No more is kept than that length. */
export async function inflate(path: string, bytes: Uint8Array, at = 0): Promise<Uint8Array> {
  const cursor = new Cursor(path, bytes, at);
  const length = cursor.u32();
  if (length > Math.min(cursor.left * LARGEST_RATIO, MAX_FILE_BYTES)) throw cursor.fail(`${length} bytes announced, more than ${cursor.left} compressed ones can stand for`);
  const out = new Uint8Array(length);
  let filled = 0;
  const stream = new Blob([cursor.take(cursor.left) as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new DecompressionStream("deflate"));
  const reader = stream.getReader();
  try {
    for (let step = await reader.read(); !step.done; step = await reader.read()) {
      if (filled + step.value.length > length) throw cursor.fail(`more than the ${length} bytes announced`);
      out.set(step.value, filled);
      filled += step.value.length;
    }
  } catch (error) {
    reader.cancel().catch(() => {});
    throw error instanceof ShirubeError ? error : cursor.fail(`zlib: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (filled !== length) throw cursor.fail(`${filled} of ${length} bytes`);
  return out;
}

/** The body of a directory: magic, version, compressed body. */
export async function directoryBody(path: string, bytes: Uint8Array, magic: string, newest: number): Promise<Cursor> {
  const cursor = new Cursor(path, bytes);
  const found = String.fromCharCode(...cursor.take(4));
  if (found !== magic) throw notThePromised(path, bytes, `begins with ${JSON.stringify(found)}, expected ${magic}`);
  const version = cursor.u32();
  if (version > newest) throw new ShirubeError("VERSION_NEWER", `${path}: format ${version} is newer than ${newest}, the newest this build reads`, "Update shirube or rebuild the file.");
  if (version < newest) throw new ShirubeError("VERSION_OLDER", `${path}: format ${version} is older than ${newest}, the oldest this build reads`, "Build it again with `shirube build`.");
  return new Cursor(path, await inflate(path, bytes, cursor.at));
}

const primes = (n: number): number[] => {
  const out: number[] = [];
  for (let candidate = 2; out.length < n; candidate++) if (out.every((p) => candidate % p !== 0)) out.push(candidate);
  return out;
};
const fraction = (x: number): number => Math.floor((x - Math.floor(x)) * 2 ** 32);
const FIRST_PRIMES = primes(64);
const ROUNDS = Int32Array.from(FIRST_PRIMES, (p) => fraction(Math.cbrt(p)) | 0);
const START = Int32Array.from(FIRST_PRIMES.slice(0, 8), (p) => fraction(Math.sqrt(p)) | 0);

const hexadecimal = (bytes: Iterable<number>): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** SHA-256 in hexadecimal: the browser's own, which pages without https do not have. */
export async function sha256(bytes: Uint8Array): Promise<string> {
  const { subtle } = globalThis.crypto ?? {};
  return subtle ? hexadecimal(new Uint8Array(await subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>))) : sha256Here(bytes);
}

/** SHA-256 (FIPS 180-4) in hexadecimal, many times slower than a browser's own. */
export function sha256Here(bytes: Uint8Array): string {
  const padded = new Uint8Array(Math.ceil((bytes.length + 9) / 64) * 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(padded.length - 4, bytes.length << 3);
  const state = START.slice();
  const w = new Int32Array(64);
  const rotate = (x: number, n: number) => (x >>> n) | (x << (32 - n));
  for (let at = 0; at < padded.length; at += 64) {
    for (let i = 0; i < 64; i++) {
      if (i < 16) w[i] = view.getInt32(at + 4 * i);
      else {
        const [x, y] = [w[i - 15]!, w[i - 2]!];
        w[i] = w[i - 16]! + (rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3)) + w[i - 7]! + (rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10));
      }
    }
    let [a, b, c, d, e, f, g, h] = state as unknown as [number, number, number, number, number, number, number, number];
    for (let i = 0; i < 64; i++) {
      const t1 = (h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + ROUNDS[i]! + w[i]!) | 0;
      const t2 = ((rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => void (state[i]! += value));
  }
  return Array.from(state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}
