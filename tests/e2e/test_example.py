"""The example project through its own pipelines, unmodified: GitHub's and Bitbucket's."""
import json
import shutil
import subprocess

import pytest

from conftest import TOP


def example(sl, place):
    shutil.copytree(TOP / "examples/django", place, dirs_exist_ok=True)
    return sl.repo(place, {}, branch="master", remote="https://github.com/acme/slipway-example-django.git")


def outcomes(r):
    return {e["job"]: e["outcome"] for e in map(json.loads, filter(lambda s: s.startswith("{"), r.stdout.splitlines())) if e["event"] == "job_end"}


def captured(r):
    return {e["name"] for e in map(json.loads, filter(lambda s: s.startswith("{"), r.stdout.splitlines())) if e["event"] == "captured"}


@pytest.mark.seconds(1500)
def test_push_to_master_tests_builds_and_captures(sl, place, runner):
    d = example(sl, place)
    r = sl("run", "--json", "-s", "DOCKER_USERNAME=robot-account", "-s", "DOCKER_PASSWORD=pw-not-real", cwd=d, timeout=1500)
    assert r.returncode == 0, r.stdout[-5000:] + r.stderr[-2000:]
    assert set(outcomes(r).values()) == {"success"}, outcomes(r)
    names = captured(r)
    assert any(n.endswith(":master") for n in names) and any(n.endswith(":latest") for n in names), names
    assert "pw-not-real" not in r.stdout
    ls = sl("registry", "ls", cwd=d, check=0).stdout
    for n in names:
        assert n in ls


@pytest.mark.seconds(900)
def test_a_failing_test_fails_the_run(root, tmp_path, runner):
    d = example(root, tmp_path / "w")
    (d / "config" / "test_broken.py").write_text("from django.test import TestCase\nclass T(TestCase):\n    def test_it(self):\n        self.fail('on purpose')\n")
    r = root("run", "--json", "--ref", "develop", "-W", ".github/workflows/ci-django.yml", cwd=d, timeout=900)
    assert r.returncode == 1, r.stdout[-3000:]
    assert "on purpose" in r.stdout


@pytest.mark.seconds(1500)
def test_bitbucket(root, tmp_path, runner):
    d = example(root, tmp_path / "w")
    r = root("run", "--dialect", "bitbucket", "--json", "--var", "DOCKER_USERNAME=acme", "-s", "DOCKER_PASSWORD=pw-not-real",
             "--var", "DOCKERHUB_USERNAME=acme", "-s", "DOCKERHUB_PASSWORD=pw-not-real", cwd=d, timeout=1500)
    assert r.returncode == 0, r.stdout[-5000:] + r.stderr[-2000:]
    assert captured(r)
    first = captured(r)
    r = root("run", "--dialect", "bitbucket", "--json", "--var", "DOCKER_USERNAME=acme", "-s", "DOCKER_PASSWORD=pw-not-real",
             "--var", "DOCKERHUB_USERNAME=acme", "-s", "DOCKERHUB_PASSWORD=pw-not-real", cwd=d, timeout=1500)
    assert r.returncode == 0 and captured(r) != first, "the build number rises"
