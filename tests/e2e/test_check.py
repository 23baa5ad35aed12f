"""check, plan and eval on the command line: forms of output, exit codes, which files are meant. None of
them needs a box, a store or a repository."""
import json
import os
import pathlib
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
SLIPWAY = os.environ.get("SLIPWAY") or str(TOP / "build/slipway")
EXPRESSIONS = pathlib.Path(os.environ.get("SLIPWAY_CONFORMANCE_EXPRESSIONS") or TOP / "tests/conformance/expressions")
GOOD = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo hi\n"
BAD = GOOD + "      - run: echo ${{ nope }}\n        foo: 1\n"


def sl(*args, cwd=None, code=None, input=None):
    r = subprocess.run([SLIPWAY, *map(str, args)], cwd=cwd, capture_output=True, text=True, input=input,
                       env=dict(os.environ, NO_COLOR="1"))
    if code is not None:
        assert r.returncode == code, r.stdout + r.stderr
    return r


@pytest.fixture
def repo(tmp_path):
    flows = tmp_path / ".github/workflows"
    flows.mkdir(parents=True)
    (flows / "a.yml").write_text(GOOD)
    (flows / "b.yaml").write_text(BAD)
    (flows / "notes.txt").write_text("x")
    return tmp_path


def test_files_of_the_repository_are_found_from_below(repo):
    (repo / "src/deep").mkdir(parents=True)
    r = sl("check", cwd=repo / "src/deep", code=1)
    assert "../../.github/workflows/b.yaml:7:23: error: Unrecognized named-value: 'nope'" in r.stdout
    assert "2 files checked: 2 errors" in r.stdout


def test_json(repo):
    out = json.loads(sl("check", "--format", "json", cwd=repo, code=1).stdout)
    good, bad = out["files"]
    assert good == {"file": ".github/workflows/a.yml", "errors": [], "warnings": []}
    first, second = bad["errors"]
    assert (first["line"], first["col"], first["code"]) == (7, 14, "expression")
    assert first["focus"] == {"line": 7, "col": 23, "endLine": 7, "endCol": 27}
    assert (second["message"], second["endCol"]) == ("Unexpected value 'foo'", 12)


def test_sarif_and_commands(repo):
    sarif = json.loads(sl("check", "--format", "sarif", cwd=repo, code=1).stdout)
    assert sarif["version"] == "2.1.0" and len(sarif["runs"][0]["results"]) == 2
    assert sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startColumn"] == 23
    r = sl("check", "--format", "github", cwd=repo, code=1)
    assert "::error file=.github/workflows/b.yaml,line=8,col=9,endLine=8,endColumn=12,title=value::Unexpected value 'foo'" in r.stdout


def test_exit_codes(repo):
    sl("check", ".github/workflows/a.yml", cwd=repo, code=0)
    sl("check", "absent.yml", cwd=repo, code=2)
    sl("check", "--format", "xml", cwd=repo, code=2)
    sl("check", "--limit", "nope=1", cwd=repo, code=2)
    sl("check", "--limit", "max-depth=0", cwd=repo, code=2)
    sl("check", cwd="/proc", code=2)
    assert "Maximum object depth" in sl("check", "--limit", "max-depth=3", ".github/workflows/a.yml", cwd=repo, code=1).stdout


def test_called_workflows_are_read_and_reported_once(repo):
    for name in ("c", "d"):
        (repo / f".github/workflows/{name}.yml").write_text("on: push\njobs:\n  x:\n    uses: ./.github/workflows/called.yml\n    with: {extra: 1}\n")
    (repo / ".github/workflows/called.yml").write_text(GOOD.replace("push", "workflow_call"))
    r = sl("check", ".github/workflows/c.yml", ".github/workflows/d.yml", cwd=repo, code=1)
    assert r.stdout.count("Invalid input, extra is not defined in the referenced workflow.") == 2
    (repo / ".github/workflows/called.yml").write_text(BAD.replace("push", "workflow_call"))
    out = json.loads(sl("check", "--format", "json", ".github/workflows/c.yml", ".github/workflows/d.yml", cwd=repo, code=1).stdout)
    assert [(f["file"], len(f["errors"])) for f in out["files"]] == [
        (".github/workflows/c.yml", 0), (".github/workflows/d.yml", 0), (".github/workflows/called.yml", 2)]
    (repo / ".github/workflows/called.yml").unlink()
    assert "workflow was not found" in sl("check", ".github/workflows/c.yml", cwd=repo, code=1).stdout


def test_bitbucket(tmp_path):
    f = tmp_path / "bitbucket-pipelines.yml"
    f.write_text("pipelines:\n  default:\n    - step: {name: T, script: [make]}\n  tags:\n    v*: [{step: {name: R, scirpt: [x]}}]\n")
    r = sl("check", cwd=tmp_path, code=1)
    assert 'unknown key "scirpt" in a step' in r.stdout and 'did you mean "script"?' in r.stdout
    f.write_text(f.read_text().replace("scirpt", "script"))
    sl("check", cwd=tmp_path, code=0)
    plan = json.loads(sl("plan", "--json", "--tag", "v1", cwd=tmp_path, code=0).stdout)["plans"][0]
    assert [j["id"] for j in plan["jobs"]] == ["r"] and plan["dialect"] == "bitbucket"
    assert "no pipeline for x" in sl("plan", "--tag", "x", cwd=tmp_path, code=2).stderr


def test_plan_text(repo):
    r = sl("plan", ".github/workflows/a.yml", cwd=repo, code=0)
    assert "job a  on ubuntu-latest" in r.stdout and "1. run echo hi" in r.stdout


@pytest.mark.parametrize("path", sorted(EXPRESSIONS.glob("*.json")), ids=lambda p: p.stem)
def test_expressions(path, tmp_path):
    for cases in json.loads(path.read_text()).values():
        for case in cases:
            args = ["eval", case["expr"]]
            if "contexts" in case:
                (tmp_path / "c.json").write_text(json.dumps(case["contexts"]))
                args += ["--context", tmp_path / "c.json"]
            r = sl(*args)
            got = json.loads(r.stdout)
            assert got == ({"err": case["err"]} if "err" in case else case["result"]), case["expr"]
            assert r.returncode == (1 if "err" in case else 0)


def test_eval_usage(tmp_path):
    assert json.loads(sl("eval", "-1", "--trace", code=0).stdout)["value"] == -1
    r = sl("eval", "--context", "-", "--trace", "a.b == '1'", input='{"a": {"b": 1}}', code=0)
    assert '"1" as Number => 1' in r.stderr
    sl("eval", code=2)
    sl("eval", "1", "2", code=2)
    sl("eval", "--context", tmp_path / "none", "1", code=2)
    sl("eval", "--context", "-", "1", input="[]", code=2)


def test_findings_beyond_github(repo):
    f = repo / ".github/workflows/a.yml"
    f.write_text(GOOD + "      - run: echo ${{ github.head_ref }} ${{ steps.x.outputs.y }}\n")
    r = sl("check", ".github/workflows/a.yml", cwd=repo, code=0)
    assert "[template-injection]" in r.stdout and "[unknown-step]" in r.stdout and "2 warnings" in r.stdout
    sl("check", "--strict", ".github/workflows/a.yml", cwd=repo, code=1)
    out = json.loads(sl("check", "--no-audit", "--format", "json", ".github/workflows/a.yml", cwd=repo, code=0).stdout)
    assert [w["code"] for w in out["files"][0]["warnings"]] == ["unknown-step"] and not out["files"][0]["errors"]
    (repo / ".slipway.yml").write_text("check:\n  ignore:\n    'a.yml unknown-step': a test\n    template-injection: ''\n")
    r = sl("check", ".github/workflows/a.yml", cwd=repo, code=0)
    assert "[unknown-step]" not in r.stdout and "[template-injection]" in r.stdout
    assert "template-injection has no reason" in r.stderr
    assert "why:" in sl("check", "--explain", "template-injection", code=0).stdout
    assert "unknown-step" in sl("check", "--explain", "all", code=0).stdout
    sl("check", "--explain", "nope", code=2)


def test_actions_of_the_repository(repo):
    action = repo / "tools/act"
    action.mkdir(parents=True)
    (action / "action.yml").write_text(
        "name: a\ndescription: d\ninputs:\n  who: {description: w, required: true}\noutputs:\n  o: {description: o, value: x}\n"
        "runs:\n  using: composite\n  steps: [{run: x, shell: bash}]\n")
    f = repo / ".github/workflows/a.yml"
    f.write_text(GOOD + "      - {id: t, uses: ./tools/act, with: {what: 1}}\n      - run: echo ${{ steps.t.outputs.p }} ${{ steps.t.outputs.o }}\n")
    out = json.loads(sl("check", "--format", "json", ".github/workflows/a.yml", cwd=repo, code=0).stdout)
    assert [w["code"] for w in out["files"][0]["warnings"]] == ["missing-action-input", "unknown-action-input", "unknown-output"]
    (action / "action.yml").write_text("name: [\n")
    out = json.loads(sl("check", "--format", "json", ".github/workflows/a.yml", cwd=repo, code=0).stdout)
    assert out["files"][0]["warnings"][0]["code"] == "bad-action"


WHY = """on:
  push: {branches: [main, 'release/**', '!release/old']}
  workflow_dispatch: {inputs: {go: {type: boolean}}}
jobs:
  a:
    if: github.ref == 'refs/heads/main' && vars.X == '1'
    runs-on: ubuntu-latest
    strategy: {matrix: {v: [1, 2], include: [{v: 2, w: x}, {v: 3}]}}
  b: {needs: a, runs-on: ubuntu-latest}
  c: {needs: b, if: always(), runs-on: ubuntu-latest}
  d: {if: inputs.go, runs-on: ubuntu-latest}
"""


def test_why_not(tmp_path):
    f = tmp_path / ".github/workflows/w.yml"
    f.parent.mkdir(parents=True)
    f.write_text(WHY)
    r = sl("plan", "--why-not", "--ref", "release/old", cwd=tmp_path, code=0)
    assert "does not run on push: `branches`" in r.stdout and "(line 2)" in r.stdout
    assert "release/**: matches release/old" in r.stdout and "!release/old: takes away release/old" in r.stdout
    r = sl("plan", "--why-not", "--ref", "main", cwd=tmp_path, code=0)
    assert "job a does not run (line 6): its condition is false" in r.stdout
    assert "vars.X => null" in r.stdout and "vars.X == '1' => false" in r.stdout
    assert "job b does not run (line 9): it needs a, which does not run" in r.stdout and "job c" not in r.stdout
    out = json.loads(sl("plan", "--json", "--event", "workflow_dispatch", "--input", "go=true", cwd=tmp_path, code=0).stdout)
    (why,) = out["whyNot"]
    assert why["runs"] and {j["id"]: j["runs"] for j in why["jobs"]} == {"a": False, "b": False, "c": True, "d": True}
    assert why["jobs"][3]["trace"][-1] == {"depth": 0, "expr": "inputs.go", "value": "true"}
    assert out["matrices"] == [{"file": ".github/workflows/w.yml", "job": "a", "legs": [{"v": 1}, {"v": 2, "w": "x"}, {"v": 3}]}]
    r = sl("plan", "--event", "issues", cwd=tmp_path, code=0)
    assert "it runs on push, workflow_dispatch, not on issues" in r.stdout


def test_payload_of_every_event(tmp_path):
    """What a local run would say of each event: it starts what is on it, with the object that it is about."""
    about = {"check_run": "check_run.check_suite.conclusion", "check_suite": "check_suite.head_sha", "create": "ref_type",
             "delete": "ref_type", "deployment": "deployment.environment", "deployment_status": "deployment_status.state",
             "discussion": "discussion.category.name", "discussion_comment": "comment.user.login", "fork": "forkee.full_name",
             "gollum": "pages[0].page_name", "issue_comment": "issue.number", "issues": "issue.state", "label": "label.name",
             "merge_group": "merge_group.base_ref", "milestone": "milestone.title", "page_build": "build.status",
             "project": "project.name", "pull_request": "pull_request.base.ref", "pull_request_review": "review.state",
             "pull_request_review_comment": "comment.path", "pull_request_target": "pull_request.head.repo.full_name",
             "push": "head_commit.id", "registry_package": "registry_package.package_type", "release": "release.tag_name",
             "repository_dispatch": "repository.default_branch", "status": "state", "watch": "sender.login",
             "workflow_run": "workflow_run.conclusion", "branch_protection_rule": "rule.name"}
    f = tmp_path / ".github/workflows/w.yml"
    f.parent.mkdir(parents=True)
    for event, path in about.items():
        f.write_text(f"on: {event}\njobs:\n  a: {{if: 'github.event.{path}', runs-on: ubuntu-latest}}\n")
        out = json.loads(sl("plan", "--json", "--event", event, cwd=tmp_path, code=0).stdout)
        assert out["whyNot"][0]["runs"] and out["whyNot"][0]["jobs"][0]["runs"], (event, out["whyNot"])
    f.write_text("on: {issues: {types: [labeled]}}\njobs:\n  a: {if: 'github.event.label.name', runs-on: ubuntu-latest}\n")
    assert "does not have opened" in sl("plan", "--event", "issues", cwd=tmp_path, code=0).stdout
    assert sl("plan", "--event", "issues", "--activity", "labeled", cwd=tmp_path, code=0).stdout.strip().endswith("runs on issues")
    f.write_text("on: {workflow_run: {workflows: [CI]}}\njobs:\n  a: {runs-on: ubuntu-latest}\n")
    (tmp_path / "e.json").write_text('{"workflow_run": {"name": "Other"}}')
    assert "does not have Other" in sl("plan", "--event", "workflow_run", "-e", "e.json", cwd=tmp_path, code=0).stdout
    assert "runs on workflow_run" in sl("plan", "--event", "workflow_run", cwd=tmp_path, code=0).stdout


STEPS = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n"
HOSTILE = {
    "bomb": ("a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)), "Maximum object size exceeded"),
    "brackets": ("on: " + "[" * 10000 + "]" * 10000, "Maximum object depth exceeded"),
    "braces": ("on: " + "{a: " * 10000 + "}" * 10000, "Maximum object depth exceeded"),
    "utf8": (b"on: push\njobs:\n  a:\n    name: \"\xff\xfe\"\n", "invalid leading UTF-8 octet"),
    "nul": (b"on: push\njobs:\n  a:\x00\n", "control characters are not allowed"),
    "size": ("on: push\n#" + "x" * (1 << 20), "The maximum file size of 1048576 characters has been exceeded"),
    "more": ("on: push\n#" + "x" * (5 << 20), "The maximum file size of 1048576 characters has been exceeded"),
    "parens": (STEPS + "      - run: echo ${{ " + "(" * 10000 + "1" + ")" * 10000 + " }}\n", "Exceeded max expression depth 50"),
    "names": (STEPS + "      - run: x\n" * 5000, "Unable to create a unique name"),
    "self": ("on: push\na: &a {b: *a}\n", "an alias inside its own anchor"),
    "unknown": ("on: *nowhere\n", "Unknown anchor 'nowhere'"),
    "second": ("on: push\n---\non: push\n", "a second document"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_with_a_reason(name, tmp_path):
    text, want = HOSTILE[name]
    (tmp_path / "w.yml").write_bytes(text if isinstance(text, bytes) else text.encode())
    out = json.loads(sl("check", "--format", "json", "w.yml", cwd=tmp_path, code=1).stdout)
    assert want in out["files"][0]["errors"][0]["message"]
