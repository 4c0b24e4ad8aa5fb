// Kills builds and updates at 200 points in all (or as many as the first argument says) and looks at what each leaves:
// `node crates/xtask/scripts/kill-builds.mjs [N]`.
import { run } from "./lib.mjs";

const kills = Math.ceil(Number(process.argv[2] ?? 200) / 2);
run("cargo", ["test", "--quiet", "-p", "shirube-cli", "--test", "life", "killed_anywhere"], { env: { ...process.env, SHIRUBE_KILLS: String(kills) } });
console.log(`${kills} builds and ${kills} updates were killed; each left the old bundle or the new one`);
