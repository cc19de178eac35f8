"""MongoDB's published BSON corpus, case by case, from where it is published.

The files are CC BY-NC-SA and no part of this project: `make test` has pip fetch PyMongo's source
distribution, which carries them, at the version and hash that are pinned for the layer.
Source: https://github.com/mongodb/specifications/tree/master/source/bson-corpus
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion

from tidemark.encoding import EncodingMode, decode, encode
from tidemark.errors import PoisonChange

FETCHED = Path(__file__).parents[2] / ".tidemark" / "bson-corpus"
READING: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
# BSON keeps a document with such names; Extended JSON, and so `json_util`, reads a DBRef in it.
LOST_BY_EXTENDED_JSON = {"Document with key names similar to those of a DBRef"}

Case = dict[str, Any]


def corpus() -> dict[str, Case]:
    """Each file of the corpus by its name; none where it has not been fetched."""
    found: dict[str, Case] = {}
    for archive in FETCHED.glob("pymongo-*.tar.gz"):
        with tarfile.open(archive) as files:
            for each in files:
                if "/test/bson_corpus/" in each.name and (held := files.extractfile(each)):
                    found[Path(each.name).stem] = json.load(held)
    return found


CORPUS = corpus()


def cases(kind: str) -> list[Case]:
    """The cases of one kind in all files, each with what its file says of its type.

    `deprecated`: PyMongo reads a symbol, an undefined and a DBPointer as their successors.
    """
    return [
        case
        | {"name": f"{name}: {case['description']}"}
        | {"deprecated": file.get("deprecated", False), "type": file["bson_type"]}
        for name, file in sorted(CORPUS.items())
        for case in file.get(kind, ())
    ]


def name_of(case: Case) -> str:
    return str(case["name"])


VALID = cases("valid")
RETURNING = [
    case
    for case in VALID
    if not case.get("lossy") and case["description"] not in LOST_BY_EXTENDED_JSON
]
DEGENERATE = [case for case in VALID if "degenerate_bson" in case]


def read(json_text: str) -> str:
    """A JSON text as what it means: spelled once, however its doubles were."""
    return json.dumps(json.loads(json_text, object_hook=_spelled_once))


def _spelled_once(document: dict[str, Any]) -> dict[str, Any]:
    double = document.get("$numberDouble")
    return {"$numberDouble": repr(float(double))} if isinstance(double, str) else document


def change_of(case: Case) -> dict[str, Any]:
    return bson.decode(bytes.fromhex(case["canonical_bson"]), codec_options=READING)


def test_the_corpus_is_there() -> None:
    """Without it the other tests of this file have no cases."""
    assert len(CORPUS) > 30, "fetch it once with `make .tidemark/bson-corpus/.fetched`"


@pytest.mark.parametrize("case", VALID, ids=name_of)
def test_a_case_is_written_as_published(case: Case) -> None:
    """A deprecated type is written as the one that the corpus converts it to, if it says which."""
    change = change_of(case)
    expected = case.get("converted_extjson") or case["canonical_extjson"]
    if not case["deprecated"] or "converted_extjson" in case:
        assert read(encode(change, "canonical").decode()) == read(expected)
        assert_relaxed(change, case.get("relaxed_extjson"))
    assert json.loads(encode(change, "simplified")).keys() == change.keys()


def assert_relaxed(change: dict[str, Any], published: str | None) -> None:
    """The corpus says it where it differs; elsewhere `json_util` does."""
    expected = published or json_util.dumps(change, json_options=json_util.RELAXED_JSON_OPTIONS)
    assert read(encode(change, "relaxed").decode()) == read(expected)


@pytest.mark.parametrize("case", RETURNING, ids=name_of)
def test_a_case_comes_back_as_the_same_bytes(case: Case) -> None:
    """G1: what was dead-lettered can be delivered again."""
    change = change_of(case)
    stored = bson.encode(change)
    if not case["deprecated"]:
        assert stored.hex() == case["canonical_bson"].lower()
        assert bson.encode(decode(case["canonical_extjson"])) == stored
    assert bson.encode(decode(encode(change, "canonical"))) == stored


@pytest.mark.parametrize("mode", ["relaxed", "canonical"])
@pytest.mark.parametrize("case", DEGENERATE, ids=name_of)
def test_a_degenerate_case_is_written_as_its_canonical_one(case: Case, mode: EncodingMode) -> None:
    change = bson.decode(bytes.fromhex(case["degenerate_bson"]), codec_options=READING)
    assert encode(change, mode) == encode(change_of(case), mode)


@pytest.mark.parametrize("case", cases("parseErrors"), ids=name_of)
def test_a_published_error_is_refused_where_json_util_refuses_it(case: Case) -> None:
    """G8: as poison, whatever `json_util` raises. Of a decimal the corpus has the digits alone."""
    is_decimal = case["type"] == "0x13"
    text = json.dumps({"d": {"$numberDecimal": case["string"]}}) if is_decimal else case["string"]
    try:
        expected = json_util.loads(text, json_options=json_util.CANONICAL_JSON_OPTIONS)
    except Exception:
        with pytest.raises(PoisonChange):
            decode(text)
    else:
        assert decode(text) == expected
