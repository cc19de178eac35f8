"""compose.yaml, events/env.json and the workflow name the same servers; nothing starts them."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are one more dependency for three calls

import stack

COMPOSE = yaml.safe_load((stack.ROOT / "compose.yaml").read_text("utf-8"))
WORKFLOW = yaml.safe_load((stack.ROOT / ".github" / "workflows" / "ci.yaml").read_text("utf-8"))
LOCAL = json.loads((stack.ROOT / "events" / "env.json").read_text("utf-8"))["Parameters"]
SERVICES = COMPOSE["services"]
DOCS = stack.ROOT / "docs"


def members() -> list[tuple[str, str]]:
    """The host and port of each member that the set is made of."""
    [test] = [each for each in map(health, SERVICES) if "rs.initiate" in each]
    return re.findall(r"host: '(\w+):(\d+)'", test)


def health(service: str) -> str:
    test = SERVICES[service].get("healthcheck", {}).get("test", "")
    return test if isinstance(test, str) else " ".join(test)


def uri() -> str:
    return "mongodb://" + ",".join(map(":".join, members())) + "/?replicaSet=rs0"


def test_the_set_has_three_members_which_listen_and_are_reached_where_they_say() -> None:
    """A driver goes to a member's own name and port, inside the network and on the host."""
    assert len(members()) == 3
    for name, port in members():
        service: Any = SERVICES[name]
        assert service["command"][service["command"].index("--port") + 1] == port
        assert service["command"][service["command"].index("--replSet") + 1] == "rs0"
        assert service["ports"] == [f"{port}:{port}"]
        assert f"--port {port} " in health(name)


def test_sam_local_reaches_the_set_and_dynamodb_by_the_names_of_the_network() -> None:
    assert LOCAL["MONGODB_URI"] == uri()
    for address in (LOCAL["AWS_ENDPOINT_URL"], LOCAL["TIDEMARK_DEAD_LETTER_QUEUE_URL"]):
        parsed = urlsplit(address)
        [published] = SERVICES[parsed.hostname]["ports"]
        assert published.endswith(f":{parsed.port}")


def test_every_service_that_up_waits_for_stays() -> None:
    """One that ends is taken for one that failed."""
    ends = [name for name, each in SERVICES.items() if each.get("restart") == "on-failure"]
    assert ends == []
    assert SERVICES["table"]["command"][0].endswith("sleep infinity")


def test_the_workflow_tests_on_this_very_set() -> None:
    job = WORKFLOW["jobs"]["mongodb"]
    assert job["env"]["MONGODB_URI"] == uri()
    started = next(run for each in job["steps"] if "compose up" in (run := each.get("run", "")))
    names = [name for name, _ in members()]
    assert f"127.0.0.1 {' '.join(names)}" in started
    assert f"--wait {' '.join(names)} " in started


@pytest.mark.parametrize("page", ["deploy.md", "operations.md"])
def test_the_pages_give_addresses_that_are_there(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    networks = re.findall(r"--docker-network (\S+)", text)
    assert {*networks} <= {COMPOSE["networks"]["default"]["name"]}
    assert {*re.findall(r"mongodb://mongodb1\S+rs0", text)} <= {uri()}
    assert networks or uri() in text
