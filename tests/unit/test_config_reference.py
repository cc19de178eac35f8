"""docs/configuration.md and the sample streams.toml say what the code reads."""

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from tidemark.config import Settings, StreamSettings, load
from tidemark.settings import SinkSettings, Variable
from tidemark.targets import LEAST_BYTES, TARGETS

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = (ROOT / "docs" / "configuration.md").read_text("utf-8")
ROWS = {row[1]: row[2] for row in re.finditer(r"^\| `(\w+)` \| (.*) \|$", REFERENCE, re.MULTILINE)}
DEFAULTS: dict[str, Any] = {
    each.name: each.default
    for cls in (StreamSettings, SinkSettings, Settings)
    for each in dataclasses.fields(cls)
    if each.default not in (dataclasses.MISSING, None, ())
}
VARIABLES: dict[str, Variable] = {
    each.name: get_args(each.type)[2]
    for each in dataclasses.fields(Settings)
    if len(get_args(each.type)) == 3
}
RUN = [name for name, variable in VARIABLES.items() if variable.table == "run"]


def test_every_key_and_variable_has_a_row_and_no_row_is_left_over() -> None:
    keys = {each.name for cls in (StreamSettings, SinkSettings) for each in dataclasses.fields(cls)}
    of_the_environment = {each.name for each in VARIABLES.values() if each.table is None}
    assert ROWS.keys() == {*keys, *RUN, *of_the_environment, "TIDEMARK_STREAMS"}


@pytest.mark.parametrize("name", RUN)
def test_each_run_key_stands_beside_its_variable(name: str) -> None:
    assert ROWS[name].startswith(f"`{VARIABLES[name].name}` | ")


@pytest.mark.parametrize("name", DEFAULTS)
def test_each_default_is_the_one_of_the_code(name: str) -> None:
    variable = VARIABLES.get(name)
    row = ROWS[name if variable is None or variable.table else variable.name]
    shown = row.split(" | ")[1 if name in RUN else 0].strip('`"')
    default = DEFAULTS[name]
    assert (shown if isinstance(default, str) else tomllib.loads(f"x = {shown}")["x"]) == default


@pytest.mark.parametrize("name", ["max_message_bytes", "max_batch_bytes"])
def test_the_limits_are_those_of_the_code(name: str) -> None:
    low, most = LEAST_BYTES, {kind: rule.limit.high for kind, rule in TARGETS.items()}
    kinesis = most.pop("kinesis")
    [others] = set(most.values())
    assert ROWS[name].endswith(f", {low}–{others}, on Kinesis {low}–{kinesis}")


def test_the_longest_names_are_those_of_the_code() -> None:
    shown = re.search(r"\(SQS (\d+), SNS (\d+), EventBridge (\d+), Kinesis (\d+)\)", ROWS["target"])
    assert shown is not None
    for longest, kind in zip(shown.groups(), ("sqs", "sns", "eventbridge", "kinesis"), strict=True):
        fits = TARGETS[kind].name.fits
        assert fits("o" * int(longest))
        assert not fits("o" * (int(longest) + 1))


def test_the_sample_file_is_accepted() -> None:
    environ = {
        "TIDEMARK_TABLE": "tidemark",
        "MONGODB_SECRET_ID": "prod/mongodb",
        "TIDEMARK_DEAD_LETTER_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/1/dead",
    }
    [orders] = load(environ, ROOT / "handler" / "streams.toml").streams
    assert (orders.name, orders.database, orders.collection) == ("orders", "shop", "orders")
