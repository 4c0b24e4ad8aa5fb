#!/usr/bin/env bash
# Builds shirube-train with `--features cuda` where no CUDA toolkit is installed: `native-trainer/scripts/build-cuda.sh [compute capability, 90]`.
#
# nvcc and the headers come from five wheels of the Python package index (270 MB unpacked), pinned together: a newer nvvm or crt writes PTX that a
# CUDA 13.0 driver refuses. The libraries that the driver and the runtime bring (libcuda, cublas, curand, nvrtc, nccl) are linked as empty stand-ins
# with the same names and functions; on the GPU machine the real ones are found: set LD_LIBRARY_PATH to CUDA's lib folder, which PyTorch's wheels
# also bring (nvidia/cu13/lib). Kernels are built for one compute capability: 90 is Hopper alone, 80 is Ampere and later through the driver.
# About 12 minutes of processor time the first time. The result: target/release/shirube-train (and examples with `--example`, see EXTRA).
#
# SETUP_ONLY=1 stops before cargo; EXTRA adds cargo arguments, for example EXTRA="--example distill_step".
set -euo pipefail
cd "$(dirname "$0")/../.."
capability=${1:-90}
home=$PWD/target/cuda-toolkit
if [ ! -f "$home/ready" ]; then
  rm -rf "$home" && mkdir -p "$home"
  python3 -m pip install --quiet --no-deps --target "$home/wheels" \
    nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
  ln -s wheels/nvidia/cu13 "$home/toolkit"
  ln -s lib "$home/toolkit/lib64"
  ln -s libcudart.so.13 "$home/toolkit/lib/libcudart.so"
  chmod -R u+x "$home/toolkit/bin" "$home/toolkit/nvvm/bin"
  manifest=$(cargo metadata --format-version 1 --filter-platform x86_64-unknown-linux-gnu --features shirube-train/cuda |
    python3 -c 'import json,sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"))')
  mkdir -p "$home/toolkit/lib/stubs"
  python3 - "$(dirname "$manifest")/src" "$home/toolkit/lib/stubs" <<'PYTHON'
import pathlib, re, subprocess, sys
source, out = map(pathlib.Path, sys.argv[1:])
libraries = {"driver": ("cuda", "1"), "cublas": ("cublas", "13"), "cublaslt": ("cublasLt", "13"), "curand": ("curand", "10"), "nvrtc": ("nvrtc", "13"), "nccl": ("nccl", "2")}
for folder, (name, version) in libraries.items():
    text = "".join(p.read_text() for p in sorted((source / folder).rglob("*.rs")) if "sys" in p.parts or p.stem == "sys")
    functions = sorted(set(re.findall(r"pub (?:unsafe )?fn ((?:cu|cublas|curand|nvrtc|nccl|pnccl)[A-Za-z0-9_]+)\s*\(", text)))
    assert functions, f"no functions of {name} in {source / folder}"
    code = "".join(f"void {f}(void) {{}}\n" for f in functions)
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", f"-Wl,-soname,lib{name}.so.{version}", "-o", out / f"lib{name}.so"], input=code, text=True, check=True)
    print(f"lib{name}.so: {len(functions)} functions")
PYTHON
  touch "$home/ready"
fi
"$home/toolkit/bin/nvcc" --version | tail -2
[ "${SETUP_ONLY:-0}" = 1 ] && exit 0
export CUDA_HOME=$home/toolkit CUDA_PATH=$home/toolkit CUDA_COMPUTE_CAP=$capability CUDARC_CUDA_VERSION=13000 PATH=$home/toolkit/bin:$PATH
export LIBRARY_PATH=$home/toolkit/lib/stubs:$home/toolkit/lib${LIBRARY_PATH:+:$LIBRARY_PATH}
# shellcheck disable=SC2086 # several arguments
cargo build --release -p shirube-train --features cuda ${EXTRA:-}
