"""The README's examples run as they stand there; what the documents name exists."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import kgnn
from kgnn.data import simulate

ROOT = Path(kgnn.__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_ten_lines_run(monkeypatch):
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.S)[1]
    assert len([line for line in code.splitlines() if line.strip() and not line.startswith("import")]) <= 10
    small = {"n_genes": 40, "n_singles": 8, "n_pairs": 6, "cells_per_condition": 12, "n_controls": 30}
    monkeypatch.setattr(kgnn.data, "simulate", lambda seed: simulate(**small, seed=3))
    fit = kgnn.PerturbationModel.fit
    quick = {"max_epochs": 1, "enable_progress_bar": False, "accelerator": "cpu"}
    monkeypatch.setattr(
        kgnn.PerturbationModel,
        "fit",
        lambda self, *args, **options: fit(self, *args, **options | (quick if self.by_epochs else {})),
    )
    names: dict = {}
    exec(code, names)
    assert sorted(names["scores"].index) == names["split"]["test"]


def test_the_three_lines_run(tmp_path):
    text = README.read_text().split("## A graph of your own in three lines")[1]
    code = re.search(r"```python\n(.*?)```", text, re.S)[1]
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("import")]
    assert len(lines) == 3
    names: dict = {}
    exec(code, names)
    hetero = names["hetero"]
    assert hetero.validate()
    assert hetero["gene", "binds", "gene"].edge_sign.tolist() == [-1, 0]
    assert names["kg"].edges(("gene", "binds", "gene"))["source"].tolist() == ["MYC", "TP53"]
    # and as the comment says, from a file
    names["edges"].to_csv(tmp_path / "my_edges.csv", index=False)
    options = {"source": "gene_a", "target": "gene_b", "weight": "score", "relation": "binds", "origin": "table"}
    assert kgnn.graph.load_table(tmp_path / "my_edges.csv", **options) == names["kg"]


def test_the_shell_commands_name_options_that_exist():
    from typer.testing import CliRunner

    from kgnn.cli import app

    for block in (b for file in DOCUMENTS for b in re.findall(r"```bash\n(.*?)```", file.read_text(), re.S)):
        for line in block.splitlines():
            if line.startswith("kgnn "):
                words = line.split("#")[0].split()[1:]
                command = words[:2] if words[0] == "graph" else words[:1]
                text = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
                for option in (word for word in words if word.startswith("-")):
                    assert option in text, f"{option} of `{line}`"


def test_the_cells_run():
    text = README.read_text().split("## Cells")[1]
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", text, re.S)[1], names)
    assert names["atlas"].obsm["X_kgnn"].shape == (270, 32)
    assert set(names["labels"]) == {"true_type", "true_type_probability", "tissue", "tissue_probability"}


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:n]))
        except ImportError:
            continue
        for part in parts[n:]:
            found = getattr(found, part, None)
        return found is not None
    return False


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_documents_name_what_there_is(file):
    assert exists("kgnn.metrics.evaluate")
    assert not exists("kgnn.metrics.no_such_score")
    text = file.read_text()
    names = set(re.findall(r"`(kgnn(?:\.[A-Za-z_]\w*)+)", text))
    assert not [name for name in names if not exists(name) and name != "kgnn.json"]
    paths = set(re.findall(r"`((?:kgnn|tests|benchmarks|docs|notebooks)/[\w./]+)`", text))
    assert not [path for path in paths if not (ROOT / path).exists()]
    for link in re.findall(r"\]\(([^):]+)\)", text):
        name, _, title = link.partition("#")
        target = (file.parent / name).resolve() if name else file
        assert target.exists(), link
        titles = re.findall(r"^#+ (.*)", target.read_text(), re.M) if title else []
        assert not title or title in [re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles], link
