"""Compile what the backend `triton` starts, for GPUs that need not be there, and print what ptxas says, as JSON.

    python -m tests.ops.compiled

In a process of its own, without TRITON_INTERPRET: when it is imported, a kernel is made to be interpreted or compiled.
"""

import json
import re
import subprocess
import sys
import tempfile
from types import ModuleType

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas, sm_arch_from_capability
from triton.compiler import ASTSource

from kgnn.ops.backends import triton_kernels
from tests.ops.launches import Launch, every_launch

CASES = [  # compute capabilities, type, channels, heads: GATv2's usual 4 × 16 everywhere, wide heads in turn
    ((80, 90, 100), torch.float32, 64, 4),
    ((80,), torch.float64, 128, 1),
    ((90,), torch.float32, 1024, 1),
    ((90,), torch.bfloat16, 128, 1),
    ((100,), torch.float32, 128, 1),
]
POINTERS = {torch.float64: "*fp64", torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int32: "*i32"}


def source(launch: Launch, module: ModuleType = triton_kernels) -> ASTSource:
    """Read arguments as Triton's launcher does: 1 is a constant, pointers and multiples of 16 are known to be such."""
    kernel = getattr(module, launch.kernel)
    types, constants, attributes = {}, {}, {}
    for place, name in enumerate(kernel.arg_names):
        value = launch.constants[name] if name in launch.constants else launch.arguments[place]
        if name in launch.constants or (isinstance(value, int) and value == 1):
            types[name], constants[(place,)] = "constexpr", value
            continue
        is_pointer = isinstance(value, torch.Tensor)
        types[name] = POINTERS[value.dtype] if is_pointer else "i32" if value < 2**31 else "i64"
        if is_pointer or value % 16 == 0:
            attributes[(place,)] = [["tt.divisibility", 16]]
    return ASTSource(kernel, types, constants, attributes)


def registers_and_spills(launch: Launch, capability: int, module: ModuleType = triton_kernels) -> tuple[int, int]:
    """Registers a thread, and bytes that it spills."""
    options = {"num_warps": launch.constants["num_warps"]}
    compiled = triton.compile(source(launch, module), target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as ptx:
        ptx.write(compiled.asm["ptx"])
        ptx.flush()
        command = [get_ptxas(capability).path, "-v", f"--gpu-name={sm_arch_from_capability(capability)}", ptx.name]
        said = subprocess.run([*command, "-o", "/dev/null"], capture_output=True, text=True, check=True).stderr
    spills = sum(map(int, re.findall(r"(\d+) bytes spill", said)))
    return int(re.search(r"Used (\d+) registers", said)[1]), spills


def entry_points(module: ModuleType = triton_kernels) -> list[str]:
    """Names of the kernels; what kernels call begins with an underscore."""
    jitted = [name for name, value in vars(module).items() if isinstance(value, triton.JITFunction)]
    return [name for name in jitted if not name.startswith("_")]


def main() -> None:
    found: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in entry_points()}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as cache:
        patch.setenv("TRITON_CACHE_DIR", cache)
        for capabilities, dtype, channels, heads in CASES:
            unlike = {
                (launch.kernel, launch.constants.get("KIND"), launch.constants.get("TOTAL")): launch
                for launch in every_launch(patch, dtype, 3, channels, heads)
            }
            for (kernel, kind, total), launch in unlike.items():
                for capability in capabilities:
                    case = f"sm_{capability} {dtype} {channels} channels {heads} heads, KIND {kind} TOTAL {total}"
                    found[kernel][case] = registers_and_spills(launch, capability)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
