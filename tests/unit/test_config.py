"""streams.toml and the environment are judged whole, and every mistake is named (G9)."""

import dataclasses
import datetime as dt
import math
import re
from pathlib import Path
from typing import Any

import pytest
from bson import Timestamp

from tidemark.config import Settings, StreamSettings, load, parse, select
from tidemark.errors import ConfigError

ENVIRON = {
    "TIDEMARK_TABLE": "tidemark",
    "MONGODB_SECRET_ID": "prod/mongodb",
    "TIDEMARK_DEAD_LETTER_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/1/dead",
}
STREAM = '[[stream]]\nname = "orders"\n'
SECRET = "hunter2"


def problems(text: str = STREAM, /, **environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text, ENVIRON | environ)
    return caught.value.problems


def problem(text: str = STREAM, /, **environ: str) -> str:
    [only] = problems(text, **environ)
    return only


def settings(text: str = STREAM, /, **environ: str) -> Settings:
    return parse(text, ENVIRON | environ)


def stream(keys: str = "") -> StreamSettings:
    [only] = settings(STREAM + keys).streams
    return only


class TestReading:
    def test_a_name_is_all_that_a_stream_needs(self) -> None:
        assert settings() == Settings(
            table="tidemark",
            secret_id="prod/mongodb",
            dead_letter_queue_url=ENVIRON["TIDEMARK_DEAD_LETTER_QUEUE_URL"],
            streams=(StreamSettings(name="orders"),),
        )

    def test_every_stream_key_arrives(self) -> None:
        values: dict[str, Any] = {
            "database": "shop",
            "collection": "orders",
            "full_document": "updateLookup",
            "full_document_before_change": "whenAvailable",
            "show_expanded_events": True,
            "split_large_events": True,
            "start_at": "earliest",
            "sink": "deliver",
            "max_changes": 7,
            "max_bytes": 8,
            "max_age_s": 9.5,
            "idle_s": 10.0,
            "checkpoint_interval_s": 0.0,
            "max_attempts": 11,
            "on_failure": "halt",
            "on_history_lost": "earliest",
            "on_definition_change": "restart",
        }
        written = "\n".join(f"{key} = {_toml(value)}" for key, value in values.items())
        assert stream(written) == StreamSettings(name="orders", **values)

    def test_whole_seconds_become_floats(self) -> None:
        assert repr(stream("idle_s = 2").idle_s) == "2.0"

    def test_streams_inherit_the_defaults_and_may_override_them(self) -> None:
        text = '[defaults]\nidle_s = 2\nmax_changes = 5\n[[stream]]\nname = "a"\n'
        first, second = settings(text + '[[stream]]\nname = "b"\nidle_s = 3').streams
        assert (first.idle_s, first.max_changes) == (2.0, 5)
        assert (second.idle_s, second.max_changes) == (3.0, 5)

    def test_the_environment_overrides_the_run_table(self) -> None:
        run = '[run]\nmode = "linger"\nlease_s = 60\nmax_await_ms = 100\nbudget_s = 9\n' + STREAM
        got = settings(run, TIDEMARK_LEASE_S="90.5", TIDEMARK_MAX_AWAIT_MS="200")
        assert (got.mode, got.lease_s, got.max_await_ms, got.budget_s) == ("linger", 90.5, 200, 9.0)

    def test_an_empty_variable_counts_as_unset(self) -> None:
        assert settings(MONGODB_URI="", TIDEMARK_MODE="", MONGODB_CA_FILE="") == settings()

    @pytest.mark.parametrize(
        "written",
        ["2026-01-31T06:00:00Z", '"2026-01-31T06:00:00Z"', "2026-01-31T07:00:00.999+01:00"],
    )
    def test_a_time_becomes_a_timestamp_of_its_second(self, written: str) -> None:
        second = int(dt.datetime(2026, 1, 31, 6, tzinfo=dt.UTC).timestamp())
        assert stream(f"start_at = {written}").start_at == Timestamp(second, 0)
        assert stream(f"on_history_lost = {written}").on_history_lost == Timestamp(second, 0)

    def test_a_stream_may_watch_a_whole_database(self) -> None:
        assert stream('database = "shop"').collection is None


class TestTenMistakes:
    def test_each_is_named_in_one_error(self) -> None:
        """G9: every mistake is reported together, with the path of its field."""
        text = """
            verbose = true
            [run]
            mode = "drian"
            lease_s = nan
            [defaults]
            idle_s = true
            [[stream]]
            name = "two words"
            colection = "orders"
            [[stream]]
            name = "b"
            collection = "orders"
            start_at = 2026-01-31
            pipeline = [{ "$out" = "copy" }]
            """
        found = problems(text, TIDEMARK_TABLE="")
        assert [each.rpartition("; ")[0] for each in found] == [
            "streams.toml: verbose: is not a known table",
            "streams.toml: run.mode: is not a known word",
            "streams.toml: run.lease_s: is not a finite number",
            "environment: TIDEMARK_TABLE: is not set",
            "streams.toml: defaults.idle_s: is a boolean",
            "streams.toml: stream[0].colection: is not a known key",
            "streams.toml: stream[0].name: does not fit",
            "streams.toml: stream[1].pipeline[0]: is no stage that a change stream allows",
            "streams.toml: stream[1].start_at: is a date without a time",
            "streams.toml: stream[1].collection: is without a database",
        ]
        assert all(each.rpartition("; ")[2] for each in found)


class TestFile:
    def test_broken_toml_keeps_its_line_and_column(self) -> None:
        assert "(at line 3, column 10)" in problem(STREAM + "idle_s = = 2\n")

    def test_broken_toml_does_not_hide_the_environments_mistakes(self) -> None:
        assert len(problems("=", TIDEMARK_TABLE="", TIDEMARK_MODE="x")) == 3

    @pytest.mark.parametrize("text", ["", "stream = []", "[defaults]\nidle_s = 1"])
    def test_a_file_without_a_stream_is_refused(self, text: str) -> None:
        assert problem(text).startswith("streams.toml: stream: is missing; write at least one")

    def test_a_single_stream_table_is_refused(self) -> None:
        assert "stream: is a table; write each stream below a [[stream]]" in problem(
            '[stream]\nname = "orders"'
        )

    def test_a_list_of_other_things_than_tables_is_refused(self) -> None:
        assert "streams.toml: stream[0]: is text; write a table" in problems('stream = ["orders"]')

    @pytest.mark.parametrize("table", ["run", "defaults"])
    def test_a_table_that_is_none_is_refused(self, table: str) -> None:
        assert problem(f"{table} = 3\n{STREAM}") == (
            f"streams.toml: {table}: is a whole number; write a table"
        )

    def test_an_unknown_key_names_its_nearest_known_one(self) -> None:
        assert problem(STREAM + "max_chnages = 3").endswith("did you mean max_changes?")

    def test_two_streams_of_one_name_are_refused(self) -> None:
        found = problem(STREAM + '[[stream]]\nname = "b"\n' + STREAM)
        assert found.startswith("streams.toml: stream[2].name: is the name of stream[0] too")

    def test_a_stream_without_a_name_is_refused(self) -> None:
        found = problem("[[stream]]\nidle_s = 1")
        assert found.startswith("streams.toml: stream[0].name: is missing")

    @pytest.mark.parametrize("key", ["name", "database", "collection"])
    def test_the_defaults_cannot_hold_what_one_stream_watches(self, key: str) -> None:
        found = problem(f'[defaults]\n{key} = "x"\n{STREAM}')
        assert found.startswith(f"streams.toml: defaults.{key}: is misplaced")

    def test_an_unknown_sink_lists_the_known_ones(self) -> None:
        assert problem(STREAM + 'sink = "kafka"') == (
            "streams.toml: stream[0].sink: is not a known sink; write deliver"
        )


class TestValues:
    @pytest.mark.parametrize(
        "line",
        [
            'name = ""',
            'name = "a/b"',
            "name = 7",
            f'name = "{"n" * 129}"',
        ],
    )
    def test_a_name_that_cannot_be_a_key_is_refused(self, line: str) -> None:
        assert problem(f"[[stream]]\n{line}").startswith("streams.toml: stream[0].name: ")

    @pytest.mark.parametrize(
        "name",
        [
            *("", "a.b", "a b", "a/b", "a$", "$external", "a\\\\b", "a\\u0000b", 'a\\"b'),
            *("d" * 64, "é" * 32),
        ],
    )
    def test_a_name_that_no_database_has_is_refused(self, name: str) -> None:
        assert "stream[0].database: does not fit" in problem(STREAM + f'database = "{name}"')

    @pytest.mark.parametrize("name", ["admin", "config", "local"])
    def test_a_database_without_change_streams_is_refused_as_one(self, name: str) -> None:
        found = problem(STREAM + f'database = "{name}"')
        assert "none of admin, config and local, which have no change streams" in found

    @pytest.mark.parametrize("name", ["tenant:42", "a|b", "a*b", "<x>", "a?b", "d" * 63, "locals"])
    def test_a_name_that_mongodb_has_on_linux_is_accepted(self, name: str) -> None:
        assert stream(f'database = "{name}"').database == name
        written = f'database = "shop"\ncollection = "{name}"'
        assert stream(written).collection == name

    @pytest.mark.parametrize("name", ["a.b", "a b", "a/b", "systems", "system", "a" * 250])
    def test_a_collection_may_have_what_a_database_may_not(self, name: str) -> None:
        assert stream(f'database = "shop"\ncollection = "{name}"').collection == name

    def test_a_namespace_has_at_most_255_bytes(self) -> None:
        found = problem(STREAM + f'database = "shop"\ncollection = "{"a" * 251}"')
        assert "stream[0].collection: is too long with its database; use shorter names" in found

    @pytest.mark.parametrize(
        "name",
        [
            *("", "$cmd", "a$b", "system.views", "a\\u0000b"),
            *("a..b", ".a", "a.", ".", "a" * 254, "é" * 127),
        ],
    )
    def test_a_name_that_no_collection_has_is_refused(self, name: str) -> None:
        found = problem(STREAM + f'database = "shop"\ncollection = "{name}"')
        assert "stream[0].collection: does not fit" in found

    @pytest.mark.parametrize(
        ("key", "low", "high"),
        [
            ("max_changes", 1, 100_000),
            ("max_attempts", 1, 100),
            ("max_bytes", 1, 2**40),
            ("max_age_s", 0, 300),
            ("idle_s", 0, 300),
            ("checkpoint_interval_s", 0, 300),
        ],
    )
    def test_both_ends_of_a_range_are_accepted_and_none_beyond(
        self, key: str, low: int, high: int
    ) -> None:
        assert [getattr(stream(f"{key} = {n}"), key) for n in (low, high)] == [low, high]
        assert f"stream[0].{key}: is out of range" in problem(STREAM + f"{key} = {low - 1}")
        if key != "max_bytes":
            assert f"stream[0].{key}: is out of range" in problem(STREAM + f"{key} = {high + 1}")

    @pytest.mark.parametrize("value", ["true", "1.5", '"5"', "[5]", "1979-05-27", "07:32:00"])
    def test_only_a_whole_number_is_a_count(self, value: str) -> None:
        assert problem(STREAM + f"max_changes = {value}").endswith(
            "write a whole number from 1 to 100000"
        )

    @pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
    def test_seconds_are_finite(self, value: str) -> None:
        assert "idle_s: is not a finite number" in problem(STREAM + f"idle_s = {value}")

    @pytest.mark.parametrize("value", ["1", '"true"'])
    def test_only_a_boolean_is_a_flag(self, value: str) -> None:
        found = problem(STREAM + f"split_large_events = {value}")
        assert found.endswith("write true or false")

    @pytest.mark.parametrize(
        ("value", "wrong"),
        [
            ("2026-01-31T06:00:00", "is a time without an offset from UTC"),
            ('"2026-01-31"', "is a time without an offset from UTC"),
            ("2026-01-31", "is a date without a time"),
            ("06:00:00", "is a time without a date"),
            ('"yesterday"', "is neither a known word nor a time"),
            ("1767225600", "is a whole number"),
            ("1969-12-31T23:59:59Z", "is out of range"),
            ("2107-01-01T00:00:00Z", "is out of range"),
        ],
    )
    def test_a_start_that_is_no_instant_is_refused(self, value: str, wrong: str) -> None:
        assert f"stream[0].start_at: {wrong}; write " in problem(STREAM + f"start_at = {value}")


class TestAnyValue:
    odd = (
        "true",
        "-1",
        "9223372036854775808",
        "nan",
        "1e308",
        '""',
        '"\\u0000"',
        "[]",
        "[[]]",
        "[{}]",
        "{}",
        "1979-05-27",
        "07:32:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    )

    @pytest.mark.parametrize("value", odd)
    @pytest.mark.parametrize("key", [each.name for each in dataclasses.fields(StreamSettings)])
    def test_it_is_accepted_or_named(self, key: str, value: str) -> None:
        """G9: no value breaks the judgement itself."""
        text = f"[[stream]]\n{key} = {value}\n" + ('name = "n"' if key != "name" else "")
        found = _judged(text)
        assert f"stream[0].{key}" in found or len(found) == 64


class TestEnvironment:
    def test_one_way_to_the_connection_string_is_required(self) -> None:
        found = problem(MONGODB_SECRET_ID="")
        assert found.startswith("environment: MONGODB_SECRET_ID: is not set; set one of")
        assert found.count("MONGODB_") == 4

    def test_two_ways_to_the_connection_string_are_one_too_many(self) -> None:
        found = problem(MONGODB_URI="mongodb://127.0.0.1")
        assert "MONGODB_SECRET_ID and MONGODB_URI are set together" in found

    @pytest.mark.parametrize("variable", ["MONGODB_URI", "MONGODB_PARAMETER"])
    def test_any_one_way_is_enough(self, variable: str) -> None:
        got = settings(**{"MONGODB_SECRET_ID": "", variable: "mongodb://127.0.0.1"})
        assert "mongodb://127.0.0.1" in {got.uri, got.parameter}

    def test_a_connection_string_is_not_in_the_settings_repr(self) -> None:
        """G8: printing the settings does not print the secret."""
        got = settings(MONGODB_SECRET_ID="", MONGODB_URI=f"mongodb://u:{SECRET}@h")
        assert got.uri is not None
        assert SECRET not in repr(got)

    @pytest.mark.parametrize(
        "variable",
        [
            "MONGODB_URI",
            "MONGODB_CA_FILE",
            "MONGODB_TLS",
            "TIDEMARK_TABLE",
            "TIDEMARK_STREAMS",
            "TIDEMARK_MODE",
            "TIDEMARK_LEASE_S",
            "TIDEMARK_DEAD_LETTER_QUEUE_URL",
            "TIDEMARK_PAYLOAD_BUCKET",
        ],
    )
    def test_a_secret_in_the_wrong_variable_is_not_repeated(
        self, variable: str, tmp_path: Path
    ) -> None:
        """G8: an error message holds no value, for it may be a connection string."""
        environ = ENVIRON | {variable: f"mongodb ://u:{SECRET}@h"}
        with pytest.raises(ConfigError) as caught:
            load(environ, _written(tmp_path, STREAM.encode()))
        assert variable in str(caught.value)
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize("value", ["abc", "nan", "inf", "4.9", "901", "1e400"])
    def test_a_number_that_is_none_or_out_of_range_is_refused(self, value: str) -> None:
        assert problem(TIDEMARK_LEASE_S=value).endswith("write a number of seconds from 5 to 900")

    def test_waiting_for_a_lease_is_for_lingering_runs(self) -> None:
        got = settings(TIDEMARK_ACQUIRE_WAIT_S="9", TIDEMARK_MODE="linger")
        assert got.acquire_wait_s == 9.0
        assert "environment: TIDEMARK_ACQUIRE_WAIT_S: is set while mode is drain" in problem(
            TIDEMARK_ACQUIRE_WAIT_S="9"
        )
        assert "streams.toml: run.acquire_wait_s: is set while mode is drain" in problem(
            f"[run]\nacquire_wait_s = 9\n{STREAM}"
        )

    def test_a_ca_file_must_exist(self, tmp_path: Path) -> None:
        path = _written(tmp_path, STREAM.encode())
        there = ENVIRON | {"MONGODB_CA_FILE": str(path)}
        assert load(there, path).ca_file == str(path)
        with pytest.raises(ConfigError, match="MONGODB_CA_FILE: names no file"):
            load(ENVIRON | {"MONGODB_CA_FILE": str(tmp_path)}, path)

    def test_a_certificate_pasted_as_the_ca_file_is_refused(self, tmp_path: Path) -> None:
        path = _written(tmp_path, STREAM.encode())
        with pytest.raises(ConfigError, match="MONGODB_CA_FILE: names no file"):
            load(ENVIRON | {"MONGODB_CA_FILE": "x" * 5_000}, path)

    def test_a_ca_file_contradicts_tls_that_is_off(self) -> None:
        found = problem(MONGODB_CA_FILE="ca.pem", MONGODB_TLS="off")
        assert "MONGODB_CA_FILE: is set while MONGODB_TLS is off" in found

    def test_dead_letters_need_a_queue_and_the_problem_names_both_remedies(self) -> None:
        two = STREAM + '[[stream]]\nname = "b"\non_failure = "halt"\n[[stream]]\nname = "c"\n'
        found = problem(two, TIDEMARK_DEAD_LETTER_QUEUE_URL="")
        assert "stream[0], stream[2]" in found
        assert found.startswith("environment: TIDEMARK_DEAD_LETTER_QUEUE_URL: is not set")
        assert found.endswith('set on_failure = "halt" there')

    @pytest.mark.parametrize(
        "url",
        [
            "https://sns.eu-central-1.amazonaws.com/123456789012/dead",
            "arn:aws:sqs:eu-central-1:123456789012:dead",
            "https://sqs.eu-central-1.amazonaws.com/123456789012/" + "d" * 81,
        ],
    )
    def test_dead_letters_go_to_a_queue_by_its_url(self, url: str) -> None:
        assert problem(TIDEMARK_DEAD_LETTER_QUEUE_URL=url) == (
            "environment: TIDEMARK_DEAD_LETTER_QUEUE_URL: does not fit; "
            "write the queue's http(s) URL"
        )

    @pytest.mark.parametrize("space", ["\u00a0", "\u2003"])
    def test_no_space_of_unicodes_is_in_a_connection_string_or_a_table(self, space: str) -> None:
        table = f"arn:aws:dynamodb:eu-central-1:123456789012:table/a{space}b"
        assert "TIDEMARK_TABLE: does not fit" in problem(TIDEMARK_TABLE=table)
        uri = f"mongodb://h{space}"
        assert "MONGODB_URI: does not fit" in problem(MONGODB_SECRET_ID="", MONGODB_URI=uri)

    def test_streams_that_halt_need_no_queue(self) -> None:
        got = settings(STREAM + 'on_failure = "halt"', TIDEMARK_DEAD_LETTER_QUEUE_URL="")
        assert got.dead_letter_queue_url is None


class TestLoad:
    def test_the_default_path_is_read(self, tmp_path: Path) -> None:
        assert load(ENVIRON, _written(tmp_path, STREAM.encode())) == settings()

    def test_the_environment_names_another_file(self, tmp_path: Path) -> None:
        path = _written(tmp_path, STREAM.encode())
        got = load(ENVIRON | {"TIDEMARK_STREAMS": str(path)}, tmp_path / "absent.toml")
        assert got == settings()

    def test_problems_cite_the_files_own_name(self, tmp_path: Path) -> None:
        path = tmp_path / "other.toml"
        path.write_text(STREAM + "idle_s = -1")
        with pytest.raises(ConfigError, match=re.escape("other.toml: stream[0].idle_s")):
            load(ENVIRON, path)

    def test_a_file_that_cannot_be_read_is_one_problem_among_others(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            load(ENVIRON | {"TIDEMARK_TABLE": ""}, tmp_path / "streams.toml")
        assert [each.partition(";")[0] for each in caught.value.problems] == [
            "streams.toml: cannot be read (No such file or directory)",
            "environment: TIDEMARK_TABLE: is not set",
        ]

    def test_a_directory_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="environment: TIDEMARK_STREAMS: cannot be read"):
            load(ENVIRON | {"TIDEMARK_STREAMS": str(tmp_path)}, tmp_path)

    def test_a_file_that_is_not_utf_8_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"is not UTF-8 \(at byte 20\)"):
            load(ENVIRON, _written(tmp_path, b'[[stream]]\nname = "o\xffrders"'))


class TestSelect:
    three = parse("".join(f'[[stream]]\nname = "{name}"\n' for name in "abc"), ENVIRON)

    @pytest.mark.parametrize("event", [{}, {"source": "aws.scheduler", "detail": {}}])
    def test_an_event_without_streams_runs_all(self, event: dict[str, Any]) -> None:
        assert select(self.three, event) == self.three.streams

    def test_an_event_picks_streams_in_its_order(self) -> None:
        assert [each.name for each in select(self.three, {"streams": ["c", "a"]})] == ["c", "a"]

    @pytest.mark.parametrize(
        ("event", "wrong"),
        [
            (None, "event: is null"),
            ([], "event: is a list"),
            ("a", "event: is text"),
            ({"streams": "a"}, "event.streams: is text"),
            ({"streams": None}, "event.streams: is null"),
            ({"streams": []}, "event.streams: is an empty list"),
            ({"streams": ["a", "a"]}, "event.streams[1]: repeats a name"),
            ({"streams": ["z"]}, "event.streams[0]: is no stream's name; write a, b or c"),
            ({"streams": [["a"]]}, "event.streams[0]: is no stream's name; write a, b or c"),
        ],
    )
    def test_an_event_that_names_no_streams_is_refused(self, event: object, wrong: str) -> None:
        with pytest.raises(ConfigError, match=re.escape(wrong)):
            select(self.three, event)

    def test_every_mistake_of_an_event_is_named(self) -> None:
        with pytest.raises(ConfigError) as caught:
            select(self.three, {"streams": ["z", 1, "a", "a"]})
        assert len(caught.value.problems) == 3


class TestFingerprint:
    def test_it_is_the_same_in_every_release(self) -> None:
        """G10: a new release of this code does not disown the positions stored by an older one."""
        written = 'database = "shop"\ncollection = "orders"\nfull_document = "updateLookup"'
        assert stream(written).fingerprint == (
            "22886a8fe21f4400a655d61d825dcc8d3b2636ee25d822f2692e4d0f3972f44a"
        )

    @pytest.mark.parametrize(
        "line",
        [
            'database = "shop"',
            'pipeline = [{ "$match" = { operationType = "insert" } }]',
            'full_document = "required"',
            'full_document_before_change = "required"',
            "show_expanded_events = true",
            "split_large_events = true",
        ],
    )
    def test_it_changes_with_what_a_position_belongs_to(self, line: str) -> None:
        """G10: another scope, pipeline or event option is another definition."""
        assert stream(line).fingerprint != stream().fingerprint

    @pytest.mark.parametrize(
        "line",
        [
            'full_document = "default"',
            'full_document_before_change = "off"',
            "pipeline = []",
            "max_changes = 7",
            "idle_s = 7",
            'start_at = "earliest"',
            'on_failure = "halt"',
        ],
    )
    def test_it_stays_with_everything_else(self, line: str) -> None:
        assert stream(line).fingerprint == stream().fingerprint


def _judged(text: str) -> str:
    """The one stream's fingerprint, or what is wrong with it."""
    try:
        return settings(text).streams[0].fingerprint
    except ConfigError as error:
        return error.problems[0]


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    assert not isinstance(value, float) or math.isfinite(value)
    return f'"{value}"' if isinstance(value, str) else str(value)


def _written(folder: Path, content: bytes) -> Path:
    path = folder / "streams.toml"
    path.write_bytes(content)
    return path
