"""What the course asks of a learner, done in a real kernel, in the student edition, as a learner would.

Notebook 03, because it trains nothing: its cells are run in order, some of them changed. What is done in the
browser (choose an answer, turn a knob, restart) stands in test_browser.py and test_browser_frame.py.
"""

import re

import pytest

from labsupport.core.files import ROOT
from labsupport.upkeep import notebook_builder

pytestmark = pytest.mark.slow

MASTER = ROOT / "solutions" / "03_counting_parameters.py"


@pytest.fixture(scope="module")
def cells():
    """(as the learner gets it, as the worked solution has it) for each code cell."""
    editions = [notebook_builder.student_edition(MASTER), notebook_builder.solution_cells(MASTER)]
    return list(
        zip(*([cell.source for cell in notebook_builder.code_cells(e)] for e in editions), strict=True)
    )


def test_a_first_pass_and_another_after_a_restart(kernel, cells):
    """Nothing done; a wrong answer; the right one, checked twice; a hint; a guess. Then all of it again."""
    check = first(cells, ".check(")
    use = first(cells, ".or_reference(")
    guess = first(cells, "guess = None", after=use)
    compare = first(cells, "predictions.compare(guess", after=guess)
    for source, _ in cells[:check]:
        kernel.run(source)
    stub, right = cells[check]
    assert "not attempted yet" in kernel.run(stub)
    assert ": using the reference solution from here on" in kernel.run(cells[use][0])
    name = re.search(r"def (\w+)", right)[1]
    wrong = f"def {name}(*arguments):\n    return -1.5\n\n\nexercises.{name}.check({name})"
    assert ": wrong." in kernel.run(wrong)
    hint = re.sub(r"(?m)^# (exercises\.\w+\.hint\(\))", r"\1", cells[use][0])
    assert hint != cells[use][0]
    for number in (1, 2):
        assert f"Hint {number} of " in kernel.run(hint)
    verdicts = [kernel.run(right) for _ in range(2)]
    assert verdicts[0] == verdicts[1] and ": correct." in verdicts[0]
    assert ": using your function." in kernel.run(cells[use][0])

    for source, _ in cells[use + 1 : guess]:
        kernel.run(source)
    kernel.run(re.sub(r"guess = None", "guess = 123456", cells[guess][0]))
    shown = [kernel.run(source) for source, _ in cells[guess + 1 : compare + 1]]
    assert "your guess 123,456" in shown[-1] and "no guess" not in shown[-1]

    kernel.restart()
    for source, _ in cells[:check]:
        kernel.run(source)
    assert "not attempted yet" in kernel.run(stub)  # the cell as it is; what was passed stays passed
    assert "Hint 1 of " in kernel.run(hint)
    page = kernel.run("from labsupport.upkeep import contents\ncontents.page()")
    assert re.search(r"03 .*: exercises 1 of", page)


def first(cells, words: str, after: int = -1) -> int:
    return next(i for i, (source, _) in enumerate(cells) if i > after and words in source)
