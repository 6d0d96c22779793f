"""A learner who uncomments a hint sees it, in the student edition of every notebook, in a real kernel.

Cheap: one kernel, and of each notebook its imports and the cells with a hint alone, with nothing solved.
"""

import ast
import re

import pytest

from labsupport.upkeep import notebook_builder

pytestmark = pytest.mark.slow

HINT = re.compile(r"(?m)^# (exercises\.\w+\.hint\(\))")


def imports(sources: list[str]) -> str:
    nodes = [node for source in sources for node in ast.parse(source).body]
    return "\n".join(ast.unparse(node) for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)))


def up_to_its_use(source: str) -> str:
    """The first lines of a cell, the hint among them, to the one that chooses the function."""
    lines = source.splitlines(keepends=True)
    last = next(node.end_lineno for node in ast.parse(source).body if "or_reference" in ast.unparse(node))
    return "".join(lines[:last])


@pytest.mark.parametrize("master", notebook_builder.masters(), ids=lambda path: path.stem)
def test_an_uncommented_hint_is_seen(master, kernel):
    edition = notebook_builder.student_edition(master)
    sources = [cell.source for cell in notebook_builder.code_cells(edition)]
    with_hint = [source for source in sources if HINT.search(source)]
    checked = [source for source in sources if ".check(" in source]
    assert len(with_hint) >= len(checked) >= 3
    kernel.run(imports(sources))
    for source in with_hint:
        call = HINT.search(source)[1]
        cell = up_to_its_use(HINT.sub(r"\1", source))
        name = re.search(r"or_reference.(\w+)", cell)[1]
        kernel.run(f"{name} = None")  # not attempted
        first, second = (kernel.run(cell) for _ in range(2))
        several = re.search(r"^Hint 1 of (\d+): \S", first.strip())
        assert several, first
        assert second.strip().startswith(f"Hint {min(2, int(several[1]))} of "), second
        alone = kernel.run(call).split("\n")  # as the last line of a cell: once, and no None after it
        assert [line[:5] for line in alone if line.strip()] == ["Hint "], alone
