"""The wheel holds all that ric needs; CITATION.cff and the issue templates can be read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch
import yaml

ROOT = Path(__file__).parents[1]
PAPER = ROOT.parent / "shared" / "paper" / "region-in-context.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def has_setuptools() -> bool:
    try:
        return int(version("setuptools").partition(".")[0]) >= 77 and bool(version("pip"))
    except PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel from a copy, which building writes into."""
    if not has_setuptools():
        pytest.skip("pip, or setuptools 77 or newer, is not installed")
    copy, out = tmp_path_factory.mktemp("copy") / "ric", tmp_path_factory.mktemp("wheel")
    copy.mkdir()
    for folder in ("ric", "ric_cli"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    words = [sys.executable, "-m", "pip", "wheel", ".", *offline, "--wheel-dir", str(out)]
    built = subprocess.run(words, cwd=copy, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (file,) = out.glob("*.whl")
    return file


def test_the_wheel_holds_every_file_of_both_packages_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        sizes = {one.filename: one.file_size for one in archive.infolist()}
    packed = {name: size for name, size in sizes.items() if ".dist-info/" not in name}
    there = {
        file.relative_to(ROOT).as_posix(): file.stat().st_size
        for folder in ("ric", "ric_cli")
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert packed == there
    assert {".safetensors", ".html", ".css", ".js"} <= {Path(name).suffix for name in packed}
    assert any(name.endswith("licenses/LICENSE") for name in sizes)


@pytest.mark.slow
def test_installed_by_pip_in_an_environment_of_its_own_it_runs_the_demo(wheel, tmp_path):
    clean = tmp_path / "clean"
    venv.create(clean, with_pip=False)
    python, ric = clean / "bin" / "python", clean / "bin" / "ric"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    run = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, check=False)
    installed = run([*pip, "install", "--no-deps", "--no-index", str(wheel)])
    assert installed.returncode == 0, installed.stderr
    # its dependencies are those of this environment, as no index can be asked for them; ric itself
    # is not among them
    site = Path(run([python, "-c", "import site; print(site.getsitepackages()[0])"]).stdout.strip())
    (site / "dependencies.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    of_the_checkout = {"PYTHONPATH", "RIC_TINY_FAMILY"}
    surroundings = {key: value for key, value in os.environ.items() if key not in of_the_checkout}
    where = "import ric, ric_cli; print(ric.__file__, ric_cli.__file__)"
    told = run([python, "-c", where], env=surroundings)
    places = told.stdout.split()
    assert len(places) == 2, told.stderr
    assert all(Path(place).is_relative_to(site) for place in places)
    made = run([ric, "demo", "demo", "--limit", "4"], env=surroundings)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "demo" / "report" / "index.html").is_file()


# --- CITATION.cff and the issue templates --------------------------------------------------------
def test_the_citation_names_this_version_and_the_papers_title_and_authors():
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert told["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= told.keys()
    assert (told["version"], told["license"]) == (PROJECT["version"], PROJECT["license"])
    paper = told["preferred-citation"]
    assert paper["title"] in re.sub(r"[*\n]+", " ", (ROOT / "README.md").read_text())
    if not PAPER.is_file():
        pytest.skip("../shared is absent")
    text = PAPER.read_text()
    assert f"Title: {paper['title'].upper()}\n" in text
    names = [f"{one['given-names']} {one['family-names']}" for one in paper["authors"]]
    places = [text.index(name) for name in names]
    assert places == sorted(places)
    assert paper["url"].rpartition("/")[2] in text


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda file: file.stem)
def test_an_issue_template_is_a_form_that_github_takes(template):
    form = yaml.safe_load(template.read_text())
    if template.stem == "config":
        assert isinstance(form["blank_issues_enabled"], bool)
        return
    assert {"name", "description", "body"} <= form.keys()
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids) > 0
    for field in form["body"]:
        assert field["type"] in {"textarea", "input", "dropdown", "checkboxes"}
        assert field["attributes"]["label"]
