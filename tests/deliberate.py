"""Mutants made on purpose, over whatever predicts, over the checks at every door and over every score.

python -m tests.deliberate [WORD ...]   (those whose name holds a word; by default all): each must turn a test red
"""

import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.mutants import LEAVE, ROOT, Mutant, examine, report, unmutated_seconds

MODELS, ROOM = "kgnn/models", "kgnn/models/perturbation"
HETERO = "tests/models/test_hetero_model.py"
SOURCES = "tests/models/test_knowledge_sources.py"
PREDICTOR, GEARS, LIGHTNING = (
    "tests/models/test_predictor.py tests/models/test_trained.py",
    "tests/nn/test_gears.py",
    "tests/models/test_lightning.py",
)
DOORS = "tests/doors"
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
    ("txpert ignores the graph", "kgnn/nn/txpert.py",
     "found.append(F.elu(layer(found[-1], self.graph)))", "found.append(F.elu(layer.lin_l(found[-1])))", PREDICTOR),
    ("hetero ignores the graph", "kgnn/nn/perturbed.py",
     "self.encoder.propagate(self.encoder.inputs(graph), graph)", "self.encoder.inputs(graph)", HETERO),
    ("hetero ignores what is perturbed", "kgnn/nn/perturbed.py",
     "states[graph.measured], states[batch.nodes]", "states[graph.measured], states[0 * batch.nodes]", HETERO),
    ("hetero ignores doses", "kgnn/nn/perturbed.py",
     "told = doses.isfinite()", "told = doses.isnan()", HETERO),
    ("hetero takes drugs for other nodes", f"{ROOM}/nodes.py",
     "_typed(kind, name)] = number", "_typed(kind, name)] = max(number - 1, 0)", HETERO),
    ("a drug is held out at one dose alone", "kgnn/data/splits.py",
     "if not genes & set(perturbed_genes(name))]", "if not genes & {name}]", HETERO),
    ("pooled sources are of another gene", "kgnn/nn/pooling.py",
     "self.pooled(self.vectors[:, genes]", "self.pooled(self.vectors[:, 0 * genes]", PREDICTOR),
    ("the default model ignores the graph", f"{ROOM}/closed_form.py",
     "relations = gene_relations(kg, nodes)", "relations = gene_relations(None, nodes)", PREDICTOR),
    ("the default model ignores strengths", f"{ROOM}/samples.py",
     "value = strengths_of(flat, strength)", "value = strengths_of(flat, -1.0)", PREDICTOR),
    ("networks ignore strengths", f"{ROOM}/trained.py",
     "part in flat], self.strength)", "part in flat], -1.0)", PREDICTOR),
    ("networks get another state", f"{ROOM}/trained.py",
     "states = state.expand(len(conditions), -1)", "states = 0 * state.expand(len(conditions), -1)", PREDICTOR),
    ("offsets are shifted", f"{ROOM}/trained.py",
     "offsets = np.cumsum([0, *map(len, parts)])", "offsets = np.cumsum([0, *map(len, parts[::-1])])", PREDICTOR),
    ("signs of edges are lost", f"{ROOM}/graphs.py",
     'np.where(edges["sign"] < 0, -1, 1)', 'np.where(edges["sign"] < 0, 1, 1)', PREDICTOR),
    ("sources and targets change places", f"{ROOM}/graphs.py",
     "sizes = len(names[relation[2]]), len(names[relation[0]])",
     "source, target = target, source\n        sizes = len(names[relation[0]]), len(names[relation[2]])", PREDICTOR),
    ("features stand in the wrong rows", f"{ROOM}/graphs.py",
     "placed[code[kind]] = matrix", "placed[: len(matrix)] = matrix", "tests/models/test_graphs.py"),
    ("the encoder given is trained itself", f"{ROOM}/trained.py",
     "return copy.deepcopy(self.encoder)", "return self.encoder", PREDICTOR),
    ("wrong shapes pass", f"{ROOM}/losses.py",
     "any(shape != [conditions, genes] for shape in shapes)", "False", PREDICTOR),
    ("a log-variance is not brought back", f"{ROOM}/trained.py",
     "log_variance.exp().numpy()", "log_variance.numpy()", PREDICTOR),
    ("a folder is believed", f"{ROOM}/folder.py",
     'if encoder is None and config["encoder"] not in PREDICTORS:', "if False:", PREDICTOR),
    ("foreign options pass", f"{ROOM}/table.py",
     "check_options(options, options_of(kind), f\"encoder {name_of(encoder)!r}\")",
     "options = {k: v for k, v in options.items() if k in options_of(kind)}", PREDICTOR),
    ("options of fit pass", f"{ROOM}/model.py",
     'check_options(options, takes, f"fit of {name_of(self.encoder)!r}")',
     "options = {k: v for k, v in options.items() if k in takes}", PREDICTOR),
    ("other control cells change nothing", f"{ROOM}/starts.py",
     "Start(np.asarray(x.mean(axis=0)).ravel(), next", "Start(self.mean, next", PREDICTOR),
    ("what is not finite passes", f"{ROOM}/predictor.py",
     "    if wrong.any():\n        row, column", "    if False:\n        row, column", PREDICTOR),
    ("the last epoch is kept, not the best", f"{MODELS}/lightning.py", "if score < self.score:", "if True:",
     LIGHTNING),
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
    # checks at every door
    ("labels are not told", "kgnn/data/labels.py",
     "    if not found:\n        return\n    found = sorted", "    return\n    found = sorted",
     f"{DOORS}/test_labels.py"),
    ("known genes are doubted", "kgnn/data/labels.py",
     "unknown = [part for part in counts if part not in genes]", "unknown = list(counts)", f"{DOORS}/test_labels.py"),
    ("coverage is not told", "kgnn/graph/coverage.py",
     "or found.share >= ENOUGH:", "or True:", f"{DOORS}/test_coverage.py"),
    ("scales are not told", "kgnn/expression.py",
     "    if scale not in fine:", "    if False:", f"{DOORS}/test_scale.py"),
    ("two scales may meet", "kgnn/expression.py",
     "if (beyond[0] != beyond[1] and far) or negative[0] != negative[1] or counts:", "if False:",
     f"{DOORS}/test_scale.py"),
    ("splits are taken as they are written", "kgnn/data/splits.py",
     "for name in dict.fromkeys(map(names.canonical, listed)) if name != CONTROL]",
     "for name in dict.fromkeys(listed) if name != CONTROL]", f"{DOORS}/test_names.py"),
    ("conditions without cells are left out", "kgnn/data/splits.py",
     "    if missing:\n        raise InputError(\n            f\"no cell of",
     "    if False:\n        raise InputError(\n            f\"no cell of", f"{DOORS}/test_names.py"),
    ("perturbed cells count as control", f"{ROOM}/starts.py",
     "            if len(perturbed):", "            if False:", f"{DOORS}/test_scale.py"),
    ("all control cells are compared with", "kgnn/data/screen.py",
     "        if len(self.group_means) == 1:", "        if True:", f"{DOORS}/test_groups.py"),
    ("cells of the line held out are trained on", "kgnn/data/lines.py",
     "return ((lines == split[\"line\"]) & (labels != CONTROL)).to_numpy()",
     "return ((lines == split[\"line\"]) & (labels != labels)).to_numpy()", f"{DOORS}/test_groups.py"),
    ("a line is scored on all cells", "kgnn/data/lines.py",
     "return adata if split is None or \"line\" not in split else", "return adata if True else",
     f"{DOORS}/test_groups.py"),
    ("the kind of perturbation is not read", f"{ROOM}/reading.py",
     "if types else KNOCK_OUT", "if False else KNOCK_OUT", f"{DOORS}/test_strength.py"),
    ("a strength that is given is overruled", f"{ROOM}/closed_form.py",
     "self.strength = data.strength if self.asks_strength else self.strength", "self.strength = data.strength",
     f"{DOORS}/test_strength.py"),
    ("options may stand twice", "kgnn/cli/common.py", "            if given > 1 and", "            if False and",
     f"{DOORS}/test_options.py"),
    ("predictions fall below zero", f"{ROOM}/predictions.py",
     'return change if scale in ("scaled", "change") else np.maximum(change, -start)', "return change",
     "tests/models/test_predictions.py"),
    ("probabilities leave 0 and 1", f"{ROOM}/predictions.py",
     "np.clip(change, 0.0, 1.0)", "change", f"{DOORS}/test_effects.py"),
    ("effects of the line held out are trained on", "kgnn/data/lines.py",
     "np.where(held_out, label,", "np.where(held_out & False, label,", f"{DOORS}/test_effects.py"),
    # what the default model takes from the graph
    ("all but relations of genes is walked past", f"{ROOM}/knowledge.py",
     'if "gene" in (link.source, link.target):', "if link.source == link.target:", SOURCES),
    ("common sets say as much as rare ones", f"{ROOM}/knowledge.py",
     "np.log(known / np.maximum(size, 1))", "np.ones(len(size))", SOURCES),
    ("opposite signs are alike", f"{ROOM}/knowledge.py",
     ' * np.where(edges["sign"] < 0, -1.0, 1.0)', "", SOURCES),
    ("targets count as regulators", f"{ROOM}/knowledge.py",
     "rare_rows(member), rare_rows(member.T)", "rare_rows(member.T), rare_rows(member)", SOURCES),
    ("walks stay where they start", f"{ROOM}/knowledge.py",
     "here = GO_ON * spmm(self.step, here)", "here = GO_ON * here", SOURCES),
    ("a source that knows nothing of a gene is weighed", "kgnn/nn/condition_kernel.py",
     "torch.where(known, self.gate.unsqueeze(1), -torch.inf)", "torch.where(known | True, self.gate.unsqueeze(1), 0)",
     "tests/nn/test_knowledge.py"),
    ("the noise of the controls is predicted", "kgnn/nn/knowledge.py",
     "cross - self.kernel.of_controls(*meeting) if self.controls else cross", "cross", "tests/nn/test_knowledge.py"),
    ("what was not measured counts as no change", f"{ROOM}/solving.py",
     "told = seen = torch.from_numpy(samples.seen) & told", "seen = told", SOURCES),
    ("genes tell nothing of each other", f"{ROOM}/missing.py", "OWN * x + (x @ v) @ v.T", "x", SOURCES),
    ("large screens keep all programmes", f"{ROOM}/solving.py",
     "if len(rest) >= ENOUGH * PROGRAMMES:", "if False:", SOURCES),
    ("relatives tell of another prediction", f"{ROOM}/explain.py",
     "along = change / change", "along = change.flip(0) / change", SOURCES),
    ("effects are halved as cells are", "kgnn/evaluation/metrics/crossed.py",
     "if is_effects(adata):", "if False:", f"{DOORS}/test_effects.py"),
    ("what was not measured is not explained", "kgnn/evaluation/metrics/limits.py",
     " & truth.screen.measures([str(name)])[0]", "", f"{DOORS}/test_effects.py"),
]  # fmt: skip


METRICS, SCORE_TESTS = (
    "kgnn/evaluation/metrics",
    "tests/evaluation/test_scores.py tests/evaluation/test_metrics.py tests/evaluation/test_references.py",
)
SCORES = [  # every score: its sign, its axis, itself included, the target left in; file, text, what takes its place
    ("mse", "np.square(predicted - observed).mean()", "np.square(predicted - observed).sum()"),
    ("mae", "np.abs(predicted - observed).mean()", "np.abs((predicted - observed).mean())"),
    ("pearson", "a, b = a - a.mean(), b - b.mean()", "a, b = a, b"),
    ("pearson_delta", "predicted - reference, observed - reference, r", "predicted, observed - reference, r"),
    ("pearson_centred", "predicted - center, observed - center, r", "predicted - reference, observed - reference, r"),
    ("pearson_crossed", "predicted - a, observed - b", "predicted - a, observed - a"),
    ("pds_cosine", "[~targets]", "[targets | ~targets]"),
    ("pds_cosine", "1 - np.divide(real @ moved", "1 + np.divide(real @ moved"),
    ("pds_cosine", "/ (len(panel) - 1)", "/ len(panel)"),
    ("discrimination", "np.abs(panel - predicted).sum(axis=1)", "-np.abs(panel - predicted).sum(axis=1)"),
    ("discrimination", "sum() - 1) / 2)", "sum()) / 2)"),
    ("centroid_accuracy", "distance > distance[own]", "distance >= distance[own]"),
    ("inverse_rank", "predictions - observed, axis=1", "predictions - predicted, axis=1"),
    ("mse_ratio", "- noise[0])", "- noise[1])"),
    ("mse_ratio", "noise.sum(axis=0)", "noise[0]"),
    ("mse_ratio", "/ (n - 1)", "/ n"),
    (
        "weighted_mse",
        "(weights * np.square(predicted - observed)).sum() / total",
        "np.square(predicted - observed).mean()",
    ),
    ("weighted_mse", "size = np.abs(t)", "size = t"),
    ("weighted_r2", "real - weights @ real", "real - real.mean()"),
    ("wrong_direction", "(sign < 0)", "(sign > 0)"),
    ("direction_fidelity", "max(significant.sum(), called.sum())", "significant.sum()"),
    ("direction_fidelity", "significant & called & right", "significant & called"),
    ("reach", "-np.abs(moved)", "np.abs(moved)"),
    ("significant_jaccard", "(significant | called)", "significant"),
    ("de_overlap", "np.abs(change(predicted, reference))", "change(predicted, reference)"),
    ("de_auprc", "np.abs(change(predicted, reference))", "change(predicted, reference)"),
    ("fold_change_error", "[significant].mean()", ".mean()"),
    ("e_distance", "2 * pairwise", "pairwise"),
    ("coverage_90", "Z_90 * np.sqrt(variance)", "Z_90 * variance"),
    ("coverage_90_changed", "inside[significant]", "inside"),
    ("calibration", "0.5 + level / 2", "level"),
    ("calibration", "y_hat[significant], y[significant], start, variance[significant]", "y_hat, y, start, variance"),
    ("gene_auc", "values[part.index]", "-values[part.index]"),
    ("gene_auc", "table.groupby(gene)", "[(table[gene].iloc[0], table)]"),
    ("crossed", "((one, other), (other, one))", "((one, one), (other, other))"),
    ("crossed", "start.control_mean", "read_screen(scored, **names).control_mean"),
    ("crossed", "halves[::-1]", "halves[:1] * 2"),
    ("summary", '(table["mean"] - base) / (best - base)', '(table["mean"] - base) / best'),
    ("summary", "gain = sign * (", "gain = ("),
    ("summary", "upper.sum(axis=-1), lower.sum(axis=-1)", "(upper / lower).sum(axis=-1), (lower > 0).sum(axis=-1)"),
    ("summary", "for table in (scores, other))", "for table in (other, scores))"),
]
PLACES += [(f"{name}, {text}", f"{METRICS}/{name}.py", text, instead, SCORE_TESTS) for name, text, instead in SCORES]


def main() -> int:
    """Apply one after the other in a copy of the repository; the exit status is 1 when a test missed any."""
    console, found = Console(width=140), []
    places = [place for place in PLACES if not sys.argv[1:] or any(word in place[0] for word in sys.argv[1:])]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy = Path(folder).resolve() / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEAVE))
        seconds = {
            tests: unmutated_seconds(copy, tests.split()) for tests in dict.fromkeys(place[4] for place in places)
        }
        for what, file, text, instead, tests in places:
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
