"""`sam build` as `make build` calls it: what is in the artifacts.

The builds take place in a copy of what they need, so that nothing but the sources is in it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import stack

INPUTS = ("template.yaml", "samconfig.toml", "handler", "layers")
SAM = Path(os.environ.get("SAM") or stack.ROOT / ".venv-sam" / "bin" / "sam")
ZIPPED_LIMIT_BYTES = 50_000_000 // 5  # Lambda's limit, and "well under" it


class Project:
    """A copy of the sources that can be built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in INPUTS:
            source = stack.ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, folder / name)

    @property
    def function(self) -> Path:
        """The built function."""
        return self.folder / ".aws-sam" / "build" / "Function"

    @property
    def layer(self) -> Path:
        """The built layer."""
        return self.folder / ".aws-sam" / "build" / "TidemarkLayer"

    def build(self, *, architecture: str = "arm64", python: str = "3.13") -> str:
        """Run `sam build` and return what it said."""
        done = subprocess.run(
            [SAM, "build", "--parameter-overrides", f"Architecture={architecture}"],
            cwd=self.folder,
            env={
                **os.environ,
                "SAM_CLI_TELEMETRY": "0",
                "TIDEMARK_ARCHITECTURE": architecture,
                "TIDEMARK_PYTHON": sys.executable,
                "LAYER_PYTHON": python,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The sources, built once; not to be changed."""
    project = Project(tmp_path_factory.mktemp("built"))
    project.build()
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Sources of the test's own."""
    return Project(tmp_path)


def digest(folder: Path) -> dict[str, tuple[str, int, float]]:
    """Each file's content, mode and date, by path: what a zip of it would hold."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mode,
            path.stat().st_mtime,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_sources_make_the_same_bytes(built: Project, project: Project) -> None:
    """SAM deploys what has changed by its content: a rebuild alone must deploy nothing."""
    project.build()
    assert digest(project.layer) == digest(built.layer)
    assert digest(project.function) == digest(built.function)


def test_the_layer_holds_the_native_modules_of_both_architectures(built: Project) -> None:
    """Without its own, PyMongo falls back to Python, several times slower and without a word."""
    for machine in ("aarch64", "x86_64"):
        for module in ("bson/_cbson", "pymongo/_cmessage"):
            assert (built.layer / f"python/{module}.cpython-313-{machine}-linux-gnu.so").is_file()


def test_the_layer_serves_either_architecture_unchanged(built: Project, project: Project) -> None:
    project.build(architecture="x86_64")
    assert digest(project.layer) == digest(built.layer)


def test_the_layer_is_far_below_lambdas_limit(built: Project, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "layer"), "zip", built.layer)
    assert Path(archive).stat().st_size < ZIPPED_LIMIT_BYTES


def test_the_layer_holds_its_dependencies_and_us_and_nothing_else(built: Project) -> None:
    """No boto3, which the runtime has; no tests, caches, scripts or development tools."""
    names = {path.name for path in (built.layer / "python").iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {
        "aws_lambda_powertools",
        "bson",
        "dns",
        "gridfs",
        "jmespath",
        "orjson",
        "pymongo",
        "pymongo_auth_aws",
        "tidemark",
        "typing_extensions.py",
    }
    files = {str(path.relative_to(built.layer)) for path in built.layer.rglob("*")}
    assert [each for each in files if "__pycache__" in each or each.endswith(".pyc")] == []
    assert {each.split("/")[0] for each in files} == {"python"}


def test_a_certificate_authority_travels_in_the_layer(project: Project) -> None:
    (project.folder / "layers/tidemark/certificates/own.pem").write_text("a certificate")
    project.build()
    assert (project.layer / "certificates/own.pem").read_text() == "a certificate"


def test_the_function_holds_what_its_user_wrote_and_no_caches(built: Project) -> None:
    names = {path.name for path in built.function.iterdir()}
    assert names >= {"app.py", "deliver.py", "streams.toml"}
    assert names & {"Makefile", "__pycache__"} == set()


def test_a_changed_deliver_does_not_rebuild_the_layer(project: Project) -> None:
    project.build()
    deliver = project.folder / "handler/deliver.py"
    deliver.write_text("def deliver(batch): ...\n")
    said = project.build()
    assert "Valid cache found, copying previously built resources for following layers" in said
    assert (project.function / "deliver.py").read_text() == deliver.read_text()


@pytest.mark.parametrize(("architecture", "machine"), [("arm64", "aarch64"), ("x86_64", "x86_64")])
def test_a_users_own_native_requirement_is_built_for_the_functions_processor(
    project: Project, architecture: str, machine: str
) -> None:
    """On a host that need not have Lambda's Python, nor its processor."""
    (project.folder / "handler/requirements.txt").write_text("markupsafe==3.0.3\n")
    project.build(architecture=architecture)
    [native] = project.function.glob("markupsafe/_speedups.*.so")
    assert native.name == f"_speedups.cpython-313-{machine}-linux-gnu.so"


def test_a_requirement_with_a_wrong_hash_stops_the_build(project: Project) -> None:
    requirements = project.folder / "layers/tidemark/requirements.txt"
    text = requirements.read_text("utf-8")
    requirements.write_text(text.replace("--hash=sha256:", "--hash=sha256:0000"), "utf-8")
    with pytest.raises(AssertionError, match="Build Failed"):
        project.build()
