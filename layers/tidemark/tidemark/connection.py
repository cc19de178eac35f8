"""What a stored secret may hold; pure."""

import json

from tidemark.errors import ConfigError

SCHEMES = ("mongodb://", "mongodb+srv://")
SHAPES = 'store a connection string (mongodb://… or mongodb+srv://…), or JSON with a "uri" key'


def connection_string(value: str | None, where: str) -> str:
    """The connection string in a secret's value: all of it, or the `uri` of a JSON object.

    Raises ConfigError, naming `where` the secret is configured and never its value (G8).
    """
    uri = _uri_of(value or "")
    if not isinstance(uri, str) or not uri.startswith(SCHEMES):
        raise ConfigError([f"{where}: the secret's value is no connection string; {SHAPES}"])
    return uri


def _uri_of(value: str) -> object:
    if not value.lstrip().startswith("{"):
        return value.strip()
    try:
        return json.loads(value).get("uri")
    except json.JSONDecodeError:
        return None
