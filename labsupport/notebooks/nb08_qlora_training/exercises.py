"""The exercises of notebook 08, in its order."""

from __future__ import annotations

from labsupport.notebooks.nb08_qlora_training import (
    adapter_exercise,
    checkpoint_exercise,
    curve_exercise,
    model_exercise,
)

mend_adapters = adapter_exercise.mend_adapters
qlora_model = model_exercise.qlora_model
newest_complete = checkpoint_exercise.newest_complete
bumpiness = curve_exercise.bumpiness
