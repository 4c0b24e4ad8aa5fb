// `node crates/xtask/scripts/check-cuda.mjs`: type-checks the trainer with `--features cuda`, without a CUDA toolkit.
// The build scripts of candle's kernels ask for nvcc; a stand-in answers their questions and writes empty outputs, which a type check never reads.
// What this does not show: that kernels compile and that the program links; scripts/build-cuda.sh does that.
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { root, run, say } from "./lib.mjs";

const NVCC = `#!/bin/sh
# A stand-in for nvcc, see check-cuda.mjs.
case "$*" in
  *--version*) echo "Cuda compilation tools, release 13.0, V13.0.88"; exit 0 ;;
  *--list-gpu-code*) printf 'sm_80\\nsm_90\\n'; exit 0 ;;
esac
folder=
while [ $# -gt 0 ]; do
  case "$1" in
    -o|--output-file) mkdir -p "$(dirname "$2")" && : > "$2"; shift ;;
    --output-directory) folder=$2; shift ;;
    *.cu) [ -z "$folder" ] || : > "$folder/$(basename "$1" .cu).ptx" ;;
    --output-file=*) : > "\${1#*=}" ;;
  esac
  shift
done
`;

export function checkCuda() {
  const home = join(root, "target", "cuda-check");
  for (const folder of ["bin", "include", "lib64"]) mkdirSync(join(home, folder), { recursive: true });
  writeFileSync(join(home, "include", "cuda.h"), "#define CUDA_VERSION 13000\n");
  writeFileSync(join(home, "bin", "nvcc"), NVCC);
  chmodSync(join(home, "bin", "nvcc"), 0o755);
  const env = {
    ...process.env,
    PATH: `${join(home, "bin")}:${process.env.PATH}`,
    CUDA_HOME: home,
    CUDA_PATH: home,
    CUDA_ROOT: home,
    CUDA_TOOLKIT_ROOT_DIR: home,
    CUDA_COMPUTE_CAP: "90",
    CUDARC_CUDA_VERSION: "13000",
  };
  // A target folder of its own: outputs of the stand-in must never meet a real build. Nothing runs but build scripts and macros, so nothing is optimised.
  const target = ["--target-dir", join(home, "target"), "--config", 'profile.dev.package."*".opt-level=0'];
  run("cargo", ["check", "--quiet", "-p", "shirube-train", "--features", "cuda", ...target], { env });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    checkCuda();
    say("the CUDA code of the trainer type-checks");
  } catch (error) {
    say(error.message);
    process.exit(1);
  }
}
