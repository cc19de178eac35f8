"""Fakes that can be set back: what their attributes hold is their state."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from tidemark.model import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

TIMES = "_at_ms"  # when something was written: nothing but an observer reads it
OBSERVED = "observed"  # of a checkpoint: the server's time as of then, and ours
PLAIN = frozenset({str, int, float, bytes, bool, type(None)})
LISTS = frozenset({list, tuple, deque})
COPIED = frozenset({list, set, deque})


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The state of one fake. Equal states are the same object, and have the same `number`."""

    number: int
    values: dict[str, Any]


class Parts:
    """Takes the states of one fake, and sets it back to them.

    `without`: attributes that are no state: other fakes, and mere records of what was asked.
    `essence`: what of an attribute counts, where not all of it does.
    """

    def __init__(
        self, without: frozenset[str], essence: dict[str, Callable[[Any], Any]] | None = None
    ) -> None:
        self._without = without
        self._essence = essence or {}
        self._known: dict[Hashable, Part] = {}
        self._shown: Part | None = None

    def __len__(self) -> int:
        return len(self._known)

    def taken(self, fake: object) -> Part:
        """The state of `fake` as it is now."""
        values = {name: value for name, value in vars(fake).items() if name not in self._without}
        if self._shown is not None and values == self._shown.values:
            return self._shown
        self._shown = None
        key = frozenset([(name, self._frozen(name, value)) for name, value in values.items()])
        known = self._known.get(key)
        if known is None:
            copies = {name: copied(value) for name, value in values.items()}
            known = self._shown = self._known[key] = Part(len(self._known), copies)
        return known

    def set_back(self, fake: object, part: Part) -> None:
        """Let `fake` be as it was when `part` was taken; it is taken again before it is altered."""
        if self._shown is not part:
            vars(fake).update({name: copied(value) for name, value in part.values.items()})
            self._shown = part

    def _frozen(self, name: str, value: Any) -> Hashable:
        essence = self._essence.get(name)
        return frozen(essence(value) if essence else value)


def copied(value: Any, depth: int = 2) -> Any:
    """A copy of a container and of the containers in it; what lies deeper is never altered."""
    kind = type(value)
    if kind is dict:
        return {key: copied(held, depth - 1) for key, held in value.items()} if depth else value
    return kind(value) if kind in COPIED else value


def frozen(value: Any) -> Hashable:
    """A key that is equal for equal values, whenever they were written."""
    kind: Any = type(value)
    if kind in PLAIN:
        return value  # type: ignore[no-any-return]
    if kind in LISTS:
        return tuple([frozen(held) for held in value])
    if isinstance(value, dict):
        return frozenset([(key, frozen(value[key])) for key in value if not _is_time(key)])
    names = _names(kind)
    if names is not None:
        return (kind, *[frozen(getattr(value, name)) for name in names])
    return _frozen_other(kind, value)


def _frozen_other(kind: Any, value: Any) -> Hashable:
    if isinstance(value, Batch):
        return (value.stream, value.fencing_token, *[frozen(change) for change in value])
    if isinstance(value, BaseException):
        return (kind, frozen(value.args), frozen(vars(value)))
    if kind.__eq__ is object.__eq__:
        raise TypeError(f"nobody knows whether two of {kind} are equal")
    return frozenset(value) if kind is set else value


@cache
def _names(kind: type) -> tuple[str, ...] | None:
    """The fields of a dataclass that count."""
    if not is_dataclass(kind):
        return None
    return tuple(field.name for field in fields(kind) if not _is_time(field.name))


def _is_time(name: object) -> bool:
    return isinstance(name, str) and (name.endswith(TIMES) or name == OBSERVED)
