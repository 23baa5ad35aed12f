"""Finding out why: kept boxes, shells, breaks."""
import os
import pty
import re
import select
import subprocess
import time

import pytest

from conftest import processes
from test_run import events, outcome, outputs, run

FAILS = """
on: push
jobs:
  good: {runs-on: ubuntu-latest, steps: [{run: echo fine}]}
  bad:
    runs-on: ubuntu-latest
    env: {LEVEL: job}
    services:
      store: {image: "redis:7", ports: ["6379:6379"]}
    steps:
      - run: mkdir sub; echo one > sub/made
      - name: breaks
        env: {OWN: step}
        working-directory: sub
        run: test -e mended
      - run: echo after
"""


def gone(mark):
    for _ in range(200):
        left = processes(mark)
        if not left:
            return True
        time.sleep(0.05)
    return left


def test_kept_box_and_shell(sl, place, runner):
    mark = f"SLIPWAY_TEST_MARK={place}"
    d = sl.repo(place, {".github/workflows/ci.yml": FAILS})
    env = {"SLIPWAY_TEST_MARK": str(place)}
    try:
        r = sl("run", "--keep", cwd=d, env=env, check=1)
        assert "kept: bad, failed at breaks" in r.stdout and "slipway shell" in r.stdout
        assert re.search(r"bad +breaks", sl("shell", "--list", cwd=d).stdout)
        r = sl("shell", "bad", cwd=d, input="pwd; echo $LEVEL/$OWN/$CI; cat made; id -un; exit 5\n", check=5)
        assert r.stdout.split() == ["/home/runner/work/app/app/sub", "job/step/true", "one", "runner"]
        r = sl("shell", "bad", "python3", "-c", "import socket; s = socket.create_connection(('localhost', 6379)); s.sendall(b'PING\\r\\n'); print(s.recv(9))", cwd=d, check=0)
        assert "PONG" in r.stdout
        assert "no kept job" in sl("shell", "good", cwd=d, check=2).stderr
    finally:
        sl("shell", "--end", cwd=d)
    assert gone(mark) is True
    assert "nothing is kept" in sl("shell", "bad", cwd=d, check=2).stderr


def test_nothing_is_kept_of_a_good_run(root, tmp_path, runner):
    d = root.repo(tmp_path, {".github/workflows/ci.yml": "on: push\njobs: {j: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}}\n"})
    r = root("run", "--keep", cwd=d, env={"SLIPWAY_TEST_MARK": str(tmp_path)}, check=0)
    assert "kept" not in r.stdout and gone(str(tmp_path)) is True


class Terminal:
    def __init__(self, sl, *args, cwd):
        self.master, slave = pty.openpty()
        self.p = sl.popen(*args, cwd=cwd, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.text = ""

    def until(self, what, seconds=60):
        end = time.time() + seconds
        while what not in self.text:
            assert time.time() < end, f"{what!r} never came:\n{self.text}"
            if select.select([self.master], [], [], 0.5)[0]:
                try:
                    self.text += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    break
        assert what in self.text, self.text
        before, self.text = self.text.split(what, 1)
        return before

    def say(self, line):
        os.write(self.master, line.encode() + b"\n")

    def end(self, code):
        self.until(" in ")  # the last line of the summary
        assert self.p.wait(60) == code
        os.close(self.master)


def test_break_on_failure_and_repeat(root, tmp_path, runner):
    d = root.repo(tmp_path, {".github/workflows/ci.yml": FAILS})
    t = Terminal(root, "run", "-j", "bad", "--break", "on-failure", cwd=d)
    t.until("bad: failed at step 2, breaks")
    t.say("echo in-$OWN-$LEVEL-$(pwd | tr / +)")
    t.until("in-step-job-+home+runner+work+app+app+sub")
    t.say("touch mended; exit")
    t.until("[r] repeat the step")
    t.say("r")
    t.until("after")
    t.end(0)


def test_break_before_a_step_and_stop(root, tmp_path, runner):
    d = root.repo(tmp_path, {".github/workflows/ci.yml": FAILS})
    t = Terminal(root, "run", "-j", "bad", "--break", "breaks", cwd=d)
    t.until("before step 2, breaks")
    t.say("touch mended; exit")
    t.until("[s] stop the run")
    t.say("s")
    t.end(130)


def test_break_needs_a_terminal(root, tmp_path):
    r = run(root, tmp_path, FAILS, "--break", "2", check=2)
    assert "needs a terminal" in r.stderr
