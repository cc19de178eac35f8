"""A body written by us says what botocore's own serializer would have said."""

from __future__ import annotations

import json
import re
import urllib.parse
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from sink_kinds import KINDS, batch_of, change, sink_on, sink_settings
from tidemark.sinks.wire import quoted

SERVICES = {"sqs": "sqs", "sns": "sns", "eventbridge": "events", "kinesis": "kinesis"}
CHANGES = [
    change(0),
    change(1, "é/🦉", fullDocument={"text": 'a"b & c=d + 100%\u2028\ufffe'}),
    change(2, operationType="drop", documentKey=None),
]


class Recorded(Exception):
    """The request was made; there is nobody to send it to."""


def client_of(kind: str) -> tuple[Any, list[Any]]:
    """A real client whose requests end where they would be sent."""
    requests: list[Any] = []
    client: Any = boto3.client(  # type: ignore[call-overload]
        SERVICES[kind.partition("-")[0]],
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )

    def record(request: Any, **_: Any) -> None:
        requests.append(request)
        raise Recorded

    if kind == "eventbridge":
        client.describe_event_bus = lambda Name: {"Name": Name}  # noqa: N803
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
    signed = {name: headers[name] for name in headers if name.lower() in told[1].split(";")}
    again = AWSRequest(sent.method, sent.url, headers=signed, data=sent.body)
    again.context["timestamp"] = headers["X-Amz-Date"]
    auth = SigV4Auth(Credentials("a", "b"), SERVICES[kind.partition("-")[0]], "us-east-1")
    string_to_sign = auth.string_to_sign(again, auth.canonical_request(again))
    assert auth.signature(string_to_sign, again) == told[2]
    assert int(headers["Content-Length"]) == len(sent.body)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@given(text=st.text(st.characters(codec="utf-8")))
@settings(derandomize=True, deadline=None, max_examples=300, database=None)
def test_a_value_is_quoted_as_the_library_quotes_it(text: str) -> None:
    assert quoted(text) == urllib.parse.quote(text, safe="")
