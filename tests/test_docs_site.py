"""The documentation site: it builds without a warning, needs no network, and its commands parse."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import gymnasium as gym
import pytest
import tyro

import dialog_envs  # noqa: F401
import experiments.__main__
from tests.test_docs import COMMANDS, PAGES, ROOT, named

PROGRAM = "python -m experiments "


def commands(page: Path) -> list[str]:
    """Return the lines of a page's shell blocks that run a verb, without comments; `\\` joins lines."""
    lines = [line for block in COMMANDS.findall(page.read_text()) for line in block.replace("\\\n", " ").splitlines()]
    return [line.partition(" #")[0] for line in lines if line.startswith(PROGRAM)]


LINES = [(page, line) for page in PAGES for line in commands(page)]


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_every_page_is_in_it(site):
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs")).with_suffix(".html").is_file(), page
    assert not (site / "hooks.py").exists()


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text())
        assert not loaded, f"{page.name} loads {loaded}"


@pytest.mark.slow
def test_what_was_measured_is_the_readmes(site):
    readme = (ROOT / "README.md").read_text()
    row = re.search(r"^\| TD3\+BC \| ([\d.]+)", readme, re.MULTILINE).group(1)
    text = (site / "measured.html").read_text()
    assert row in text and "README results" not in text
    assert all((site / image).is_file() for image in re.findall(r'<img[^>]+src="([^"]+)"', text))


def test_the_gallery_shows_every_environment():
    text = (ROOT / "docs/gallery.md").read_text()
    for name in gym.registry:
        if name.startswith("DialogEnvs/"):
            assert re.search(rf"\*\*\[?{name[11:-3]}[\]*]", text), f"no card for {name}"


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{named(page)}: {line}" for page, line in LINES])
def test_a_command_of_the_documentation_is_understood(page, line, capsys):
    module, arguments = experiments.__main__, shlex.split(line.removeprefix(PROGRAM))
    while arguments and arguments[0] in getattr(module, "VERBS", ()):
        name = module.__name__.removesuffix(".__main__")
        module, arguments = import_module(f"{name}.{arguments[0]}"), arguments[1:]
    assert hasattr(module, "Config"), f"{line}: no such verb"
    try:
        tyro.cli(module.Config, args=arguments)
    except SystemExit as stop:
        assert stop.code == 0 and "--help" in arguments, capsys.readouterr().err
