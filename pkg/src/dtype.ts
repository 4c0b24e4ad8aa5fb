/** How a model's weights are stored: given when it is exported, and checked here for those who count on it. */

import { ShirubeError } from "./errors.js";
import type { Dtype } from "./types.js";

/** What transformers.js users call them, beside the manifest's own names. */
const NAMES: Record<string, Dtype> = { int8: "int8", q8: "int8", int4: "int4", q4: "int4", f32: "f32", fp32: "f32" };

/** The type that the option names; `undefined` takes a model as it is. */
export function dtypeOf(option: unknown): Dtype | undefined {
  if (option === undefined || option === "auto") return undefined;
  const dtype = typeof option === "string" && Object.hasOwn(NAMES, option) ? NAMES[option] : undefined;
  if (dtype) return dtype;
  throw new ShirubeError("BAD_ARGUMENT", `dtype is ${JSON.stringify(option)}, expected "auto", ${Object.keys(NAMES).map((name) => `"${name}"`).join(", ")}`);
}

/** The type of the weights that a manifest describes, refused where it is not the one wished for. */
export function checkDtype(manifest: Uint8Array, wish: Dtype | undefined): Dtype {
  const { name, quantization } = JSON.parse(new TextDecoder().decode(manifest)) as { name: string; quantization: { linear: Dtype } };
  const dtype = quantization.linear;
  if (wish === undefined || wish === dtype) return dtype;
  throw new ShirubeError(
    "BAD_ARGUMENT",
    `dtype is "${wish}", but the weights of ${name} are ${dtype}`,
    `A model has the one type it was exported with: leave dtype out, or make a model with --dtype ${wish} (shirube convert, shirube-train export).`,
  );
}
