"""The README's example runs as it stands there."""

import re
from pathlib import Path

import kgnn
from kgnn.data import simulate

README = Path(kgnn.__file__).parents[1] / "README.md"


def test_the_ten_lines_run(monkeypatch):
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.S)[1]
    assert len([line for line in code.splitlines() if line.strip() and not line.startswith("import")]) <= 10
    small = {"n_genes": 40, "n_singles": 8, "n_pairs": 6, "cells_per_condition": 12, "n_controls": 30}
    monkeypatch.setattr(kgnn.data, "simulate", lambda seed: simulate(**small, seed=3))
    fit = kgnn.PerturbationModel.fit
    quick = {"max_epochs": 1, "enable_progress_bar": False, "accelerator": "cpu"}
    monkeypatch.setattr(
        kgnn.PerturbationModel, "fit", lambda self, *args, **options: fit(self, *args, **options | quick)
    )
    names: dict = {}
    exec(code, names)
    assert sorted(names["scores"].index) == names["split"]["test"]


def test_the_shell_commands_name_options_that_exist():
    from typer.testing import CliRunner

    from kgnn.cli import app

    for block in re.findall(r"```bash\n(.*?)```", README.read_text(), re.S):
        for line in block.splitlines():
            if line.startswith("kgnn "):
                words = line.split("#")[0].split()[1:]
                command = words[:2] if words[0] == "graph" else words[:1]
                text = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
                for option in (word for word in words if word.startswith("-")):
                    assert option in text, f"{option} of `{line}`"
