// Docusaurus: `themes: ["shirube/docusaurus"]` builds the search after every build of the site and puts its button into the bar.
import { fileURLToPath } from "node:url";
import { build } from "../node/build.mjs";

/** The plugin. `options` are the settings of `shirube.toml`; `button: false` leaves the theme as it is. */
export default function shirube(context, { id, button = true, ...settings } = {}) {
  return {
    name: "shirube",
    ...(button && { getThemePath: () => fileURLToPath(new URL("./docusaurus", import.meta.url)) }),
    async postBuild({ outDir, siteConfig }) {
      const { baseUrl, title, trailingSlash } = siteConfig;
      const { text } = await build({ base: baseUrl, clean_urls: trailingSlash !== true, name: title, ...settings, source: outDir });
      console.log(text);
    },
  };
}
