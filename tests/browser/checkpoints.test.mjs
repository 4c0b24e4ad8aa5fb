// A BERT of BERT-base's widths and vocabulary, converted, in all builds of the engine. Two layers of the twelve: `npm run bench -- checkpoints-browser` runs
// them all; `BASE_LAYERS=12` does so here.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { QUERIES, baseModels, bytesOf, furthest } from "../../crates/bench/checkpoints/base.mjs";
import { MOST_MEMORY, inPage, natively } from "../../crates/bench/checkpoints/browser.mjs";
import { assert, root, useBrowser, visit } from "./harness.mjs";

useBrowser(["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]);

const LAYERS = Number(process.env.BASE_LAYERS ?? 2);

/** Native and wasm differ in the last bit of exp, which can move an activation to the next of 127 steps. */
const SCORE_BOUND = 0.02;
/** Weights are packed beside themselves, one matrix after the other, and the embedding table is the largest: 25 MB of the 512 allowed for that and all else. */
const MOST_OVERHEAD = 64 * 2 ** 20;

test("BERT-base's widths and vocabulary run in every build within the memory, with the command line's hits", async () => {
  const models = baseModels(join(root, "target", "tmp", `base-${LAYERS}`), LAYERS);
  const base = (path) => {
    const [, dtype, kind, name] = /^\/base\/(\w+)\/(model|bundle)\/(.+)$/.exec(path) ?? [];
    const file = dtype && join(models[dtype][kind], name);
    return file && existsSync(file) ? { body: readFileSync(file) } : undefined;
  };
  for (const dtype of ["int8", "int4"]) {
    const expected = natively(models[dtype]);
    const weights = bytesOf(models[dtype].model, /^weights-/);
    for (const [device, relaxed] of [["wasm", true], ["wasm", false], ...(dtype === "int8" ? [["webgpu", true]] : [])]) {
      const what = `${dtype} on ${device}, ${relaxed ? "relaxed" : "128-bit"} SIMD`;
      await visit({ damage: base }, async (page, { url }) => {
        page.setDefaultTimeout(300_000);
        await page.goto(`${url}blank.html`);
        const found = await page.evaluate(inPage, { model: `/base/${dtype}/model/`, bundle: `/base/${dtype}/bundle/`, queries: QUERIES, rounds: 1, device, relaxed });
        assert.equal(found.backend, relaxed ? "relaxed-simd" : "simd128");
        assert.equal(found.nTokens, 32);
        assert.ok(found.after.memory <= MOST_MEMORY, `${what}: ${found.after.memory} bytes of memory`);
        if (device === "wasm") {
          assert.ok(found.after.memory <= weights + MOST_OVERHEAD, `${what}: ${found.after.memory} bytes of memory for ${weights} of weights: they stand in it twice`);
        } else {
          assert.deepEqual([found.device.encoder.kind, found.after.device.encoder.kind], ["webgpu", "webgpu"], found.after.device.encoder.reason);
        }
        const off = furthest(found.answers, expected);
        assert.ok(off <= SCORE_BOUND, `${what}: scores differ by ${off}`);
      });
    }
  }
});
