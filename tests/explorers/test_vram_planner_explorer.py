"""The VRAM planner as an explorer: it shows what `lab.py plan` finds."""

import html
import itertools

import pytest

from labsupport.allocations import streams
from labsupport.configs import model_configs
from labsupport.core import text
from labsupport.core.files import LabError
from labsupport.explorers import vram_planner_explorer as vram
from labsupport.planning import closed_form, evidence, footprint, planner
from labsupport.setups.setup import METHODS, TRAINERS, Setup, checked
from labsupport.sizes import counting, gpus
from labsupport.teaching import explorer_shell

SMALL = {"model": "smollm2-135m", "method": "lora", "batch": 2, "length": 64}


def setup_of(model, method="qlora", rank=16, targets="all-linear", **options) -> Setup:
    """The setup that the explorer plans for these values: by TRL's trainer, unless they say another."""
    config, names = model_configs.find(model), counting.target_names(targets)
    return checked(Setup(config, method, rank, names, **{"trainer": "sft"} | options))


def cells(view: explorer_shell.View, column: str) -> dict[str, str]:
    return {row[""]: row[column] for row in view.table if column in row}


def corners(explorer) -> dict:
    """The lowest and the highest value of every control but the buttons."""
    found = {}
    for name, control in explorer.controls.items():
        if hasattr(control, "options"):
            values = [value for _, value in control._options_full]
            found[name] = (values[0], values[-1])
        elif hasattr(control, "max"):
            found[name] = (control.min, control.max)
        elif name not in explorer.presses:
            found[name] = (False, True)
    return found


@pytest.fixture
def traces(monkeypatch):
    """The setups that are really traced, in order, each once; nothing is remembered from other tests."""
    done = []
    real = planner.plan

    def plan(setup, card, suggest):
        done.append(setup)
        return real(setup, card, suggest)

    vram.traced_plan.cache_clear()
    monkeypatch.setattr(planner, "plan", plan)
    yield done
    vram.traced_plan.cache_clear()


# ---------------------------------------------------------------- the VRAM planner


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_planner_shows_the_closed_form(method, trainer, checkpointing):
    options = {"trainer": trainer, "checkpointing": checkpointing, "accumulation": 2}
    setup = setup_of("llama-3.1-8b", method, **options)
    view = vram.view(method=method, **options)
    shown = cells(view, vram.CLOSED)
    phase, parts = closed_form.peak_parts(setup)
    for name in streams.CATEGORIES:
        assert shown[name] == text.size(parts.get(name, 0.0) / streams.GIB)
    peak = closed_form.peak_bytes(setup) / streams.GIB
    assert sum(parts.values()) / streams.GIB == pytest.approx(peak)
    assert shown["peak allocated"] == text.size(peak) and shown["in the phase"] == phase
    room = gpus.find("l4").memory_gib - footprint.CONTEXT_GIB
    assert shown["margin"] == text.size(room - peak)
    assert f"{text.size(peak)} GiB" in view.heading and "prediction" in view.heading
    assert vram.TRACE not in explorer_shell.columns(view)
    widths = sum(bar.get_width() for bar in view.figure.axes[0].patches)
    assert widths == pytest.approx(peak)


def test_a_plain_loop_needs_more_than_the_trainer_which_is_the_default():
    tops = [closed_form.peak_bytes(setup_of("llama-3.1-8b", trainer=name)) for name in TRAINERS]
    assert vram.view().heading == vram.view(trainer="sft").heading != vram.view(trainer="plain").heading
    assert TRAINERS == ("sft", "plain") and tops[1] > 1.2 * tops[0]
    explorer = vram.explore(length=4096)
    for name, phase in (("plain", "loss"), ("sft", "backward")):
        explorer.controls["trainer"].value = name
        assert f"by {name}, " in explorer.view.alt and f"in the phase {phase}" in explorer.view.heading
        assert ("does not fit" in explorer.view.heading) == (name == "plain")


def test_micro_batches_add_the_gradients_of_full_fine_tuning():
    """At the loss they stand beside what the head needs."""
    shown = [
        float(
            cells(vram.view("llama-3.2-1b", "full", trainer="sft", accumulation=n), vram.CLOSED)["gradients"]
        )
        for n in (1, 4)
    ]
    weights = closed_form.weight_bytes(setup_of("llama-3.2-1b", "full")) / streams.GIB
    assert shown[1] == pytest.approx(weights, abs=0.01)


def test_the_closed_form_of_full_fine_tuning_of_a_small_batch_peaks_in_the_optimizers_step():
    setup = setup_of("llama-3.2-1b", "full", batch=1, trainer="plain")
    phase, parts = closed_form.peak_parts(setup)
    weights = closed_form.weight_bytes(setup)
    assert phase == "optimizer"
    assert parts == {
        "weights": weights,
        "adapters": 0,
        "optimizer": 2 * weights,  # AdamW's two states in the weights' bfloat16
        "gradients": weights,
        "temporaries": weights,
    }


# The default, and of hundreds of random settings some whose closed form was furthest off.
WORST = [
    ("llama-3.1-8b", {}),
    ("llama-3.1-8b", {"trainer": "plain"}),
    (
        "smollm2-135m",
        {"method": "lora", "rank": 1, "targets": "q+v", "batch": 64, "length": 128, "dtype": "fp32"}
        | {"checkpointing": False, "optimizer": "adamw_8bit"},
    ),
    (
        "gemma-2-27b",
        {"method": "lora", "rank": 32, "targets": "mlp", "batch": 2, "length": 2048, "checkpointing": False},
    ),
    (
        "qwen3-32b",
        {"method": "full", "batch": 16, "length": 4096, "dtype": "fp32", "optimizer": "adamw_8bit"},
    ),
    ("qwen3-14b", {"method": "qdora", "batch": 256, "checkpointing": False}),
    (
        "gemma-2-2b",
        {"rank": 128, "batch": 16, "length": 4096, "dtype": "fp32", "trainer": "plain"},
    ),
    ("mistral-7b-v0.3", {"method": "lora", "rank": 1024, "targets": "qkvo", "batch": 256, "length": 16}),
    ("llama-3.2-3b", {"method": "full", "batch": 16}),
    ("codellama-34b", {"rank": 64, "batch": 64, "length": 4096, "optimizer": "adamw_8bit"}),
    (
        "qwen2.5-0.5b",
        {"method": "full", "batch": 4, "length": 64, "checkpointing": False, "optimizer": "adamw_8bit"},
    ),
    ("llama-2-7b", {"method": "lora", "rank": 64, "batch": 64, "dtype": "fp32", "checkpointing": False}),
    (
        "smollm2-135m",
        {"method": "lora", "rank": 256, "targets": "q+v", "batch": 1, "length": 4096, "checkpointing": False},
    ),
    ("llama-2-13b", {"method": "qdora", "length": 4096, "dtype": "fp16", "checkpointing": False}),
]


@pytest.mark.parametrize(("model", "options"), WORST)
def test_the_closed_form_is_as_far_off_as_the_planner_says(model, options):
    setup = setup_of(model, **options)
    closed = closed_form.peak_bytes(setup)
    stream, _ = footprint.trace_steps(setup)
    peak, reserved = streams.peak(stream), footprint.reserved_bytes(setup, stream)
    low, high, most = vram.accuracy(setup)
    assert low <= closed / peak.bytes <= high
    assert reserved / closed <= most
    note = cells(vram.view(model, **options), "what it is")["peak allocated"]
    assert f"{low:.0%} to {high:.0%} of the trace" in note
    assert ("trace it" in note) == setup.method.endswith("dora")


@pytest.mark.parametrize(("size", "words"), [(40, "it fits"), (9, "too rough"), (4, "it does not fit")])
def test_a_verdict_near_the_line_is_left_to_the_trace(size, words):
    heading = vram.view(gpu=size).heading
    found = [each for each in ("it fits", "too rough", "it does not fit") if each in heading]
    assert found == [words]


def test_long_rows_are_never_said_to_fit_without_a_trace():
    asked = {"model": "smollm2-135m", "method": "lora", "batch": 1, "gpu": "h100"}
    for length, words in (
        (vram.LONG, "it fits"),
        (vram.LONG + 1, "too rough"),
    ):
        assert words in vram.view(length=length, **asked).heading
    note = cells(vram.view(length=vram.LONG + 1, **asked), "what it is")["peak allocated"]
    assert "far too low" in note and "%" not in note
    options = {"dtype": "fp32", "checkpointing": False, "trainer": "plain"}
    setup = setup_of("smollm2-135m", "rslora", 256, "q+v", batch=16, length=8192, **options)
    # The reason: below what is granted to shorter rows.
    low = vram.accuracy(setup_of("smollm2-135m", "rslora", **options))[0]
    assert closed_form.peak_bytes(setup) / streams.peak(footprint.trace_steps(setup)[0]).bytes < low


def test_a_pressed_button_traces_and_a_moved_control_does_not(traces):
    explorer = vram.explore(**SMALL, gpu="t4", dtype="fp16")
    assert traces == [] and explorer.view.heading.startswith("By the closed form")
    explorer.controls["trace"].click()
    assert len(traces) == 1
    first = explorer.out.value
    setup = setup_of("smollm2-135m", "lora", batch=2, length=64, dtype="fp16")
    plan = planner.plan(setup, gpus.find("t4"), False)
    shown = cells(explorer.view, vram.TRACE)
    assert shown["peak allocated"] == text.size(plan.peak_allocated_gib)
    assert shown["peak reserved"] == text.size(plan.peak_reserved_gib)
    assert shown["needed"] == text.size(plan.needed_gib)
    assert shown["margin"] == text.size(plan.margin_gib)
    assert shown["in the phase"] == plan.phase
    for name in streams.CATEGORIES:
        assert shown[name] == text.size(plan.split_gib[name])
    assert explorer.view.heading.startswith("Traced, a prediction")
    for words in ("allocates", plan.phase, text.size(plan.peak_reserved_gib)):
        assert words in explorer.view.heading
    assert explorer.announcer.sentence == explorer.view.heading
    del traces[:]

    explorer.controls["batch"].value = 3
    assert explorer.view.heading.startswith("By the closed form") and vram.TRACE not in explorer.out.value
    explorer.controls["batch"].value = 2
    assert explorer.out.value == first
    explorer.controls["trace"].click()  # once more: nothing new
    assert explorer.out.value == first and traces == []
    explorer.controls["batch"].value = 3
    explorer.controls["trace"].click()
    assert len(traces) == 1 and traces[0].batch == 3
    explorer.controls["gpu"].value = "l4"  # another card: another allocation, not asked for
    assert explorer.view.heading.startswith("By the closed form")


def test_two_explorers_ask_for_themselves_and_share_what_was_traced(traces):
    first, second = vram.explore(**SMALL), vram.explore(**SMALL)
    first.controls["trace"].click()
    second.redraw()
    assert second.view.heading.startswith("By the closed form")
    second.controls["trace"].click()
    assert second.out.value == first.out.value and len(traces) == 1


def test_the_plain_call_traces_when_asked(traces):
    assert vram.TRACE in explorer_shell.columns(vram.view(**SMALL, trace=1))
    assert vram.TRACE not in explorer_shell.columns(vram.view(**SMALL))
    assert len(traces) == 1


def test_a_setting_that_cannot_be_planned_is_not_traced(traces):
    explorer = vram.explore(**SMALL)
    explorer.controls["length"].value = 8193
    explorer.controls["trace"].click()
    assert "8192 positions" in explorer.out.value and "<table" not in explorer.out.value
    assert traces == []
    explorer.controls["length"].value = 64
    assert explorer.view.heading.startswith("By the closed form")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "lama-3.1-8b"}, "nearest first: llama-3.1-8b"),
        ({"method": "qlor"}, "nearest first: qlora"),
        ({"rank": 0}, "rank is 0"),
        ({"targets": "q_prj"}, "no target module 'q_prj'"),
        ({"targets": "lm_head"}, "lm_head is outside the blocks"),
        ({"batch": 2.5}, "batch is 2.5"),
        ({"length": 131_073}, "131072 positions"),
        ({"dtype": "int8"}, "no dtype 'int8'"),
        ({"optimizer": "sgd"}, "no optimiser 'sgd'"),
        ({"trainer": "unsloth"}, "no trainer 'unsloth'"),
        ({"accumulation": 0}, "accumulation is 0"),
        ({"gpu": "l5"}, "nearest first: l4"),
        ({"gpu": 0}, "above 0"),
    ],
)
def test_the_planner_says_what_is_wrong(options, words):
    with pytest.raises(LabError, match=words):
        vram.view(**options)


def drawn_or_refused(draw, what: dict) -> str:
    """ "drawn" with alt text and heading, or "refused" with one sentence."""
    try:
        view = draw(**what)
    except LabError as error:
        assert str(error).endswith(".") and "\n" not in str(error)
        return "refused"
    assert "prediction" in view.heading and view.heading.endswith(".")
    assert view.figure is not None and len(view.alt) > 60
    assert all(str(value) not in ("", "None", "nan") for row in view.table for value in row.values())
    return "drawn"


def each_corner(explorer, together: tuple[str, ...]):
    """Every combination of the controls' extremes; those in `together` go up and down as one."""
    found = corners(explorer)
    assert set(found) == set(explorer.controls) - set(explorer.presses)
    alone = [name for name in found if name not in together]
    for places in itertools.product((0, 1), repeat=len(alone) + 1):
        where = dict(zip(alone, places[:-1], strict=True)) | dict.fromkeys(together, places[-1])
        yield {name: found[name][place] for name, place in where.items()}


def test_every_corner_of_the_planner_is_drawn_or_gets_a_sentence():
    """It refuses what `lab.py plan` refuses, too long rows for one, and draws all else."""
    seen = set()
    for what in each_corner(vram.explore(), ("rank", "targets", "dtype", "optimizer", "accumulation")):
        options = {name: value for name, value in what.items() if name != "gpu"}
        try:
            setup_of(**options)
            planned = "drawn"
        except LabError:
            planned = "refused"
        assert drawn_or_refused(vram.view, what) == planned, what
        seen.add(planned)
    assert seen == {"drawn", "refused"}


def moved(explorer, place: int):
    """The explorer with every control at its lowest (0) or highest (1)."""
    for name, values in corners(explorer).items():
        explorer.controls[name].value = values[place]
    return explorer


@pytest.mark.parametrize("place", [0, 1])
def test_the_extreme_corners_of_the_planner_can_be_traced_and_drawn(place):
    explorer = moved(vram.explore(), place)
    explorer.controls["length"].value = min(8192, explorer.controls["length"].value)
    explorer.controls["trace"].click()
    assert explorer.view.heading.startswith("Traced, a prediction")
    assert html.escape(explorer.view.alt) in explorer.out.value


# ---------------------------------------------------------------- start values


@pytest.mark.parametrize("trainer", TRAINERS)
def test_it_says_once_whether_such_runs_were_ever_measured(trainer):
    for method in METHODS:
        view = vram.view(method=method, trainer=trainer)
        count = len(evidence.covering(setup_of("llama-3.1-8b", method, trainer=trainer)))
        shown = cells(view, vram.CLOSED)["measured"]
        assert shown == (f"{count} runs" if count else "UNVERIFIED on a GPU")
        assert explorer_shell.as_text(view).count("UNVERIFIED") == (count == 0)
        assert "UNVERIFIED" not in view.heading + view.alt
        assert "predict" in view.alt and "predict" in view.figure.axes[0].get_xlabel()


def test_explore_refuses_bad_start_values_and_labels_every_control():
    with pytest.raises(LabError, match="nearest first"):
        vram.explore(method="lorra")
    controls = vram.explore(gpu="t4").controls
    assert controls["gpu"].value == "t4"
    labels = [control.description for control in controls.values()]
    assert all(labels) and len(set(labels)) == len(labels)


def test_explore_starts_at_a_card_given_by_its_memory_and_at_a_single_target():
    explorer = vram.explore("Llama-3.1-8B", targets="q_proj", gpu=30)
    assert explorer.out.value == explorer_shell.as_html(vram.view(targets="q_proj", gpu=30))
    assert "29.50" in explorer.out.value  # less the half for CUDA's context
