"""Which fine-tunes are tried on a card, in which order, and what planning and cost say of each."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from dataclasses import dataclass

from labsupport.allocations import streams
from labsupport.allocations.streams import GIB
from labsupport.core.files import LabError, nearest_first
from labsupport.core.numbers import shown
from labsupport.cost.step_time import step_time
from labsupport.planning import footprint
from labsupport.setups.setup import Setup, checked, config_named
from labsupport.sizes import gpus

MODELS = {"135m": "smollm2-135m", "1b": "llama-3.2-1b", "3b": "llama-3.2-3b", "8b": "llama-3.1-8b"}
METHODS = ("lora", "qlora", "dora", "full")
TRAINERS = ("sft", "plain")
ROWS = {
    "short": (4, 512),
    "long": (2, 2048),
}  # rows a step and tokens a row; short is what `plan` begins with
SPARE = 0.1  # of the memory that a card has for tensors: what the plan must leave free
SAME_MEMORY = 0.1  # by which a card's memory may differ from the table's: drivers set more or less aside


@dataclass(frozen=True)
class Setting:
    """A fine-tune to try. model and rows: keys of MODELS and ROWS."""

    model: str
    method: str
    checkpointing: bool
    trainer: str
    rows: str

    @property
    def key(self) -> str:
        """Its name in a record: "8b qlora, sft, short rows, checkpointing"."""
        kept = "checkpointing" if self.checkpointing else "no checkpointing"
        return f"{self.model} {self.method}, {self.trainer}, {self.rows} rows, {kept}"

    def setup(self, dtype: str = "bfloat16") -> Setup:
        """The run in the planner's words, all else as `lab.py plan` has it by default."""
        batch, length = ROWS[self.rows]
        config = config_named(MODELS[self.model])
        wanted = Setup(config, self.method, batch=batch, length=length, dtype=dtype)
        return checked(dataclasses.replace(wanted, checkpointing=self.checkpointing, trainer=self.trainer))


def chosen(models: str | None, methods: str | None) -> list[Setting]:
    """The settings of the models and methods named, all where None. First those that are as `plan` begins
    (TRL's trainer, short rows, checkpointing), then those with one of the three changed, then two: so that a
    time limit cuts off what matters least. LabError for a name that is not there."""
    shapes, ways = _named(models, tuple(MODELS), "model"), _named(methods, METHODS, "method")
    grid = itertools.product(shapes, ways, (True, False), TRAINERS, ROWS)
    return sorted(itertools.starmap(Setting, grid), key=_changes)


def _named(text: str | None, known: tuple[str, ...], what: str) -> list[str]:
    wanted = known if text is None else [word.strip().lower() for word in text.split(",")]
    for word in wanted:
        if word not in known:
            near = nearest_first(word, known)
            raise LabError(f"There is no {what} {shown(word)} to check. Known, the nearest first: {near}.")
    return [word for word in known if word in wanted]


def _changes(setting: Setting) -> int:
    return (not setting.checkpointing) + (setting.trainer != "sft") + (setting.rows != "short")


# ---------------------------------------------------------------- what is predicted


def predicted(setup: Setup, card: gpus.Card, built: dict | None = None) -> dict:
    """GiB allocated and reserved at the peak, and (least, most) tokens a second; None where the card's speed
    is not known. built: the models of earlier traces of this config, see footprint.trace_steps."""
    with streams.no_sweeps():
        stream, _ = footprint.trace_steps(setup, built)
        reserved = footprint.reserved_bytes(setup, stream, card)
    speed = step_time(setup, card).tokens_a_second if card.sustained_tflops else None
    return {
        "allocated_gib": streams.peak(stream).bytes / GIB,
        "reserved_gib": reserved / GIB,
        "tokens_a_second": None if speed is None else list(speed),
    }


def fits(planned: dict, card: gpus.Card) -> bool:
    """Whether what is reserved where memory is ample leaves SPARE of the card free. With less the allocator
    hands memory back in between, and what it reserved says nothing about the plan."""
    return planned["reserved_gib"] <= (1 - SPARE) * footprint.usable_gib(card)


def card_of(found: dict) -> gpus.Card:
    """The card that the worker found: its speed from the course's table if it is there under that name with
    that memory, its memory what other programs leave free."""
    total, capability = found["memory_gib"], tuple(found["capability"])
    free = min(total, found["free_gib"] + footprint.CONTEXT_GIB)  # free is told with CUDA's context there
    known = known_card(found["name"], total)
    if known is None:
        return gpus.Card(found["name"], free, None, capability, found["name"])
    return dataclasses.replace(known, memory_gib=free, capability=capability)


@functools.cache
def known_card(name: str, memory_gib: float) -> gpus.Card | None:
    """The card of the course's table that a driver calls so. None for one that is not there, or that has
    other memory: another edition, or a part of one."""
    try:
        card = gpus.find(name)
    except LabError:
        return None
    return card if abs(card.memory_gib / memory_gib - 1) <= SAME_MEMORY else None


def dtype_on(card: gpus.Card) -> str:
    """What a card computes in: older ones than capability 8.0 only imitate bfloat16."""
    return "bfloat16" if card.capability >= (8, 0) else "float16"
