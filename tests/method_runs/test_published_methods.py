"""Cited figures: PEFT's comparison, and a guide's table of DoRA beside the paper's."""

import json
import math
import statistics

import pytest

from labsupport.core.files import LabError
from labsupport.method_runs import paper_tables, published, published_figures
from labsupport.sizes import gpus

RUNS = published.load()
ROWS = paper_tables.load()


@pytest.fixture
def broken(tmp_path):
    """Writes rows to a file whose place a message must name."""

    def write(rows):
        path = tmp_path / "mine.json"
        path.write_text(rows if isinstance(rows, str) else json.dumps(rows), encoding="utf-8")
        return path

    return write


# ---------------------------------------------------------------- PEFT's comparison


def test_every_run_names_its_file_and_counts_whole_questions():
    assert len(RUNS) == 63
    for name, run in RUNS.items():
        assert run.where.startswith("huggingface/peft@5d602fdb ")
        assert run.where.endswith(f"/{name.replace('/', '--')}.json")
        for accuracy in (run.accuracy, *(share for _, share in run.earlier)):
            assert accuracy * run.questions == pytest.approx(round(accuracy * run.questions), abs=1e-6)
        assert all(day < run.run for day, _ in run.earlier)


def test_units_are_plausible():
    for run in RUNS.values():
        weights = 2 * 3_212_749_824 / 2**30  # the frozen model's, in bfloat16
        assert weights < run.reserved_gib < gpus.find(run.card).memory_gib
        assert run.steps_seconds < run.train_seconds < 7200
    lora = RUNS[published.LORA]
    assert lora.file_bytes == pytest.approx(4 * lora.trained, rel=1e-3)  # an adapter file in float32
    assert lora.trained == 28 * 32 * ((3072 + 3072) + (3072 + 1024))  # r (in + out) of q and v, 28 layers


def test_dora_is_within_noise_of_lora_and_takes_two_gib_more():
    lora, dora = RUNS[published.LORA], RUNS[published.DORA]
    points, error, z = published.difference(dora, lora)
    p, q = 631 / 1319, 619 / 1319
    assert points == pytest.approx(100 * (q - p))
    assert error == pytest.approx(100 * math.sqrt((p * (1 - p) + q * (1 - q)) / 1319))
    assert z == pytest.approx(points / error) and abs(z) < 0.5
    assert published.difference(lora, dora) == pytest.approx((-points, error, -z))
    assert 2 < dora.reserved_gib - lora.reserved_gib < 2.2
    gaps = published.gaps(dora, lora)
    assert len(gaps) == 4 and gaps[dora.run] == pytest.approx(points)


def test_one_adapter_at_two_rates_differs_more_than_dora_from_lora():
    pairs = [(run, RUNS[run.same_adapter_as]) for run in RUNS.values() if run.same_adapter_as]
    assert {run.experiment.split("/")[0] for run, _ in pairs} == {"adaptionprompt", "ia3", "prompt_tuning"}
    for run, before in pairs:
        assert run.rate == pytest.approx(10 * before.rate) and run.trained == before.trained
        assert published.difference(run, before)[2] > 4
    assert len(published.rates_table(RUNS).rows) == len(pairs)


def test_tables_have_the_chosen_runs_and_the_days_of_all():
    shown = published.comparison_table(RUNS)
    assert [row[0] for row in shown.rows] == list(published.CHOSEN.values())
    assert shown.rows[1][3:6] == ["46.9 ± 1.4", "-0.9 ± 1.9", "-0.5"]
    again = published.reruns_table(RUNS)
    assert again.headings[1:-1] == sorted(published.gaps(RUNS[published.LORA], RUNS[published.DORA]))
    assert again.rows[0] == ["LoRA, rank 32", "48.2", "48.2", "49.1", "47.8", "1.2"]


def test_the_figure_has_every_run_and_names_the_chosen():
    figure = published_figures.quality_over_memory(RUNS, "")
    texts = [text for axis in figure.axes for text in axis.texts]
    assert {text.get_text().replace("\n", " ") for text in texts} == set(published.CHOSEN.values())
    points = {
        (float(x), float(y))
        for axis in figure.axes
        for line in axis.lines
        if line.get_marker() in ("o", ".")
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    assert points == {(run.reserved_gib, 100 * run.accuracy) for run in RUNS.values()}
    for axis, (low, high) in zip(figure.axes, published_figures.PANELS, strict=True):
        inside = [x for x, _ in points if low <= x < high]
        assert inside and axis.get_xlim() == (low, high)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"accuracy": 47.8}, "run 1: accuracy is 47.8: it must be a number of at least 0 and at most 1"),
        ({"reserved_gib": "20"}, "run 1: reserved_gib is '20': it must be a number above 0"),
        ({"trained_parameters": 1.5}, "run 1: trained_parameters is 1.5: it must be a whole number"),
        ({"where": None}, "run 1 has no 'where'; it has "),
    ],
)
def test_a_wrong_run_is_one_line(broken, changes, problem):
    row = json.loads(published.FILE.read_text(encoding="utf-8"))[0] | changes
    path = broken([{key: value for key, value in row.items() if value is not None}])
    with pytest.raises(LabError) as caught:
        published.load(path)
    assert f"mine.json, {problem}" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("load", [published.load, paper_tables.load])
@pytest.mark.parametrize(
    ("content", "problem"), [("{", "is not JSON"), ("{}", "must hold a list"), ("[]", "must hold a list")]
)
def test_a_wrong_file_is_one_line(broken, load, content, problem):
    with pytest.raises(LabError, match=f"mine.json {problem}") as caught:
        load(broken(content))
    assert "\n" not in str(caught.value)
    with pytest.raises(LabError, match="Cannot read .*nowhere.json: No such file"):
        load(broken(content).with_name("nowhere.json"))


def test_an_unknown_run_lists_the_nearest():
    with pytest.raises(LabError, match="no run 'lora/rank32'; near it: lora/llama-3.2-3B-rank32"):
        published.named(RUNS, "lora/rank32")


# ---------------------------------------------------------------- the guide beside the paper


def test_every_row_names_its_source_and_averages_what_it_prints():
    for row in ROWS:
        assert row.source and row.where
        # Papers average before they round, and some cells are off by a digit.
        assert statistics.fmean(row.scores.values()) == pytest.approx(row.average, abs=0.11), row


def test_the_guides_figures_are_not_the_papers():
    assert paper_tables.agreeing(ROWS, "LLaMA-7B") == 0
    assert paper_tables.agreeing(ROWS, "LLaMA2-7B") == 3
    shown = repr(paper_tables.side_by_side(ROWS))
    assert "76.6" in shown and "80.3" in shown and shown.count("guide, LLaMA-7B") == 3


def test_the_share_of_the_gap_is_arithmetic():
    assert paper_tables.closed(70, 73, 75) == pytest.approx(60)
    assert paper_tables.closed(70, 76, 75) == pytest.approx(120)
    assert paper_tables.closed(75, 76, 70) is None and paper_tables.closed(70, 71, 70) is None
    shares = [row[-1] for row in paper_tables.gap_table(ROWS).rows]
    assert shares == ["58.8 %", "61.1 %", "57.1 %", "53.3 %", "58.0 %", "112.5 %", "47.5 %", shares[-1]]
    assert shares[-1].startswith("no gap")


def test_below_chance_where_lora_collapses():
    by_rank = {row[0]: row[3] for row in paper_tables.ranks_table(ROWS).rows}
    assert by_rank == {"4": "4 and 1", "8": "3 and 0", "16": "0 and 0", "32": "0 and 0", "64": "1 and 0"}
    lowest = paper_tables.one(ROWS, "ranks", "LLaMA-7B", "LoRA", 4)
    assert "BoolQ" in paper_tables.below_chance(lowest) and "ARC-e" not in paper_tables.below_chance(lowest)


def test_no_row_or_two_is_an_error():
    with pytest.raises(LabError, match="0 rows are .'ranks', 'LLaMA-7B', 'LoRA', 128.*dora_commonsense.json"):
        paper_tables.one(ROWS, "ranks", "LLaMA-7B", "LoRA", 128)
    with pytest.raises(LabError, match="2 rows are"):
        paper_tables.one(ROWS * 2, "ranks", "LLaMA-7B", "LoRA", 4)


def test_a_printed_row_without_a_source_is_named(broken):
    row = json.loads(paper_tables.FILE.read_text(encoding="utf-8"))[0]
    del row["source"]
    with pytest.raises(LabError, match="mine.json, row 1 has no 'source'; it has "):
        paper_tables.load(broken([row]))
