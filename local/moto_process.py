"""moto's server as a process of its own: `python moto_process.py HOST PORT`, 0 for a free port.

It prints its address. What moto's own command lacks is a lock: DynamoDB's conditional writes are
atomic, and moto checks and writes in two steps that its threads can interleave. Two runs could
then both acquire one lease, and a test would blame Tidemark for it.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def one_at_a_time(application: WSGIApplication) -> WSGIApplication:
    """Serialise requests to DynamoDB; others may wait (SQS polls) without holding it up."""
    lock = threading.Lock()

    def serialised(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not environ.get("HTTP_X_AMZ_TARGET", "").startswith("DynamoDB"):
            return application(environ, start_response)
        with lock:
            return application(environ, start_response)

    return serialised


class QuietHandler(MotoRequestHandler):
    """Writes no line a request: the log would grow by 200 lines a second."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


def main(host: str, port: int) -> None:
    """Serve until the process is ended."""
    application = one_at_a_time(DomainDispatcherApplication(create_backend_app))
    server = make_server(host, port, application, threaded=True, request_handler=QuietHandler)
    print(f"moto listening on {host}:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
