// Kills builds at 200 points (or as many as the first argument says) and looks at what each leaves: `node crates/xtask/scripts/kill-builds.mjs [N]`.
import { run } from "./lib.mjs";

const kills = process.argv[2] ?? "200";
run("cargo", ["test", "--quiet", "-p", "shirube-cli", "--test", "life", "a_build_killed_anywhere"], { env: { ...process.env, SHIRUBE_KILLS: kills } });
console.log(`${kills} builds were killed; each left the old bundle or the new one`);
