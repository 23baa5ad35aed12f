"""Concurrency groups: runs of one repository on one machine, and jobs of one run."""
import json
import subprocess
import time

from test_run import events, outcome, outputs, run

WAIT = """
on: push
{top}
jobs:
  j:
    runs-on: here
    {job}
    steps:
      - run: |
          echo "$WHO begins" >> "$LOG"
          for i in $(seq 1200); do test -e "$LOG.$WHO" && break; sleep 0.05; done
          echo "$WHO ends" >> "$LOG"
      - if: cancelled()
        run: echo "$WHO was cancelled" >> "$LOG"
"""


class Runs:
    """Runs of one repository, each waiting in its step until it is let go."""

    def __init__(self, sl, place, top="", job=""):
        self.sl, self.log = sl, place / "log"
        self.dir = sl.repo(place / "repo", {".github/workflows/ci.yml": WAIT.format(top=top, job=job)})
        self.log.write_text("")
        self.log.chmod(0o666)

    def start(self, who):
        return self.sl.popen("run", "--json", "-P", "here=host", "--env", f"LOG={self.log}", "--env", f"WHO={who}", cwd=self.dir,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def go(self, who):
        (self.log.parent / f"log.{who}").write_text("")

    def until(self, text):
        for _ in range(1200):
            if text in self.log.read_text():
                return
            time.sleep(0.05)
        raise AssertionError(f"{text!r} never came: {self.log.read_text()}")


def said(p, text):
    """Reads events until one has the text."""
    for line in p.stdout:
        if text in line:
            return True
    return False


def end(p, code):
    out = p.stdout.read()
    assert p.wait(60) == code, out
    return out


def test_a_newer_run_waits_and_replaces_the_one_that_waits(root, tmp_path):
    r = Runs(root, tmp_path, top="concurrency: deploy-${{ github.ref_name }}")
    a = r.start("a")
    r.until("a begins")
    b = r.start("b")
    assert said(b, "waits for the concurrency group")
    c = r.start("c")
    assert said(c, "waits for the concurrency group")
    assert "higher priority waiting request for 'deploy-main' exists" in end(b, 130)
    r.go("a")
    end(a, 0)
    r.until("c begins")
    r.go("c")
    end(c, 0)
    assert r.log.read_text().split("\n")[:4] == ["a begins", "a ends", "c begins", "c ends"]


def test_cancel_in_progress(root, tmp_path):
    r = Runs(root, tmp_path, job="concurrency: {group: G, cancel-in-progress: \"${{ github.ref_name == 'main' }}\"}")
    a = r.start("a")
    r.until("a begins")
    b = r.start("b")
    r.go("b")
    end(b, 0)
    assert "higher priority" in end(a, 130)
    assert r.log.read_text().split("\n")[:4] == ["a begins", "a was cancelled", "b begins", "b ends"]


def test_every_run_waits_its_turn_with_queue_max(root, tmp_path):
    r = Runs(root, tmp_path, job="concurrency: {group: G, queue: max}")
    first = r.start("a")
    r.until("a begins")
    rest = []
    for who in "bc":
        rest.append(r.start(who))
        assert said(rest[-1], "waits for the concurrency group")
        r.go(who)
    r.go("a")
    for p in [first, *rest]:
        end(p, 0)
    assert r.log.read_text().split("\n")[:6] == ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]


def test_kill_9_gives_the_group_back(root, tmp_path):
    r = Runs(root, tmp_path, top="concurrency: G")
    a = r.start("a")
    r.until("a begins")
    b = r.start("b")
    r.go("b")
    assert said(b, "waits for the concurrency group")
    a.kill()
    a.wait()
    end(b, 0)


def test_legs_of_one_group_and_deadlock(root, tmp_path):
    r = run(root, tmp_path, """
        on: push
        jobs:
          legs:
            strategy: {matrix: {n: [1, 2, 3]}}
            runs-on: here
            concurrency: one
            steps: [{run: sleep 0.3}]
          dead:
            concurrency: same
            uses: ./.github/workflows/called.yml
        """, "-P", "here=host", "--parallel", "4", check=130, files={".github/workflows/called.yml": """
            on: workflow_call
            concurrency: same
            jobs: {x: {runs-on: here, steps: [{run: 'true'}]}}
        """})
    assert sorted(outcome(r, f"legs ({n})") for n in (1, 2, 3)) == ["cancelled", "success", "success"]
    assert "deadlock" in r.stdout and outcome(r, "dead / x") == "cancelled"
