// VitePress: `export default withShirube(defineConfig({ … }))` builds the search after every build of the site and puts its button where VitePress has its own.
import { fileURLToPath } from "node:url";
import { build } from "../node/build.mjs";

const button = fileURLToPath(new URL("./vitepress-search.mjs", import.meta.url));

/** VitePress documents this way of replacing a part of its theme. */
const replaceSearch = {
  name: "shirube",
  config: () => ({
    resolve: { alias: [{ find: /^.*\/VPNavBarSearch\.vue$/, replacement: button }] },
    ssr: { noExternal: ["shirube"] },
  }),
};

/** `config` with the search built over its pages. `settings` are those of `shirube.toml`; `button: false` leaves the theme as it is. */
export function withShirube(config, { button = true, ...settings } = {}) {
  const { buildEnd, vite = {} } = config;
  return {
    ...config,
    ...(button && { vite: { ...vite, plugins: [...(vite.plugins ?? []), replaceSearch] } }),
    async buildEnd(site) {
      await buildEnd?.(site);
      const { base, title } = site.site;
      const { text } = await build({ base, clean_urls: site.cleanUrls === true, ...(title && { name: title }), ...settings, source: site.outDir });
      site.logger.info(text);
    },
  };
}
