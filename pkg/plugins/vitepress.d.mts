import type { Settings } from "../node/build.mjs";

/**
 * `config` with the search built over its pages after every build. `button: false` leaves the theme's bar as it is; put `<shirube-trigger>` where you like.
 */
export function withShirube<Config extends object>(config: Config, settings?: Omit<Settings, "source"> & { button?: boolean }): Config;
