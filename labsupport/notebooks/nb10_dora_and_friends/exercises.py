"""The exercises of notebook 10, in its order."""

from __future__ import annotations

from labsupport.notebooks.nb10_dora_and_friends import (
    bottleneck_exercise,
    change_exercise,
    layer_exercise,
    prompt_exercises,
)

layer = layer_exercise.layer
magnitude_and_direction = change_exercise.magnitude_and_direction
bottleneck = bottleneck_exercise.bottleneck
with_prompt = prompt_exercises.with_prompt
with_prefix = prompt_exercises.with_prefix
