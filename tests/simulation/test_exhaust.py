"""Every state of a small scope keeps the guarantees; a broken engine does not."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from simulation import exhaust
from simulation.mutations import MUTATIONS
from simulation.scope.cases import CASES, Case
from simulation.scope.hunt import OUT_OF_SCOPE, seen
from simulation.scope.moves import Move, after, beginning
from simulation.scope.parts import frozen
from simulation.scope.scene import Scene
from simulation.scope.search import Search
from simulation.scope.story import parsed, script_of, told

if TYPE_CHECKING:
    from collections.abc import Hashable

BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_change_and_one_fault_in_every_order(case: Case) -> None:
    """G1 to G4, G6, G7, G11 and G12 in each state, and everything arrives in the end."""
    found = Search(case.within(changes=1, faults=1)).explore()

    assert found.scripts == []
    assert found.states > 400
    assert found.final > 10


def test_two_changes_and_one_fault_in_every_order() -> None:
    """G1 to G4, G6, G7, G11 and G12 in each state, and everything arrives in the end."""
    found = Search(BY_NAME["each batch stored"].within(changes=2, faults=1)).explore()

    assert found.scripts == []
    assert found.states > 4_000
    assert found.depth > 20


def test_a_run_that_is_frozen_says_caught_up_only_if_it_is() -> None:
    """G12: an empty answer and a freeze are no proof that nothing waits."""
    case = replace(BY_NAME["a foreign write"], faults=frozenset({"freeze"}))
    found = Search(case).explore()

    assert found.scripts == []
    assert found.states > 2_000


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("checkpoint before deliver", "a failing delivery"),
        ("no condition on the fencing token", "a scan that outlasts a run"),
        ("lease by the monotonic clock alone", "too late to try again"),
        ("poison passed before its dead letter", "a failing delivery"),
        ("invalidate taken for quiet", "a late close"),
        ("two empties end a drain", "foreign writes first"),
        ("search the invalidate from the position", "two drops"),
        ("a fixed read timeout", "a scan that outlasts a run"),
        ("moved_to forgets the invalidate", "an invalidate refused"),
        ("no lease check before a read", "too late to try again"),
        ("lag 0 whatever was read", "a scan that outlasts a run"),
        ("a read given up leaves its scan", "a scan that outlasts a run"),
    ],
)
def test_a_mutation_is_found_and_its_script_shows_it_again(name: str, case: str) -> None:
    mutation = next(each for each in MUTATIONS if each.name == name)
    found = seen(mutation, [BY_NAME[case]])
    assert found is not None
    script = parsed(script_of(found.script))

    with mutation.applied():
        assert list(told(BY_NAME[case], script))[-1] == found.violation
    assert found.violation not in list(told(BY_NAME[case], script))


def test_what_is_out_of_scope_is_a_mutation_and_has_a_reason() -> None:
    assert set(OUT_OF_SCOPE) < {mutation.name for mutation in MUTATIONS}
    assert all(OUT_OF_SCOPE.values())


def test_the_same_search_counts_the_same_again() -> None:
    first, again = (Search(CASES[-1]).explore() for _ in range(2))

    assert first == again


@pytest.mark.parametrize("name", ["each batch stored", "from now on", "a failing delivery"])
def test_what_is_remembered_is_what_happens(name: str) -> None:
    """A state pieced together from remembered effects is that of its script, played by itself."""
    search = Search(BY_NAME[name].within(changes=1, faults=1))
    states = search.explore().states

    for number in Random(7).sample(range(states), 150):
        script = search.way(number)
        assert contents(search.scene, script) == contents(Scene(search.scene.case), script)


def contents(scene: Scene, script: list[Move]) -> Hashable:
    """What server, store, truth and runs hold behind a script."""
    state = beginning(scene)
    for move in script:
        state = after(scene, state, move)
    calls = [run.history.call and run.history.call.key for _, run in state.runs]
    return (frozen([part.values for part in state.world]), *calls)


@pytest.mark.parametrize("script", ["go", "begin0 go1", "begin0 begin0", "fly0"])
def test_a_script_that_cannot_happen_is_refused(script: str) -> None:
    with pytest.raises((ValueError, AssertionError)):
        list(told(CASES[0], parsed(script)))


def test_the_command_ends_in_a_number_and_zero(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--changes", "1", "--faults", "0", "--workers", "1"]

    assert exhaust.main([*options, "--case", "stored at the end"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(" states, 0 violations")


def test_the_command_tells_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert exhaust.main(["--case", "stored at the end", "--play", "begin0 write go0 crash0"]) == 0
    assert "store.acquire" in capsys.readouterr().out
