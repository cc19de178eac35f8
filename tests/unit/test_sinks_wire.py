"""A body written by us says what botocore's own serializer would have said."""

from __future__ import annotations

import io
import json
import re
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse, HTTPHeaders
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3 import HTTPResponse

from sink_kinds import KINDS, Memory, batch_of, change, sink_on, sink_settings
from tidemark.sinks.destinations import CLIENT, target_of
from tidemark.sinks.refusals import SDK_ERRORS, failure_of
from tidemark.sinks.wire import as_form, host_of

TEXT = st.text(st.characters(codec="utf-8"))
SERVICES = {"sqs": "sqs", "sns": "sns", "eventbridge": "events", "kinesis": "kinesis"}
CHANGES = [
    change(0),
    change(1, "é/🦉", fullDocument={"text": 'a"b & c=d + 100%\u2028\ufffe'}),
    change(2, operationType="drop", documentKey=None),
]


class Recorded(Exception):
    """The request was made; there is nobody to send it to."""


def real_client(kind: str, **options: Any) -> Any:
    made: Any = boto3.client(  # type: ignore[call-overload]
        SERVICES[kind.partition("-")[0]],
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        **options,
    )
    if kind == "eventbridge":
        made.describe_event_bus = lambda Name: {"Name": Name}  # noqa: N803
    return made


def client_of(kind: str) -> tuple[Any, list[Any]]:
    """A real client whose requests end where they would be sent."""
    requests: list[Any] = []
    client = real_client(kind)

    def record(request: Any, **_: Any) -> None:
        requests.append(request)
        raise Recorded

    client.meta.events.register("before-send", record)
    return client, requests


def parsed(body: Any) -> Any:
    text = body.decode() if isinstance(body, bytes) else body
    if text.startswith("{"):
        return json.loads(text)
    return dict(urllib.parse.parse_qsl(text, keep_blank_values=True))


def sent_by(client: Any, requests: list[Any], kind: str) -> Any:
    with pytest.raises(Recorded):
        sink_on(client, sink_settings(kind, concurrency=1)).deliver(batch_of(CHANGES), deadline_s=9)
    return requests.pop()


@pytest.mark.parametrize("kind", KINDS)
def test_the_service_cannot_tell_who_wrote_the_body(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = sent_by(*client_of(kind), kind)
    for module in ("sqs", "sns", "eventbridge", "kinesis"):
        monkeypatch.setattr(f"tidemark.sinks.{module}.write_bodies", lambda *_: None)
    theirs = sent_by(*client_of(kind), kind)
    assert parsed(ours.body) == parsed(theirs.body)
    for name in ("Content-Type", "X-Amz-Target"):
        assert ours.headers.get(name) == theirs.headers.get(name)
    assert (ours.url, ours.method) == (theirs.url, theirs.method)


@pytest.mark.parametrize("kind", KINDS)
def test_the_signature_is_of_the_body_that_is_sent(kind: str) -> None:
    """A service refuses any other; the embedded AWS does not look."""
    sent = sent_by(*client_of(kind), kind)
    headers = {name: _text(value) for name, value in sent.headers.items()}
    told = re.search(r"SignedHeaders=([^,]+), Signature=(\w+)", headers.pop("Authorization"))
    assert told is not None
    names = set(told[1].split(";")) - {"host"}  # which botocore takes out of the URL by itself
    signed = {name: headers[name] for name in headers if name.lower() in names}
    again = AWSRequest(sent.method, sent.url, headers=signed, data=sent.body)
    again.context["timestamp"] = headers["X-Amz-Date"]
    auth = SigV4Auth(Credentials("a", "b"), SERVICES[kind.partition("-")[0]], "us-east-1")
    string_to_sign = auth.string_to_sign(again, auth.canonical_request(again))
    assert auth.signature(string_to_sign, again) == told[2]
    assert int(headers["Content-Length"]) == len(sent.body)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://sqs.us-east-1.amazonaws.com/", "sqs.us-east-1.amazonaws.com"),
        ("https://SNS.example:443/", "sns.example"),
        ("https://sns.example:80/", "sns.example:80"),
        ("http://sns.example:80", "sns.example"),
        ("http://user:secret@127.0.0.1:5000/", "127.0.0.1:5000"),
        ("http://[::1]:4566/", "[::1]:4566"),
        ("https://vpce-1.kinesis.example", "vpce-1.kinesis.example"),
    ],
)
def test_the_host_is_named_as_the_signature_has_it(url: str, expected: str) -> None:
    auth = SigV4Auth(Credentials("a", "b"), "sqs", "us-east-1")
    assert host_of(url) == expected == auth.headers_to_sign(AWSRequest("POST", url))["host"]


def test_streams_that_share_a_client_prepare_it_one_at_a_time() -> None:
    """G1: its events take no threads, and a handler lost fails every delivery of the container."""
    met = threading.Barrier(2)

    def register(*_: Any) -> None:
        with suppress(threading.BrokenBarrierError):
            met.wait(timeout=0.1)
            raise AssertionError("two at once")

    client = Memory()
    client.meta.events.register = register
    with ThreadPoolExecutor(2) as pool:
        made = [
            pool.submit(target_of, sink_settings("sqs"), lambda _service, _region: client)
            for _ in range(2)
        ]
    assert [each.result().limits.entries for each in made] == [10, 10]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@given(pairs=st.lists(st.tuples(TEXT, TEXT)))
@settings(derandomize=True, deadline=None, max_examples=300, database=None)
def test_a_form_is_as_the_library_writes_it(pairs: list[tuple[str, str]]) -> None:
    theirs = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    assert as_form(pairs).decode() == theirs


def member(**fields: str) -> str:
    return (
        f"<member>{''.join(f'<{name}>{text}</{name}>' for name, text in fields.items())}</member>"
    )


def published(failed: str, taken: str) -> bytes:
    """As SNS answers."""
    return f"""<PublishBatchResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/">
        <PublishBatchResult>{failed}<Successful>{taken}</Successful></PublishBatchResult>
        <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>
    </PublishBatchResponse>""".encode()


TAKEN = member(Id="0", MessageId="m") + member(MessageId="m", Id="2")
FAILED = f"<Failed>{member(Id='1', Code='InvalidParameter', SenderFault='true')}</Failed>"
BLAMED = {"Id": "1", "Code": "InvalidParameter", "SenderFault": True}
JSON_ANSWERS: dict[str, list[Any]] = {
    "sqs": [
        {"Successful": [{"Id": each, "MessageId": "m"} for each in "012"]},
        {"Successful": [{"Id": "2", "MessageId": "m"}], "Failed": [BLAMED]},
        {"Successful": [], "Failed": None},
        {},
    ],
    "eventbridge": [
        {"Entries": [{"EventId": "e"}, {"ErrorCode": "InternalFailure"}, {"EventId": "e"}]},
        {"Entries": [{"EventId": "e", "ErrorCode": None}]},
    ],
    "kinesis": [{"Records": [{"ShardId": "s"}, {"ErrorCode": "InternalFailure"}]}],
}
REFUSED = b'{"__type": "AccessDeniedException"}'
ANSWERS = [
    *(
        (kind, 200, json.dumps(each).encode())
        for kind in JSON_ANSWERS
        for each in JSON_ANSWERS[kind]
    ),
    ("sns", 200, published("<Failed/>", TAKEN)),
    ("sns", 200, published("<Failed></Failed>", TAKEN)),
    ("sns", 200, published(FAILED, TAKEN)),
    ("sns", 200, published("<Failed/>", "")),
    *((kind, 200, b"<html>a proxy") for kind in SERVICES),
    *((kind, 400, REFUSED) for kind in JSON_ANSWERS),
]
ENTRIES: dict[str, dict[str, Any]] = {
    "sqs": {"MessageBody": "{}", "MessageAttributes": {}},
    "sns": {"Message": "{}", "MessageAttributes": {}},
    "eventbridge": {},
    "kinesis": {"Data": b"{}", "PartitionKey": "0"},
}


def told(kind: str, status: int, body: bytes) -> Any:
    """What a target makes of an answer to three entries: one each, or the SDK's error."""
    client = real_client(kind, config=CLIENT)

    def answer(request: Any, **_: Any) -> AWSResponse:
        raw = HTTPResponse(io.BytesIO(body), preload_content=False)
        return AWSResponse(request.url, status, HTTPHeaders(), raw)

    client.meta.events.register("before-send", answer)
    target = target_of(sink_settings(kind), lambda _service, _region: client)
    try:
        return target.send([ENTRIES[kind] | _id_of(kind, each) for each in range(3)])
    except SDK_ERRORS as error:
        return failure_of(error)


def _id_of(kind: str, place: int) -> dict[str, str]:
    return {"Id": str(place)} if kind in ("sqs", "sns") else {}


@pytest.mark.parametrize(("kind", "status", "body"), ANSWERS)
def test_an_answer_says_what_the_sdk_would_have_read_in_it(
    kind: str, status: int, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = told(kind, status, body)
    monkeypatch.setattr(f"tidemark.sinks.{kind}.read_answers", lambda *_: None)
    assert ours == told(kind, status, body)
