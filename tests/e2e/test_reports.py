"""What is left to read after a run: reports, timeline, summaries, a test runner that ran nothing; inputs and environments."""
import json
import xml.etree.ElementTree as ET

import pytest

from test_run import events, outcome, outputs, run

FLOW = r"""
name: Reported
on: push
jobs:
  first:
    runs-on: ubuntu-latest
    steps:
      - name: Tests
        run: |
          cd /tmp && python3 -m unittest discover || true
          echo "## Result of <b>first</b>" >> $GITHUB_STEP_SUMMARY
          echo "| a | b |" >> $GITHUB_STEP_SUMMARY
          echo "the token s3cr3t-value is not told" >> $GITHUB_STEP_SUMMARY
      - if: false
        run: echo skipped
  quick: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}
  second:
    needs: [first, quick]
    runs-on: ubuntu-latest
    steps:
      - {name: "Break & <fail>", run: exit 7}
"""


def test_reports_timings_and_summary(root, tmp_path, runner):
    d = root.repo(tmp_path / "r", {".github/workflows/ci.yml": FLOW})
    out = tmp_path / "out"
    out.mkdir()
    r = root("run", "--timings", "--summary", "-s", "TOKEN=s3cr3t-value", "--report", f"junit={out}/j.xml", "--report", f"json={out}/j.json",
             "--report", f"md={out}/j.md", cwd=d, check=1)
    assert "no test ran: first › Tests: Ran 0 tests in" in r.stdout or "NO TESTS RAN" in r.stdout
    tail = r.stdout[r.stdout.index("critical path: "):]
    assert "first (" in tail and "second (" in tail.split("→")[1] and "quick" not in tail.split("\n")[0]
    assert "Result of first" in tail and "s3cr3t" not in r.stdout
    suites = ET.parse(out / "j.xml").getroot()
    cases = {c.get("name"): c for c in suites.iter("testcase")}
    assert suites.get("name") == "Reported" and "exit code 7" in cases["Break & <fail>"].find("failure").get("message")
    assert [s.get("failures") for s in suites] == ["0", "0", "1"] and cases["Run echo skipped"].find("skipped") is not None
    j = json.loads((out / "j.json").read_text())
    assert j["outcome"] == "failure" and [x["outcome"] for x in j["jobs"]] == ["success", "success", "failure"]
    assert j["jobs"][2]["steps"][0]["exit_code"] == 7 and j["no_tests"]
    md = (out / "j.md").read_text()
    assert "| second | failure" in md and "## Result of <b>first</b>" in md and "s3cr3t" not in md
    assert "KIND" in root("run", "--help", cwd=d).stdout
    assert "junit=FILE" in root("run", "--report", "html=x", cwd=d, check=2).stderr


ENVS = """
on: push
jobs:
  plain: {runs-on: ubuntu-latest, steps: [{run: 'test "${{ vars.URL }}${{ secrets.KEY }}" = general-url'}]}
  prod:
    runs-on: ubuntu-latest
    environment: {name: "${{ github.ref_name == 'main' && 'Production' || 'x' }}", url: "https://x"}
    steps:
      - run: |
          test "${{ vars.URL }}" = prod-url; test "${{ secrets.KEY }}" = prod-key-value; test "${{ vars.FILE }}" = from-file
          echo "key ${{ secrets.KEY }}"
  after: {needs: prod, runs-on: ubuntu-latest, steps: [{run: echo after}]}
"""


def test_environments(root, tmp_path, runner):
    args = ["--var", "URL=general-url", "--var", "production/URL=prod-url", "-s", "production/KEY=prod-key-value"]
    r = run(root, tmp_path, ENVS, *args, files={".vars.production": "FILE=from-file\n"})
    assert outcome(r, "prod") == "success" and "prod-key-value" not in r.stdout
    (tmp_path / ".slipway.yml").write_text("environments:\n  protected: [production]\n")
    r = root("run", "--json", *args, cwd=tmp_path, check=4)
    assert outcome(r, "plain") == "success" and outcome(r, "prod") == outcome(r, "after") == "held"
    assert "--approve Production" in r.stdout
    r = root("run", "--json", "--approve", "production", *args, cwd=tmp_path, check=0)
    assert outcome(r, "after") == "success"


def test_inputs_of_a_dispatch(root, tmp_path, runner):
    d = root.repo(tmp_path, {".github/workflows/ci.yml": """
        on:
          workflow_dispatch:
            inputs:
              level: {type: choice, options: [low, high], default: low}
              count: {type: number, required: true}
              dry: {type: boolean}
        jobs:
          j:
            runs-on: ubuntu-latest
            steps: [{run: 'test "${{ inputs.level }}/${{ inputs.count }}/${{ inputs.dry }}/${{ inputs.count + 0 == 3 }}" = high/3/false/true || echo "${{ toJSON(inputs) }}"'}]
        """.replace("inputs.count + 0", "inputs.count")})
    go = lambda *a: root("run", "--json", *a, "workflow_dispatch", cwd=d)
    assert "Required input 'count' not provided" in go().stderr
    assert "is no number" in go("--input", "count=x").stderr
    assert "low, high" in go("--input", "count=1", "--input", "level=mid").stderr
    assert "Unexpected inputs" in go("--input", "count=1", "--input", "other=1").stderr
    r = go("--input", "count=3", "--input", "level=high")
    assert r.returncode == 0 and outcome(r, "j") == "success" and not outputs(r)
