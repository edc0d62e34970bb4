"""Mutants made on purpose over the interface of whatever predicts: each must turn a test red.

python -m tests.deliberate
"""

import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.mutants import LEAVE, ROOT, Mutant, examine, report, unmutated_seconds

MODELS, ROOM = "kgnn/models", "kgnn/models/perturbation"
PREDICTOR, GEARS, LIGHTNING = (
    "tests/models/test_predictor.py tests/models/test_trained.py",
    "tests/nn/test_gears.py",
    "tests/models/test_lightning.py",
)
PLACES = [  # what it does; file; text; what takes its place; tests
    ("gears ignores the perturbation", "kgnn/nn/encoders.py",
     "summed = F.embedding_bag(position, messages", "summed = F.embedding_bag(position * 0, messages", GEARS),
    ("gears ignores the perturbation in evaluation", "kgnn/nn/encoders.py",
     "distinct, position = perturbed.unique(return_inverse=True)",
     "distinct, position = (perturbed if self.training else perturbed * 0).unique(return_inverse=True)", GEARS),
    ("gears ignores the perturbation graph", "kgnn/nn/encoders.py",
     "self.perturbation_conv(embedding, self.perturbation_graph.rows(distinct))",
     "self.perturbation_conv.lin(embedding[distinct])", GEARS),
    ("gears ignores the co-expression graph in evaluation", "kgnn/nn/encoders.py",
     "POSITION_SHARE * self.gene_conv(positions, self.gene_graph)",
     "POSITION_SHARE * (self.gene_conv(positions, self.gene_graph) if self.training else 0)", GEARS),
    ("peers ignore the perturbation", "kgnn/nn/peers.py",
     "F.embedding_bag(batch.nodes, embedding", "F.embedding_bag(batch.nodes * 0, embedding", PREDICTOR),
    ("txpert ignores the graph", "kgnn/nn/peers.py",
     "x = x + F.elu(layer(x, self.perturbation_graph))", "x = x + 0 * F.elu(layer(x, self.perturbation_graph))",
     PREDICTOR),
    ("the default model ignores the graph", f"{ROOM}/closed_form.py",
     "relations = gene_relations(kg, nodes)", "relations = gene_relations(None, nodes)", PREDICTOR),
    ("the default model ignores strengths", f"{ROOM}/samples.py",
     "value = strengths_of(flat, strength)", "value = strengths_of(flat, -1.0)", PREDICTOR),
    ("networks ignore strengths", f"{ROOM}/trained.py",
     "strengths_of(flat, self.strength)", "strengths_of(flat, -1.0)", PREDICTOR),
    ("networks get another state", f"{ROOM}/trained.py",
     "states = state.expand(len(conditions), -1)", "states = 0 * state.expand(len(conditions), -1)", PREDICTOR),
    ("offsets are shifted", f"{ROOM}/trained.py",
     "offsets = np.cumsum([0, *map(len, genes)])", "offsets = np.cumsum([1, *map(len, genes)]) - 1", PREDICTOR),
    ("signs of edges are lost", f"{ROOM}/graphs.py",
     'np.where(edges["sign"] < 0, -1, 1)', 'np.where(edges["sign"] < 0, 1, 1)', PREDICTOR),
    ("sources and targets change places", f"{ROOM}/graphs.py",
     "sizes = len(names[relation[2]]), len(names[relation[0]])",
     "source, target = target, source\n        sizes = len(names[relation[0]]), len(names[relation[2]])", PREDICTOR),
    ("features stand in the wrong rows", f"{ROOM}/graphs.py",
     "placed[code[kind]] = matrix", "placed[: len(matrix)] = matrix", PREDICTOR),
    ("the encoder given is trained itself", f"{ROOM}/trained.py",
     "return copy.deepcopy(self.encoder)", "return self.encoder", PREDICTOR),
    ("wrong shapes pass", f"{ROOM}/training.py",
     "any(shape != [conditions, genes] for shape in shapes)", "False", PREDICTOR),
    ("a log-variance is not brought back", f"{ROOM}/trained.py",
     "log_variance.exp().numpy()", "log_variance.numpy()", PREDICTOR),
    ("a folder is believed", f"{ROOM}/model.py",
     'if encoder is None and config["encoder"] not in PREDICTORS:', "if False:", PREDICTOR),
    ("foreign options pass", f"{ROOM}/table.py",
     "check_options(options, options_of(kind), f\"encoder {name_of(encoder)!r}\")",
     "options = {k: v for k, v in options.items() if k in options_of(kind)}", PREDICTOR),
    ("options of fit pass", f"{ROOM}/model.py",
     'check_options(options, takes, f"fit of {name_of(self.encoder)!r}")',
     "options = {k: v for k, v in options.items() if k in takes}", PREDICTOR),
    ("other control cells change nothing", f"{ROOM}/model.py",
     "start = Start(np.asarray(cells.mean(axis=0)).ravel(), line)", "start = Start(self.control_mean_, line)",
     PREDICTOR),
    ("what is not finite passes", f"{ROOM}/predictor.py",
     "    if wrong.any():\n        row, column", "    if False:\n        row, column", LIGHTNING),
    ("the last epoch is kept, not the best", f"{MODELS}/lightning.py", "if score < self.score:", "if True:",
     "tests/models/test_perturbation.py"),
    ("a resumed training draws other random numbers", f"{MODELS}/lightning.py",
     "torch.set_rng_state(self.random.cpu())", "self.random.cpu()", LIGHTNING),
    ("a resumed training sees the cells in another order", "kgnn/data/batches.py",
     "for _ in range(epochs):", "for _ in range(epochs - 1):", LIGHTNING),
    ("a stop is forgotten", f"{MODELS}/lightning.py", "        self.signal = number\n", "        pass\n", LIGHTNING),
    ("signals are not given back", f"{MODELS}/lightning.py",
     "        finally:\n            self.give_back()", "        finally:\n            pass", LIGHTNING),
    ("a fit is no transaction", f"{ROOM}/model.py",
     "        predictor.fit(data, seed=seed, **options)",
     "        self.genes_, self.predictor_ = screen.genes, predictor\n"
     "        predictor.fit(data, seed=seed, **options)", LIGHTNING),
]  # fmt: skip


def main() -> int:
    """Apply one after the other in a copy of the repository; the exit status is 1 when a test missed any."""
    console, found = Console(width=140), []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy = Path(folder).resolve() / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEAVE))
        seconds = {
            tests: unmutated_seconds(copy, tests.split()) for tests in dict.fromkeys(place[4] for place in PLACES)
        }
        for what, file, text, instead, tests in PLACES:
            source = (copy / file).read_text()
            assert source.count(text) >= 1, f"{what}: {file} has no {text!r}"
            line = source[: source.index(text)].count("\n") + 1
            mutant = Mutant(file, line, 0, what, 0, source.replace(text, instead), f"- {text}\n+ {instead}")
            examine(mutant, copy, tests.split(), 3 * seconds[tests] + 60)
            console.print(f"{what}: {mutant.outcome} after {mutant.seconds:.0f} s", markup=False)
            found.append(mutant)
    report(found, console)
    return int(any(mutant.outcome == "passed" for mutant in found))


if __name__ == "__main__":
    sys.exit(main())
