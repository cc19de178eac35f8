"""A crash at each single point of a run, before and behind every call that it makes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from simulation.replay import Finish, Kill, Player, Start, Step, Terms, Write, played
from simulation.world import World

CHANGES = 6
IN_BATCHES = Terms(max_changes=2, server_batch=2, checkpoint_interval_s=0.0)
UNSTORED = Terms(max_changes=2, server_batch=2, checkpoint_interval_s=60.0)


@dataclass
class Crashed:
    """What a crash behind `points` points did: the step it hit, and what came again."""

    step: str
    duplicates: int
    was_over: bool


def crashed(points: int, terms: Terms) -> Crashed:
    """Kill a run of six changes there; all guarantees are judged, and all must arrive."""
    player = Player(World(terms))
    player.play([Write()] * CHANGES)
    player.play([Start(0), *[Step(0, 1)] * points])
    process = player.world.processes[0]
    was_over, step = process.is_over, process.run.step
    truth = played(player, [Kill(0)], terms)
    assert truth.figures.deliveries - truth.figures.duplicates == CHANGES
    return Crashed(step, truth.figures.duplicates, was_over)


def points_of_a_run(terms: Terms) -> int:
    """How many points a whole run passes."""
    return next(points for points in range(500) if crashed(points, terms).was_over)


@pytest.mark.parametrize("terms", [IN_BATCHES, UNSTORED], ids=["each batch stored", "none stored"])
def test_no_crash_anywhere_loses_or_reorders_a_change(terms: Terms) -> None:
    """G1 to G4 at every point of every numbered step."""
    crashes = [crashed(points, terms) for points in range(points_of_a_run(terms))]

    assert {crash.step for crash in crashes} >= {
        "acquire",
        "open",
        "read",
        "deliver",
        "checkpoint",
        "release",
    }


def test_only_the_last_batch_comes_again_where_each_is_stored() -> None:
    """G3: duplicates are bounded by what was delivered since the last checkpoint."""
    crashes = [crashed(points, IN_BATCHES) for points in range(points_of_a_run(IN_BATCHES))]

    assert {crash.duplicates for crash in crashes} == {0, 2}


def test_all_since_the_last_checkpoint_comes_again_and_no_more() -> None:
    """G3 with a long interval: up to the whole run's changes, none of them twice more."""
    crashes = [crashed(points, UNSTORED) for points in range(points_of_a_run(UNSTORED))]

    assert {crash.duplicates for crash in crashes} == {0, 2, 4, 6}


def test_a_run_that_nobody_kills_repeats_nothing() -> None:
    player = Player(World(IN_BATCHES))
    truth = played(player, [*[Write()] * CHANGES, Start(0), Finish(0)], IN_BATCHES)

    assert (truth.figures.deliveries, truth.figures.duplicates) == (CHANGES, 0)
