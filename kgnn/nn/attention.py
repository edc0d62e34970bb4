"""Attention of all to all, whose gradients on CUDA a seed gives again."""

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """torch's `scaled_dot_product_attention` of q, k, v [..., heads, tokens, channels]; mask bool: who is heard.

    On CUDA its fused kernels add their gradients in one order only where PyTorch refuses whatever has no order. A
    training (`kgnn.models.epochs.repeatable`) asks PyTorch to warn of that instead; this gradient asks it to refuse.
    """
    heard = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    if heard.requires_grad and torch.is_deterministic_algorithms_warn_only_enabled():
        heard.register_hook(lambda _: torch.use_deterministic_algorithms(True))
        for part in (q, k, v):  # whichever the gradient is taken of
            if part.requires_grad:
                part.register_hook(lambda _: torch.use_deterministic_algorithms(True, warn_only=True))
    return heard
