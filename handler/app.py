"""Composition root: what is made once a container, and the function that Lambda calls."""

import os
from pathlib import Path
from typing import Any

from aws_lambda_powertools import Logger

from deliver import deliver
from tidemark import aws, config
from tidemark.invocation import LambdaContext, Tidemark
from tidemark.mongodb.source import MongoSource
from tidemark.sinks.function import FunctionSink
from tidemark.telemetry import StreamTelemetry, log_connected

settings = config.load(os.environ, Path(__file__).with_name("streams.toml"))
logger = Logger()
tidemark = Tidemark(
    settings=settings,
    source=MongoSource(settings, aws.connection_string(settings), log_connected(logger)),
    store=aws.checkpoints(settings),
    dead_letters=aws.dead_letters(settings),
    sinks=aws.sinks(settings) | {"deliver": FunctionSink(deliver)},
    telemetry_of=lambda stream: StreamTelemetry(logger, stream),
)


@logger.inject_lambda_context
def lambda_handler(event: Any, context: LambdaContext) -> dict[str, Any]:
    """Run the streams that `event` names, all if it names none; see docs/configuration.md."""
    return tidemark.handle(event, context)
