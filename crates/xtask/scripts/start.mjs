// `npm start`: installs and builds what is missing, then serves the demo page. `npm start -- --all` serves all of ../shared/data/docs.
import { join } from "node:path";
import { buildAll } from "./build.mjs";
import { root, say } from "./lib.mjs";
import { serve } from "./serve.mjs";

try {
  await buildAll({ all: process.argv.includes("--all") });
  const { url } = await serve(join(root, "www", "dist"), { port: Number(process.env.PORT ?? 8080) });
  say(`open ${url}   (Ctrl+C ends)`);
} catch (error) {
  say(error.message);
  process.exit(1);
}
