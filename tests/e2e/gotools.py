"""Programs of others that are built from the Go proxy once and kept: crane, and the conformance suite of
the distribution-spec. Without Go or a network the tests that want them are skipped, and say so."""
import fcntl
import os
import pathlib
import shutil
import subprocess

import conftest
import pytest

CRANE = "github.com/google/go-containerregistry/cmd/crane@v0.20.2"
SUITE, SUITE_VERSION = "github.com/opencontainers/distribution-spec/conformance", "v0.0.0-20250220192232-583e014d1541"
# The checksum database does not know every version of it: pinned here, so that what comes is what is meant.
SUITE_SUM = f"""{SUITE} {SUITE_VERSION} h1:hR3QfebIYiUVKERH00V10eKn2s6mOiE4FvX9ZpEkjp0=
{SUITE} {SUITE_VERSION}/go.mod h1:DOO4RzIigGVoAksLURsDbKHpJ8zX5eEQfsmkqY39yyE=
"""
CACHE = conftest.CACHE / "go"


def _go(*args, cwd, **env):
    if not shutil.which("go"):
        pytest.skip("go is not installed")
    r = subprocess.run(["go", *args], cwd=cwd, capture_output=True, text=True, timeout=500,
                       env=dict(os.environ, GOFLAGS="-mod=mod -buildvcs=false", **env))
    if r.returncode:
        pytest.skip(f"go {args[0]} does not work here: {r.stderr[-400:]}")


def _once(name, make):
    CACHE.mkdir(parents=True, exist_ok=True)
    out = CACHE / name
    with open(CACHE / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            work = CACHE / (name + ".work")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            make(work)
            (work / "out").rename(out)
            shutil.rmtree(work)
    return out


def crane():
    found = shutil.which("crane")
    if found:
        return pathlib.Path(found)

    def make(work):
        _go("install", CRANE, cwd=work, GOBIN=str(work / "bin"))
        (work / "bin/crane").rename(work / "out")
    return _once("crane-0.20.2", make)


def conformance():
    def make(work):
        (work / "go.mod").write_text(f"module suite\n\ngo 1.23\n\nrequire {SUITE} {SUITE_VERSION}\n")
        (work / "go.sum").write_text(SUITE_SUM)
        (work / "tools.go").write_text(f'//go:build tools\n\npackage suite\n\nimport _ "{SUITE}"\n')
        _go("test", "-c", "-o", str(work / "out"), SUITE, cwd=work)
    return _once("conformance-20250220.test", make)
