"""The peers' own code as the independent answer; skipped where it is not installed."""

from types import ModuleType
from unittest.mock import patch

import pytest


def dcor() -> ModuleType:
    """Return dcor as plain Python: numba would compile it for two minutes, and once ended a test worker doing so."""
    numba = pytest.importorskip("numba", reason="needs the [bench] extra")
    with (
        patch.object(numba.config, "DISABLE_JIT", True),
        patch.object(numba, "guvectorize", lambda *_, **__: lambda function: function),  # heeds no DISABLE_JIT
    ):
        return pytest.importorskip("dcor", reason="needs the [bench] extra")


def cell_gears(module: str) -> ModuleType:
    """Return a module of cell-gears, which imports dcor."""
    pytest.importorskip("scanpy")  # what it compiles stays compiled
    dcor()
    return pytest.importorskip(f"gears.{module}", reason="needs cell-gears: pip install kgnn[bench]")
