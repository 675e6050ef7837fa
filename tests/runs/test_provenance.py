"""What a run writes down about its machine: right, JSON-ready, without importing the packages."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib.metadata import version

import pytest

from ric.runs import provenance
from ric.runs.provenance import environment_report, git_state


def git(folder, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    command = ("git", *identity, "-C", str(folder), *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "one")
    return tmp_path


def test_the_report_holds_versions_machine_and_space_and_is_json(tmp_path):
    report = environment_report(tmp_path)
    assert json.loads(json.dumps(report)) == report
    assert report["python"] == platform.python_version()
    assert report["versions"]["torch"] == version("torch")
    assert report["versions"]["ric"] == version("ric")
    assert report["cpus"] >= 1
    assert report["memory_bytes"] > 10**8
    assert report["disk_free_bytes"] > 0
    assert report["platform"]
    assert report["machine"]


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("ric", "no-such-package"))
    assert environment_report()["versions"] == {"ric": version("ric"), "no-such-package": None}


def test_the_space_is_that_of_a_folder_that_need_not_exist(tmp_path):
    assert environment_report(tmp_path / "runs" / "00001")["disk_free_bytes"] > 0


def test_the_report_imports_none_of_the_packages_whose_versions_it_gives():
    code = (
        "import importlib.metadata, json, sys\n"
        "from ric.runs.provenance import PACKAGES, environment_report\n"
        "report = environment_report()\n"
        "modules = importlib.metadata.packages_distributions().items()\n"
        "heavy = {m for m, owners in modules if set(owners) & set(PACKAGES)} - {'ric', 'ric_cli'}\n"
        "print(json.dumps([len(heavy), sorted(heavy & set(sys.modules)), report['gpus']]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    known, imported, gpus = json.loads(done.stdout)
    assert known > 10
    assert (imported, gpus) == ([], None)


def test_a_clean_checkout_gives_its_commit(checkout):
    assert git_state(checkout) == {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": False}


def test_a_changed_or_staged_file_makes_a_checkout_dirty(checkout):
    (checkout / "untracked").write_text("")
    assert git_state(checkout)["dirty"] is False
    (checkout / "file").write_text("two")
    assert git_state(checkout)["dirty"] is True
    git(checkout, "add", "file")
    assert git_state(checkout)["dirty"] is True


def test_a_folder_inside_another_projects_checkout_is_no_checkout(checkout):
    (checkout / "site-packages").mkdir()
    assert git_state(checkout / "site-packages") is None


def test_a_checkout_without_a_commit_or_with_a_broken_one_is_unknown(tmp_path):
    git(tmp_path, "init")
    assert git_state(tmp_path) is None
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".git").write_text("nonsense")
    assert git_state(tmp_path / "other") is None


def test_a_git_that_hangs_or_is_missing_is_unknown(checkout, monkeypatch):
    def hang(*_, **__):
        raise subprocess.TimeoutExpired("git", 2)

    def missing(*_, **__):
        raise FileNotFoundError

    for failure in (hang, missing):
        monkeypatch.setattr(provenance.subprocess, "run", failure)
        assert git_state(checkout) is None
