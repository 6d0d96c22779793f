"""The claims about merging that notebook 11 settles."""

from __future__ import annotations

from labsupport.evaluation import experiments, intervals
from labsupport.merge_runs import reading
from labsupport.method_runs import reading as method_reading
from labsupport.teaching.claims import shows


def record() -> dict:
    return experiments.published("merge_routes")


def gain(route: str) -> str:
    """The share of the adapter's gain that a route keeps, in per cent, on both test sets."""
    parts = []
    for split, name in reading.SETS.items():
        share = [100 * value for value in reading.gain_kept(record(), route, split)]
        parts.append(f"{name} {intervals.shown(share, '.1f')} %")
    return ", ".join(parts)


def distance(route: str, split: str = "test_lookalike") -> str:
    """KL(trained ‖ route), nats a token of right answers."""
    return intervals.shown(reading.divergence(record(), route, split), ".2g")


@shows("J1")
def into_four_bits() -> str:
    """What PEFT's merge into the 4-bit base leaves of the update, by its size."""
    parts = []
    for steps, scale in reading.conditions(record()):
        size = reading.relative(record(), steps, scale)
        kept = reading.survival(record(), "in place", steps, scale)
        parts.append(f"{100 * kept['kept']:.1f} % of dW at |dW| {100 * size:.2f} % of |W|")
    return f"merge_and_unload() on NF4 runs; kept: {', '.join(parts)}"


@shows("J2")
def gain_left_in_place() -> str:
    """What the in-place merge leaves of what training gained, and how far it is from the trained model."""
    return (
        f"merged in place, of the adapter's gain in nats an answer is left: {gain('in place')}; KL from the "
        f"trained model {distance('in place')} nats a token, without any adapter {distance(reading.BASE)}"
    )


@shows("J4")
def quantised_again() -> str:
    """The merge into the unrounded base, quantised again: gain and distance beside the other routes."""
    routes = {"re-quantised": "quantised again", "bfloat16 base": "bfloat16 base", "in place": "in place"}
    far = [f"{name} {distance(route)}" for route, name in routes.items()]
    return (
        f"into the float32 base, then NF4: of the gain is left {gain('re-quantised')}; "
        f"KL from the trained model: {', '.join(far)}"
    )


@shows("J6")
def overhead() -> str:
    """Seconds of a forward pass over the bare base's, beside the weights and merged, tiny_base."""
    compared = experiments.published("method_comparison")
    parts = []
    for method, name in (("lora", "LoRA"), ("dora", "DoRA")):
        beside, merged = (
            method_reading.forward_ratio(compared, method, way) for way in ("unmerged", "merged")
        )
        parts.append(f"{name} {beside:.2f} beside the weights, {merged:.2f} merged")
    return f"a forward pass of 8 x 64 tokens over the bare base's: {'; '.join(parts)}"


@shows("J7")
def merges_cleanly() -> str:
    """How far each way to a merged model is from the one that was trained."""
    names = {
        "dequantised": "the base it was trained on, in plain numbers",
        "float32 base": "the base before NF4",
    }
    far = [f"{name} {distance(route)}" for route, name in names.items()]
    far.append(f"the 4-bit base {distance('in place')}")
    return f"KL from the trained model, nats a token, merged into {', '.join(far)}"
