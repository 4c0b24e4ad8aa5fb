import type { Settings } from "../node/build.mjs";

/** The plugin: the search is built over the pages after every build. `button: false` leaves the theme's bar as it is. */
export default function shirube(
  context: unknown,
  options?: Omit<Settings, "source"> & { id?: string; button?: boolean },
): {
  name: string;
  getThemePath?: () => string;
  postBuild(props: { outDir: string; siteConfig: { baseUrl: string; title: string; trailingSlash?: boolean | undefined } }): Promise<void>;
};
