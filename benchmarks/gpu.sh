#!/usr/bin/env bash
# The sparse core on a CUDA device: correctness first, then the same tables as on the CPU, in benchmarks/results/gpu.
#     pip install -c constraints.txt -e ".[dev,bench,gpu]" with a CUDA build of PyTorch; then: bash benchmarks/gpu.sh
# Every part runs, whatever became of the one before; the exit status is 1 where one failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
PYTHON=${PYTHON:-python}
"$PYTHON" -c "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 'no CUDA device: nothing is measured')" || exit 1
failed=0
"$PYTHON" -m benchmarks.gpu_trial --device cuda || failed=1
"$PYTHON" -m pytest -q tests/ops/test_cuda.py tests/ops/test_trial.py tests/ops/test_launches.py || failed=1
"$PYTHON" -m benchmarks.sparse_ops --device cuda || failed=1
"$PYTHON" -m benchmarks.gears_step --device cuda || failed=1
"$PYTHON" -m benchmarks.gpu_models || failed=1
exit "$failed"
