"""Whether every Triton kernel agrees with plain PyTorch on this device, and how long trying it takes.

    python -m benchmarks.gpu_trial --device cuda

That is what `kgnn.ops` does at the first use of an operation. The first time on a machine Triton compiles; what it
compiled it keeps, in a folder of this run's own here. With TRITON_INTERPRET=1 and `--device cpu` it runs without a GPU.
"""

import argparse
import json
import os
import tempfile
import time
import warnings
from pathlib import Path

import torch

from benchmarks.machine import RESULTS, describe, device_name

TYPES = (torch.float32, torch.bfloat16, torch.float64)


def measure(device: torch.device) -> list[dict[str, object]]:
    from kgnn.ops.backends import TABLE, trial

    rows: list[dict[str, object]] = []
    for operation in (name for name, backends in TABLE.items() if "triton" in backends):
        for dtype in TYPES:
            seconds = []
            for _ in range(2):
                trial.forget()
                start = time.perf_counter()
                reason = trial.fault(operation, device, dtype)
                seconds.append(time.perf_counter() - start)
            name = str(dtype).removeprefix("torch.")
            rows.append({"operation": operation, "type": name, "seconds": seconds, "fault": reason})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--out", type=Path, help="folder of the tables")
    arguments = parser.parse_args()
    out = arguments.out or RESULTS[arguments.device]
    with tempfile.TemporaryDirectory() as cache, warnings.catch_warnings():
        os.environ["TRITON_CACHE_DIR"] = cache
        warnings.simplefilter("ignore", RuntimeWarning)  # a fault stands in the table
        rows = measure(torch.device(arguments.device))
    machine = describe("triton")
    lines = [
        "# The Triton kernels against plain PyTorch",
        "",
        f"`python -m benchmarks.gpu_trial --device {arguments.device}` on {device_name(machine, arguments.device)}; "
        f"{machine['versions']}.",
        "Small graph, every operation: seconds of its first trial, in which Triton compiles, and of a second one.",
        "",
        "| operation | type | first, s | second, s | |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        first, second = row["seconds"]
        fault = row["fault"] or "agrees"
        lines.append(f"| {row['operation']} | {row['type']} | {first:.2f} | {second:.3f} | {fault} |")
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu_trial.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    (out / "gpu_trial.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    if any(row["fault"] for row in rows):
        raise SystemExit("some kernels disagree; plain PyTorch computes in their place")


if __name__ == "__main__":
    main()
