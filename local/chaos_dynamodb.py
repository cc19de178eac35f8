"""A DynamoDB that misbehaves: a proxy before the embedded one, and witness of what it accepted.

Answers are lost on their way back or requests on their way there, some are throttled, some fail.
What the table really took is noted before the answer can be lost: nobody else could tell.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from chaos_verdict import Stored

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping

    import aws

FAULTY = 0.04  # of the requests
SILENT_S = 1.2  # a little more than the function waits for an answer
FORWARDED = {"content-type", "x-amz-target", "authorization", "x-amz-date"}


class Fault(StrEnum):
    """What may happen to a request."""

    ANSWER_LOST = "answer lost"  # applied
    REQUEST_LOST = "request lost"
    SILENCE = "silence"  # not applied, and no answer in time
    THROTTLED = "ProvisionedThroughputExceededException"
    ERROR = "InternalServerError"


STATUS = {Fault.THROTTLED: 400, Fault.ERROR: 500}


@dataclass
class Misfortune:
    """Decides over requests, and keeps what was accepted, by stream and in order."""

    upstream: aws.Server
    chance: random.Random
    share: float = FAULTY
    faults: int = 0
    accepted: dict[str, list[Stored]] = field(default_factory=dict)
    _one: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self) -> Fault | None:
        """What happens to the next request."""
        with self._one:
            if self.chance.random() >= self.share:
                return None
            self.faults += 1
            return self.chance.choice(list(Fault))

    def forward(self, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """One request at a time, so that what is noted is in the order of what happened."""
        with self._one:
            status, answer_headers, answer = self._send(headers, body)
            if status == 200:
                self._note(json.loads(body), answer)
            return status, answer_headers, answer

    def _send(self, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.upstream.host, self.upstream.port, timeout=10)
        kept = {name: value for name, value in headers.items() if name.lower() in FORWARDED}
        try:
            connection.request("POST", "/", body, kept)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def _note(self, request: Any, answer: bytes) -> None:
        if "UpdateExpression" in request:
            stored = stored_by(request, json.loads(answer))
            self.accepted.setdefault(request["Key"]["stream"]["S"], []).append(stored)


def stored_by(request: Any, answer: Any) -> Stored:
    """What an accepted update did: took the lease, or stored something for its holder."""
    values = request["ExpressionAttributeValues"]
    if ":mine" not in values:
        before = answer.get("Attributes", {}).get("fencing_token", {"N": "0"})
        return Stored(int(before["N"]) + 1, acquired=True)
    token = values.get(":resume_token", {}).get("S")
    # A change's id is the hash of its token; another token's hash is no change's id.
    change_id = hashlib.sha256(token.encode()).hexdigest() if token else None
    return Stored(int(values[":mine"]["N"]), change_id, has_position=":position_use" in values)


@contextmanager
def serve(misfortune: Misfortune) -> Iterator[str]:
    """The proxy's address, for the length of the block."""
    handler = type("Handler", (_Handler,), {"misfortune": misfortune})
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A killed container closes its connections: nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    misfortune: Misfortune

    def do_POST(self) -> None:
        """Forward the request, unless something happens to it."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fault = self.misfortune.next_fault()
        if fault in STATUS:
            self._refuse(fault)
        elif fault in (Fault.REQUEST_LOST, Fault.SILENCE):
            time.sleep(SILENT_S if fault is Fault.SILENCE else 0)
            self.close_connection = True
        else:
            self._forward(body, lost=fault is Fault.ANSWER_LOST)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _forward(self, body: bytes, *, lost: bool) -> None:
        status, headers, answer = self.misfortune.forward(dict(self.headers.items()), body)
        if lost:
            self.close_connection = True
            return
        self._answer(status, headers, answer)

    def _refuse(self, fault: Fault) -> None:
        body = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{fault}", "message": "x"})
        headers = {"Content-Type": "application/x-amz-json-1.0"}
        self._answer(STATUS[fault], headers, body.encode())

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "connection", "date", "server"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
