"""From signs to a verdict: causes, the likeliest first, and which of them only follow from another."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field

from labsupport.run_folders.causes import BY_ID, CATALOGUE, PROVES, Cause, Sign
from labsupport.run_folders.run_folder import RunFolder

SIGNS = ("weight", "log", "token", "data", "capacity")
UNLEARNED = {
    "capacity-too-small",
    "noisy-labels",
    "eos-not-learned",
}  # may be seen wherever little was learned
# Root -> what it brings with it, so that this is not named as a cause of its own.
BRINGS = {
    "no-gradient": {"lr-too-low", "adapter-inactive", *UNLEARNED},
    "truncated": {"lr-too-low", "lr-too-high", "memorised", "no-gradient", *UNLEARNED},
    "template-mismatch": {"prompt-in-loss", "eval-template", "memorised"},
    "lr-too-high": {"eval-dtype", "memorised", *UNLEARNED},
    "lr-too-low": {"adapter-inactive", *UNLEARNED},
    "noisy-labels": {"capacity-too-small", "memorised"},
}  # fmt: skip


@dataclass
class Found:
    """A cause with the signs of it. strength: of the strongest."""

    cause: Cause
    signs: list[Sign] = field(default_factory=list)

    @property
    def strength(self) -> str:
        return PROVES if any(sign.strength == PROVES for sign in self.signs) else "suggests"


@dataclass
class Diagnosis:
    """What was found in a run. found: causes, the likeliest first. following: (cause, root) of causes whose
    signs another of them explains."""

    run: RunFolder
    found: list[Found]
    following: list[tuple[Found, Found]]


def diagnosed(run: RunFolder) -> Diagnosis:
    """All signs of a run, weighed. LabError for what cannot be read."""
    from labsupport.run_probes import reply_signs  # loads a model

    signs = []
    for subject in SIGNS:
        signs += importlib.import_module(f"labsupport.run_signs.{subject}_signs").signs(run)
    return weighed(run, [*signs, *reply_signs.signs(run)])


def weighed(run: RunFolder, signs: list[Sign]) -> Diagnosis:
    """The signs as causes: proven ones before those that are only suggested, and of these the one with the
    most signs first. What a root brings with it is taken out, unless it is proven and the root is not."""
    by_cause = {cause.id: Found(cause) for cause in CATALOGUE}
    for sign in signs:
        by_cause[sign.cause].signs.append(sign)
    found = [one for one in by_cause.values() if one.signs]
    following = []
    for one in found:
        roots = [other for other in found if one.cause.id in BRINGS.get(other.cause.id, ())]
        root = next((other for other in roots if other.strength == PROVES or one.strength != PROVES), None)
        if root is not None:
            following.append((one, root))
    taken = {id(one) for one, _ in following}
    left = [one for one in found if id(one) not in taken]
    order = list(BY_ID)
    left.sort(key=lambda one: (one.strength != PROVES, -len(one.signs), order.index(one.cause.id)))
    return Diagnosis(run, left, following)
