"""Graph neural networks on knowledge graphs for single-cell biology."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kgnn.version import __version__ as __version__

if TYPE_CHECKING:
    from kgnn import benchmark, controls, data, graph, interactions, metrics, models, nn, ops, plotting
    from kgnn.graph import KnowledgeGraph
    from kgnn.models import CellModel, LinkModel, PerturbationModel, load_model

_MODULES = ("benchmark", "controls", "data", "graph", "interactions", "metrics", "models", "nn", "ops", "plotting")
_NAMES = {
    "CellModel": "kgnn.models",
    "KnowledgeGraph": "kgnn.graph",
    "LinkModel": "kgnn.models",
    "PerturbationModel": "kgnn.models",
    "load_model": "kgnn.models",
}
__all__ = [
    "CellModel",
    "KnowledgeGraph",
    "LinkModel",
    "PerturbationModel",
    "benchmark",
    "controls",
    "data",
    "graph",
    "interactions",
    "load_model",
    "metrics",
    "models",
    "nn",
    "ops",
    "plotting",
]


def __getattr__(name: str) -> Any:
    """Import the rooms when they are first used: `import kgnn` itself takes no time."""
    if name in _MODULES:
        return import_module(f"kgnn.{name}")
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'kgnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, *_NAMES])
