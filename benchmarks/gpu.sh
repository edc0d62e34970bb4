#!/usr/bin/env bash
# The sparse core on a CUDA device: correctness first, then the same tables as on the CPU.
#     pip install -c constraints.txt -e ".[dev,bench,gpu]" with a CUDA build of PyTorch; then: bash benchmarks/gpu.sh
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python}
"$PYTHON" -c "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 'no CUDA device: nothing is measured')"
"$PYTHON" -m pytest -q tests/ops/test_cuda.py
"$PYTHON" -m benchmarks.sparse_ops --device cuda
"$PYTHON" -m benchmarks.gears_step --device cuda --out benchmarks/results/gears_step_cuda.json
