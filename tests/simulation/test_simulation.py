"""Random schedules keep the guarantees; a broken engine does not; a failure can be replayed."""

from __future__ import annotations

from dataclasses import asdict, replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulation.generate import generated, smallest
from simulation.mutations import MUTATIONS, Mutation
from simulation.replay import (
    FailSink,
    Finish,
    Freeze,
    Kill,
    Player,
    Prune,
    Start,
    Step,
    Terms,
    Violated,
    Write,
    guarantee_of,
    played,
    replay,
)
from simulation.soak import schedules_to_see, shrunk, soak
from simulation.world import World

if TYPE_CHECKING:
    from simulation.schedule import Schedule, What

SEEN_WITHIN = 300


@pytest.mark.parametrize("first_seed", range(0, 500, 100))
def test_the_guarantees_hold_under_random_schedules(first_seed: int) -> None:
    """G1, G2, G3, G4, G6, G7, G11 and G12 after every step; and everything arrives in the end."""
    figures, failures = soak(range(first_seed, first_seed + 100))

    assert not failures, failures[0]
    assert figures.schedules == 100
    assert figures.crashes > 50
    assert figures.overlaps > 50
    assert figures.duplicates > 10


@settings(
    max_examples=50,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.randoms(use_true_random=False))
def test_the_guarantees_hold_wherever_hypothesis_looks(random: Random) -> None:
    """G1, G2, G3, G4, G6, G7, G11 and G12 after every step; and everything arrives in the end."""
    figures = replay(*generated(random))

    assert figures.steps > 0


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_broken_order_of_effects_is_seen(mutation: Mutation) -> None:
    assert schedules_to_see(mutation, range(SEEN_WITHIN)) is not None


def test_the_same_schedule_does_the_same_again() -> None:
    schedule, terms = generated(Random(7))

    assert asdict(replay(schedule, terms)) == asdict(replay(schedule, terms))


def test_a_failing_schedule_shrinks_to_a_script_that_fails_again() -> None:
    mutation = next(each for each in MUTATIONS if each.name == "checkpoint before deliver")
    with mutation.applied():
        schedule, terms = generated(Random(0))
        with pytest.raises(Violated) as first:
            replay(schedule, terms)
        least = shrunk(schedule, terms, first.value)
        script = str(least).partition("\n\n")[2]
        with pytest.raises(Violated) as again:
            exec(script, {})

    assert str(again.value) == str(least)
    assert guarantee_of(least) == "G1"
    assert 0 < script.count("(what=") <= 2
    exec(script, {})  # the engine as it is passes


def test_shrinking_leaves_nothing_that_can_be_left_out() -> None:
    noise: Schedule = [Step(0, 1), Kill(1)] * 5
    schedule: Schedule = [*noise, Write("poison"), *noise, Prune(0), *noise]

    def fails(less: Schedule) -> bool:
        return Write("poison") in less and Prune(0) in less

    assert smallest(schedule, fails) == [Write("poison"), Prune(0)]


def test_a_killed_process_has_no_effect_any_more() -> None:
    """A crash is a crash: what its `finally` blocks would still do, the world does not see."""
    world = World(Terms())
    player = Player(world)
    player.play([Write(), Write(), Start(0), Step(0, 9), Kill(0)])
    requests, position = list(world.store.requests), world.truth.position
    player.play([Finish(0), Step(0, 5)])

    assert world.store.requests == requests
    assert world.truth.position == position
    assert world.source.open_readers == 1  # nobody closed it


def test_a_frozen_holder_that_wakes_up_delivers_nothing() -> None:
    """G4, spelled out: the second container has the lease, the first thaws in mid-run."""
    world = World(Terms(max_changes=1, server_batch=1))
    player = Player(world)
    player.play([Write(), Write(), Write(), Start(0), Step(0, 8), Freeze(0, 30.0, True)])
    player.play([Start(1), Finish(1), Finish(0)])

    assert not world.truth.violations
    assert world.processes[0].summary is not None
    assert world.processes[0].summary.stop_reason == "lease_lost"
    assert world.processes[1].summary is not None
    assert world.processes[1].summary.stop_reason == "caught_up"


@pytest.mark.parametrize("seed", range(40))
def test_only_the_guilty_are_set_aside(seed: int) -> None:
    """Where nothing but the changes themselves does harm, no innocent becomes a dead letter."""
    random = Random(seed)
    _, terms = generated(random)
    kinds: list[What] = ["ok", "poison", "named", "killer", "hang"]
    whats = random.choices(kinds, [12, 1, 1, 1, 1], k=25)
    schedule: Schedule = [Write(what) for what in whats]
    terms = replace(terms, start_at="earliest")
    player = Player(World(terms))
    truth = played(player, schedule, terms)

    guilty = sum(what != "ok" for what in whats)
    assert truth.figures.dead_letters >= guilty
    letters = player.world.letters.letters
    assert {letter.change["fullDocument"]["what"] for letter in letters} <= set(whats) - {"ok"}


def test_a_sink_that_fails_for_a_while_loses_nothing_and_repeats_nothing() -> None:
    """G1 and G3 without any crash: a failed batch is no delivered batch."""
    figures = replay(
        [Write(), Write(), Write(), FailSink(2), Start(0), Finish(0)], Terms(max_attempts=3)
    )

    assert (figures.deliveries, figures.duplicates, figures.dead_letters) == (3, 0, 0)
