// Bundlers that have to be fetched first, and dev servers: `npm run test:bundlers`, outside of `npm test` for its time.
import { cpSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { assert, root, useBrowser, visit } from "../browser/harness.mjs";
import { answers, bundle, project, tool, works } from "./lab.mjs";

useBrowser();

const app = (folder) => cpSync(join(root, "tests", "npm", "fixtures", "app.js"), join(folder, "app.js"));

test("Vite's dev server works without excluding the package from its pre-bundling", async () => {
  const folder = project("vite");
  app(folder);
  cpSync(bundle, join(folder, "public", "bundle"), { recursive: true });
  const { createServer } = await import("vite");
  const server = await createServer({ root: folder, logLevel: "error", server: { port: 0, host: "localhost" } });
  try {
    await server.listen();
    await visit({}, async (page) => answers(page, server.resolvedUrls.local[0]));
  } finally {
    await server.close();
  }
});

test("a page built by webpack works without any setting", async () => {
  const folder = project("webpack", { offline: false });
  app(folder);
  const webpack = createRequire(join(folder, "package.json"))("webpack");
  const stats = await new Promise((resolve, reject) =>
    webpack({ context: folder, mode: "production", entry: "./main.js", output: { path: join(folder, "out"), publicPath: "/out/" }, performance: false }, (error, stats) => (error ? reject(error) : resolve(stats))),
  );
  assert.equal(stats.hasErrors() || stats.hasWarnings(), false, stats.toString("errors-warnings"));
  await works(folder);
});

test("a page built by Astro works without any setting", async () => {
  const folder = project("astro", { offline: false });
  app(folder);
  tool(folder, "astro", "build");
  await works(join(folder, "dist"));
});

for (const bundler of ["--turbopack", "--webpack"]) {
  test(`a page exported by Next works without any setting (${bundler})`, async () => {
    const folder = project("next", { offline: false });
    app(folder);
    tool(folder, "next", "build", bundler);
    await works(join(folder, "out"));
  });
}
