"""Claims about DoRA's published results: what a guide prints beside what the paper prints.

Arithmetic on cited figures, nothing measured here: labsupport/method_runs/paper_tables.py.
"""

from __future__ import annotations

from labsupport.method_runs import paper_tables
from labsupport.method_runs.paper_tables import ADAPTERS, GUIDES_TASKS
from labsupport.teaching.claims import shows


def means(rows: list[paper_tables.Row], table: str, model: str) -> str:
    """Of the guide's four tasks: LoRA's and DoRA's, rank 32."""
    lora, dora = (paper_tables.mean_of(paper_tables.one(rows, table, model, m, 32)) for m in ADAPTERS)
    return f"means {lora:.1f} and {dora:.1f}"


@shows("G3")
def the_guides_table_is_not_the_papers() -> str:
    rows = paper_tables.load()
    found = []
    for model in ("LLaMA-7B", "LLaMA2-7B"):
        found.append(f"{model} {paper_tables.agreeing(rows, model)} ({means(rows, 'paper', model)})")
    full = sum(row.table == "paper" and row.method == "full" for row in rows)
    guides = means(rows, "guide", "LLaMA-7B")
    return (
        f"of the guide's 8 figures for LoRA and DoRA ({guides}) the paper's Table 1 prints for "
        f"{', for '.join(found)}; its rows of full fine-tuning: {full}"
    )


@shows("G4")
def the_guides_own_table_closes_less() -> str:
    found = paper_tables.ends(paper_tables.load())
    shares = {name: paper_tables.closed(*values) for name, values in found.items()}
    each = [share for name, share in shares.items() if name.removeprefix("guide: ") in GUIDES_TASKS]
    papers = [
        f"{name.split(': ')[1]} " + ("no gap" if share is None else f"{share:.1f} %")
        for name, share in shares.items()
        if name.startswith("paper")
    ]
    return (
        f"its own table: {shares['guide: mean of the four']:.1f} % of the mean's gap, {min(each):.0f} to "
        f"{max(each):.0f} % by task; the paper's, where it has full fine-tuning: {'; '.join(papers)}"
    )
