// Astro: `integrations: [shirube()]` builds the search after every build of the site.
import { fileURLToPath } from "node:url";
import { build } from "../node/build.mjs";

/** The integration. `settings` are those of `shirube.toml`. */
export default function shirube(settings = {}) {
  let rules = {};
  return {
    name: "shirube",
    hooks: {
      "astro:config:done": ({ config }) => {
        rules = { base: config.base, clean_urls: config.build.format !== "file" || config.trailingSlash === "never" };
      },
      "astro:build:done": async ({ dir, logger }) => {
        const { text } = await build({ ...rules, ...settings, source: fileURLToPath(dir) });
        for (const line of text.trimEnd().split("\n")) logger.info(line);
      },
    },
  };
}
