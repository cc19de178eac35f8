"""A DynamoDB that answers UpdateItem at once: one item a stream, no condition is judged.

    python bench/dynamodb_stub.py

So that Tidemark's real checkpoint store, its SDK and its HTTP are in a measurement, and no server's
work is. It prints its port.
"""

from __future__ import annotations

import argparse
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from stalls import Stalls

ASSIGNMENT = re.compile(r"(#?\w+) = (?:if_not_exists\((\w+), \S+\) \+ )?(:\w+)")
Item = dict[str, Any]


def updated(item: Item, request: dict[str, Any]) -> Item:
    """The item after the SET clauses of an UpdateExpression; REMOVE is left out."""
    names = request.get("ExpressionAttributeNames", {})
    values = request["ExpressionAttributeValues"]
    after = dict(item)
    for name, added_to, value in ASSIGNMENT.findall(request["UpdateExpression"]):
        after[names.get(name, name)] = _value(item.get(added_to), values[value])
    return after


def _value(added_to: Any, value: Any) -> Any:
    if added_to is None:
        return value
    return {"N": str(int(added_to["N"]) + int(value["N"]))}


class Handler(BaseHTTPRequestHandler):
    """One connection of an SDK, kept open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one packet
    items: ClassVar[dict[str, Item]] = {}
    stalls: ClassVar[Stalls] = Stalls()

    def do_POST(self) -> None:
        """Answer UpdateItem with the old item, as for ALL_OLD."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.stalls.suffer()
        stream = request["Key"]["stream"]["S"]
        old = self.items.get(stream, {})
        self.items[stream] = updated(old, request)
        body = json.dumps({"Attributes": old}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Server(ThreadingHTTPServer):
    """Listens for SDKs."""

    request_queue_size = 128


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    Stalls.add_arguments(parser)
    Handler.stalls = Stalls.of(parser.parse_args())
    with Server(("127.0.0.1", 0), Handler) as server:
        print(f"dynamodb stub listening on 127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
