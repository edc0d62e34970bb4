"""The backend `scatter`: torch-scatter's segment kernels, for those who compare with them."""

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from kgnn.ops.csr import Csr


def missing(device: str, dtype: torch.dtype) -> str:
    if find_spec("torch_scatter") is None:
        return "torch-scatter is not installed (pip install --no-build-isolation torch-scatter)"
    if device == "cuda" and not torch.cuda.is_available():
        return "torch sees no CUDA device"
    return "" if dtype in (torch.float32, torch.float64) else f"torch-scatter is not used for {dtype}"


def about() -> str:
    return f"torch-scatter {_library().__version__}"


def spmm(csr: Csr, weight: Tensor, x: Tensor) -> Tensor:
    return _library().segment_csr(_messages(csr, weight, x), csr.indptr.long().unsqueeze(0), reduce="sum")


def edge_softmax(csr: Csr, scores: Tensor) -> Tensor:
    indptr = csr.indptr.long().expand(len(scores), -1).contiguous()
    peak, _ = _library().segment_max_csr(scores, indptr)
    p = (scores - _library().gather_csr(peak, indptr)).exp()
    return p / _library().gather_csr(_library().segment_sum_csr(p, indptr), indptr)


def _messages(csr: Csr, weight: Tensor, x: Tensor) -> Tensor:
    gathered = x.index_select(1, csr.indices)
    return (gathered.unflatten(-1, (weight.shape[-1], -1)) * weight.unsqueeze(-1)).flatten(-2)


@cache
def _library() -> Any:
    import torch_scatter

    return torch_scatter
