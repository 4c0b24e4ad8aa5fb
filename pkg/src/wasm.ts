/** Fetching and compiling WebAssembly. */

import { request } from "./assets.js";
import { ShirubeError, aborted } from "./errors.js";

/** The smallest module with a SIMD instruction: (func (drop (v128.const 0))). */
const SIMD_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 23, 1, 21, 0, 253, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  0, 0, 26, 11,
]);

/** The smallest module with a relaxed dot product: (func (drop (i32x4.relaxed_dot_i8x16_i7x16_add_s (v128.const 0) (v128.const 0) (v128.const 0)))). */
const RELAXED_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 62, 1, 60, 0,
  ...[1, 2, 3].flatMap(() => [253, 12, ...new Array<number>(16).fill(0)]),
  253, 147, 2, 26, 11,
]);

/** Where the engine's builds are. They share their JavaScript and differ in the instructions they use. */
export interface EngineUrls {
  /** 128-bit SIMD, which every supported browser has. */
  simd: string;
  /** Relaxed SIMD beside it: about twice as fast, where the browser has it. `undefined` where only one build was brought along. */
  relaxed: string | undefined;
}

/** The fastest build that this browser can run. */
export function engineUrl({ simd, relaxed }: EngineUrls): string {
  return relaxed !== undefined && typeof WebAssembly !== "undefined" && WebAssembly.validate(RELAXED_PROBE) ? relaxed : simd;
}

/** The compiled module at `href`, or an error that says what stands in its way. */
export async function compileWasm(href: string, signal: AbortSignal): Promise<WebAssembly.Module> {
  const unsupported = (why: string, cure: string) => new ShirubeError("WASM_UNSUPPORTED", why, cure);
  if (typeof WebAssembly === "undefined") {
    throw unsupported("this browser has no WebAssembly", "Use a browser from 2023 or later, outside lockdown modes.");
  }
  const response = await request(href, { signal });
  let module: WebAssembly.Module;
  try {
    const type = response.headers.get("content-type") ?? "";
    if (type.startsWith("application/wasm")) {
      module = await WebAssembly.compileStreaming(response);
    } else {
      const bytes = new Uint8Array(await response.arrayBuffer());
      if (bytes[0] === 0x3c) {
        throw new ShirubeError("ASSET_IS_HTML", `${href}: a web page stands in place of the file`, "Check the path, or give assetBase.");
      }
      module = await WebAssembly.compile(bytes);
    }
  } catch (error) {
    if (signal.aborted) throw aborted();
    if (error instanceof ShirubeError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    if (/content security policy|disallowed by embedder|unsafe-eval/i.test(message)) {
      throw unsupported(message, "Allow 'wasm-unsafe-eval' in the page's script-src.");
    }
    if (!WebAssembly.validate(SIMD_PROBE)) {
      throw unsupported("this browser has no WebAssembly SIMD", "Use a browser from 2023 or later.");
    }
    throw new ShirubeError("ASSET_DAMAGED", `${href}: ${message}`, "Upload the package's dist folder again.", error);
  }
  return module;
}
