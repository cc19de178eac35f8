"""streams.toml and the environment become frozen settings; the only reader of either.

Both are judged whole, once, at cold start: `load` returns settings without a mistake in them, or
raises one `ConfigError` that names every mistake with the path of its field and what would be
right (G9). No value is repeated in a message, for any of them may be a secret (G8).
"""

import contextlib
import dataclasses
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from tidemark.errors import ConfigError
from tidemark.rules import (
    REFUSED,
    Misplaced,
    Place,
    Rule,
    Seconds,
    Whole,
    kind,
    listed,
    read_table,
    suggestion,
)
from tidemark.settings import (
    KNOWN_SINKS,
    STACK_SINK,
    Settings,
    SinkSettings,
    StreamSettings,
    Variable,
    is_namespace,
)
from tidemark.targets import judge_sharing, judge_sink

__all__ = ["Settings", "StreamSettings", "load", "parse", "select"]

Values = dict[str, Any]  # a dataclass's fields by name: accepted, or REFUSED

_TABLES = ("run", "defaults", "stream", "sinks")
_STACK_FIELDS = {"type": "sink_type", "target": "sink_target"}  # a sink's: those of Settings
_OF_ONE_STREAM = ("name", "database", "collection")  # the keys that [defaults] cannot hold


def load(environ: Mapping[str, str], default_path: Path) -> Settings:
    """Read this container's settings, from the file TIDEMARK_STREAMS or else `default_path`.

    Raises: ConfigError, with every mistake of the file and of the environment.
    """
    problems: list[str] = []
    chosen = environ.get("TIDEMARK_STREAMS")
    path = Path(chosen or default_path)
    file = Place(f"{path.name}:", problems)
    text = _text_of(path, _environment(problems).key("TIDEMARK_STREAMS") if chosen else file)
    return _settings(_document(text, file), environ, file, _is_file)


def parse(
    text: str,
    environ: Mapping[str, str],
    file_name: str = "streams.toml",
    is_file: Callable[[Path], bool] = lambda _: True,
) -> Settings:
    """Judge `text` and `environ` as settings; `is_file` answers for the CA file they name.

    Raises: ConfigError, with every mistake of both.
    """
    file = Place(f"{file_name}:")
    return _settings(_document(text, file), environ, file, is_file)


def select(settings: Settings, event: object) -> tuple[StreamSettings, ...]:
    """Pick the streams that an invocation's event names, in its order; all if it names none.

    Raises: ConfigError, with every mistake of the event.
    """
    place = Place("event")
    known = {stream.name: stream for stream in settings.streams}
    if not isinstance(event, dict):
        place.refuse(f"is {kind(event)}", 'send an object: {} or {"streams": ["<name>"]}')
    elif "streams" in event:
        known = _named(event["streams"], known, place.key("streams"))
    _raise_if_any(place.problems)
    return tuple(known.values())


def _named(
    names: object, known: Mapping[str, StreamSettings], place: Place
) -> dict[str, StreamSettings]:
    if not isinstance(names, list) or not names:
        found = "an empty list" if names == [] else kind(names)
        place.refuse(f"is {found}", f"list one or more of {listed(known)}, or leave it out")
        return {}
    for index, name in enumerate(names):
        if not isinstance(name, str) or name not in known:
            place.item(index).refuse("is no stream's name", f"write {listed(known)}")
        elif name in names[:index]:
            place.item(index).refuse("repeats a name", "name each stream once")
    return {name: known[name] for name in names if isinstance(name, str) and name in known}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # its message would repeat the path: a certificate, where one was pasted
        return False


def _text_of(path: Path, place: Place) -> str | None:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        place.refuse(f"cannot be read ({error.strerror})", "name a readable file of streams")
    except UnicodeDecodeError as error:
        place.refuse(f"is not UTF-8 (at byte {error.start})", "save the file as UTF-8")
    return None


def _document(text: str | None, file: Place) -> Mapping[str, Any] | None:
    """Read the file's tables, or None if it is not TOML."""
    if text is None:
        return None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        file.refuse(f"is not TOML: {error}", "mend this place")
    except RecursionError:
        file.refuse("is nested too deeply", "write fewer levels")
    return None


def _settings(
    document: Mapping[str, Any] | None,
    environ: Mapping[str, str],
    file: Place,
    is_file: Callable[[Path], bool],
) -> Settings:
    """Judge everything before refusing anything; without a document, the environment alone."""
    environment = _environment(file.problems)
    given = _run(document or {}, file) | _variables(environ, environment)
    values = _defaults(Settings) | given
    sinks = _sinks((document or {}).get("sinks", {}), values, file)
    streams = _streams(document, sinks, file) if document is not None else []
    _judge_connection(values, environment, is_file)
    _judge_waiting(values, environ, file)
    _judge_dead_letters(values, streams, environment)
    _judge_claim_checks(values, sinks, environment)
    _raise_if_any(file.problems)
    values["sinks"] = tuple(SinkSettings(name=name, **sink) for name, sink in sinks.items())
    values["streams"] = tuple(StreamSettings(**stream) for stream in streams)
    return Settings(**values)


def _environment(problems: list[str]) -> Place:
    return Place("environment:", problems)


def _raise_if_any(problems: Sequence[str]) -> None:
    if problems:
        raise ConfigError(problems)


def _run(document: Mapping[str, Any], file: Place) -> Values:
    for name in document:
        if name not in _TABLES:
            file.key(name).refuse("is not a known table", suggestion(name, _TABLES))
    rules = {
        name: rule
        for name, rule in _rules(Settings).items()
        if _variable(Settings, name).table == "run"
    }
    return read_table(document.get("run", {}), rules, file.key("run"))


def _variables(environ: Mapping[str, str], environment: Place) -> Values:
    """Read the fields that the environment sets; an empty variable counts as unset."""
    values = {}
    for name, rule in _rules(Settings).items():
        variable = _variable(Settings, name).name
        if text := environ.get(variable):
            values[name] = rule(_from_text(text, rule), environment.key(variable))
        elif name in _required(Settings):
            environment.key(variable).refuse("is not set", f"set it to {rule.right}")
    return values


def _from_text(text: str, rule: Rule) -> object:
    """Read the number that the rule expects, or leave the text for the rule to refuse."""
    if isinstance(rule, Whole | Seconds):
        with contextlib.suppress(ValueError):
            return int(text)
        with contextlib.suppress(ValueError):
            return float(text)
    return text


def _sinks(tables: object, values: Values, file: Place) -> dict[str, Values]:
    """Read each [sinks.NAME], and the one that the stack's variables define."""
    place, of_stack = file.key("sinks"), _of_stack(values, _environment(file.problems))
    if not isinstance(tables, dict):
        place.refuse(f"is {kind(tables)}", "write each sink below a [sinks.NAME] of its own")
        tables = {}
    for name in tables.keys() & set(KNOWN_SINKS):
        place.key(name).refuse("is the name of handler/deliver.py", "give it another name")
    written: Values = ({STACK_SINK: {}} if of_stack else {}) | tables
    return {
        name: _sink(table, of_stack if name == STACK_SINK else {}, place.key(name))
        for name, table in written.items()
    }


def _of_stack(values: Values, environment: Place) -> Values:
    """Type and target of the stack's own sink: its variables say both of them, or neither."""
    given = {name: values[field] for name, field in _STACK_FIELDS.items()}
    unset = [name for name, value in given.items() if value is None]
    if len(unset) == len(given):
        return {}
    for name in unset:
        [other] = given.keys() - {name}
        right = f"set it to {_rules(SinkSettings)[name].right}, or unset both"
        wrong = f"is not set while {_stack_variable(other)} is"
        given[name] = environment.key(_stack_variable(name)).refuse(wrong, right)
    return given


def _stack_variable(name: str) -> str:
    return _variable(Settings, _STACK_FIELDS[name]).name


def _of_stack_only(name: str) -> Misplaced:
    wrong = f"is defined by the stack, in {_stack_variable(name)}"
    return Misplaced("drop it, or give the table another name", wrong)


def _sink(table: object, of_stack: Values, place: Place) -> Values:
    """Read one sink; what the stack defines of it is judged at the stack's own variable."""
    not_here = {name: _of_stack_only(name) for name in of_stack}
    own = read_table(table, _rules(SinkSettings) | not_here, place) | of_stack
    for missing in _required(SinkSettings) - own.keys():
        right = _rules(SinkSettings)[missing].right
        own[missing] = place.key(missing).refuse("is missing", f"write {right}")
    sink = _defaults(SinkSettings) | own
    in_stack = _environment(place.problems).key(_stack_variable("target"))
    judge_sink(sink, place, in_stack if of_stack else place.key("target"))
    return sink


def _streams(document: Mapping[str, Any], sinks: Mapping[str, Values], file: Place) -> list[Values]:
    """Read each [[stream]] with what [defaults] adds to it."""
    shared = {"sink": STACK_SINK} if STACK_SINK in sinks else {}
    shared |= _shared(document.get("defaults", {}), file.key("defaults"))
    tables, place = document.get("stream", []), file.key("stream")
    if not isinstance(tables, list):
        place.refuse(f"is {kind(tables)}", "write each stream below a [[stream]] of its own")
        return []
    if not tables:
        place.refuse("is missing", "write at least one [[stream]]")
    streams = [_stream(table, shared, place.item(index)) for index, table in enumerate(tables)]
    _judge_names(streams, place)
    _judge_sinks(streams, (*KNOWN_SINKS, *sinks), place)
    judge_sharing(streams, sinks, place)
    return streams


def _shared(table: object, place: Place) -> Values:
    misplaced = dict.fromkeys(_OF_ONE_STREAM, Misplaced("move it below the [[stream]] it names"))
    return read_table(table, _rules(StreamSettings) | misplaced, place)


def _stream(table: object, shared: Values, place: Place) -> Values:
    own = read_table(table, _rules(StreamSettings), place)
    for name in _required(StreamSettings) - own.keys():
        right = _rules(StreamSettings)[name].right
        own[name] = place.key(name).refuse("is missing", f"write {right}")
    stream = _defaults(StreamSettings) | shared | own
    if own.get("collection") is not None and stream["database"] is None:
        place.key("collection").refuse("is without a database", "add its database, or drop it")
    _judge_namespace(stream["database"], stream["collection"], place)
    return stream


def _judge_namespace(database: object, collection: object, place: Place) -> None:
    if not (isinstance(database, str) and isinstance(collection, str)):
        return
    if not is_namespace(database, collection):
        right = "use shorter names: database.collection has at most 255 bytes"
        place.key("collection").refuse("is too long with its database", right)


def _judge_names(streams: Sequence[Values], place: Place) -> None:
    first: dict[str, int] = {}
    for index, stream in enumerate(streams):
        if stream["name"] is REFUSED or first.setdefault(stream["name"], index) == index:
            continue
        wrong = f"is the name of stream[{first[stream['name']]}] too"
        place.item(index).key("name").refuse(wrong, "give each stream a name of its own")


def _judge_sinks(streams: Sequence[Values], known: Sequence[str], place: Place) -> None:
    for index, stream in enumerate(streams):
        if stream["sink"] not in {REFUSED, *known}:
            right = suggestion(stream["sink"], known)
            place.item(index).key("sink").refuse("is not a known sink", right)


def _judge_connection(values: Values, environment: Place, is_file: Callable[[Path], bool]) -> None:
    ways = {_variable(Settings, name).name: name for name in ("secret_id", "parameter", "uri")}
    chosen = [variable for variable, name in ways.items() if values[name] is not None]
    if len(chosen) != 1:
        wrong = f"{' and '.join(chosen)} are set together" if chosen else "is not set"
        place = environment.key(chosen[0] if chosen else next(iter(ways)))
        place.refuse(wrong, f"set one of {listed(ways)}, and only one")
    ca_file = values["ca_file"]
    if isinstance(ca_file, str):
        place = environment.key("MONGODB_CA_FILE")
        if not is_file(Path(ca_file)):
            place.refuse("names no file", "name a PEM file inside the function or a layer")
        if values["tls"] == "off":
            place.refuse("is set while MONGODB_TLS is off", "unset one of them")


def _judge_waiting(values: Values, environ: Mapping[str, str], file: Place) -> None:
    if values["mode"] != "drain" or values["acquire_wait_s"] in {0.0, REFUSED}:
        return
    variable = _variable(Settings, "acquire_wait_s").name
    run = file.key("run").key("acquire_wait_s")
    place = _environment(file.problems).key(variable) if environ.get(variable) else run
    place.refuse("is set while mode is drain", 'set mode = "linger", or leave it out')


def _judge_dead_letters(values: Values, streams: Sequence[Values], environment: Place) -> None:
    """Note one problem, however many streams need the queue."""
    needing = [f"stream[{i}]" for i, each in enumerate(streams) if _sets_aside(each)]
    if values["dead_letter_queue_url"] is None and needing:
        wrong = f'is not set, and on_failure is "dead_letter" in {", ".join(needing)}'
        place = environment.key(_variable(Settings, "dead_letter_queue_url").name)
        place.refuse(wrong, 'set it to the queue\'s URL, or set on_failure = "halt" there')


def _judge_claim_checks(values: Values, sinks: Mapping[str, Values], environment: Place) -> None:
    """Note one problem, however many sinks need the bucket."""
    needing = [f"sinks.{name}" for name, each in sinks.items() if _claims(each)]
    if values["payload_bucket"] is None and needing:
        wrong = f'is not set, and oversize is "claim_check" in {", ".join(needing)}'
        place = environment.key(_variable(Settings, "payload_bucket").name)
        place.refuse(wrong, 'set it to a bucket\'s name, or set oversize = "dead_letter" there')


def _claims(sink: Values) -> bool:
    return bool(sink["oversize"] == "claim_check")


def _sets_aside(stream: Values) -> bool:
    return bool(stream["on_failure"] == "dead_letter")


def _annotated(cls: type) -> dict[str, tuple[Any, ...]]:
    """List the fields that have a rule: (type, rule), and in `Settings` (type, rule, variable)."""
    found = {each.name: get_args(each.type) for each in dataclasses.fields(cls)}
    return {name: args for name, args in found.items() if len(args) > 1 and callable(args[1])}


def _rules(cls: type) -> dict[str, Rule]:
    return {name: args[1] for name, args in _annotated(cls).items()}


def _variable(cls: type, name: str) -> Variable:
    variable: Variable = _annotated(cls)[name][2]
    return variable


def _required(cls: type) -> set[str]:
    return {name for name in _rules(cls) if name not in _defaults(cls)}


def _defaults(cls: type) -> Values:
    fields = dataclasses.fields(cls)
    return {each.name: each.default for each in fields if each.default is not dataclasses.MISSING}
