"""Every kind of sink, on a service in memory or on any client, with faults entry by entry."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from bson.timestamp import Timestamp

from tidemark.claimcheck import ClaimCheck
from tidemark.model import Batch, Change
from tidemark.settings import SinkSettings
from tidemark.sinks.bulk import BulkSink
from tidemark.sinks.destinations import target_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ACCOUNT = "123456789012"
TARGETS = {
    "sqs": f"arn:aws:sqs:us-east-1:{ACCOUNT}:q",
    "sqs-fifo": f"arn:aws:sqs:us-east-1:{ACCOUNT}:q.fifo",
    "sns": f"arn:aws:sns:us-east-1:{ACCOUNT}:t",
    "sns-fifo": f"arn:aws:sns:us-east-1:{ACCOUNT}:t.fifo",
    "eventbridge": "bus",
    "kinesis": "stream",
}
KINDS = list(TARGETS)
IN_ORDER = [kind for kind in KINDS if kind.endswith("fifo") or kind == "kinesis"]
PER_REQUEST = {kind: 500 if kind == "kinesis" else 10 for kind in KINDS}


class Fate(StrEnum):
    """What becomes of one entry of a request."""

    TAKEN = "taken"
    THROTTLED = "throttled"  # not taken, and said so
    REJECTED = "rejected"  # for ever, and said so
    MISJUDGED = "misjudged"  # taken, and called throttled
    UNANSWERED = "unanswered"  # taken, and missing in the answer


THROTTLED = "ThrottlingException"
KEPT = (Fate.TAKEN, Fate.MISJUDGED, Fate.UNANSWERED)
CODES = {Fate.REJECTED: "InvalidArgument"}  # EventBridge's
CODES_BY_ID = {Fate.REJECTED: "InvalidParameterValue"}


class Fates:
    """The fate of each entry in the order of their arrival; taken when the list is over.

    `always` names changes by id whose fate is fixed.
    """

    def __init__(self, fates: Iterable[Fate] = (), always: dict[str, Fate] | None = None) -> None:
        self._fates: Iterator[Fate] = iter(fates)
        self._always = always or {}

    def of(self, entry: dict[str, Any]) -> Fate:
        """The next entry's."""
        return self._always.get(change_id_of(entry)) or next(self._fates, Fate.TAKEN)


class Memory:
    """The bulk operation of every service, which takes everything."""

    def __init__(self) -> None:
        events = SimpleNamespace(register=lambda *_: None)
        self.meta = SimpleNamespace(endpoint_url="http://sqs.invalid", events=events)
        self.taken: list[dict[str, Any]] = []

    def send_message_batch(self, *, QueueUrl: str, Entries: Any) -> Any:  # noqa: ARG002, N803
        return self._by_id(Entries)

    def publish_batch(self, *, TopicArn: str, PublishBatchRequestEntries: Any) -> Any:  # noqa: ARG002, N803
        return self._by_id(PublishBatchRequestEntries)

    def describe_event_bus(self, *, Name: str) -> Any:  # noqa: N803
        return {"Name": Name}

    def put_events(self, *, Entries: Any) -> Any:  # noqa: N803
        self.taken += Entries
        return {"Entries": [{"EventId": "1"} for _ in Entries]}

    def put_records(self, *, Records: Any, StreamName: str) -> Any:  # noqa: ARG002, N803
        self.taken += Records
        return {"Records": [{"SequenceNumber": "1"} for _ in Records]}

    def _by_id(self, entries: Any) -> Any:
        self.taken += entries
        return {"Successful": [{"Id": each["Id"]} for each in entries]}


@dataclass
class Faulty:
    """A client whose bulk operation fails in part; everything else is the inner client's.

    `requests` holds the entries of each request. `errors` are raised first, one a request.
    """

    client: Any
    fates: Fates = field(default_factory=Fates)
    errors: list[Exception] = field(default_factory=list)
    requests: list[list[dict[str, Any]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def send_message_batch(self, **request: Any) -> Any:
        return self._by_id(self.client.send_message_batch, "Entries", request)

    def publish_batch(self, **request: Any) -> Any:
        return self._by_id(self.client.publish_batch, "PublishBatchRequestEntries", request)

    def put_events(self, **request: Any) -> Any:
        return self._by_place(self.client.put_events, "Entries", request)

    def put_records(self, **request: Any) -> Any:
        return self._by_place(self.client.put_records, "Records", request)

    def _judged(self, entries: Any) -> list[tuple[dict[str, Any], Fate]]:
        self.requests.append(entries)
        if self.errors:
            raise self.errors.pop(0)
        return [(entry, self.fates.of(entry)) for entry in entries]

    def _by_id(self, operation: Any, name: str, request: dict[str, Any]) -> Any:
        with self.lock:
            judged = self._judged(request[name])
            kept = [entry for entry, fate in judged if fate in KEPT]
            answer = operation(**request | {name: kept}) if kept else {}
        told = {entry["Id"] for entry, fate in judged if fate is Fate.TAKEN}
        return {
            "Successful": [each for each in answer.get("Successful", ()) if each["Id"] in told],
            "Failed": [
                {
                    "Id": entry["Id"],
                    "Code": CODES_BY_ID.get(fate, THROTTLED),
                    "SenderFault": fate is Fate.REJECTED,
                }
                for entry, fate in judged
                if fate not in (Fate.TAKEN, Fate.UNANSWERED)
            ],
        }

    def _by_place(self, operation: Any, name: str, request: dict[str, Any]) -> Any:
        """An answer by place cannot leave one out: it ends before the first without an answer."""
        with self.lock:
            judged = self._judged(request[name])
            kept = [entry for entry, fate in judged if fate in KEPT]
            taken = iter(operation(**request | {name: kept})[name] if kept else ())
        answers = []
        for _, fate in judged:
            answer = next(taken) if fate in KEPT else None
            code = CODES.get(fate, THROTTLED)
            answers.append(answer if fate is Fate.TAKEN else {"ErrorCode": code})
        fates = [fate for _, fate in judged]
        end = fates.index(Fate.UNANSWERED) if Fate.UNANSWERED in fates else len(fates)
        return {name: answers[:end]}


class Clock:
    """Time that passes by what is slept, for all threads together."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._lock = threading.Lock()

    def monotonic_s(self) -> float:
        return self.now_s

    def time_ms(self) -> int:
        return int(self.now_s * 1000)

    def sleep_s(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        with self._lock:
            self.now_s += seconds


class Bucket:
    """Keeps objects; raises `errors` first, takes `put_s` each on `clock`, meets at `together`."""

    def __init__(
        self,
        *,
        errors: list[Exception] | None = None,
        clock: Any = None,
        put_s: float = 0,
        together: threading.Barrier | None = None,
    ) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts = 0
        self._errors = errors or []
        self._clock = clock or Clock()
        self._put_s = put_s
        self._together = together

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str) -> None:  # noqa: ARG002, N803
        self.puts += 1
        self._clock.sleep_s(self._put_s)
        if self._together is not None:
            self._together.wait()
        if self._errors:
            raise self._errors.pop(0)
        self.objects[Key] = Body

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: ARG002, N803
        held = self.objects[Key]
        return {"Body": type("Stream", (), {"read": lambda _: held})()}


def sink_settings(kind: str, **given: Any) -> SinkSettings:
    values = {"name": "out", "type": kind.partition("-")[0], "target": TARGETS[kind]}
    return SinkSettings(**values | given)


def sink_on(
    client: Any, settings: SinkSettings, *, clock: Any = None, s3: Any = None, bucket: str = "b"
) -> BulkSink:
    return BulkSink(
        settings,
        lambda: target_of(settings, lambda _service, _region: client),
        ClaimCheck(bucket, lambda: s3),
        clock or Clock(),
    )


def change(number: int, key: object = None, **fields: Any) -> dict[str, Any]:
    """An insert; each `number` is a change of its own."""
    return {
        "_id": {"_data": f"{number:08X}"},
        "operationType": "insert",
        "clusterTime": Timestamp(1_700_000_000, number + 1),
        "ns": {"db": "shop", "coll": "orders"},
        "documentKey": {"_id": number if key is None else key},
        "fullDocument": {"_id": number if key is None else key, "n": number},
    } | fields


def batch_of(changes: Sequence[Change]) -> Batch:
    return Batch("orders", changes, 1)


def change_id_of(entry: dict[str, Any]) -> str:
    """The change id that an entry of any service carries."""
    if "MessageAttributes" in entry:
        return str(entry["MessageAttributes"]["changeId"]["StringValue"])
    body = json.loads(entry.get("Detail") or entry["Data"])
    return str(body["tidemark"]["changeId"] if "tidemark" in body else body["id"])


def ids(entries: Iterable[dict[str, Any]]) -> list[str]:
    return [change_id_of(entry) for entry in entries]


def first_places(names: Sequence[str]) -> dict[str, int]:
    """Where each name stands first."""
    return {name: place for place, name in reversed(list(enumerate(names)))}


def client_error(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "Send",
    )


def sizes(requests: Sequence[Sequence[Any]]) -> Counter[int]:
    return Counter(map(len, requests))
