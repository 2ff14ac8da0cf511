"""Links, the citation and the pre-commit hooks."""

from __future__ import annotations

import shlex
from importlib.metadata import metadata

import pytest
import yaml
from docs_pages import NAMES, ROOT, anchors, prose_links, read


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    for link in prose_links(name):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), f"{name} links to {link}"
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix()), f"{name} links to {link}"


def test_every_page_is_linked_from_the_readme() -> None:
    assert set(NAMES) - {"README.md"} <= {link.partition("#")[0] for link in prose_links("README.md")}


def test_citation_is_that_of_the_package() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    package = metadata("kdzoo")
    assert citation["version"] == package["Version"]
    assert citation["license"] == package["License-Expression"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_changelog_speaks_of_this_version() -> None:
    assert f"## [{metadata('kdzoo')['Version']}]" in read("CHANGELOG.md") or "## [Unreleased]" in read("CHANGELOG.md")


def test_hooks_run_the_tools_that_ci_runs() -> None:
    (repository,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    checked = read(".ci/run")
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        words = shlex.split(hook["entry"])
        command = " ".join(word for word in words if word != "--force-exclude").replace("format --check", "format")
        assert command in checked
