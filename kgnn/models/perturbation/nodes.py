"""Which nodes of a graph a condition perturbs, by name: genes, and nodes of all other types."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph


class NodeNames(Collection[str]):
    """Finds nodes by name, `Dabrafenib`, or by type and name, `drug:Dabrafenib`. A name that a gene has is the gene's.

    Args:
        nodes: node type → names.
    """

    def __init__(self, nodes: Mapping[str, Sequence[str]]) -> None:
        self.kinds: dict[str, list[str]] = {}
        self._numbers: dict[str, int] = {}
        every = [(kind, name) for kind, names in nodes.items() for name in names]
        for number, (kind, name) in enumerate(every):
            self.kinds.setdefault(name, []).append(kind)
            self._numbers[_typed(kind, name)] = number

    def __contains__(self, name: object) -> bool:
        return name in self.kinds or name in self._numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self.kinds)

    def __len__(self) -> int:
        return len(self.kinds)

    def number(self, name: str) -> int:
        """Return a node's number, the types counted one after the other.

        Raises:
            InputError: a name that stands in several types, a gene's not among them.
        """
        kinds = self.kinds.get(name, [])
        if "gene" in kinds:
            kinds = ["gene"]
        if len(kinds) > 1:
            written = " or ".join(_typed(kind, name) for kind in kinds)
            raise InputError(f"the perturbed {name!r} is a {' and a '.join(kinds)} in the graph; write {written}")
        return self._numbers[_typed(kinds[0], name) if kinds else name]


def other_nodes(kg: KnowledgeGraph) -> set[str]:
    """Names of the nodes that are no genes, each as `Dabrafenib` and as `drug:Dabrafenib`."""
    found = [(kind, name) for kind in kg.node_types if kind != "gene" for name in kg.nodes(kind).index]
    return {name for _, name in found} | {_typed(kind, name) for kind, name in found}


def _typed(kind: str, name: str) -> str:
    return f"{kind}:{name}"
