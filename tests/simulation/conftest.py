"""The fixture for a crash test of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simulation import own

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulation.truth import Figures


@pytest.fixture
def crash_suite() -> Callable[..., Figures]:
    """`own.crash_suite`: crashes a `deliver` by many schedules."""
    return own.crash_suite
