"""The sums of docs/cost.md, from the prices and inputs that it states, and those from the code."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import pytest

import stack
from tidemark.lease import OWN_RENEWAL_SHARE, SKEW_MS
from tidemark.settings import Settings, StreamSettings
from tidemark.telemetry import METRICS

PAGE = (stack.ROOT / "docs" / "cost.md").read_text("utf-8")
TEMPLATE = stack.template()
MONTH_S = 730 * 3600
ORDERS = StreamSettings(name="orders")
SETTINGS = Settings(table="table", streams=(ORDERS,))
ROWS = {
    ("idle", "drain"): 0,
    ("idle", "linger"): 0,
    ("1 M changes", "drain"): 1_000_000,
    ("1 M changes", "linger"): 1_000_000,
    ("100 M changes", "drain"): 100_000_000,
    ("100 M changes", "linger"): 100_000_000,
}
COLD_SHARD = "idle behind mongos with a cold shard"


def stated() -> dict[str, float]:
    """Each price and input of the page by its name."""
    rows = re.findall(r"^\| `(\w+)` \| ([\d.,]+) \|", PAGE, re.MULTILINE)
    assert len(dict(rows)) == len(rows)
    return {name: float(value) for name, value in rows}


GIVEN = stated()


@dataclass(frozen=True)
class Month:
    """One row: how often it runs, for how long, what that writes."""

    reading: float
    held: float
    seconds: float
    writes: float

    @property
    def sums(self) -> dict[str, float]:
        """The dollars of each column."""
        given, starts = GIVEN, self.reading + self.held
        billed_s = self.reading * self.seconds + self.held * given["held_run_s"]
        return {
            "time": billed_s * given["memory_gb"] * given["gb_second"],
            "starting": starts * (given["request"] + given["schedule"]),
            "writes": (self.reading * self.writes + self.held) * given["write"],
            "logs": starts * given["log_kb"] / 1e6 * given["log_gb"],
        }

    @property
    def total(self) -> float:
        """Everything, with what a month costs whatever happens."""
        return sum(self.sums.values()) + whatever_happens(streams=1)


def whatever_happens(*, streams: int) -> float:
    """Metrics in two dimension sets, alarms, one secret."""
    metrics = len(METRICS) * (1 + streams) * GIVEN["metric"]
    return metrics + alarmed_metrics() * GIVEN["alarm"] + GIVEN["secret"]


def alarmed_metrics() -> int:
    """The metrics that the alarms of a stack without a destination look at."""
    alarms = [
        each["Properties"]
        for each in TEMPLATE["Resources"].values()
        if each["Type"] == "AWS::CloudWatch::Alarm" and each.get("Condition") != "OwnConsumerQueue"
    ]
    return sum(len(watched_by(each)) for each in alarms)


def watched_by(alarm: dict[str, Any]) -> list[Any]:
    """An alarm's metrics: its one, or those that its expression is about."""
    return [each for each in alarm.get("Metrics", [alarm]) if "Expression" not in each]


def month(changes: int, mode: str) -> Month:
    """The formulas of the page."""
    rate = changes / MONTH_S
    return month_of(rate, GIVEN["linger_s"] if mode == "linger" else drained_s(rate), mode)


def month_of(rate: float, seconds: float, mode: str) -> Month:
    """A month of runs of that length."""
    starts = MONTH_S / GIVEN["period_s"]
    is_overlong = mode == "drain" and seconds > GIVEN["period_s"]
    reading = starts / math.ceil(seconds / GIVEN["period_s"]) if is_overlong else starts
    return Month(reading, starts - reading, seconds, writes(rate, seconds))


def drained_s(rate: float) -> float:
    """Until the first silence, or the budget's end."""
    silence_s = (math.exp(rate * GIVEN["quiet_s"]) - 1) / rate if rate else GIVEN["quiet_s"]
    backlog_s = rate * GIVEN["period_s"] * GIVEN["change_s"]
    return min(GIVEN["budget_s"], GIVEN["around_s"] + backlog_s + silence_s)


def writes(rate: float, seconds: float) -> float:
    """Acquire, release, and between them a checkpoint an interval or the renewals."""
    checkpoints = seconds // (1 / min(rate, 1 / GIVEN["checkpoint_interval_s"])) if rate else 0
    return 2 + max(checkpoints, seconds // GIVEN["renewal_s"])


def row(name: str, made: Month) -> str:
    """A row of the page as it has to be."""
    cells = [
        name,
        f"{made.reading:,.0f}",
        f"{made.seconds:.2f}".rstrip("0").rstrip("."),
    ]
    cells += [f"${each:.2f}" for each in (*made.sums.values(), made.total)]
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize(("name", "mode"), ROWS)
def test_a_months_row_is_what_the_formula_gives(name: str, mode: str) -> None:
    assert row(f"{name}, {mode}", month(ROWS[name, mode], mode)) in PAGE.splitlines()


def test_a_month_behind_mongos_is_priced_by_its_slowest_shard() -> None:
    made = month_of(0, GIVEN["around_s"] + GIVEN["cold_shard_s"], "drain")
    assert row(f"{COLD_SHARD}, drain", made) in PAGE.splitlines()


def test_what_costs_whatever_happens_is_what_the_page_says() -> None:
    assert f"**${whatever_happens(streams=1):.2f}**" in PAGE
    assert f"{len(METRICS)} · (1 + S) · metric + {alarmed_metrics()} · alarm + secret" in PAGE


def test_a_destinations_price_is_that_of_its_full_requests() -> None:
    rows = re.findall(r"^\| [\w, ]+ \| ([\d.]+) \| (\d+) \| \$([\d.]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for dollars, changes, million in rows:
        assert f"{float(dollars) / int(changes):.2f}" == million


def test_the_inputs_are_the_defaults_of_template_and_settings() -> None:
    parameters = {name: each["Default"] for name, each in TEMPLATE["Parameters"].items()}
    await_s = SETTINGS.max_await_ms / 1000
    assert GIVEN["memory_gb"] == parameters["MemoryMb"] / 1024
    assert GIVEN["period_s"] == parameters["PeriodMinutes"] * 60
    assert GIVEN["budget_s"] == parameters["TimeoutS"] - SETTINGS.reserve_s
    assert GIVEN["quiet_s"] == await_s
    assert ORDERS.idle_s is None
    assert GIVEN["checkpoint_interval_s"] == ORDERS.checkpoint_interval_s
    assert GIVEN["renewal_s"] == (SETTINGS.lease_s - SKEW_MS / 1000) * OWN_RENEWAL_SHARE
    operations = (stack.ROOT / "docs" / "operations.md").read_text("utf-8")
    assert f"BudgetS={GIVEN['linger_s']:.0f} " in operations
