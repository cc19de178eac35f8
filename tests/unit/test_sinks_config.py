"""[sinks.NAME] tables and the stack's destination, judged whole at cold start (G9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tidemark.config import parse
from tidemark.errors import ConfigError
from tidemark.targets import TARGETS, is_fifo, region_of

if TYPE_CHECKING:
    from tidemark.settings import Settings

ENVIRON = {
    "TIDEMARK_TABLE": "tidemark",
    "MONGODB_URI": "mongodb://localhost",
    "TIDEMARK_DEAD_LETTER_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/1/dead",
    "TIDEMARK_PAYLOAD_BUCKET": "payloads",
}
ACCOUNT = "123456789012"
QUEUE = f"arn:aws:sqs:eu-central-1:{ACCOUNT}:orders"
TOPIC = f"arn:aws:sns:eu-central-1:{ACCOUNT}:orders"
BUS = f"arn:aws:events:eu-central-1:{ACCOUNT}:event-bus/orders"
DATA_STREAM = f"arn:aws-cn:kinesis:cn-north-1:{ACCOUNT}:stream/orders"
STREAM = '[[stream]]\nname = "orders"\n'
HOSTS_OF_SQS = {
    "sqs.ap-south-1.amazonaws.com": "ap-south-1",
    "SQS.ap-south-1.amazonaws.com:443": "ap-south-1",
    "sqs.cn-north-1.amazonaws.com.cn": "cn-north-1",
    "sqs.eusc-de-east-1.amazonaws.eu": "eusc-de-east-1",
    "sqs-fips.us-west-2.amazonaws.com": "us-west-2",
    "sqs.eu-west-1.api.aws": "eu-west-1",
    "sqs.cn-north-1.api.amazonwebservices.com.cn": "cn-north-1",
    "eu-west-1.queue.amazonaws.com": "eu-west-1",
    "queue.amazonaws.com": "us-east-1",
    "vpce-0a1b-2c3d.sqs.eu-central-1.vpce.amazonaws.com": "eu-central-1",
    "vpce-0a1b-2c3d-eu-central-1a.sqs.eu-central-1.vpce.amazonaws.com": "eu-central-1",
}
FITTING = [
    ("sqs", QUEUE),
    ("sqs", QUEUE + ".fifo"),
    ("sqs", f"https://sqs.eu-central-1.amazonaws.com/{ACCOUNT}/orders"),
    ("sqs", f"http://127.0.0.1:5000/{ACCOUNT}/orders"),
    ("sqs", "http://aws:9324/queue/orders.fifo"),
    ("sqs", f"http://[::1]:4566/queue/eu-central-1/{ACCOUNT}/orders"),
    ("sqs", "http://queues.example.com/orders"),
    *[("sqs", f"https://{host}/{ACCOUNT}/orders.fifo") for host in HOSTS_OF_SQS],
    ("sns", TOPIC),
    ("sns", TOPIC + ".fifo"),
    ("eventbridge", BUS),
    ("eventbridge", "default"),
    ("kinesis", DATA_STREAM),
    ("kinesis", "orders"),
]


def sink_table(kind: str, target: str, more: str = "") -> str:
    return f'[sinks.out]\ntype = "{kind}"\ntarget = "{target}"\n{more}\n{STREAM}sink = "out"'


def read(text: str, **environ: str) -> Settings:
    return parse(text, ENVIRON | environ)


def problems(text: str, **environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        read(text, **environ)
    return refused.value.problems


@pytest.mark.parametrize(("kind", "target"), FITTING)
def test_a_target_of_the_type_is_accepted(kind: str, target: str) -> None:
    [sink] = read(sink_table(kind, target)).sinks
    assert (sink.name, sink.type, sink.target) == ("out", kind, target)


@pytest.mark.parametrize(
    ("kind", "target", "wrong"),
    [
        ("sqs", TOPIC, "is an ARN of something else; write the queue's URL or ARN"),
        ("sns", QUEUE, "is an ARN of something else; write the topic's ARN"),
        ("sns", TOPIC + ":0c9a3b2e", "is an ARN of something else"),
        ("eventbridge", DATA_STREAM, "is an ARN of something else; write the bus's name or ARN"),
        ("kinesis", BUS, "is an ARN of something else; write the data stream's name or ARN"),
        ("kinesis", DATA_STREAM + "/consumer/c", "is an ARN of something else"),
        ("sqs", "orders", "does not fit; write the queue's URL or ARN"),
        ("sns", "orders", "does not fit; write the topic's ARN"),
        ("kinesis", "or ders", "does not fit"),
        ("sqs", f"https://sqs.{ACCOUNT}/", "does not fit"),
        *[
            (
                "sqs",
                f"https://{host}/{ACCOUNT}/orders",
                "does not fit; write the queue's URL or ARN",
            )
            for host in (
                "sns.us-east-1.amazonaws.com",
                "kinesis.us-east-1.amazonaws.com",
                "kinesis.us-east-1.api.aws:443",
                "sns.cn-north-1.amazonaws.com.cn",
                "SNS.US-EAST-1.AMAZONAWS.COM",
                "sns.us-east-1.amazonaws.com.",
                "sqs.evil.us-east-1.amazonaws.com",
                "vpce-0a1b.kinesis.eu-central-1.vpce.amazonaws.com",
                "abc.lambda-url.us-east-1.on.aws",
                "us-east-1.console.aws.amazon.com",
            )
        ],
        ("sqs", "https://sqs.us-east-1.amazonaws.com/orders", "does not fit"),
        ("sqs", f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/orders?x=1", "does not fit"),
        ("sqs", "arn:aws:sqs:eu-central-1:１２３４５６７８９０１２:q", "is an ARN of something"),  # noqa: RUF001 - the point
    ],
)
def test_a_target_of_another_service_is_refused(kind: str, target: str, wrong: str) -> None:
    [problem] = problems(sink_table(kind, target))
    assert problem.startswith(f"streams.toml: sinks.out.target: {wrong}")
    assert target not in problem


@pytest.mark.parametrize(
    ("kind", "before", "longest", "suffix"),
    [
        ("sqs", f"arn:aws:sqs:eu-central-1:{ACCOUNT}:", 80, ""),
        ("sqs", f"arn:aws:sqs:eu-central-1:{ACCOUNT}:", 80, ".fifo"),
        ("sqs", f"https://sqs.eu-central-1.amazonaws.com/{ACCOUNT}/", 80, ".fifo"),
        ("sqs", f"http://127.0.0.1:5000/{ACCOUNT}/", 80, ""),
        ("sns", f"arn:aws:sns:eu-central-1:{ACCOUNT}:", 256, ""),
        ("sns", f"arn:aws:sns:eu-central-1:{ACCOUNT}:", 256, ".fifo"),
        ("eventbridge", "", 256, ""),
        ("eventbridge", f"arn:aws:events:eu-central-1:{ACCOUNT}:event-bus/", 256, ""),
        ("kinesis", "", 128, ""),
        ("kinesis", f"arn:aws:kinesis:eu-central-1:{ACCOUNT}:stream/", 128, ""),
    ],
)
def test_a_name_is_one_that_the_service_allows(
    kind: str, before: str, longest: int, suffix: str
) -> None:
    fitting = "o" * (longest - len(suffix)) + suffix
    assert read(sink_table(kind, before + fitting)).sinks[0].target.endswith(fitting)
    for name in (f"o{fitting}", "café", "४२", "a*b"):
        [problem] = problems(sink_table(kind, before + name))
        assert problem == (
            "streams.toml: sinks.out.target: has a name that the service does not allow; "
            f"write a name of {TARGETS[kind].name.right}"
        )
        assert f"1 to {longest} of A-Z" in problem


@pytest.mark.parametrize(("kind", "target"), FITTING)
def test_a_group_is_of_fifo_only(kind: str, target: str) -> None:
    text = sink_table(kind, target, 'group = "stream"')
    if target.endswith(".fifo"):
        assert read(text).sinks[0].group == "stream"
    else:
        [problem] = problems(text)
        assert problem.startswith("streams.toml: sinks.out.group: is ")


def test_fifo_on_a_standard_queue_says_what_would_be_right() -> None:
    [problem] = problems(sink_table("sqs", QUEUE, 'group = "document"'))
    assert problem == (
        "streams.toml: sinks.out.group: is set and the target is not FIFO; "
        "drop it, or write a .fifo one"
    )


@pytest.mark.parametrize("key", ["max_message_bytes", "max_batch_bytes"])
@pytest.mark.parametrize(
    ("kind", "target", "most"),
    [
        ("sqs", QUEUE, 1_048_576),
        ("sns", TOPIC, 1_048_576),
        ("eventbridge", BUS, 1_048_576),
        ("kinesis", DATA_STREAM, 10_485_760),
    ],
)
def test_a_limit_is_no_more_than_the_service_takes(
    kind: str, target: str, most: int, key: str
) -> None:
    assert getattr(read(sink_table(kind, target, f"{key} = {most}")).sinks[0], key) == most
    [problem] = problems(sink_table(kind, target, f"{key} = {most + 1}"))
    assert problem == (
        f"streams.toml: sinks.out.{key}: is out of range; write a whole number from 1024 to {most}"
    )


def test_a_limit_is_judged_beside_a_target_that_is_refused() -> None:
    """G9: one mistake does not hide another."""
    text = '[sinks.out]\ntype = "sqs"\ntarget = 1\ngroup = "stream"\nmax_batch_bytes = 2000000\n'
    assert [each.partition("; ")[0] for each in problems(text + STREAM)] == [
        "streams.toml: sinks.out.target: is a whole number",
        "streams.toml: sinks.out.max_batch_bytes: is out of range",
    ]


@pytest.mark.parametrize("key", ['source = "shop"', 'detail_type = "x"', "cloudevents = true"])
def test_what_is_eventbridges_is_refused_elsewhere(key: str) -> None:
    read(sink_table("eventbridge", "default", key))
    [problem] = problems(sink_table("kinesis", "orders", key))
    assert problem.endswith("is of eventbridge only; drop it")


@pytest.mark.parametrize(
    ("more", "path", "wrong"),
    [
        ('encodnig = "relaxed"', "encodnig", "is not a known key; did you mean encoding?"),
        ('encoding = "xml"', "encoding", "is not a known word"),
        ('body = "documents"', "body", "does not fit"),
        ("body = []", "body", "is an empty list"),
        ('body = ["a..b"]', "body[0]", "is no path"),
        ("body = [1]", "body[0]", "is no path"),
        ("concurrency = 0", "concurrency", "is out of range"),
        ("max_message_bytes = 10", "max_message_bytes", "is out of range"),
        (
            "max_message_bytes = 3000\nmax_batch_bytes = 2000",
            "max_message_bytes",
            "is over max_batch_bytes",
        ),
        ('source = "aws.mine"', "source", "does not fit"),
        ('detail_type = "{operation}"', "detail_type", "does not fit"),
        ('oversize = "drop"', "oversize", "is not a known word"),
    ],
)
def test_each_mistake_is_named(more: str, path: str, wrong: str) -> None:
    [problem] = problems(sink_table("eventbridge", "default", more))
    assert problem.startswith(f"streams.toml: sinks.out.{path}: {wrong}")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (f'[sinks.out]\ntype = "sqs"\n{STREAM}', "sinks.out.target: is missing"),
        (f'[sinks.out]\ntarget = "{QUEUE}"\n{STREAM}', "sinks.out.type: is missing"),
        (f"sinks = 1\n{STREAM}", "sinks: is a whole number; write each sink below"),
        (f"[sinks]\nout = 1\n{STREAM}", "sinks.out: is a whole number; write a table"),
        (
            f'[sinks.deliver]\ntype = "kinesis"\ntarget = "x"\n{STREAM}',
            "sinks.deliver: is the name",
        ),
        (f'{STREAM}sink = "delivr"', "stream[0].sink: is not a known sink; did you mean deliver?"),
    ],
)
def test_a_sink_that_is_none_is_refused(text: str, wrong: str) -> None:
    assert problems(text)[0].startswith(f"streams.toml: {wrong}")


def test_streams_may_go_to_different_sinks() -> None:
    text = sink_table("sqs", QUEUE) + '\n[[stream]]\nname = "users"\nsink = "deliver"\n'
    assert [stream.sink for stream in read(text).streams] == ["out", "deliver"]


def test_a_claim_check_needs_the_bucket() -> None:
    text = sink_table("sqs", QUEUE)
    assert read(text).sinks[0].oversize == "claim_check"
    [problem] = problems(text, TIDEMARK_PAYLOAD_BUCKET="")
    assert problem.startswith("environment: TIDEMARK_PAYLOAD_BUCKET: is not set")
    assert "sinks.out" in problem
    assert read(sink_table("sqs", QUEUE, 'oversize = "halt"'), TIDEMARK_PAYLOAD_BUCKET="").sinks


STACK = {"TIDEMARK_SINK_TYPE": "sqs", "TIDEMARK_SINK_TARGET": QUEUE}


def test_the_stacks_destination_is_a_sink_and_the_default() -> None:
    settings = read(STREAM, **STACK)
    assert [(sink.name, sink.type, sink.target) for sink in settings.sinks] == [
        ("destination", "sqs", QUEUE)
    ]
    assert settings.streams[0].sink == "destination"


def test_without_a_destination_the_default_is_the_function() -> None:
    settings = read(STREAM, TIDEMARK_SINK_TYPE="", TIDEMARK_SINK_TARGET="")
    assert (settings.sinks, settings.streams[0].sink) == ((), "deliver")


def test_a_streams_own_sink_wins_over_the_destination() -> None:
    assert read(f'{STREAM}sink = "deliver"', **STACK).streams[0].sink == "deliver"
    assert read(f'[defaults]\nsink = "deliver"\n{STREAM}', **STACK).streams[0].sink == "deliver"


def test_the_file_may_say_how_the_destination_is_fed() -> None:
    settings = read(f'[sinks.destination]\nbody = "document"\n{STREAM}', **STACK)
    assert (settings.sinks[0].body, settings.sinks[0].target) == ("document", QUEUE)


def test_a_destination_that_the_stack_does_not_have_is_refused() -> None:
    [problem] = problems(f'{STREAM}sink = "destination"')
    assert problem.startswith("streams.toml: stream[0].sink: is not a known sink")


def test_half_a_destination_is_refused_at_the_variable_that_is_missing() -> None:
    target = {"TIDEMARK_SINK_TARGET": QUEUE}
    [problem] = problems(STREAM, **target)
    assert problem == (
        "environment: TIDEMARK_SINK_TYPE: is not set while TIDEMARK_SINK_TARGET is; "
        "set it to sqs, sns, eventbridge or kinesis, or unset both"
    )
    [problem] = problems(STREAM, TIDEMARK_SINK_TYPE="sqs")
    assert problem == (
        "environment: TIDEMARK_SINK_TARGET: is not set while TIDEMARK_SINK_TYPE is; "
        "set it to the target's ARN, name or URL, or unset both"
    )


def test_a_destination_that_is_none_is_refused_at_its_variable() -> None:
    """G9: the field that is wrong is named, not one that the file does not have."""
    [problem] = problems(STREAM, **STACK | {"TIDEMARK_SINK_TARGET": TOPIC})
    assert problem == (
        "environment: TIDEMARK_SINK_TARGET: is an ARN of something else; "
        "write the queue's URL or ARN, or another type"
    )
    [problem] = problems(STREAM, **STACK | {"TIDEMARK_SINK_TYPE": "sqss"})
    assert problem.startswith("environment: TIDEMARK_SINK_TYPE: is not a known word")


def test_a_destination_is_judged_although_the_files_sinks_are_no_tables() -> None:
    """G9: one mistake does not hide another."""
    found = problems(f"sinks = 1\n{STREAM}", **STACK | {"TIDEMARK_SINK_TARGET": TOPIC})
    assert [each.partition(": is ")[0] for each in found] == [
        "streams.toml: sinks",
        "environment: TIDEMARK_SINK_TARGET",
    ]


@pytest.mark.parametrize(
    ("key", "variable"),
    [
        ('type = "kinesis"', "TIDEMARK_SINK_TYPE"),
        ('target = "mine"', "TIDEMARK_SINK_TARGET"),
        (f'target = "{QUEUE}"', "TIDEMARK_SINK_TARGET"),
    ],
)
def test_what_the_stack_defines_is_refused_in_the_file(key: str, variable: str) -> None:
    [problem] = problems(f"[sinks.destination]\n{key}\n{STREAM}", **STACK)
    assert problem == (
        f"streams.toml: sinks.destination.{key.partition(' ')[0]}: is defined by the stack, "
        f"in {variable}; drop it, or give the table another name"
    )


def test_a_destination_of_the_files_own_is_accepted_where_the_stack_has_none() -> None:
    text = f'[sinks.destination]\ntype = "sqs"\ntarget = "{QUEUE}"\n{STREAM}'
    assert read(text).streams[0].sink == "destination"


@pytest.mark.parametrize(
    ("target", "region"),
    [
        (QUEUE, "eu-central-1"),
        (DATA_STREAM, "cn-north-1"),
        *[(f"https://{host}/1/q", region) for host, region in HOSTS_OF_SQS.items()],
        ("http://127.0.0.1:5000/1/q", None),
        ("default", None),
    ],
)
def test_a_target_says_its_region_where_it_can(target: str, region: str | None) -> None:
    assert region_of(target) == region


@pytest.mark.parametrize("suffix", ["", ".fifo"])
def test_fifo_is_what_ends_so(suffix: str) -> None:
    values: list[Any] = [QUEUE + suffix, f"https://sqs.eu-central-1.amazonaws.com/1/q{suffix}"]
    assert [is_fifo(each) for each in values] == [bool(suffix)] * 2
