"""A row token by token: which are learned, which are the format's own. In colours, and the same in text.

Learned tokens have a blue ground and a thick line under them, special ones a frame, so that nothing is told
by colour alone. The grounds let the page's own shine through and all words keep its ink: dark themes too.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from itertools import groupby

from labsupport.core.tables import Table
from labsupport.models.chat import IGNORED

LEARNED = "background: rgba(0, 114, 178, 0.28); text-decoration: none; border-bottom: 3px solid #0072B2"
SPECIAL = "border: 1px solid currentColor; border-radius: 3px"
TOKEN = "display: inline-block; margin: 1px; padding: 0 2px; white-space: pre-wrap"
BLOCK = "font-family: monospace; line-height: 1.9; overflow-wrap: anywhere"


@dataclass(frozen=True)
class Token:
    """One token of a row. label: None where the row has no labels."""

    text: str
    id: int
    label: int | None
    special: bool

    @property
    def learned(self) -> bool:
        return self.label is not None and self.label != IGNORED


class TokenView:
    """The row's tokens; a notebook shows them as HTML, a terminal as lines. `.table()`: one row a token."""

    def __init__(self, tokens: list[Token], caption: str = ""):
        self.tokens, self.caption = tokens, caption

    @property
    def labelled(self) -> bool:
        return any(token.label is not None for token in self.tokens)

    @property
    def heading(self) -> str:
        """How many tokens there are, and how many of them are learned."""
        count, learned = len(self.tokens), sum(token.learned for token in self.tokens)
        if not self.labelled:
            return f"{count} tokens"
        return f"{learned} of {count} tokens learned ({learned / count:.0%})"

    def _repr_html_(self) -> str:
        caption = f"<b>{html.escape(self.caption)}</b><br>" if self.caption else ""
        return f"<p>{caption}{self.heading}.</p>{self.marked()}"

    def marked(self) -> str:
        """The tokens alone and what their looks mean, as HTML."""
        tokens = "".join(map(as_html, self.tokens))
        return f'<p>{legend(self.labelled)}</p><div style="{BLOCK}">{tokens}</div>'

    def __repr__(self) -> str:
        """Runs of tokens that are learned, or are not, a line each; special tokens between « and »."""
        lines = [f"{self.caption}: {self.heading}" if self.caption else self.heading]
        for (learned, _line), run in groupby(zip(self.tokens, self.lines(), strict=True), key=run_of):
            texts = [f"«{shown(t.text)}»" if t.special else shown(t.text) for t, _ in run]
            lines.append(f"{'learned' if learned else '-':8} {'|'.join(texts)}")
        return "\n".join(lines)

    def lines(self) -> list[int]:
        """Of each token, in which line of the text it begins."""
        found, line = [], 0
        for token in self.tokens:
            found.append(line)
            line += token.text.count("\n")
        return found

    def table(self) -> Table:
        """Place, token, id and label of each token."""
        wide = 4 if self.labelled else 3
        rows = [[str(place), shown(t.text), str(t.id), str(t.label)] for place, t in enumerate(self.tokens)]
        headings = ["place", "token", "id", "label"][:wide]
        return Table(headings, [row[:wide] for row in rows], self.caption)


def show(tokenizer, ids: list[int], labels: list[int] | None = None, caption: str = "") -> TokenView:
    """The row as this tokenizer reads it. labels: one a token, -100 where nothing is learned; None for none.

    Raises ValueError for another number of labels than ids.
    """
    ids = [int(i) for i in ids]
    labels = [None] * len(ids) if labels is None else [int(label) for label in labels]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    pairs = zip(ids, labels, strict=True)
    return TokenView([Token(tokenizer.decode([i]), i, label, i in special) for i, label in pairs], caption)


def run_of(pair: tuple) -> tuple:
    token, line = pair
    return token.learned, line


def shown(text: str) -> str:
    """The token with its spaces and line breaks to be seen."""
    return text.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥")


def as_html(token: Token) -> str:
    """<ins> and <code> say learned and special also where styles are taken off, as on GitHub."""
    style = "; ".join([TOKEN, *([SPECIAL] if token.special else []), *([LEARNED] if token.learned else [])])
    text = html.escape(shown(token.text))
    text = f"<code>{text}</code>" if token.special else text
    tag = "ins" if token.learned else "span"
    return f'<{tag} style="{style}">{text}</{tag}>{"<br>" * token.text.count(chr(10))}'


def legend(labelled: bool = True) -> str:
    """What the looks of a token mean, as HTML."""
    learned = as_html(Token("learned", 0, 0, False))
    special = as_html(Token("special", 0, None, True))
    begin = f"Marked {learned}, the others only read; " if labelled else ""
    return f"{begin}{special} is a token of the format, · a space, ↵ a line break."
