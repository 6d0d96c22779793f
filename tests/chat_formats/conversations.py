"""Random conversations for the tests of chat formats."""

from hypothesis import settings
from hypothesis import strategies as st

laws = settings(max_examples=60)

MARKED = [
    "<|im_end|>",
    "<|im_start|>assistant\n",
    "[/INST]",
    "<|eot_id|>",
    "{{ x }}",
    "{% endfor %}",
    "assistant",
]
PLAIN = st.text(st.sampled_from("ab Z9.,:\n\t é你😀{}<|>"), max_size=24)
ANYTHING = st.lists(PLAIN | st.text(max_size=8) | st.sampled_from(MARKED), max_size=4).map("".join)


@st.composite
def conversations(draw, contents=ANYTHING, answers=None, system=True, ends=("user", "assistant")):
    """Messages: a system one or none, then user and assistant in turn, ending with one of `ends`."""
    messages = []
    if system and draw(st.booleans()):
        messages.append({"role": "system", "content": draw(contents)})
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(contents)})
        messages.append({"role": "assistant", "content": draw(contents if answers is None else answers)})
    return messages if draw(st.sampled_from(ends)) == "assistant" else messages[:-1]
