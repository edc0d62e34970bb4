"""The tables in the documentation are those that the committed figures make."""

import shutil
from pathlib import Path

import pytest

import kgnn
from benchmarks import cell_models_report, perturbation_report, screens_report

ROOT = Path(kgnn.__file__).parents[1]
WRITERS = {
    "cells.md": cell_models_report.main,
    "results.md": lambda: perturbation_report.write(Path("benchmarks/results/perturbation")),
    "screens.md": screens_report.main,
}


@pytest.mark.parametrize("page", WRITERS)
def test_a_page_is_what_its_figures_make(page, tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    (tmp_path / "benchmarks").mkdir()
    pages = [ROOT / "README.md", *(ROOT / "docs" / name for name in WRITERS)]
    for path in pages:
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    (tmp_path / "benchmarks" / "results").symlink_to(ROOT / "benchmarks" / "results")
    monkeypatch.chdir(tmp_path)
    WRITERS[page]()
    for path in pages:
        assert (tmp_path / path.relative_to(ROOT)).read_text() == path.read_text(), f"run the report of {page} again"
