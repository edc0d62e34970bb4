"""What a result was measured on."""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

RESULTS = {"cpu": Path("benchmarks/results"), "cuda": Path("benchmarks/results/gpu")}


def device_name(machine: dict[str, object], device: str) -> str:
    """Return what computed, for the header of a results file."""
    cpu = f"{machine['cpu']}, {machine['cores']} cores"
    return cpu if device == "cpu" else f"{machine['gpu']} ({cpu})"


def describe(*packages: str) -> dict[str, object]:
    """Return processor, cores, memory and versions, for the header of a results file."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = {}
    for package in ("kgnn", "torch", "torch-geometric", *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": versions,
    }


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def added_memory_mb(work: Callable[[], object], device: str = "cpu") -> float:
    """Return by how much memory peaks above the present one while `work` runs, in MB: resident (Linux) or CUDA's."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        allocated = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - allocated) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status_mb("VmRSS")
    work()
    return status_mb("VmHWM") - before


def status_mb(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6


def milliseconds(work: Callable[[], object], runs: int, warm_up: int = 1, device: str = "cpu") -> list[float]:
    """Return the wall time of each run."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = []
    for _ in range(warm_up + runs):
        wait()
        start = time.perf_counter()
        result = work()
        wait()
        times.append(1000 * (time.perf_counter() - start))
        del result
    return times[warm_up:]


def in_a_process(module: str, *arguments: str) -> dict[str, Any]:
    """Run `python -m module arguments` and return the JSON object of its last line."""
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def spread(values: list[float]) -> str:
    """Return the median, and the range in brackets."""
    places = 0 if statistics.median(values) >= 100 else 1
    return f"{statistics.median(values):.{places}f} ({min(values):.{places}f}–{max(values):.{places}f})"
