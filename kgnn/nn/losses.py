"""Losses: of perturbed expression, and the objectives of cell models, each usable alone."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

BLOCK = 1 << 16  # numbers of a prediction at a time
NEVER = -1e4  # a logit that is never chosen; unlike −∞ it has a gradient


def gears_loss(
    prediction: Tensor,
    target: Tensor,
    control_mean: Tensor,
    condition: Tensor,
    expressed: Tensor,
    *,
    log_variance: Tensor | None = None,
    gamma: float = 2.0,
    direction_weight: float = 0.1,
    uncertainty_weight: float = 1.0,
    soft_sign: float | None = None,
) -> Tensor:
    """GEARS' autofocus loss with its direction term (Roohani, Huang, Leskovec, Nat Biotechnol 2024).

    For each distinct condition of the batch, over its n cells and its G expressed genes,
    1/(nG) Σ |ŷ − y|^(2+γ) + λ/(nG) Σ ( sign(y − ctrl) − sign(ŷ − ctrl) )², then the mean over the conditions. The
    direction term as published has no gradient, because sign is flat; `soft_sign=β` puts tanh(β(ŷ − ctrl)) in
    place of the prediction's sign, which has one. In uncertainty mode the first term is multiplied by
    1 + reg · exp(−log-variance), as published: nothing in it holds the log-variance down.

    Args:
        prediction, target: [cells, genes], log-normalised expression.
        control_mean: [genes], mean of the control cells.
        condition: [cells], number of each cell's condition within the batch, 0 … conditions − 1, none left out.
        expressed: [conditions, genes], False where the condition's mean expression is zero: left out.
        log_variance: [cells, genes] in uncertainty mode.
        gamma: γ; direction_weight: λ; uncertainty_weight: reg.
        soft_sign: β of the soft sign; None is the paper's hard sign.
    """
    cells_of = torch.bincount(condition, minlength=len(expressed)).to(target.dtype)
    per_condition = cells_of * expressed.sum(1).clamp_min(1) * len(expressed)
    share = expressed / per_condition.unsqueeze(-1)  # 1/(n·G·conditions) where expressed, else 0
    options = _Options(gamma, direction_weight, uncertainty_weight, soft_sign)
    loss: Tensor = _GearsLoss.apply(prediction, log_variance, target, control_mean, condition, share, options)
    return loss


class _Options(NamedTuple):
    gamma: float
    direction_weight: float
    uncertainty_weight: float
    soft_sign: float | None


class _GearsLoss(torch.autograd.Function):
    """The loss and its gradient in one pass, some cells at a time: a dozen steps over each number, in the cache."""

    @staticmethod
    def forward(
        ctx: Any,
        prediction: Tensor,
        log_variance: Tensor | None,
        target: Tensor,
        control_mean: Tensor,
        condition: Tensor,
        share: Tensor,
        options: _Options,
    ) -> Tensor:
        grad = torch.empty_like(prediction) if ctx.needs_input_grad[0] else None
        grad_variance = torch.empty_like(log_variance) if log_variance is not None else None
        total = prediction.new_zeros(())
        size = len(prediction) if prediction.is_cuda else max(1, BLOCK // prediction.shape[1])
        for start in range(0, len(prediction), size):
            part = slice(start, start + size)
            of_cell = share.index_select(0, condition[part])
            error = prediction[part] - target[part]
            focus, slope = _focus(error, options.gamma)
            if log_variance is not None and grad_variance is not None:
                doubt = options.uncertainty_weight * torch.exp(-log_variance[part])
                grad_variance[part] = -doubt * focus * of_cell
                focus, slope = focus * (1 + doubt), slope * (1 + doubt)
            change = prediction[part] - control_mean
            soft = options.soft_sign
            direction = change.sign() if soft is None else torch.tanh(soft * change)
            wrong = (target[part] - control_mean).sign_().sub_(direction)
            if soft is not None:  # sign is flat, tanh is not
                slope = slope - 2 * options.direction_weight * soft * wrong * (1 - direction.square())
            total += torch.dot(of_cell.ravel(), focus.add_(wrong.square_(), alpha=options.direction_weight).ravel())
            if grad is not None:
                torch.mul(slope, of_cell, out=grad[part])
        ctx.save_for_backward(grad, grad_variance)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        grads = [None if grad is None else grad * grad_total for grad in ctx.saved_tensors]
        return *grads, None, None, None, None, None


def _focus(error: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """|e|^(2+γ) and its derivative."""
    if gamma == 2:
        square = error.square()
        return square.square(), error.mul_(square).mul_(4)
    size = error.abs()
    return size ** (2 + gamma), (2 + gamma) * size ** (1 + gamma) * error.sign()


def masked_value_loss(prediction: Tensor, value: Tensor, masked: Tensor) -> Tensor:
    """Mean squared error of expression values at masked positions (GeneCompass, Yang et al., Cell Research 2024).

    Args:
        prediction, value: [cells, genes]; masked: [cells, genes] bool. 0 where nothing is masked.
    """
    return ((prediction - value).square() * masked).sum() / masked.sum().clamp_min(1)


def masked_gene_loss(state: Tensor, embedding: Tensor, gene: Tensor, temperature: float = 0.1) -> Tensor:
    """Cross-entropy of masked positions against all genes, cosine over temperature (scCello, Yuan et al. 2024).

    Args:
        state: [positions, channels] of masked tokens; embedding: [genes, channels]; gene: [positions], the true ones.
    """
    if not len(gene):
        return state.sum() * 0
    return F.cross_entropy(F.normalize(state, dim=-1) @ F.normalize(embedding, dim=-1).T / temperature, gene)


def nb_log_likelihood(count: Tensor, log_mean: Tensor, log_dispersion: Tensor) -> Tensor:
    """log NB(x | mean μ, dispersion θ), variance μ + μ²/θ, elementwise; the arguments broadcast."""
    theta = log_dispersion.exp()
    log_total = torch.logaddexp(log_mean, log_dispersion)
    ways = torch.lgamma(count + theta) - torch.lgamma(theta) - torch.lgamma(count + 1)
    return ways + theta * (log_dispersion - log_total) + count * (log_mean - log_total)


def zinb_log_likelihood(count: Tensor, log_mean: Tensor, log_dispersion: Tensor, dropout: Tensor) -> Tensor:
    """log of the zero-inflated NB, elementwise: with probability sigmoid(dropout) the count is 0 whatever the mean."""
    nb = nb_log_likelihood(count, log_mean, log_dispersion)
    none, some = F.logsigmoid(dropout), F.logsigmoid(-dropout)
    return torch.where(count == 0, torch.logaddexp(none, some + nb), some + nb)


def dissimilarity_loss(tokens: Tensor) -> Tensor:
    """Mean squared cosine of each pair of a cell's class tokens (scPRINT, Kalfon et al., Nat Commun 2025).

    Args:
        tokens: [cells, classes, channels]; with one class there is no pair, and the loss is 0.
    """
    n = tokens.shape[1]
    unit = F.normalize(tokens, dim=-1)
    cosine = unit @ unit.transpose(1, 2)
    pairs = ~torch.eye(n, dtype=torch.bool, device=tokens.device)
    return (cosine.square() * pairs).sum((1, 2)).mean() / max(n * (n - 1), 1)


def hierarchical_loss(logit: Tensor, leaf: Tensor, below: Tensor) -> Tensor:
    """Binary cross-entropy over the leaves of an ontology, where labels may be inner terms (scPRINT).

    A cell labelled with an inner term says nothing about which leaf below it is true: those leaves are left out, and
    logsumexp of them is one more output, which must be on. Summed over the outputs, mean over cells.

    Args:
        logit: [cells, leaves]; leaf: [cells], number of the leaf, −1 where the label is an inner term.
        below: [cells, leaves] bool, the leaves at or below the label.
    """
    inner = leaf < 0
    asked = ~(below & inner.unsqueeze(1))
    plain = F.binary_cross_entropy_with_logits(logit, below.to(logit.dtype), reduction="none") * asked
    above = F.softplus(-logit.masked_fill(~below, NEVER).logsumexp(1))
    loss: Tensor = plain.sum(1) + torch.where(inner, above, 0.0)
    return loss.mean()


def relational_alignment_loss(
    state: Tensor, again: Tensor, level: Tensor, ancestor: Tensor, temperature: float = 0.1
) -> Tensor:
    """scCello's relational alignment (Yuan et al. 2024): cells of near types closer than cells of farther ones.

    For each anchor a and each similarity level l above the lowest of the batch, over the positives p with
    level(a, p) ≥ l: −log exp(h_a·h_p) / (exp(h_a·h_p) + Σ_n exp(h_a·h_n)), negatives n with level(a, n) < l whose type
    is no ancestor of a's; h normalised over √τ; the mean over positives, levels, anchors. An anchor is its own
    positive through `again`. No loop over cells: [levels, cells, cells] at once.

    Args:
        state: [cells, channels]; again: the same cells in a second pass with other dropout.
        level: [cells, cells], similarity level of the cells' types; ancestor: [cells, cells] bool, whether the type of
            the second cell is an ancestor of the first one's.
        temperature: τ.
    """
    h, second = F.normalize(state, dim=-1), F.normalize(again, dim=-1)
    score = h @ h.T / temperature
    score = torch.where(
        torch.eye(len(h), dtype=torch.bool, device=h.device), (h * second).sum(1, keepdim=True) / temperature, score
    )
    levels = level.unique()[1:]
    if not len(levels):
        return score.sum() * 0
    near = level >= levels.view(-1, 1, 1)
    far = score.masked_fill(near | ancestor, NEVER).logsumexp(-1, keepdim=True)
    loss = F.softplus(far - score) * near
    each: Tensor = loss.sum(-1) / near.sum(-1).clamp_min(1)
    return each.mean()


class Coherence(nn.Module):
    """scCello's cell type coherence: cross-entropy against one learned prototype a type + MSE(Affine(prototype), h).

    h = cell embedding, normalised over √τ. Shapes: state [cells, channels], type [cells] → a number.
    """

    def __init__(self, n_types: int, channels: int, temperature: float = 0.1) -> None:
        super().__init__()
        self.prototype = nn.Parameter(torch.randn(n_types, channels))
        self.affine = nn.Linear(channels, channels)
        self.temperature = temperature

    def forward(self, state: Tensor, kind: Tensor) -> Tensor:
        h = F.normalize(state, dim=-1) / self.temperature**0.5
        prototype = F.normalize(self.prototype, dim=-1) / self.temperature**0.5
        return F.cross_entropy(h @ prototype.T, kind) + F.mse_loss(self.affine(prototype)[kind], h)
