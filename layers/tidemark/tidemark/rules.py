"""What one setting may be, and where its mistakes are noted; no I/O.

A rule is called with a value and its place. It returns the accepted value, or notes what is wrong
and returns `REFUSED`, so that one judgement finds every mistake. No rule repeats a value (G8).
"""

import datetime as dt
import difflib
import enum
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, get_args

from bson import Timestamp


class _Refused(enum.Enum):
    REFUSED = enum.auto()


REFUSED: Final = _Refused.REFUSED


@dataclass(frozen=True, slots=True)
class Place:
    """A field's path, such as `streams.toml: stream[1].name`, and the list its mistakes go to."""

    path: str
    problems: list[str] = field(default_factory=list)

    def key(self, name: str) -> "Place":
        """Go to a table's key; directly below a file's root there is no dot."""
        return Place(f"{self.path}{' ' if self.path.endswith(':') else '.'}{name}", self.problems)

    def item(self, index: int) -> "Place":
        """Go to a list's entry."""
        return Place(f"{self.path}[{index}]", self.problems)

    def refuse(self, wrong: str, right: str) -> _Refused:
        """Note one mistake: what is wrong, and what would be right."""
        self.problems.append(f"{self.path.rstrip(':')}: {wrong}; {right}")
        return REFUSED


class Rule(Protocol):
    """Judges one value; `right` completes the sentence "write …"."""

    @property
    def right(self) -> str:
        """What would be accepted."""

    def __call__(self, value: object, place: Place) -> object:
        """Return the accepted value, or `REFUSED` once the mistake is noted at `place`."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string of which `fits` is true."""

    right: str
    fits: Callable[[str], object]

    def __call__(self, value: object, place: Place) -> object:
        """Accept a string that fits."""
        if not isinstance(value, str):
            return place.refuse(f"is {kind(value)}", f"write {self.right}")
        return value if self.fits(value) else place.refuse("does not fit", f"write {self.right}")


def matching(pattern: str) -> Callable[[str], object]:
    r"""Make a test that the whole string matches `pattern`.

    `\S` refuses every space that Unicode has. `\w` and `\d` take more than ASCII: spell them out.
    """
    return re.compile(pattern).fullmatch


class OneOf:
    """One of the words of a `Literal`."""

    def __init__(self, literal: object) -> None:
        self.words: tuple[str, ...] = get_args(literal)
        self.right = listed(self.words)

    def __call__(self, value: object, place: Place) -> object:
        """Accept a known word."""
        if not isinstance(value, str):
            return place.refuse(f"is {kind(value)}", f"write {self.right}")
        if value not in self.words:
            return place.refuse("is not a known word", suggestion(value, self.words))
        return value


class WordOrPaths:
    """One of the words of a `Literal`, or a list of dotted paths, which becomes a tuple."""

    def __init__(self, literal: object) -> None:
        self.words: tuple[str, ...] = get_args(literal)
        self.right = listed([*self.words, 'a list of paths, as ["fullDocument.total"]'])

    def __call__(self, value: object, place: Place) -> object:
        """Accept a known word, or one path or more without an empty step."""
        if not isinstance(value, list):
            known = isinstance(value, str) and value in self.words
            return value if known else place.refuse("does not fit", f"write {self.right}")
        wrong = [index for index, path in enumerate(value) if not _is_path(path)]
        for index in wrong:
            place.item(index).refuse("is no path", "write names joined by dots")
        if not value:
            return place.refuse("is an empty list", f"write {self.right}")
        return REFUSED if wrong else tuple(value)


def _is_path(path: object) -> bool:
    return isinstance(path, str) and all(path.split("."))


class Moment:
    """One of the words of a `Literal`, or an instant, which becomes a `Timestamp`."""

    def __init__(self, literal: object) -> None:
        self.words: tuple[str, ...] = get_args(literal)
        self.right = listed([*self.words, "a time with its offset, as 2026-01-31T06:00:00Z"])

    def __call__(self, value: object, place: Place) -> object:
        """Accept a known word, or an instant with its offset from UTC."""
        if isinstance(value, str) and value in self.words:
            return value
        wrong = _not_an_instant(value := _instant(value))
        if wrong or not isinstance(value, dt.datetime):
            return place.refuse(wrong, f"write {self.right}")
        seconds = math.floor(value.timestamp())
        if not 0 <= seconds < 2**32:
            return place.refuse("is out of range", "write a time from 1970 to 2105")
        return Timestamp(seconds, 0)


def _instant(value: object) -> object:
    """Read the date-time in an RFC 3339 string; return anything else unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return dt.datetime.fromisoformat(value)
    except ValueError:
        return value


def _not_an_instant(value: object) -> str:
    """Say why `value` names no instant, or nothing if it does."""
    if not isinstance(value, dt.datetime):
        return (
            "is neither a known word nor a time" if isinstance(value, str) else f"is {kind(value)}"
        )
    return "" if value.tzinfo else "is a time without an offset from UTC"


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    right: str = "true or false"

    def __call__(self, value: object, place: Place) -> object:
        """Accept a boolean."""
        if isinstance(value, bool):
            return value
        return place.refuse(f"is {kind(value)}", f"write {self.right}")


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`; `high` of None is no upper limit."""

    low: int
    high: int | None = None

    @property
    def right(self) -> str:
        """The range in words."""
        return f"a whole number {_range(self.low, self.high)}"

    def __call__(self, value: object, place: Place) -> object:
        """Accept an integer in range; a boolean is none."""
        if isinstance(value, bool) or not isinstance(value, int):
            return place.refuse(f"is {kind(value)}", f"write {self.right}")
        if value < self.low or (self.high is not None and value > self.high):
            return place.refuse("is out of range", f"write {self.right}")
        return value


@dataclass(frozen=True, slots=True)
class Seconds:
    """A finite number of seconds from `low` to `high`, as a float."""

    low: float
    high: float

    @property
    def right(self) -> str:
        """The range in words."""
        return f"a number of seconds {_range(self.low, self.high)}"

    def __call__(self, value: object, place: Place) -> object:
        """Accept a finite number in range; a boolean is none."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return place.refuse(f"is {kind(value)}", f"write {self.right}")
        if isinstance(value, float) and not math.isfinite(value):
            return place.refuse("is not a finite number", f"write {self.right}")
        if not self.low <= value <= self.high:
            return place.refuse("is out of range", f"write {self.right}")
        return float(value)


@dataclass(frozen=True, slots=True)
class Misplaced:
    """A key that has no place in this table; `right` says where it belongs, or to drop it."""

    right: str
    wrong: str = "is misplaced"

    def __call__(self, value: object, place: Place) -> object:  # noqa: ARG002 - whatever it is
        """Accept nothing."""
        return place.refuse(self.wrong, self.right)


def read_table(table: object, rules: Mapping[str, Rule], place: Place) -> dict[str, Any]:
    """Judge each key of `table` by its rule; a refused one is `REFUSED`, never absent."""
    if not isinstance(table, dict):
        place.refuse(f"is {kind(table)}", "write a table")
        return {}
    for name in table:
        if name not in rules:
            place.key(name).refuse("is not a known key", suggestion(name, list(rules)))
    return {name: rules[name](table[name], place.key(name)) for name in rules if name in table}


def suggestion(wrong: str, known: Sequence[str]) -> str:
    """Say what would be right for a misspelt word: the nearest known one, or all of them."""
    near = difflib.get_close_matches(wrong, known, n=1)
    return f"did you mean {near[0]}?" if near else f"write {listed(known)}"


def listed(words: Collection[str]) -> str:
    """Join words as in `a, b or c`."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


_KINDS = {
    bool: "a boolean",
    str: "text",
    int: "a whole number",
    float: "a number with a fraction",
    list: "a list",
    tuple: "a list",
    dict: "a table",
    dt.datetime: "a date-time",
    dt.date: "a date without a time",
    dt.time: "a time without a date",
    type(None): "null",
}


def kind(value: object) -> str:
    """Name the sort of value: all that a message may say about it (G8)."""
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def _range(low: float, high: float | None) -> str:
    return f"from {low} to {high}" if high is not None else f"of at least {low}"
