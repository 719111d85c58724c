"""One folder per run: configuration, versions, git revision, data hashes, results: so that a number can be traced."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dialog_envs.lm.frozen_lm import POCKET

PACKAGES = ("gymnasium", "torch", "transformers", "stable-baselines3", "numpy", "tensorboard", "dialog-envs")


@dataclass(frozen=True)
class ResultRow:
    """One reported number: `value` +- `ci95` (half the 95% interval's width) over `n` samples and `seeds` seeds."""

    system: str
    metric: str
    value: float
    ci95: float | None
    n: int
    seeds: int


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, default=_plain) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file to a temporary name and rename it, so that a reader never meets half of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def open_run(
    out: Path, verb: str, config: Any, data_files: Iterable[Path] = (), changeable: Sequence[str] | None = None
) -> Path:
    """Make the run folder and write `run.json`; return the folder.

    Args:
        out: the folder.
        verb: what runs.
        config: its configuration, a dataclass.
        data_files: what the results hang on, to be hashed.
        changeable: given for a run that goes on with what lies in its folder: the fields of the configuration that may
            differ from those it was begun with.

    Raises:
        ValueError: the folder was begun with another configuration, or a data file has changed since.
    """
    out.mkdir(parents=True, exist_ok=True)
    description = {
        "verb": verb,
        "config": dataclasses.asdict(config),
        "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()},
        "git": git_revision(),
        "data": {str(path): file_hash(path) for path in data_files},
    }
    path = out / "run.json"
    if changeable is not None and path.exists():
        _refuse_changes(path, json.loads(json.dumps(description, default=_plain)), changeable)
    write_json(path, description)
    return out


def _refuse_changes(path: Path, now: Mapping[str, Any], changeable: Sequence[str]) -> None:
    before = json.loads(path.read_text())
    pairs = {"verb": (before["verb"], now["verb"])}
    pairs |= {key: (before["config"].get(key), new) for key, new in now["config"].items() if key not in changeable}
    pairs |= {key: (before["data"][key], new) for key, new in now["data"].items() if key in before["data"]}
    for name, (old, new) in pairs.items():
        if old != new:
            raise ValueError(
                f"{path.parent} was begun with {name} {old}, now it is {new}: take another folder (--out), or remove it"
            )


def model_files(name: str) -> list[Path]:
    """Return the weight files of a model that is a folder (`"pocket"`, or a path), so that a run can hash them."""
    return sorted((POCKET if name == "pocket" else Path(name)).glob("**/*.safetensors"))


def write_results(out: Path, rows: Sequence[ResultRow]) -> None:
    """Write `results.json`, the list of rows `system, metric, value, ci95, n, seeds`."""
    write_json(out / "results.json", [dataclasses.asdict(row) for row in rows])


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_revision() -> str:
    """Return the revision of the checkout that runs, `+changes` where it has any, or `unknown` outside git."""
    here = Path(__file__).parent
    try:
        revision = _git(here, "rev-parse", "HEAD")
        return revision + ("+changes" if _git(here, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
