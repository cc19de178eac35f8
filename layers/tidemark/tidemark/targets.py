"""What may be the target of a sink of each type; no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidemark.rules import REFUSED, Place, listed, matching

_REGION = r"[a-z0-9-]+"


@dataclass(frozen=True, slots=True)
class TargetRule:
    """How a target of one type is written, and which keys its sink has beyond everyone's.

    `fifo_keys` are of targets whose name ends in .fifo only.
    """

    right: str
    patterns: tuple[str, ...]
    keys: tuple[str, ...] = ()
    fifo_keys: tuple[str, ...] = ()

    def fits(self, target: str) -> bool:
        """Whether `target` is written as one of this type."""
        return any(matching(pattern)(target) for pattern in self.patterns)


def _arn(service: str, resource: str) -> str:
    return rf"arn:aws[a-z-]*:{service}:{_REGION}:\d{{12}}:{resource}"


TARGETS: Mapping[str, TargetRule] = {
    "sqs": TargetRule(
        "the queue's URL or ARN",
        (_arn("sqs", r"[\w-]+(\.fifo)?"), r"https?://[^\s/]+/\S+"),
        fifo_keys=("group",),
    ),
    "sns": TargetRule("the topic's ARN", (_arn("sns", r"[\w-]+(\.fifo)?"),), fifo_keys=("group",)),
    "eventbridge": TargetRule(
        "the bus's name or ARN",
        (_arn("events", r"event-bus/[\w./-]+"), r"[A-Za-z0-9_.\-/]{1,256}"),
        keys=("source", "detail_type", "cloudevents"),
    ),
    "kinesis": TargetRule(
        "the data stream's name or ARN",
        (_arn("kinesis", r"stream/[\w.-]+"), r"[A-Za-z0-9_.\-]{1,128}"),
    ),
}
_OF_SOME_TYPES = ("group", "source", "detail_type", "cloudevents")


def is_fifo(target: str) -> bool:
    """Whether a queue or topic is FIFO: AWS requires the suffix of one and forbids it otherwise."""
    return target.endswith(".fifo")


def region_of(target: str) -> str | None:
    """The region in a target's ARN or queue URL, None where it does not say."""
    if target.startswith("arn:"):
        return target.split(":")[3]
    host = matching(rf"https://sqs\.({_REGION})\.amazonaws\.[a-z.]+/.*")(target)
    return None if host is None else str(host[1])  # type: ignore[index]


def judge_sink(sink: Mapping[str, Any], place: Place) -> None:
    """Note what does not go together in a sink whose keys fit, each by itself."""
    if REFUSED in (sink["type"], sink["target"]):
        return
    rule = TARGETS[sink["type"]]
    if not rule.fits(sink["target"]):
        is_arn = sink["target"].startswith("arn:")
        wrong = "is an ARN of something else" if is_arn else "does not fit"
        place.key("target").refuse(wrong, f"write {rule.right}, or another type")
    for name in _OF_SOME_TYPES:
        if sink[name] is not None:
            _judge_key(name, sink, rule, place)
    _judge_limits(sink, place)


def _judge_key(name: str, sink: Mapping[str, Any], rule: TargetRule, place: Place) -> None:
    if name in rule.keys or (name in rule.fifo_keys and is_fifo(sink["target"])):
        return
    if name in rule.fifo_keys:
        place.key(name).refuse("is set and the target is not FIFO", "drop it, or write a .fifo one")
        return
    owners = [of for of, each in TARGETS.items() if name in (*each.keys, *each.fifo_keys)]
    place.key(name).refuse(f"is of {listed(owners)} only", "drop it")


def _judge_limits(sink: Mapping[str, Any], place: Place) -> None:
    message, batch = sink["max_message_bytes"], sink["max_batch_bytes"]
    if isinstance(message, int) and isinstance(batch, int) and message > batch:
        place.key("max_message_bytes").refuse(
            "is over max_batch_bytes", "write no more than a batch may hold"
        )
