"""Streams that see the same changes cannot share a FIFO target, which would drop the second."""

from __future__ import annotations

import pytest

from tidemark.config import parse
from tidemark.errors import ConfigError

ENVIRON = {
    "TIDEMARK_TABLE": "tidemark",
    "MONGODB_URI": "mongodb://localhost",
    "TIDEMARK_DEAD_LETTER_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/1/dead",
    "TIDEMARK_PAYLOAD_BUCKET": "payloads",
}
ACCOUNT = "123456789012"
QUEUE = f"arn:aws:sqs:eu-central-1:{ACCOUNT}:orders"
TOPIC = f"arn:aws:sns:eu-central-1:{ACCOUNT}:orders"
URL = f"https://sqs.eu-central-1.amazonaws.com/{ACCOUNT}/orders"
FIFO = {
    "out": f'[sinks.out]\ntype = "sqs"\ntarget = "{QUEUE}.fifo"\n',
    "url": f'[sinks.url]\ntype = "sqs"\ntarget = "{URL}.fifo"\n',
    "local": f'[sinks.local]\ntype = "sqs"\ntarget = "http://127.0.0.1:5000/{ACCOUNT}/orders.fifo"\n',
    "standard": f'[sinks.standard]\ntype = "sqs"\ntarget = "{QUEUE}"\n',
    "other": f'[sinks.other]\ntype = "sqs"\ntarget = "{QUEUE}-2.fifo"\n',
    "far": f'[sinks.far]\ntype = "sqs"\ntarget = "{QUEUE.replace("central", "west")}.fifo"\n',
    "topic": f'[sinks.topic]\ntype = "sns"\ntarget = "{TOPIC}.fifo"\n',
    "again": f'[sinks.again]\ntype = "sns"\ntarget = "{TOPIC}.fifo"\ngroup = "stream"\n',
    "bus": '[sinks.bus]\ntype = "eventbridge"\ntarget = "orders.fifo"\n',
}
SHOP, ORDERS = 'database = "shop"\n', 'database = "shop"\ncollection = "orders"\n'
USERS, CRM = 'database = "shop"\ncollection = "users"\n', 'database = "crm"\n'


def problems(text: str, **environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        parse(text, ENVIRON | environ)
    return refused.value.problems


def streams_to(*streams: tuple[str, str]) -> str:
    """Every sink of `FIFO`, and a stream for each sink and scope."""
    written = [
        f'[[stream]]\nname = "s{index}"\nsink = "{sink}"\n{scope}'
        for index, (sink, scope) in enumerate(streams)
    ]
    return "".join([*FIFO.values(), *written])


@pytest.mark.parametrize(
    ("one", "other"), [("", ""), ("", ORDERS), (SHOP, SHOP), (SHOP, ORDERS), (ORDERS, ORDERS)]
)
@pytest.mark.parametrize(
    ("first", "second"),
    [("out", "out"), ("out", "url"), ("local", "url"), ("topic", "topic"), ("topic", "again")],
)
def test_two_streams_of_one_change_into_one_fifo_target_are_refused(
    first: str, second: str, one: str, other: str
) -> None:
    """G1: FIFO drops the second of two messages with one deduplication id, the change id."""
    for streams in ([(first, one), (second, other)], [(second, other), (first, one)]):
        [problem] = problems(streams_to(*streams))
        assert problem == (
            "streams.toml: stream[1].sink: is FIFO, and would drop what stream[0] has sent it too; "
            "give each stream a target of its own, or make them one stream"
        )


@pytest.mark.parametrize("scopes", [(ORDERS, USERS), (SHOP, CRM), (CRM, ORDERS)])
def test_streams_that_see_nothing_in_common_may_share_a_fifo_target(
    scopes: tuple[str, str],
) -> None:
    assert parse(streams_to(*[("out", scope) for scope in scopes]), ENVIRON).streams


@pytest.mark.parametrize(
    "sinks",
    [
        ("out", "other"),
        ("out", "far"),
        ("out", "topic"),
        ("standard", "standard"),
        ("out", "standard"),
        ("bus", "bus"),
        ("out", "deliver"),
        ("deliver", "deliver"),
    ],
)
def test_streams_of_one_scope_may_go_to_targets_of_their_own(sinks: tuple[str, str]) -> None:
    assert parse(streams_to(*[(sink, ORDERS) for sink in sinks]), ENVIRON).streams


def test_each_stream_that_shares_a_fifo_target_is_named_with_the_first_of_its_scope() -> None:
    found = problems(streams_to(("out", ORDERS), ("out", CRM), ("url", SHOP), ("out", CRM)))
    assert [each.partition(" has ")[0] for each in found] == [
        "streams.toml: stream[2].sink: is FIFO, and would drop what stream[0]",
        "streams.toml: stream[3].sink: is FIFO, and would drop what stream[1]",
    ]


def test_a_fifo_target_is_shared_by_the_default_too() -> None:
    text = (
        '[[stream]]\nname = "a"\n[[stream]]\nname = "b"\n[[stream]]\nname = "c"\nsink = "deliver"'
    )
    stack = {"TIDEMARK_SINK_TYPE": "sqs", "TIDEMARK_SINK_TARGET": f"{QUEUE}.fifo"}
    [problem] = problems(text, **stack)
    assert problem.startswith("streams.toml: stream[1].sink: is FIFO")


@pytest.mark.parametrize("scope", ['database = "a b"\n', "database = 1\n", 'sink = "nowhere"\n'])
def test_a_scope_or_sink_that_is_refused_is_not_blamed_twice(scope: str) -> None:
    sink = "" if "sink" in scope else 'sink = "out"\n'
    one, other = (f'[[stream]]\nname = "{name}"\n{sink}{scope}' for name in "ab")
    found = problems(FIFO["out"] + one + other)
    assert len(found) == 2
    assert not any("FIFO" in each for each in found)
