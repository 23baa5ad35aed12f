"""Boxes and networks as an ordinary user (the unit tests run as whoever runs them), and doctor."""
import json
import os
import shutil
import subprocess

import pytest

from conftest import TOP


def test_doctor(sl):
    r = sl("doctor", "--json")
    d = json.loads(r.stdout)
    checks = {c["name"]: c for c in d["checks"]}
    assert {"kernel", "OCI runtime", "subordinate ids", "user namespaces", "box", "network", "limits", "disk"} <= set(checks)
    assert d["ok"] == all(c["status"] != "fail" for c in d["checks"])
    assert r.returncode == (0 if d["ok"] else 3)
    assert all(c["fix"] for c in d["checks"] if c["status"] == "fail"), r.stdout
    assert checks["box"]["status"] == "ok", r.stdout


def test_doctor_says_what_mends(sl, tmp_path_factory):
    """An OCI runtime that was asked for and is not there: exit 3 and the command."""
    path = tmp_path_factory.mktemp("path")
    os.chmod(path, 0o755)
    r = sl("doctor", env={"SLIPWAY_OCI_RUNTIME": "no-such-runtime"})
    assert r.returncode == 3
    assert "sudo apt-get install crun" in r.stdout


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_another_runtime(sl, runtime):
    """A box by an OCI runtime, which must be the same as ours but for its own way."""
    if not shutil.which(runtime):
        pytest.skip(f"no {runtime}")
    r = sl("doctor", "--json", env={"SLIPWAY_OCI_RUNTIME": runtime})
    checks = {c["name"]: c for c in json.loads(r.stdout)["checks"]}
    assert checks["OCI runtime"]["detail"].endswith(runtime), r.stdout
    assert checks["box"]["status"] == "ok", r.stdout


@pytest.mark.parametrize("name", ["test_box", "test_net"])
def test_unit_as_ordinary_user(user, name):
    if user.uid == os.geteuid() == 0:
        pytest.skip("no ordinary user")
    build = TOP / "build"
    subprocess.run(["ninja", "-C", str(build), name], check=True, capture_output=True)
    place = user.binary.parent / name
    if place != build / name:
        shutil.copy2(build / name, place)
    r = subprocess.run([str(place)], cwd=user.home, env=user.env, capture_output=True, text=True, timeout=120, **user._identity())
    assert r.returncode == 0, r.stdout + r.stderr
