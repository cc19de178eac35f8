"""An AWS that takes every message at once: SQS, SNS, EventBridge and Kinesis, for sinks.

    python bench/aws_stub.py [--answer-ms 0]

So that the client and nothing else is measured. It prints its port. `GET /requests` says how many
others there were.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
TARGET = re.compile(rb"x-amz-target: *\w+\.(\w+)", re.IGNORECASE)
SQS_ID = re.compile(rb'"Id": ?"(\d+)"')
SNS_ID = re.compile(rb"\.Id=(\d+)")
TAKEN = "<member><Id>%s</Id><MessageId>m</MessageId></member>"
PUBLISHED = (
    "<PublishBatchResponse><PublishBatchResult><Failed/><Successful>%s</Successful>"
    "</PublishBatchResult></PublishBatchResponse>"
)
PUBLISHED_ONE = (
    "<PublishResponse><PublishResult><MessageId>m</MessageId></PublishResult></PublishResponse>"
)


def answer(operation: str, body: bytes) -> str:
    """What the service says when it has taken everything."""
    match operation:
        case "SendMessageBatch":
            taken = [{"Id": each.decode(), "MessageId": "m"} for each in SQS_ID.findall(body)]
            return json.dumps({"Successful": taken})
        case "PutEvents":
            return json.dumps({"Entries": [{"EventId": "e"}] * body.count(b'"DetailType"')})
        case "PutRecords":
            count = body.count(b'"PartitionKey"')
            return json.dumps({"Records": [{"SequenceNumber": "1", "ShardId": "s"}] * count})
        case "PublishBatch":
            return PUBLISHED % "".join(TAKEN % each.decode() for each in SNS_ID.findall(body))
        case "Publish":
            return PUBLISHED_ONE
        case _:
            return '{"MessageId": "m", "SequenceNumber": "1", "ShardId": "s", "Name": "bus"}'


class Stub:
    """Answers one connection after another, each as long as the client likes."""

    def __init__(self, answer_ms: float) -> None:
        self.requests = 0
        self._answer_s = answer_ms / 1000

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the client closes."""
        try:
            while True:
                answered = self._answered(*await _request(reader))
                if self._answer_s:
                    await asyncio.sleep(self._answer_s)
                writer.write(answered)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answered(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"GET /requests"):
            return _response(str(self.requests))
        self.requests += 1
        target = TARGET.search(head)
        query = re.search(rb"Action=(\w+)", body) if target is None else target
        return _response(answer(query[1].decode() if query else "", body))


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = LENGTH.search(head)
    return head, await reader.readexactly(int(length[1]) if length else 0)


def _response(text: str) -> bytes:
    kind = "text/xml" if text.startswith("<") else "application/x-amz-json-1.1"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n\r\n"
    return (head + text).encode()


async def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--answer-ms", type=float, default=0, help="as a network would take")
    stub = Stub(parser.parse_args().answer_ms)
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0, limit=2**24)
    print(f"stub listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
