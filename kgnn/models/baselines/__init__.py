"""The plain models that every claim must beat: a file each for what they need; solved, none is trained by epochs."""

from kgnn.models.baselines.lines import OtherLines, TemplateSame
from kgnn.models.baselines.plain import Additive, Baseline, CompositionRidge, Linear, Mean, NoChange
from kgnn.models.baselines.sets import SetKernelRidge
from kgnn.models.baselines.vectors import EmbeddingRidge, NearestNeighbours
from kgnn.models.perturbation.predictor import Predictor

# need nothing but the screen
BASELINES: dict[str, type[Baseline]] = {
    "no_change": NoChange,
    "mean": Mean,
    "additive": Additive,
    "linear": Linear,
    "composition_ridge": CompositionRidge,
}
# need gene vectors or a graph
KNOWLEDGE_BASELINES: dict[str, type[Baseline]] = {
    "knn": NearestNeighbours,
    "embedding_ridge": EmbeddingRidge,
    "set_kernel_ridge": SetKernelRidge,
}
# need cell lines, `group_key=`
LINE_BASELINES: dict[str, type[Predictor]] = {"other_lines": OtherLines, "template_same": TemplateSame}
ALL_BASELINES: dict[str, type[Predictor]] = {**BASELINES, **KNOWLEDGE_BASELINES, **LINE_BASELINES}

__all__ = [
    "ALL_BASELINES",
    "BASELINES",
    "KNOWLEDGE_BASELINES",
    "LINE_BASELINES",
    "Additive",
    "Baseline",
    "CompositionRidge",
    "EmbeddingRidge",
    "Linear",
    "Mean",
    "NearestNeighbours",
    "NoChange",
    "OtherLines",
    "SetKernelRidge",
    "TemplateSame",
]
