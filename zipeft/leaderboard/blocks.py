"""The blocks that a page is made of. Their texts are plain: escaping is each format's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

UP, DOWN = "ascending", "descending"


@dataclass(frozen=True)
class Heading:
    """A heading of level 2 or 3; the page's title is the one of level 1."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Text, after a ``lead`` that is set bold."""

    text: str
    lead: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list of pairs: a lead that is set bold, and the text after it."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Commands:
    """Lines to type into a shell."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Figure:
    """A plot in a file of its own, an SVG. ``alt`` stands in for it, ``caption`` says what is drawn."""

    file: str
    svg: bytes
    alt: str
    caption: str


@dataclass(frozen=True)
class Cell:
    """One cell. ``detail`` follows the text and counts less; ``value`` is what sorts a column, ``best`` its highest."""

    text: str
    detail: str = ""
    value: float | str | None = None
    best: bool = False
    link: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.detail}".rstrip()


@dataclass(frozen=True)
class Column:
    """A column's header, where "\\n" may break it. ``first`` is the order that a reader wants first."""

    header: str
    numeric: bool = True
    first: str = UP


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns. ``sorted_by`` is the column (an index) after which the rows come in order; a table
    that is ``folded`` is long and may be shown on demand."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str
    sorted_by: int | None = None
    folded: bool = False


@dataclass(frozen=True)
class Answered:
    """An image (PNG) about which something was asked, the right answer, and those that were given: of whom, what, and
    whether it is right."""

    image: bytes
    asked: str
    right: str
    given: Sequence[tuple[str, str, bool]]


@dataclass(frozen=True)
class Gallery:
    """Images with answers; all have answers of the same."""

    items: Sequence[Answered]

    @property
    def table(self) -> Table:
        """The same without the images."""
        header = ["question", "right answer", *(label for label, _, _ in self.items[0].given)]
        rows = [
            [Cell(item.asked), Cell(item.right), *(Cell(answer, best=right) for _, answer, right in item.given)]
            for item in self.items
        ]
        return Table([Column(name, numeric=False) for name in header], rows, "Answers")


Block = Heading | Paragraph | Bullets | Commands | Figure | Table | Gallery
