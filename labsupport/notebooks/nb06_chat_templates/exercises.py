"""The exercises of notebook 06, in its order."""

from __future__ import annotations

from labsupport.notebooks.nb06_chat_templates import mask_exercise, render_exercises, repair_exercises

render_chatml = render_exercises.render_chatml
render_llama3 = render_exercises.render_llama3
loss_mask = mask_exercise.loss_mask
snippet_1 = repair_exercises.snippet_1
snippet_2 = repair_exercises.snippet_2
snippet_3 = repair_exercises.snippet_3
snippet_4 = repair_exercises.snippet_4
snippet_5 = repair_exercises.snippet_5
