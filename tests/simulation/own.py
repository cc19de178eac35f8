"""The crash suite for a `deliver` of one's own; docs/crash-suite.md shows how."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from simulation.generate import HARMLESS, generated
from simulation.replay import Player, Violated, played, script_of
from simulation.schedule import Write
from simulation.truth import Figures
from simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from simulation.schedule import Event, Schedule, Terms
    from tidemark.model import Batch, Change

BROKEN = "own"  # the guarantee that a user's own check stands for


def crash_suite(
    deliver: Callable[[Batch], object],
    *,
    document: Callable[[int], Mapping[str, Any]] = lambda _: {},
    begin: Callable[[], object] = lambda: None,
    check: Callable[[Sequence[Change]], object] = lambda _: None,
    seeds: Sequence[int] = range(100),
) -> Figures:
    """Crash `deliver` by one schedule a seed; it is interrupted between any two changes.

    `document(n)` gives the fields of the n-th inserted document. `begin` empties the destination
    before a schedule. `check` is given, after it, every change of which `deliver` said that it was
    delivered, in stream order, and raises AssertionError where the destination lacks one.
    Raises Violated.
    """
    sums = Figures()
    for seed in seeds:
        schedule, terms = generated(Random(seed))
        schedule = [_harmless(event) for event in schedule]
        begin()
        truth = played(Player(World(terms, deliver), document), schedule, terms)
        _check(check, truth.arrived, schedule, terms)
        sums += truth.figures
    return sums


def _check(
    check: Callable[[Sequence[Change]], object],
    arrived: Sequence[Change],
    schedule: Schedule,
    terms: Terms,
) -> None:
    try:
        check(arrived)
    except AssertionError as missing:
        raise Violated(script_of(schedule, terms, f"{BROKEN}: {missing}")) from missing


def _harmless(event: Event) -> Event:
    """What the changes do is for `deliver` to say."""
    if isinstance(event, Write) and event.what not in HARMLESS:
        return replace(event, what="ok")
    return event
