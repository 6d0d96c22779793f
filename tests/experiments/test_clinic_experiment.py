"""The recorded runs of the clinic: all kinds, every probe, and each broken as its kind says."""

import json

import pytest

from labsupport.broken_runs import kinds, probing
from labsupport.evaluation import experiments
from labsupport.experiments import clinic_experiment

FIGURES = {"rows", "exact", "parts", "valid", "ended", "loss"}


@pytest.fixture(scope="module")
def cells():
    """The published metrics by kind; of the second healthy run by "healthy, too"."""
    found = {}
    for record in experiments.published("clinic")["cells"]:
        kind = record["cell"]["kind"]
        found[f"{kind}, too" if kind in found else kind] = record["metrics"]
    return found


def figures(cells, kind, probe=None):
    return cells[kind]["probes"][probe] if probe else cells[kind]["view"]["evaluation"]


def test_there_is_a_case_of_every_kind_two_of_them_healthy_and_each_has_its_seed():
    named = [cell["kind"] for cell in clinic_experiment.CELLS]
    assert sorted(named) == sorted([*kinds.KINDS, "healthy"])
    assert len({cell["seed"] for cell in clinic_experiment.CELLS}) == len(clinic_experiment.CELLS)


def test_the_record_is_of_these_cells_answers_every_probe_and_names_no_kind(cells):
    record = experiments.published("clinic")
    assert [cell["cell"] for cell in record["cells"]] == clinic_experiment.CELLS
    assert (experiments.PUBLISHED / "clinic.json").stat().st_size < 1_000_000
    for kind, metrics in cells.items():
        assert set(metrics["probes"]) == set(probing.PROBES), kind
        shown = json.dumps([metrics["view"], metrics["probes"]])
        assert kind not in shown
        assert set(figures(cells, kind)) == FIGURES and len(metrics["view"]["replies"]) == 5
        for name in ("training_rows", "lookalike", "production", "without_adapter", "one_by_one"):
            assert set(figures(cells, kind, name)) == FIGURES | {"replies"}


def test_what_is_broken_can_be_found(cells):
    """The probe that tells each kind apart does so in the record."""
    norms = [b for _, b in cells["no-gradient"]["probes"]["adapter"]["norms"].values()]
    assert set(norms) == {0.0}
    for kind in set(cells) - {"no-gradient"}:
        assert all(b > 0 for _, b in cells[kind]["probes"]["adapter"]["norms"].values()), kind
    for kind in cells:
        copies = cells[kind]["probes"]["copies"]
        assert (copies["found"] > copies["of"] / 2) == (kind == "leaked-eval"), kind
        kept = cells[kind]["probes"]["tokens"]
        assert (kept["kept"] < 0.5 * kept["given"]) == (kind == "truncated"), kind
    for kind, probe in (
        ("padding-side", "one_by_one"),
        ("eval-template", "training_format"),
        ("template-mismatch", "training_format"),
    ):
        assert figures(cells, kind, probe)["parts"] > figures(cells, kind)["parts"] + 0.1, kind
    inactive = figures(cells, "adapter-inactive", "without_adapter")
    assert inactive["loss"] == pytest.approx(figures(cells, "adapter-inactive")["loss"], abs=1e-3)


def test_broken_runs_are_worse_than_healthy_ones(cells):
    """On facts in the evaluation; a leaked evaluation beside that of a run without the leak. The healthy ones
    are good enough that nobody looks for a fault."""
    healthy = [figures(cells, name)["parts"] for name in ("healthy", "healthy, too")]
    assert min(healthy) > 0.85
    for kind in set(cells) - {"healthy", "healthy, too"}:
        if cells[kind]["view"]["task"] == "facts":
            name = "ended" if kind == "eos-not-learned" else "parts"
            assert figures(cells, kind)[name] < min(healthy) - 0.05, kind
    leaked = cells["leaked-eval"]
    gap = leaked["view"]["evaluation"]["parts"] - leaked["probes"]["no_copies"]["evaluation"]["parts"]
    assert gap > 0.2
    log = cells["memorised"]["view"]
    rates = [line["eval_loss"] for line in log["eval_log"]]
    assert log["log"][-1]["loss"] < 0.05 and rates[-1] > 1.15 * min(rates)
