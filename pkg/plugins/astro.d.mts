import type { Settings } from "../node/build.mjs";

/** The integration: the search is built over the pages after every build. */
export default function shirube(settings?: Omit<Settings, "source">): {
  name: string;
  hooks: {
    "astro:config:done"(options: { config: { base: string; trailingSlash: string; build: { format: string } } }): void;
    "astro:build:done"(options: { dir: URL; logger: { info(line: string): void } }): Promise<void>;
  };
};
