"""GitHub's own workflow cases (tests/conformance/workflows, or $SLIPWAY_CONFORMANCE): each file is run
through `slipway check` and `slipway plan --json --source`, and the plan is turned into the template
that GitHub's tests expect. Nothing is decided here that slipway decides: only the shape changes.

A case is YAML documents: options (when the first is no workflow), the workflow, then pairs of the name
and the text of a called workflow, last the expected template or errors as JSON."""
import json
import math
import os
import pathlib
import re
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
SLIPWAY = os.environ.get("SLIPWAY") or str(TOP / "build/slipway")
CASES = pathlib.Path(os.environ.get("SLIPWAY_CONFORMANCE") or TOP / "tests/conformance/workflows")
# GitHub has supported anchors since 2025; the case still expects them to be refused.
OUTDATED = {"errors-anchor-tag.yml"}
LIMITS = ["max-depth", "max-file-size", "max-result-size", "max-job-limit", "max-nested-reusable-workflows-depth"]


class Case:
    def __init__(self, path):
        docs = re.split(r"^---[ \t]*\r?\n", path.read_text(), flags=re.M)
        if docs and not docs[0].strip():
            docs = docs[1:]
        self.options = docs.pop(0) if not re.search(r"^(jobs|on)\s*:", docs[0], re.M) else ""
        self.expected = json.loads(docs.pop())
        docs = [d.rstrip("\n") for d in docs]  # the separator's own newline
        self.workflow = docs.pop(0)
        self.called = dict(zip((n.strip() for n in docs[0::2]), docs[1::2]))
        self.name = f".github/workflows/{path.name}"

    def option(self, name):
        m = re.search(rf"^{name}:\s*([^#\n]*)", self.options, re.M)
        return m.group(1).strip() if m else None


# --- expressions and values ---------------------------------------------------------------------


def segments(text):
    """The text cut into (is expression, text); None when it holds no expression."""
    out, at = [], 0
    while (start := text.find("${{", at)) >= 0:
        quoted, end = False, None
        for i in range(start + 3, len(text)):
            if text[i] == "'":
                quoted = not quoted
            elif not quoted and text[i - 1:i + 1] == "}}" and i - 1 >= start + 3:
                end = i
                break
        if end is None:
            break
        if start > at:
            out.append((False, text[at:start]))
        out.append((True, text[start + 3:end - 1].strip()))
        at = end + 1
    if not any(x for x, _ in out):
        return None
    if at < len(text):
        out.append((False, text[at:]))
    return out


def expression(text):
    """One expression for a text with expressions in it."""
    parts = segments(text)
    if len(parts) == 1:
        return parts[0][1]
    form, args = "", []
    for is_expr, s in parts:
        if is_expr:
            form += "{%d}" % len(args)
            args.append(s)
        else:
            form += s.replace("'", "''").replace("{", "{{").replace("}", "}}")
    return f"format('{form}'" + "".join(", " + a for a in args) + ")"


class Shaper:
    """Plans into templates; with source: places are kept."""

    def __init__(self, source):
        self.source = source

    def token(self, kind, at, **fields):
        place = {"file": 1, "line": at["line"], "col": at["col"]} if self.source and at else {}
        return {"type": kind, **place, **fields}

    def scalar(self, value, at):
        if not self.source:
            return value
        if isinstance(value, bool):
            return self.token(5, at, bool=value)
        if isinstance(value, (int, float)):
            return self.token(6, at, num=value)
        if value is None:
            return self.token(7, at)
        return self.token(0, at, lit=value)

    def text(self, t):
        """A text of the plan."""
        if "expr" not in t:
            return self.scalar(t["value"], t)
        parts = segments(t["expr"])
        if len(parts) == 1 and parts[0] == (True, "insert"):
            return self.token(4, t, directive="insert")
        return self.token(3, t, expr=expression(t["expr"]))

    def node(self, n, string=False):
        """A value of the file's own tree. string: where a scalar is taken as a string."""
        if "seq" in n:
            return self.token(1, n, seq=[self.node(x, string) for x in n["seq"]])
        if "map" in n:
            kids = n["map"]
            pairs = [{"Key": self.node(k, True), "Value": self.node(v, string)} for k, v in zip(kids[::2], kids[1::2])]
            return self.token(2, n, **({"map": pairs} if pairs else {}))
        value = n["value"]
        if isinstance(value, str) and segments(value):
            parts = segments(value)
            literal = re.fullmatch(r"'((?:[^']|'')*)'", parts[0][1]) if len(parts) == 1 else None
            if literal:
                return self.scalar(literal.group(1).replace("''", "'"), n)
            return self.text({"expr": value, **n})
        if "number" in n:
            value = n["number"]
        elif isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) < 1e15:
            value = int(value)
        return self.scalar(value if not string or isinstance(value, str) else to_string(value), n)

    def pairs(self, items):
        return [{"Key": self.text(p["key"]), "Value": self.text(p["value"]) if "value" in p else None} for p in items]


def to_string(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else "%.15g" % value


def get(n, *keys):
    for key in keys:
        kids = n.get("map", []) if n else []
        n = next((v for k, v in zip(kids[::2], kids[1::2]) if k.get("value") == key), None)
    return n


# --- permissions ---------------------------------------------------------------------------------

SCOPES = ["actions", "checks", "contents", "deployments", "discussions", "id-token", "issues", "packages", "pages",
          "pull-requests", "repository-projects", "security-events", "statuses"]


def permissions(p):
    if p in ("read-all", "write-all"):
        return {s: p.split("-")[0] for s in SCOPES}
    return {s: p[s] for s in sorted(p) if p[s] != "none"}


# --- workflows -----------------------------------------------------------------------------------


class Template:
    def __init__(self, case, plans):
        self.case, self.plans = case, plans  # plans by name
        self.shape = Shaper(case.option("include-source") == "true")

    def root(self):
        plan = self.plans[self.case.name]
        source, out, sh = plan["source"], {}, self.shape
        if "permissions" in plan:
            out["permissions"] = permissions(plan["permissions"])
        for key in ("env", "defaults", "concurrency"):
            if n := get(source, key):
                out[key] = sh.token(2, n, map=sh.pairs(plan["env"])) if key == "env" else sh.node(n)
        out["jobs"] = [self.job(plan, j, plan.get("permissions")) for j in plan["jobs"]]
        if sh.source:
            out["file-table"] = [self.case.name]
        return out

    def job(self, plan, j, inherited):
        sh = self.shape
        src = get(plan["source"], "jobs", j["id"]) or {}
        key = {"line": j["line"], "col": j["col"]}
        out = {"type": "reusableWorkflowJob" if "call" in j else "job", "id": sh.scalar(j["id"], key)}
        name = j.get("name")
        out["name"] = sh.text(name) if name and name.get("value", "x") != "" else sh.scalar(j["id"], key)
        if "needs" in j or "call" in j:
            out["needs"] = [sh.text(t) for t in j.get("needs", [])]
        out["if"] = self.condition(j)
        own = j.get("permissions", inherited)
        if own is not None:
            out["permissions"] = permissions(own)
        for key in ("strategy", "continue-on-error", "timeout-minutes", "cancel-timeout-minutes", "concurrency", "env",
                    "environment", "defaults", "runs-on", "container", "services", "outputs", "snapshot"):
            n = get(src, key)
            if n is None or (key == "environment" and "call" in j):
                continue
            if key in ("env", "outputs"):
                out[key] = sh.token(2, n, map=sh.pairs(j.get(key, [])))
            else:
                out[key] = sh.node(n, string=key in ("runs-on", "container", "services"))
        if "call" in j:
            self.call(out, j, own)
        elif j["steps"]:
            out["steps"] = [self.step(s) for s in j["steps"]]
        return out

    def call(self, out, j, own):
        sh, call = self.shape, j["call"]
        ref = call["uses"]["value"]
        out["ref"] = sh.text(call["uses"])
        called = self.plans.get(ref)
        trigger = get(called["source"], "on", "workflow_call") if called else None
        for key, name in (("inputs", "input-definitions"), ("secrets", "secret-definitions"), ("outputs", "outputs")):
            if n := get(trigger, key):
                out[name] = sh.node(n)
        if "with" in call:
            out["input-values"] = {"type": 2, "map": sh.pairs(call["with"])}
        if "secrets" in call:
            out["secret-values"] = {"type": 2, "map": sh.pairs(call["secrets"])}
        if call["inheritSecrets"]:
            out["inherit-secrets"] = True
        if called:
            inherited = called.get("permissions", own)
            if "permissions" in called:
                out["permissions"] = permissions(called["permissions"])
            out["jobs"] = [self.job(called, x, inherited) for x in called["jobs"]]

    def condition(self, item):
        at = item.get("if")
        if not at:
            return {"type": 3, "expr": "success()"}
        return self.shape.token(3, at, expr=item["condition"])

    def step(self, s):
        sh = self.shape
        out = {"id": s["id"]}
        synthetic = {"wait": "Wait", "wait-all": "Wait for all", "cancel": "Cancel"}.get(s["kind"])
        if "name" in s:
            out["name"] = sh.text(s["name"])
        elif synthetic:
            out["name"] = synthetic
        if not synthetic:
            out["if"] = self.condition(s)
        for key, name in (("continueOnError", "continue-on-error"), ("timeoutMinutes", "timeout-minutes"), ("run", "run"),
                          ("uses", "uses"), ("shell", "shell"), ("workingDirectory", "working-directory")):
            if key in s:
                out[name] = sh.text(s[key])
        for key in ("with", "env"):
            if key in s:
                out[key] = {"type": 2, "map": sh.pairs(s[key])}
        if s.get("background"):
            out["background"] = True
        if s["kind"] == "wait":
            out["wait"] = [sh.text(t) for t in s["targets"]]
        elif s["kind"] == "wait-all":
            out["wait-all"] = True
        elif s["kind"] == "cancel":
            out["cancel"] = sh.text(s["targets"][0])
        return out


def events(plan):
    """What GitHub's TypeScript tests expect of `on`."""
    names = {"branches": "branches", "branchesIgnore": "branches-ignore", "tags": "tags", "tagsIgnore": "tags-ignore",
             "paths": "paths", "pathsIgnore": "paths-ignore", "types": "types", "workflows": "workflows",
             "names": "names", "versions": "versions"}
    out = {}
    for t in plan["on"]:
        ev = {name: t[key] for key, name in names.items() if key in t}
        if "schedule" in t:
            out[t["event"]] = [{k: v["value"] for k, v in s.items()} for s in t["schedule"]]
            continue
        for key in ("inputs", "secrets", "outputs"):
            n = get(plan["source"], "on", t["event"], key)
            if n is not None:
                ev[key] = plain(n)
        if t["event"] == "workflow_call" and "secrets" in ev:
            ev["secrets"] = {k: v or {} for k, v in ev["secrets"].items()}
        out[t["event"]] = ev
    return out


def plain(n):
    if "seq" in n:
        return [plain(x) for x in n["seq"]]
    if "map" in n:
        return {to_string(k["value"]): plain(v) for k, v in zip(n["map"][::2], n["map"][1::2])}
    return n["value"]


# --- the test ------------------------------------------------------------------------------------


def run(case, tmp_path):
    """Errors as GitHub words them, and plans by name."""
    (tmp_path / ".github/workflows").mkdir(parents=True)
    (tmp_path / case.name).write_text(case.workflow)
    args = []
    for ref, text in case.called.items():
        owner_repo, rest = "/".join(ref.split("/")[:2]), "/".join(ref.split("/")[2:])
        path, version = rest.split("@")
        root = tmp_path / "called" / owner_repo.replace("/", "_") / version
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        args += ["--local-repository", f"{owner_repo}@{version}={root}"]
    for name in LIMITS:
        if case.option(name):
            args += ["--limit", f"{name}={case.option(name)}"]
    policy = {"LimitedRead": "limited-read", "Write": "write"}.get(case.option("permissions-policy"))
    if policy:
        args += ["--permissions-policy", policy]
    r = subprocess.run([SLIPWAY, "check", "--format", "json", *args, case.name], cwd=tmp_path, capture_output=True, text=True)
    assert r.returncode in (0, 1), r.stderr
    errors = []
    # Filters that exclude each other are refused where events are handled, not where files are read;
    # a file that cannot be read is not compared with the workflows that it calls.
    later = {"filter"}
    # What the schema refuses GitHub reports alone; the rest is looked at once that is right.
    schema = {"yaml", "yaml-limit", "yaml-tag", "value", "required", "duplicate", "expression", "limit"}
    found = [(f["file"], e) for f in json.loads(r.stdout)["files"] for e in f["errors"] if e["code"] not in later]
    if any(e["code"] in schema for _, e in found):
        found = [(f, e) for f, e in found if e["code"] in schema]
    for file, e in found:
        prefix = file + (f" (Line: {e['line']}, Col: {e['col']})" if e["line"] else "") + ": "
        message = ("" if e["code"] in ("nesting", "job-limit") else prefix) + e["message"]
        errors.append(message if len(message) <= 500 else message[:500] + "[...]")
    assert r.returncode == 1 if errors else True
    plans = {}
    if not errors:
        files = {case.name: case.name}
        for ref in case.called:
            owner_repo, rest = "/".join(ref.split("/")[:2]), "/".join(ref.split("/")[2:])
            path, version = rest.split("@")
            files[ref] = str(tmp_path / "called" / owner_repo.replace("/", "_") / version / path)
        for name, file in files.items():
            p = subprocess.run([SLIPWAY, "plan", "--json", "--source", file], cwd=tmp_path, capture_output=True, text=True)
            plans[name] = json.loads(p.stdout)["plans"][0]
    return errors, plans


def compare(case, errors, plans):
    if "errors" in case.expected:
        # GitHub reports at most ten.
        assert errors[:10] == [e["Message"] for e in case.expected["errors"]]
        return
    assert errors == []
    got = Template(case, plans).root()
    if "events" in case.expected:
        got["events"] = events(plans[case.name])
    assert got == case.expected


@pytest.mark.parametrize("path", sorted(p for p in CASES.glob("*.yml") if p.name not in OUTDATED), ids=lambda p: p.stem)
def test_case(path, tmp_path):
    case = Case(path)
    errors, plans = run(case, tmp_path)
    compare(case, errors, plans)
