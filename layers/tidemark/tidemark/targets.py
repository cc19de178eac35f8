"""What a sink of each type may be told, and which target two streams cannot share; no I/O."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tidemark.rules import REFUSED, Place, Text, Whole, listed, matching

Values = Mapping[str, Any]  # a sink's or a stream's fields by name: accepted, or REFUSED

_REGION = "[a-z0-9-]+"


class Address(NamedTuple):
    """Where a target is; None is what it does not say."""

    region: str | None
    account: str | None
    name: str


Read = Callable[[str], Address | None]  # None of a target that is written otherwise


def _written(*patterns: str) -> Read:
    """Read what matches one of `patterns`, by its groups."""

    def read(target: str) -> Address | None:
        for pattern in patterns:
            if found := re.fullmatch(pattern, target):
                parts = found.groupdict()
                return Address(parts.get("region"), parts.get("account"), parts["name"])
        return None

    return read


def _arn(service: str, resource: str) -> str:
    where = rf"(?P<region>{_REGION}):(?P<account>[0-9]{{12}})"
    return rf"arn:aws[a-z-]*:{service}:{where}:{resource}"


_URL = re.compile(
    r"https?://(?P<host>[^\s/?#@:\\]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?"
    r"(/[^\s/?#]+)*?(/(?P<account>[0-9]+))?/(?P<name>[^\s/?#]+)"
)
_AWS = r"(amazonaws\.(com(\.cn)?|eu)|api\.aws|api\.amazonwebservices\.(com\.cn|eu))"
_AWS_HOST = re.compile(rf".*\.({_AWS}|on\.aws|aws\.amazon\.com)")
# Source: SQS endpoints, AWS General Reference: regional, FIPS, dual-stack and the legacy ones,
# of which the one without a region is us-east-1's; a VPC endpoint's own name stands before it.
_SQS_HOST = re.compile(
    rf"(vpce-[a-z0-9-]+\.)?sqs(-fips)?\.(?P<region>{_REGION})\.(vpce\.)?{_AWS}"
    rf"|(?P<legacy>{_REGION})\.queue\.amazonaws\.com(\.cn)?|queue\.amazonaws\.com"
)


def _queue_at(url: str) -> Address | None:
    """Read a queue's URL; a host of AWS's that is not SQS's has none, any other host may."""
    found = _URL.fullmatch(url)
    if found is None:
        return None
    host = found["host"].lower().rstrip(".")
    if not _AWS_HOST.fullmatch(host):
        return Address(None, found["account"], found["name"])
    of_sqs = _SQS_HOST.fullmatch(host)
    if of_sqs is None or found["account"] is None:
        return None
    region = of_sqs["region"] or of_sqs["legacy"] or "us-east-1"
    return Address(region, found["account"], found["name"])


_queue_arn = _written(_arn("sqs", r"(?P<name>[^\s:/]+)"))


def _queue(target: str) -> Address | None:
    return _queue_arn(target) or _queue_at(target)


@dataclass(frozen=True, slots=True)
class TargetRule:
    """How a target of one type is written and named, and what its sink may have.

    `limit` is of a message and of a request. `keys` are beyond everyone's, `fifo_keys` of targets
    whose name ends in .fifo only.
    """

    right: str
    read: Read
    name: Text
    limit: Whole
    keys: tuple[str, ...] = ()
    fifo_keys: tuple[str, ...] = ()

    def fits(self, target: str) -> bool:
        """Whether `target` is written and named as one of this type."""
        address = self.read(target)
        return address is not None and bool(self.name.fits(address.name))


LEAST_BYTES = 1024
_MEBIBYTE = Whole(LEAST_BYTES, 1024 * 1024)

TARGETS: Mapping[str, TargetRule] = {
    # Source: CreateQueue (name), SendMessageBatch (limit), API reference.
    "sqs": TargetRule(
        "the queue's URL or ARN",
        _queue,
        Text(
            "1 to 80 of A-Z a-z 0-9 _ -, with the .fifo of a FIFO queue",
            matching(r"[A-Za-z0-9_-]{1,75}\.fifo|[A-Za-z0-9_-]{1,80}"),
        ),
        _MEBIBYTE,
        fifo_keys=("group",),
    ),
    # Source: CreateTopic (name, and MaximumMessageSize, which may be 1 MiB), API reference.
    "sns": TargetRule(
        "the topic's ARN",
        _written(_arn("sns", r"(?P<name>[^\s:/]+)")),
        Text(
            "1 to 256 of A-Z a-z 0-9 _ -, with the .fifo of a FIFO topic",
            matching(r"[A-Za-z0-9_-]{1,251}\.fifo|[A-Za-z0-9_-]{1,256}"),
        ),
        _MEBIBYTE,
        fifo_keys=("group",),
    ),
    # Source: PutEvents, API reference; the user guide's 256 KB are the sink's default.
    "eventbridge": TargetRule(
        "the bus's name or ARN",
        _written(_arn("events", r"event-bus/(?P<name>[^\s:]+)"), r"(?P<name>[^\s:]+)"),
        Text("1 to 256 of A-Z a-z 0-9 _ . / -", matching(r"[A-Za-z0-9_./-]{1,256}")),
        _MEBIBYTE,
        keys=("source", "detail_type", "cloudevents"),
    ),
    # Source: CreateStream (name), PutRecords (limit), API reference.
    "kinesis": TargetRule(
        "the data stream's name or ARN",
        _written(_arn("kinesis", r"stream/(?P<name>[^\s:/]+)"), r"(?P<name>[^\s:]+)"),
        Text("1 to 128 of A-Z a-z 0-9 _ . -", matching(r"[A-Za-z0-9_.-]{1,128}")),
        Whole(LEAST_BYTES, 10 * 1024 * 1024),
    ),
}
_OF_SOME_TYPES = ("group", "source", "detail_type", "cloudevents")


def is_fifo(target: str) -> bool:
    """Whether a queue or topic is FIFO: AWS requires the suffix of one and forbids it otherwise."""
    return target.endswith(".fifo")


def is_queue_url(text: str) -> bool:
    """Whether `text` is the URL of a queue, at SQS itself or at a host that is not AWS's."""
    return not text.startswith("arn:") and TARGETS["sqs"].fits(text)


def region_of(target: str) -> str | None:
    """The region in a target's ARN or queue URL, None where it does not say."""
    if target.startswith("arn:"):
        return target.split(":")[3]
    queue = _queue_at(target)
    return queue.region if queue else None


def judge_sink(sink: Values, place: Place, target_place: Place) -> None:
    """Note what does not go together in a sink whose keys fit, each by itself."""
    if sink["type"] is REFUSED:
        return
    rule = TARGETS[sink["type"]]
    if sink["target"] is not REFUSED:
        _judge_target(sink["target"], rule, target_place)
    for name in _OF_SOME_TYPES:
        if sink[name] is not None:
            _judge_key(name, sink, rule, place)
    _judge_limits(sink, rule, place)


def _judge_target(target: str, rule: TargetRule, place: Place) -> None:
    address = rule.read(target)
    if address is None:
        wrong = "is an ARN of something else" if target.startswith("arn:") else "does not fit"
        place.refuse(wrong, f"write {rule.right}, or another type")
    elif not rule.name.fits(address.name):
        wrong = "has a name that the service does not allow"
        place.refuse(wrong, f"write a name of {rule.name.right}")


def _judge_key(name: str, sink: Values, rule: TargetRule, place: Place) -> None:
    if name in rule.keys:
        return
    if name not in rule.fifo_keys:
        owners = [of for of, each in TARGETS.items() if name in (*each.keys, *each.fifo_keys)]
        place.key(name).refuse(f"is of {listed(owners)} only", "drop it")
    elif sink["target"] is not REFUSED and not is_fifo(sink["target"]):
        place.key(name).refuse("is set and the target is not FIFO", "drop it, or write a .fifo one")


def _judge_limits(sink: Values, rule: TargetRule, place: Place) -> None:
    for name in ("max_message_bytes", "max_batch_bytes"):
        if isinstance(sink[name], int):
            rule.limit(sink[name], place.key(name))
    message, batch = sink["max_message_bytes"], sink["max_batch_bytes"]
    if isinstance(message, int) and isinstance(batch, int) and message > batch:
        place.key("max_message_bytes").refuse(
            "is over max_batch_bytes", "write no more than a batch may hold"
        )


def judge_sharing(streams: Sequence[Values], sinks: Mapping[str, Values], place: Place) -> None:
    """Note each stream whose changes a FIFO target would drop (G1).

    Two streams that see one event give it one change id, which is its deduplication id.
    """
    fifo = {name: found for name, sink in sinks.items() if (found := _fifo_target(sink))}
    for index, stream in enumerate(streams):
        first = next((i for i in range(index) if _collide(streams[i], stream, fifo)), None)
        if first is not None:
            place.item(index).key("sink").refuse(
                f"is FIFO, and would drop what stream[{first}] has sent it too",
                "give each stream a target of its own, or make them one stream",
            )


def _fifo_target(sink: Values) -> tuple[str | None, ...] | None:
    """Type and address of a FIFO target, None of any other and of one that is refused."""
    if REFUSED in (sink["type"], sink["target"]):
        return None
    rule = TARGETS[sink["type"]]
    address = rule.read(sink["target"])
    if address is None or not rule.fifo_keys or not is_fifo(address.name):
        return None
    return (sink["type"], *address)


def _collide(one: Values, other: Values, fifo: Mapping[str, tuple[str | None, ...]]) -> bool:
    first, second = fifo.get(one["sink"]), fifo.get(other["sink"])
    if not first or not second or not _overlap(first, second):
        return False
    return _overlap(_scope(one), _scope(other))


def _scope(stream: Values) -> tuple[object, object]:
    return stream["database"], stream["collection"]


def _overlap(one: Sequence[object], other: Sequence[object]) -> bool:
    """Whether both may mean one thing: each part is equal, or left out and so any."""
    pairs = list(zip(one, other, strict=True))
    return all(REFUSED not in pair and (None in pair or pair[0] == pair[1]) for pair in pairs)
