// Builds what is missing or out of date: wasm, the npm package, the demo page. `npm run build`.
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ensureNodePackages, ensureRust, filesUnder, once, root, run, say } from "./lib.mjs";

export function buildWasm(...options) {
  ensureRust();
  run("cargo", ["run", "--quiet", "-p", "shirube-xtask", "--", "wasm", ...options]);
}

/**
 * The engine in its two builds: 128-bit SIMD, and relaxed SIMD for browsers that have it. wasm-bindgen writes the same JavaScript for both, so the package
 * has it once.
 */
export function buildEngine() {
  const [dist, relaxed] = ["pkg/dist", "target/wasm-relaxed"].map((folder) => join(root, folder));
  buildWasm();
  buildWasm("--relaxed", "--out", "target/wasm-relaxed");
  const script = (folder) => readFileSync(join(folder, "shirube_wasm.js"), "utf8");
  if (script(dist) !== script(relaxed)) throw new Error("the builds with and without relaxed SIMD came out with different JavaScript: they can no longer share one file");
  cpSync(join(relaxed, "shirube_wasm_bg.wasm"), join(dist, "shirube_relaxed_bg.wasm"));
}

/** Imported style sheets become their minified text: the elements adopt them by script. */
function styleText({ transform }) {
  return {
    name: "style-text",
    setup: (api) =>
      api.onLoad({ filter: /\.css$/ }, async ({ path }) => {
        const { code } = await transform(readFileSync(path, "utf8"), { loader: "css", minify: true, target: ["chrome111", "firefox114", "safari16.4"] });
        return { contents: code.trim(), loader: "text" };
      }),
  };
}

/** The module of the model's file names, for code that stands `above` the model's folder. `tokenizer.json` is for training tools; browsers read the compact form. */
function modelFileNames(above = "../") {
  const { files } = JSON.parse(readFileSync(join(root, "pkg", "model", "manifest.json"), "utf8"));
  const names = files.map(({ path }) => path).filter((path) => path !== "tokenizer.json");
  // Vite would put a small file into the code as a data: address, which a strict CSP does not let through; others ignore the mark.
  const urls = ["manifest.json", ...names].map((path) => `${JSON.stringify(path)}: new URL("${above}model/${path}${path.endsWith(".json") ? "?no-inline" : ""}", import.meta.url).href`);
  const contents = `export default () => ({ ${urls.join(", ")} });`;
  return {
    name: "model-file-names",
    setup: (api) => {
      api.onResolve({ filter: /^virtual:model-files$/ }, ({ path }) => ({ path, namespace: "model-files" }));
      api.onLoad({ filter: /.*/, namespace: "model-files" }, () => ({ contents, loader: "js" }));
    },
  };
}

/** No file of a model: the code that is built looks for none. */
const noModelFiles = {
  name: "no-model-files",
  setup: (api) => {
    api.onResolve({ filter: /^virtual:model-files$/ }, ({ path }) => ({ path, namespace: "no-model-files" }));
    api.onLoad({ filter: /.*/, namespace: "no-model-files" }, () => ({ contents: "export default () => ({});", loader: "js" }));
  },
};

/** The marks that tell bundlers to leave an import by address alone: esbuild drops them where it minifies. */
function markImports(path) {
  const code = readFileSync(path, "utf8");
  const marked = code.replace(/\bimport\(([\w$.]+)\)/g, "import(/* webpackIgnore: true */ /* @vite-ignore */ $1)");
  if (marked === code) throw new Error(`${path} imports nothing by address: the mark of gpu.ts is not needed any more`);
  writeFileSync(path, marked);
}

export async function buildPackage() {
  const { build, transform } = await import("esbuild");
  const out = join(root, "pkg", "dist");
  const inputs = filesUnder("pkg/src", "pkg/package.json", "pkg/model/manifest.json", "pkg/tsconfig.json", "package-lock.json", "pkg/dist/shirube_wasm.js", "pkg/dist/shirube_wasm.d.ts", "pkg/dist/shirube_gpu.js", "pkg/dist/shirube_gpu.d.ts", "pkg/dist/node/shirube_node.js", "pkg/dist/node/shirube_node.d.ts", "crates/xtask/scripts/build.mjs");
  await once("package", inputs, ["pkg/dist/shirube.js", "pkg/dist/worker.js", "pkg/dist/host.js", "pkg/dist/gpu.js", "pkg/dist/ui.js", "pkg/dist/ui.css", "pkg/dist/inline.js", "pkg/dist/slim.js", "pkg/dist/rerank/index.js", "pkg/dist/build/worker.js", "pkg/dist/types/ui/index.d.ts"], async () => {
    say("building the npm package (esbuild, tsc)");
    for (const name of readdirSync(out)) if (/^(chunk|host)-/.test(name)) rmSync(join(out, name));
    const shared = { absWorkingDir: root, outdir: "pkg/dist", bundle: true, format: "esm", target: "es2022", minify: true, legalComments: "none", logLevel: "warning" };
    // Every file whole: what two of them share stands in both, because a chunk would be fetched after the file that asks for it. Only the page's own thread, which takes the
    // worker's part where none starts, is fetched when it comes to that.
    const hostBeside = { name: "host-beside", setup: (api) => api.onResolve({ filter: /^\.\/host\.js$/ }, () => ({ path: "./host.js", external: true })) };
    await build({ ...shared, entryPoints: { worker: "pkg/src/worker.ts", host: "pkg/src/host.ts" } });
    for (const name of ["worker.js", "host.js"]) markImports(join(out, name));
    await build({ ...shared, entryPoints: { shirube: "pkg/src/index.ts" }, plugins: [modelFileNames(), hostBeside] });
    // In folders of their own, which sites do not get beside their bundle: they are for applications.
    const beside = { name: "engine-above", setup: (api) => api.onResolve({ filter: /^\.\.?\/index\.js$/ }, () => ({ path: "../shirube.js", external: true })) };
    await build({ ...shared, entryPoints: { "rerank/index": "pkg/src/rerank-entry.ts" }, plugins: [beside] });
    await build({ ...shared, entryPoints: { "build/index": "pkg/src/build/index.ts", "build/worker": "pkg/src/build/worker.ts" }, plugins: [beside, modelFileNames("../../")] });
    // The GPU's module is imported by address, never as a chunk: bundlers that make workers of one file could not follow.
    await build({ ...shared, entryPoints: { gpu: "pkg/src/gpu-side.ts" } });
    await build({ ...shared, entryPoints: { ui: "pkg/src/ui/index.ts" }, plugins: [styleText({ transform }), modelFileNames(), hostBeside] });
    // For bundlers that stumble over files beside a module: it stands nowhere and has nothing beside it.
    await build({ ...shared, entryPoints: { slim: "pkg/src/index.ts" }, define: { "import.meta.url": '"https://slim.shirube.invalid/slim.js"' }, plugins: [noModelFiles] });
    // Everything in one classic script: pages opened from file:// may neither import nor fetch.
    const alone = { entryPoints: { inline: "pkg/src/inline.ts" }, format: "iife", ignoreAnnotations: true, define: { "import.meta.url": '"https://inline.shirube.invalid/inline.js"' } };
    await build({ ...shared, ...alone, plugins: [styleText({ transform }), modelFileNames()] });
    const { code } = await transform(readFileSync(join(root, "pkg", "src", "ui", "page.css"), "utf8"), { loader: "css", minify: true });
    writeFileSync(join(out, "ui.css"), code);
    run("node", ["node_modules/typescript/bin/tsc", "-p", "pkg"]);
  });
}

/** Where `npm run docs` builds the documentation. */
export const DOCS = "target/docs-site";

export async function buildPage(bundle) {
  const { build } = await import("esbuild");
  const out = join(root, "www", "dist");
  const docs = `${DOCS}/.vitepress/dist`;
  const inputs = filesUnder("www/index.html", "www/model.html", "www/style.css", "www/icon.svg", "www/tsconfig.json", "www/src", bundle, docs, "pkg/dist", "pkg/model", "crates/xtask/scripts/build.mjs");
  await once("page", inputs, ["www/dist/index.html", "www/dist/app.js", "www/dist/model.js", "www/dist/sw.js"], async () => {
    say("building the page (esbuild, tsc)");
    run("node", ["node_modules/typescript/bin/tsc", "-p", "www"]);
    rmSync(out, { recursive: true, force: true });
    mkdirSync(out, { recursive: true });
    await build({
      absWorkingDir: root,
      entryPoints: ["www/src/app.ts", "www/src/model.ts"],
      outdir: "www/dist",
      bundle: true,
      format: "esm",
      target: "es2022",
      minify: true,
      // The page uses the package's files as they are published, not a private bundle of them.
      plugins: [
        {
          name: "package-beside-the-page",
          setup: (api) => api.onResolve({ filter: /^shirube(\/ui|\/build)?$/ }, ({ path }) => ({ path: { shirube: "./shirube/shirube.js", "shirube/ui": "./shirube/ui.js", "shirube/build": "./shirube/build/index.js" }[path], external: true })),
        },
      ],
      logLevel: "warning",
    });
    for (const name of ["index.html", "model.html", "style.css", "icon.svg"]) cpSync(join(root, "www", name), join(out, name));
    mkdirSync(join(out, "shirube"));
    for (const name of readdirSync(join(root, "pkg", "dist"))) {
      if (/^(?!shirube_(wasm|gpu)\.|inline\.|slim\.).*\.js$|_bg\.wasm$/.test(name)) cpSync(join(root, "pkg", "dist", name), join(out, "shirube", name));
    }
    // The builder, for the playground: fetched when somebody makes an index there.
    for (const name of ["build/index.js", "build/worker.js", "node/shirube_node_bg.wasm"]) cpSync(join(root, "pkg", "dist", name), join(out, "shirube", name));
    const model = join(root, "pkg", "model");
    for (const [from, to] of [[model, "model"], [join(root, bundle), "bundle"]]) {
      if (existsSync(from)) cpSync(from, join(out, to), { recursive: true });
      else say(`${from.slice(root.length + 1)} does not exist: the page will say that its files are missing`);
    }
    if (existsSync(join(root, docs))) {
      cpSync(join(root, docs), join(out, "docs"), { recursive: true });
      // The page shows its link to a documentation that is there.
      const index = join(out, "index.html");
      writeFileSync(index, readFileSync(index, "utf8").replace('<a id="docs" href="./docs/" hidden', '<a id="docs" href="./docs/index.html"'));
    }
    // Model and bundle are left to the package's own cache, which verifies them; the documentation is a site of its own.
    const files = filesUnder("www/dist")
      .map((path) => `./${path.slice(out.length + 1)}`)
      // The GPU's module only helps where there is a GPU, and is never needed: pages without one should not fetch it.
      .filter((path) => !/^\.\/(model|bundle|docs)\/|\/(shirube_gpu_bg\.wasm|gpu\.js|shirube_node_bg\.wasm|build\/worker\.js)$/.test(path));
    const version = createHash("sha256");
    for (const path of files) version.update(path).update(readFileSync(join(out, path)));
    const worker = readFileSync(join(root, "www", "src", "sw.js"), "utf8");
    const head = `const VERSION = "${version.digest("hex").slice(0, 16)}";\nconst FILES = ${JSON.stringify(["./", ...files], null, 1)};\n\n`;
    writeFileSync(join(out, "sw.js"), head + worker);
  });
}

function shirubeBuild(sections, out) {
  run("cargo", ["run", "--quiet", "--release", "-p", "shirube-cli", "--", "build", sections, "--model", "pkg/model", "--out", out, "--name", "日本語ドキュメント"]);
}

/** The demo's index is in the repository; this makes it again where somebody deleted it. */
function buildSample() {
  const out = "www/bundle";
  if (!existsSync(join(root, out, "shirube.json"))) {
    say("building the demo's index (shirube build)");
    shirubeBuild("www/data/sections.jsonl.gz", out);
  }
  return out;
}

/** An index of every section of the larger set that the sample was cut from. */
async function buildWholeSet() {
  const input = "../shared/data/docs/sections.jsonl.gz";
  if (!existsSync(join(root, input))) throw new Error(`${input} does not exist: without --all the demo serves its committed sample`);
  const out = "target/demo/bundle";
  await once("whole-set", filesUnder(input, "pkg/model", "www/data/make.mjs"), [`${out}/shirube.json`], () => {
    say("building the index of the whole set (shirube build); about a minute");
    mkdirSync(join(root, "target/demo"), { recursive: true });
    run("node", ["www/data/make.mjs", input, "--all", "target/demo/sections.jsonl.gz"]);
    shirubeBuild("target/demo/sections.jsonl.gz", out);
  });
  return out;
}

/** Everything `npm start` serves; with `all` over the whole set of sections instead of the committed sample. */
export async function buildAll({ all = false } = {}) {
  ensureNodePackages();
  buildEngine();
  buildWasm("--gpu");
  buildWasm("--node");
  const bundle = all ? await buildWholeSet() : buildSample();
  await buildPackage();
  await buildPage(bundle);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) await buildAll();
