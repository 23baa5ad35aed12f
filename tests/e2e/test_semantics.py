"""What a workflow's keys and a step's words mean: matchers, environments, permissions, status functions, summaries."""
import json

import pytest

from test_run import events, outcome, outputs, run


def notes(r):
    return [e["text"] for e in events(r) if e["event"] == "note"]


def annotations(r, level="error"):
    return [e for e in events(r) if e["event"] == "annotation" and e["level"] == level]


MATCHER = """{"problemMatcher": [{"owner": "lint", "severity": "warning",
  "pattern": [{"regexp": "^(.+):(\\\\d+): (.+)$", "file": 1, "line": 2, "message": 3}]}]}"""


def test_problem_matchers(sl, place, runner):
    r = run(sl, place, r"""
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - uses: actions/checkout@v4
              - run: |
                  echo 'early.py:1: not yet'
                  echo "::add-matcher::lint.json"
                  printf '\033[1mapp/views.py\033[0m:7: unused import\n'
              - run: |
                  echo '../outside.py:2: somewhere else'
                  echo '::remove-matcher owner=lint::'
                  echo 'late.py:1: no more'
              - run: echo "::add-matcher::missing.json"
        """, files={"lint.json": MATCHER})
    found = annotations(r, "warning")
    assert [(e["text"], e.get("file"), e.get("line"), e["step"]) for e in found] == [
        ("unused import", "app/views.py", 7, 2), ("somewhere else", None, None, 3)]
    assert any("missing.json" in n for n in notes(r))


def test_setup_python_finds_tracebacks(root, tmp_path, runner):
    r = run(root, tmp_path, """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - uses: actions/checkout@v4
              - uses: actions/setup-python@v5
                with: {python-version: 3.x}
              - run: python boom.py
        """, files={"boom.py": "def f():\n    raise ValueError('boom')\nf()\n"}, check=1)
    assert [(e["text"], e["file"], e["line"]) for e in annotations(r) if e["text"] == "boom"] == [("boom", "boom.py", 2)]


def test_streams_by_path_and_inserted_mappings(sl, place, standins):
    d = sl.repo(place, {"event.json": '{"inputs": {"word": "w"}}', ".github/workflows/ci.yml": """
        on: {workflow_dispatch: {inputs: {word: {required: true, type: string}}}}
        jobs:
          j:
            runs-on: ubuntu-latest
            strategy:
              matrix:
                of:
                  - a: one
                    "${{ insert }}": {b: "${{ 'two' }}"}
                  - ${{ fromJSON('[{"a":"x"},{"a":"y"}]') }}
            steps:
              - run: |
                  echo "a=${{ matrix.of.a }} b=${{ matrix.of.b }}" | tee /dev/stderr >/dev/null
                  sudo sh -c 'echo root >/dev/stdout'
              - run: docker run --rm python:3.11-slim-bookworm sh -c 'echo "container ${{ matrix.of.a }}" >/dev/stderr'
          k:
            runs-on: ubuntu-latest
            container: python:3.11-slim-bookworm
            steps: [{run: 'echo "k wrote ${{ inputs.word }} ${{ github.event.inputs.word }}" > /dev/stderr'}]
        """})
    text = outputs(sl("run", "--json", "-e", "event.json", "workflow_dispatch", cwd=d, check=0)).split("\n")
    assert {"a=one b=two", "a=x b=", "a=y b=", "container x", "k wrote w w"} <= set(text) and text.count("root") == 3


def test_a_cancelled_job_has_its_time_and_no_more(root, tmp_path, runner):
    r = run(root, tmp_path, """
        on: push
        jobs:
          slow:
            runs-on: ubuntu-latest
            cancel-timeout-minutes: 0.01
            strategy: {matrix: {n: [1, 2]}}
            steps:
              - run: test ${{ matrix.n }} = 2 || exit 1; sleep 60
              - if: always() && matrix.n == 2
                run: sleep 60
          win: {runs-on: ubuntu-latest, steps: [{run: x, shell: powershell}]}
        """, "--parallel", "3", check=1, timeout=50)
    assert outcome(r, "slow (1)") == "failure" and outcome(r, "slow (2)") == "cancelled"
    assert any("pwsh" in e["text"] for e in annotations(r))


def test_run_name_and_debug_logging(root, tmp_path, runner):
    wf = """
        name: Flow
        run-name: Deploy ${{ github.ref_name }} by @${{ github.actor }}
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps: [{run: 'echo "::debug::inner words"; echo "debug=$RUNNER_DEBUG/${{ runner.debug }} true"'}]
        """
    r = run(root, tmp_path, wf, "-a", "octo")
    assert [e["text"] for e in events(r) if e["event"] == "run_start"] == ["Deploy main by @octo"]
    assert "inner words" not in outputs(r) and "debug=/" in outputs(r)
    r = root("run", "--json", "-s", "ACTIONS_STEP_DEBUG=true", cwd=tmp_path, check=0)
    assert "##[debug]inner words" in outputs(r) and "debug=1/1 true" in outputs(r)
