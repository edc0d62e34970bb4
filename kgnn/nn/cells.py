"""The network of a cell model: tokens, an encoder, heads."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kgnn.nn.heads import CountDecoder
from kgnn.nn.losses import (
    Coherence,
    dissimilarity_loss,
    hierarchical_loss,
    masked_gene_loss,
    masked_value_loss,
    relational_alignment_loss,
    zinb_log_likelihood,
)
from kgnn.nn.token_encoders import TokenEncoder, TokenGraph
from kgnn.nn.tokens import GeneTokens, SpecialTokens


class CellTokens(NamedTuple):
    """A batch. genes [tokens] (shared) or [cells, tokens] numbers; counts [cells, tokens], raw or, where the data are
    log-normalised, those values; value [cells, tokens] log-normalised; profile [cells, vocabulary], the values of all
    genes; total [cells]; species [cells] or None."""

    genes: Tensor
    counts: Tensor
    value: Tensor
    profile: Tensor
    total: Tensor
    graph: TokenGraph
    species: Tensor | None = None


class Encoded(NamedTuple):
    """special [cells, special tokens, channels], genes [cells, tokens, channels]; scores [cells, channels], the cell's
    along the principal components."""

    special: Tensor
    genes: Tensor
    scores: Tensor


class LabelTree(NamedTuple):
    """Labels of a class and the leaves that are predicted.

    below [labels, leaves] bool: leaves at or below each label; leaf [labels]: its leaf, −1 for an inner term; inner
    [labels, inner terms]: 1 where a cell of the label belongs to the term, 0 where not, −1 where the label does not
    tell; level [labels, labels]: similarity levels; ancestor [labels, labels] bool: the second is an ancestor of the
    first. `tree` is False for a plain column, whose labels are its leaves.
    """

    below: Tensor
    leaf: Tensor
    inner: Tensor
    level: Tensor
    ancestor: Tensor
    tree: bool


class CellNetwork(nn.Module):
    """Tokens → encoder → heads. Each class is read from its own token, as in scPRINT.

    Args:
        tokens, special, encoder: the parts. labels: class → its tree, in the order of the special tokens.
        aligned: the class whose ontology shapes the cell embedding by scCello's losses; None: none.
    """

    components: Tensor
    spread: Tensor
    kept: Tensor

    def __init__(
        self,
        tokens: GeneTokens,
        special: SpecialTokens,
        encoder: TokenEncoder,
        labels: dict[str, LabelTree],
        aligned: str | None = None,
    ) -> None:
        super().__init__()
        self.tokens, self.special, self.encoder = tokens, special, encoder
        self.labels, self.aligned = labels, aligned
        n_genes, channels = tokens.embedding.shape
        self.classifiers = nn.ModuleList(
            [nn.Linear(channels, tree.below.shape[1] + tree.inner.shape[1]) for tree in labels.values()]
        )
        self.value = nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, 1))
        self.register_buffer("components", torch.zeros(n_genes, channels))
        self.register_buffer("spread", torch.zeros(channels))
        self.register_buffer("kept", torch.zeros(channels))
        self.decoder = CountDecoder(len(special.names), channels, n_genes)
        self.coherence = None if aligned is None else Coherence(len(labels[aligned].leaf), channels)

    def encode(
        self,
        batch: CellTokens,
        masked: Tensor | None = None,
        hidden: Tensor | None = None,
        warmup: float = 1.0,
    ) -> Encoded:
        genes = self.tokens(batch.genes, batch.value, masked, hidden, warmup)
        profile = batch.profile
        if masked is not None:  # what is masked among the gene tokens must not be read from the profile
            index = batch.genes.expand(masked.shape)
            profile = profile.scatter(1, index, batch.value.masked_fill(masked, torch.nan))
        centred = (profile - self.special.mean).nan_to_num(0.0)
        special = self.special(centred, batch.total, batch.species)
        x = self.encoder(torch.cat([special, genes], 1), batch.graph)
        return Encoded(x[:, : special.shape[1]], x[:, special.shape[1] :], centred @ self.components)

    def class_logits(self, name: str, encoded: Encoded) -> Tensor:
        """[cells, leaves + inner terms], from the class's own token."""
        read = encoded.special[:, self.special.names.index(name)]
        logits: Tensor = self.classifiers[list(self.labels).index(name)](read)
        return logits

    def classification_loss(self, name: str, encoded: Encoded, label: Tensor) -> Tensor:
        """Over the cells that have a label (≥ 0): hierarchical in an ontology, cross-entropy otherwise.

        Inner terms have outputs of their own besides, so that what the types below a term have in common is learned
        apart from each of them: a type that training lacks is still known by its lineage.
        """
        known = label >= 0
        if not known.any():
            return encoded.special.sum() * 0
        logits, tree = self.class_logits(name, encoded)[known], self.labels[name]
        label = label[known]
        if not tree.tree:
            return F.cross_entropy(logits, label)
        leaf, below, inner = (part.to(label.device)[label] for part in (tree.leaf, tree.below, tree.inner))
        leaves, terms = logits.split([below.shape[1], inner.shape[1]], 1)
        known = inner >= 0
        each = F.binary_cross_entropy_with_logits(terms, inner.clamp_min(0).to(terms.dtype), reduction="none")
        return hierarchical_loss(leaves, leaf, below) + (each * known).sum(1).mean()

    def alignment_losses(self, encoded: Encoded, again: Encoded, label: Tensor) -> tuple[Tensor, Tensor]:
        """scCello's coherence and relational alignment, of the first token, over labelled cells."""
        assert self.aligned is not None
        assert self.coherence is not None
        known = label >= 0
        h, second, label = encoded.special[known, 0], again.special[known, 0], label[known]
        if not len(label):
            return h.sum() * 0, h.sum() * 0
        tree = self.labels[self.aligned]
        level, ancestor = tree.level.to(label.device), tree.ancestor.to(label.device)
        pairs = label.unsqueeze(1), label.unsqueeze(0)
        return self.coherence(h, label), relational_alignment_loss(h, second, level[pairs], ancestor[pairs])

    def masked_losses(
        self, encoded: Encoded, batch: CellTokens, target: Tensor, masked: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Identity where it was hidden, value where only that was masked; target [cells, tokens] log-normalised."""
        genes = batch.genes.expand(len(target), -1) if batch.genes.ndim == 1 else batch.genes
        identity = masked_gene_loss(encoded.genes[hidden], self.tokens.embedding, genes[hidden])
        return identity, masked_value_loss(self.values(encoded, batch), target, masked & ~hidden)

    def values(self, encoded: Encoded, batch: CellTokens) -> Tensor:
        """Predicted log-normalised expression, [cells, tokens]: what the training cells' principal components say of
        the gene, which is fixed, + what its token adds, which starts at 0."""
        loading, scores = self.components[batch.genes], encoded.scores * self.kept
        linear = scores @ loading.T if loading.ndim == 2 else (loading @ scores.unsqueeze(-1)).squeeze(-1)
        return self.special.mean[batch.genes] + linear + self.value(encoded.genes).squeeze(-1)

    @torch.no_grad()
    def start_from(self, mean: Tensor, components: Tensor, spread: Tensor, kept: Tensor, share: Tensor) -> None:
        """Start from the training cells: mean and mean share of counts [vocabulary], principal components.

        components: [vocabulary, n], n at most channels, orthonormal; spread [n]: standard deviation of the scores; kept
        [n]: the share of each score that predictions use.
        """
        n = components.shape[1]
        self.special.set_profile(mean, components / spread)
        self.components[:, :n], self.spread[:n], self.kept[:n] = components, spread, kept
        for parameter in self.value[-1].parameters():
            parameter.zero_()
        self.decoder.base[:, 0] = share.clamp_min(share[share > 0].min() / 2).log()
        self.decoder.base[:, 2] = -2.0

    def gene_vectors(self) -> Tensor:
        """What the network knows of each gene, [vocabulary, channels + components]: identity and knowledge, and the
        loadings times the scores' spread. Each part has the mean square length 1."""
        parts = self.tokens.identities(), (self.components * self.spread)[:, self.spread > 0]
        return torch.cat([part * (len(part) / part.square().sum().clamp_min(1e-12)).sqrt() for part in parts], 1)

    def count_losses(self, encoded: Encoded, batch: CellTokens, target: Tensor) -> tuple[Tensor, Tensor]:
        """Mean −log ZINB a gene, with the gene tokens (denoising) and without them (bottleneck).

        target [cells, tokens]: counts to predict; cells without any are passed over.
        """
        present = batch.graph.present
        target = target if present is None else target * present
        rows = target.sum(1) > 0
        if not rows.any():
            return encoded.special.sum() * 0, encoded.special.sum() * 0
        genes = batch.genes.unsqueeze(0) if batch.genes.ndim == 1 else batch.genes[rows]
        present, target, special = None if present is None else present[rows], target[rows], encoded.special[rows]
        kept = torch.ones_like(target) if present is None else present.to(target.dtype)
        losses = []
        for state in (encoded.genes[rows], None):
            parts = self.decoder(special, genes, target.sum(1), state, present)
            losses.append(-(zinb_log_likelihood(target, *parts) * kept).sum() / kept.sum())
        return losses[0], losses[1]

    def dissimilarity(self, encoded: Encoded) -> Tensor:
        """Of the class tokens."""
        return dissimilarity_loss(encoded.special[:, 2 : 2 + len(self.labels)])
