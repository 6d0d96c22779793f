"""The exercises of notebook 07, in its order."""

from __future__ import annotations

from labsupport.notebooks.nb07_evaluation import interval_exercise, likelihood_exercises, planning_exercises

perplexity = likelihood_exercises.perplexity
choose = likelihood_exercises.choose
paired_interval = interval_exercise.paired_interval
effective_rows = planning_exercises.effective_rows
rows_needed = planning_exercises.rows_needed
