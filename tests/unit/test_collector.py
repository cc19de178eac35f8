"""The collector of cyclic garbage is slowed for a run and no longer."""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tidemark.collector import PACE, slowed_collector

if TYPE_CHECKING:
    from collections.abc import Iterator

USUAL = (700, 10, 10)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    own = gc.get_threshold()
    yield
    gc.set_threshold(*own)


def test_collects_rarely_inside_and_as_before_behind() -> None:
    gc.set_threshold(*USUAL)
    with slowed_collector():
        assert gc.get_threshold() == (PACE, 10, 10)
    assert gc.get_threshold() == USUAL


@pytest.mark.parametrize("own", [(0, 10, 10), (PACE + 1, 5, 5)])
def test_leaves_alone_who_collects_more_rarely_or_not_at_all(own: tuple[int, int, int]) -> None:
    gc.set_threshold(*own)
    with slowed_collector():
        assert gc.get_threshold() == own
    assert gc.get_threshold() == own


def test_collects_as_before_when_the_block_fails() -> None:
    gc.set_threshold(*USUAL)
    with suppress(RuntimeError), slowed_collector():
        raise RuntimeError
    assert gc.get_threshold() == USUAL
