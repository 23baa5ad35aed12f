"""A run once more: --failed keeps what was good, --watch follows the files."""
import os
import select
import shutil
import signal
import subprocess
import time

import pytest

from conftest import processes
from test_run import events, outcome, outputs, run

FLOW = """
on: push
jobs:
  good:
    runs-on: ubuntu-latest
    outputs: {word: "${{ steps.w.outputs.word }}"}
    steps: [{id: w, run: 'echo "word=w-$RANDOM-$RANDOM" >> $GITHUB_OUTPUT; echo ran good'}]
  legs:
    strategy: {fail-fast: false, matrix: {n: [1, 2]}}
    runs-on: ubuntu-latest
    steps: [{uses: actions/checkout@v4}, {run: "echo leg ${{ matrix.n }}; test ${{ matrix.n }} = 1 || test -e mended"}]
  called: {uses: ./.github/workflows/called.yml}
  last:
    needs: [good, legs, called]
    runs-on: ubuntu-latest
    steps: [{run: 'echo "last ${{ needs.good.outputs.word }} ${{ needs.called.outputs.o }} ${{ github.run_id }} ${{ github.run_attempt }}"'}]
"""
CALLED = """
on: {workflow_call: {outputs: {o: {value: "${{ jobs.c.outputs.o }}"}}}}
jobs: {c: {runs-on: ubuntu-latest, outputs: {o: "${{ steps.s.outputs.o }}"}, steps: [{id: s, run: echo o=from-called >> $GITHUB_OUTPUT}]}}
"""


def test_the_failed_jobs_again(sl, place, runner):
    files = {".github/workflows/called.yml": CALLED}
    r = run(sl, place, FLOW, check=1, files=files)
    word = [e for e in events(r) if e["event"] == "run_start"][0]["run"]
    assert outcome(r, "legs (1)") == "success" and outcome(r, "legs (2)") == "failure" and outcome(r, "last") == "skipped"
    (place / "mended").write_text("")
    r = sl("run", "--json", "--failed", cwd=place, check=0)
    text = outputs(r)
    assert "ran good" not in text and "leg 1" not in text and "leg 2" in text
    assert "last w-" in text and f"from-called {word} 2" in text
    assert outcome(r, "good") == outcome(r, "legs (1)") == outcome(r, "called") == outcome(r, "last") == "success"
    assert "no job of run" in sl("run", "--failed", cwd=place, check=0).stdout


def test_failed_without_a_run(root, tmp_path):
    r = run(root, tmp_path, FLOW, "--failed", check=2, files={".github/workflows/called.yml": CALLED})
    assert "no earlier run" in r.stderr


def test_logs_are_of_the_repository(root, tmp_path, runner):
    flow = "on: push\njobs: {one: {runs-on: ubuntu-latest, steps: [{run: echo of-%s}]}}\n"
    env = {"SLIPWAY_STATE": str(tmp_path / "state")}
    dirs = {n: root.repo(tmp_path / n, {".github/workflows/w.yml": flow % n, "sub/f": ""}) for n in ("a", "b", "c")}
    assert "no run is kept" in root("logs", cwd=dirs["a"], env=env).stderr
    for n in ("a", "b"):
        root("run", "-P", "ubuntu-latest=host", cwd=dirs[n], env=env, check=0)
    for where, word in ((dirs["a"], "of-a"), (dirs["b"], "of-b"), (dirs["a"] / "sub", "of-a"), (tmp_path, "of-b")):
        assert [w for w in ("of-a", "of-b") if w in root("logs", cwd=where, env=env, check=0).stdout] == [word], where
    r = root("logs", cwd=dirs["c"], env=env)
    assert r.returncode and f"no run of {dirs['c']} is kept" in r.stderr and "--list" in r.stderr, r.stderr


def test_watch_interrupted_while_git_looks(root, tmp_path):
    """A Ctrl-C ends the git that lists the files too: that is the end, not a failure. A git that
    stays where it is asked for the files makes the moment certain."""
    d = root.repo(tmp_path / "r", {".github/workflows/w.yml": "on: push\njobs: {one: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}}\n"})
    (tmp_path / "bin").mkdir()
    git = tmp_path / "bin/git"
    git.write_text(f"""#!/bin/sh
case " $* " in *" ls-files "*) test ! -e {tmp_path}/hold || {{ : > {tmp_path}/held; exec sleep 50; }};; esac
PATH=${{PATH#*:}} exec git "$@"
""")
    git.chmod(0o755)
    p = root.popen("run", "--watch", "-P", "ubuntu-latest=host", cwd=d, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                   start_new_session=True, env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})
    for line in p.stdout:
        if line.startswith("watching"):
            break
    (tmp_path / "hold").write_text("")
    end = time.time() + 60
    while not (tmp_path / "held").exists():
        assert time.time() < end and p.poll() is None
        time.sleep(0.02)
    os.killpg(p.pid, signal.SIGINT)
    assert p.wait(30) == 130, p.stdout.read()


def test_a_cancel_ends_the_making_of_a_standin(root, tmp_path):
    (tmp_path / "build").mkdir()
    (tmp_path / "tools").mkdir()
    shutil.copy2(root.binary, tmp_path / "build/slipway")
    (tmp_path / "share").symlink_to(root.binary.parent.parent / "share")
    tool = tmp_path / "tools/standin-images"
    tool.write_text(f"#!/bin/sh\n: > {tmp_path}/making\nsleep 300\n")
    tool.chmod(0o755)
    d = root.repo(tmp_path / "r", {".github/workflows/w.yml": "on: push\njobs: {one: {runs-on: ubuntu-latest, container: 'nowhere-at-all:1', steps: [{run: 'true'}]}}\n"})
    p = subprocess.Popen([tmp_path / "build/slipway", "run", "--offline"], cwd=d, env=root.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        end = time.time() + 60
        while not (tmp_path / "making").exists():
            assert time.time() < end and p.poll() is None, p.stdout.read()
            time.sleep(0.02)
        p.send_signal(signal.SIGINT)
        assert p.wait(60) == 130
    finally:
        p.kill()
    assert not processes(str(tool))


def test_watch(root, tmp_path, runner):
    one = "on: {push: {paths: ['src/**']}}\njobs: {one: {runs-on: ubuntu-latest, steps: [{uses: actions/checkout@v4}, {run: 'cat src/a; test ! -e src/slow || sleep 60'}]}}\n"
    two = "on: {push: {paths: ['docs/**']}}\njobs: {two: {runs-on: ubuntu-latest, steps: [{uses: actions/checkout@v4}, {run: cat docs/b}]}}\n"
    d = root.repo(tmp_path, {".github/workflows/one.yml": one, ".github/workflows/two.yml": two, "src/a": "a-first\n", "docs/b": "b-first\n"})
    p = root.popen("run", "--watch", cwd=d, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    seen = ""

    def until(what):
        nonlocal seen
        end = time.time() + 60
        while what not in seen:
            assert time.time() < end and p.poll() is None, f"{what!r} never came: {seen}"
            if select.select([p.stdout], [], [], 0.5)[0]:
                seen += os.read(p.stdout.fileno(), 65536).decode()
        part, seen = seen.split(what, 1)
        return part
    first = until("watching")
    assert "a-first" in first and "b-first" in first
    (d / "src/a").write_text("a-second\n")
    (d / "src/slow").write_text("")
    until("changed: src/")
    assert "b-first" not in until("a-second")
    (d / "src/slow").unlink()
    (d / "src/a").write_text("a-third\n")
    until("changed: src/")
    until("a-third")
    until("watching")
    os.killpg(p.pid, signal.SIGINT)
    assert p.wait(30) == 130
