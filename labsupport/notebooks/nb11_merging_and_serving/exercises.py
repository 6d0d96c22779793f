"""The exercises of notebook 11, in its order."""

from __future__ import annotations

from labsupport.notebooks.nb11_merging_and_serving import (
    batch_exercise,
    merge_exercise,
    parity_exercise,
    survival_exercise,
)

merge = merge_exercise.merge
surviving = survival_exercise.surviving
mixed_forward = batch_exercise.mixed_forward
first_difference = parity_exercise.first_difference
