"""docker/* actions: metadata's rules against the published bundle (run by node on the same input, with a
stand-in for GitHub's API), and login, buildx, metadata and build-push together in one job.
"""
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading

import pytest

from conftest import TOP
from test_services import MIRROR, annotations, events, outputs, run

REPO = {"name": "app", "full_name": "acme/app", "description": "An app", "html_url": "https://github.com/acme/app", "default_branch": "main",
        "license": {"spdx_id": "MIT"}}
SHA = "860c1904a1ce19322e91ac35af1ab07466440c37"
DATE = "2026-03-05T07:08:09Z"

PUSH = dict(event="push", ref="refs/heads/main")
TAG = dict(event="push", ref="refs/tags/v1.2.3")
CASES = [
    dict(PUSH), dict(TAG), dict(event="pull_request", ref="refs/pull/2/merge", payload={"number": 2, "pull_request": {"base": {"ref": "dev"}, "head": {"sha": "f" * 40}}}),
    dict(event="schedule", ref="refs/heads/main"), dict(event="push", ref="refs/heads/feat/Some_thing@x"),
    dict(PUSH, images="user/app\nghcr.io/User/App", tags="type=ref,event=branch\ntype=edge\ntype=sha"),
    dict(PUSH, images="user/app,ghcr.io/user/app"), dict(PUSH, images="name=user/app,enable=false\nname=other/app"), dict(PUSH, images=""),
    dict(PUSH, tags="type=edge,branch=dev\ntype=raw,value=x\ntype=raw,y"), dict(PUSH, tags="# comment\ntype=sha,format=long,prefix=\ntype=sha,suffix=-s"),
    dict(PUSH, tags="type=schedule\ntype=raw,value={{branch}}-{{sha}}"), dict(event="schedule", ref="refs/heads/main", tags="type=schedule,pattern={{date 'YYYY'}}-n\ntype=schedule,pattern=weekly,prefix=w-"),
    dict(TAG, tags="type=semver,pattern={{version}}\ntype=semver,pattern={{major}}.{{minor}}\ntype=semver,pattern={{major}},enable=${{ !startsWith(github.ref, 'refs/tags/v0.') }}".replace("${{ !startsWith(github.ref, 'refs/tags/v0.') }}", "true")),
    dict(event="push", ref="refs/tags/v2.0.8-beta.67", tags="type=semver,pattern={{version}}\ntype=semver,pattern={{major}}\ntype=semver,pattern={{raw}}"),
    dict(event="push", ref="refs/tags/1.2", tags="type=semver,pattern={{version}}\ntype=ref,event=tag"),
    dict(event="push", ref="refs/tags/v1.2.3+build.5", tags="type=semver,pattern={{version}}\ntype=semver,pattern={{raw}}"),
    dict(PUSH, tags="type=semver,pattern={{version}},value=v3.4.5\ntype=semver,pattern={{prerelease}},value=v3.4.5"),
    dict(event="push", ref="refs/tags/app/v4.5.6", tags="type=semver,pattern={{version}},match=v(.*)$\ntype=semver,pattern={{raw}},match=nope(.*)"),
    dict(event="push", ref="refs/tags/1.2.3rc2", tags="type=pep440,pattern={{version}}\ntype=pep440,pattern={{raw}}\ntype=pep440,pattern={{major}}.{{minor}}"),
    dict(event="push", ref="refs/tags/v1.9", tags="type=pep440,pattern={{version}}\ntype=pep440,pattern={{major}}.{{minor}}.{{patch}}"),
    dict(event="push", ref="refs/tags/1.0.0.post3", tags="type=pep440,pattern={{version}}"), dict(event="push", ref="refs/tags/x1", tags="type=pep440,pattern={{version}}"),
    dict(TAG, tags="type=match,pattern=v(\\d+).\\d+.\\d+,group=1\ntype=match,pattern=/V(\\d)\\.(\\d)/i,group=2\ntype=match,pattern=none\ntype=match,pattern=v1,group=3"),
    dict(PUSH, tags="type=match,pattern=(.)b,value=aabb"), dict(TAG, tags="type=raw,value=second\ntype=raw,value=first,priority=1000\ntype=ref,event=tag"),
    dict(TAG, flavor="latest=false"), dict(PUSH, flavor="latest=true"), dict(TAG, flavor="prefix=foo-,onlatest=true\nsuffix=-bar", tags="type=ref,event=tag\ntype=sha,prefix=x"),
    dict(PUSH, flavor="suffix=-{{sha}},onlatest=true\nlatest=true"), dict(PUSH, flavor="latest=auto\nprefix=p"),
    dict(PUSH, tags="type=raw,value=latest,enable={{is_default_branch}}\ntype=raw,value=no,enable={{is_not_default_branch}}"),
    dict(event="push", ref="refs/heads/dev", tags="type=raw,value=latest,enable={{is_default_branch}}\ntype=raw,value={{branch}}"),
    dict(event="pull_request", ref="refs/pull/2/merge", payload={"number": 2, "pull_request": {"base": {"ref": "dev"}}}, tags="type=raw,value={{base_ref}}-x\ntype=ref,event=pr,prefix="),
    dict(TAG, payload={"base_ref": "refs/heads/rel"}, tags="type=raw,value={{base_ref}}\ntype=raw,value={{tag}}"),
    dict(PUSH, tags="type=raw,value={{commit_date 'YYYYMMDD-HHmmss'}}\ntype=raw,value={{commit_date 'dddd Do MMMM YYYY hh:mm a' tz='Asia/Tokyo'}}\ntype=raw,value={{commit_date 'X x Q w W DDDD d E ZZ' tz='America/New_York'}}"),
    dict(PUSH, labels="maintainer=me\norg.opencontainers.image.title=Mine\ncom.example.B=1\ncom.example.a=b=c\nnokey\nx={{branch}}", annotations="k=v"),
    dict(PUSH, labels="Z=1\na-b=1\na.b=1\na_b=1\na1=1\nA=2\na=1"), dict(PUSH, levels="manifest,index"),
    dict(PUSH, tags="type=raw,value=a&b<c>\ntype=raw,value={{branch}}\"q"),
    dict(PUSH, tags="type=bad"), dict(PUSH, tags="type=ref"), dict(PUSH, tags="type=ref,event=x"), dict(PUSH, tags="type=sha,format=mid"), dict(PUSH, tags="type=raw"),
    dict(PUSH, tags="type=raw,value=x,enable=maybe"), dict(PUSH, flavor="latest=perhaps"), dict(PUSH, flavor="nope"), dict(PUSH, images="name=a,enable=x"),
    dict(PUSH, images="enable=true"), dict(TAG, tags="type=match,pattern=x,group=y"), dict(PUSH, tags="type=semver"),
]


class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"commit": {"committer": {"date": DATE}}} if "/commits/" in self.path else REPO).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *a):
        pass


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The published metadata-action, unpacked."""
    if not (MIRROR / "docker/metadata-action.git").exists() or not shutil.which("node"):
        pytest.skip("needs the mirror of published actions and node")
    d = tmp_path_factory.mktemp("metadata")
    subprocess.run(f"git -C {MIRROR}/docker/metadata-action.git archive v6 | tar -x -C {d}", shell=True, check=True)
    return next((d / "dist").glob("index.*js"))


def published(bundle, case, api, tmp):
    out, event = tmp / "out", tmp / "event.json"
    out.write_text("")
    event.write_text(json.dumps(case["payload"]))
    (tmp / "env").write_text("")
    env = {"PATH": os.environ["PATH"], "GITHUB_OUTPUT": str(out), "GITHUB_ENV": str(tmp / "env"), "GITHUB_EVENT_PATH": str(event), "GITHUB_EVENT_NAME": case["event"],
           "GITHUB_REF": case["ref"], "GITHUB_SHA": SHA, "GITHUB_REPOSITORY": "acme/app", "GITHUB_API_URL": api, "GITHUB_SERVER_URL": "https://github.com",
           "RUNNER_TEMP": str(tmp), "HOME": str(tmp), "INPUT_CONTEXT": "workflow", "INPUT_GITHUB-TOKEN": "x", "DOCKER_METADATA_ANNOTATIONS_LEVELS": case["levels"]}
    for k in ("images", "tags", "flavor", "labels", "annotations"):
        env[f"INPUT_{k.upper()}"] = case[k]
    r = subprocess.run(["node", str(bundle)], env=env, capture_output=True, text=True, timeout=60)
    if r.returncode:
        return {"error": [x for x in r.stdout.splitlines() if x.startswith("::error")][-1][9:]}
    found = {}
    for m in re.finditer(r"(\S+)<<(ghadelimiter_\S+)\n(.*?)\n\2(?:\n|$)", out.read_text(), re.S):
        found[m[1]] = m[3]
    return found


def test_metadata_is_as_published(bundle, tmp_path):
    binary = TOP / "build/test_dockmeta"
    if not binary.exists():
        subprocess.run(["ninja", "-C", str(TOP / "build"), "test_dockmeta"], check=True, capture_output=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cases = []
    for c in CASES:
        c = dict({"images": "acme/app", "tags": "", "flavor": "", "labels": "", "annotations": "", "levels": "manifest", "payload": {}}, **c)
        c["payload"] = dict({"repository": REPO}, **c["payload"])
        cases.append(dict(c, sha=SHA, commit_ns=1772694489 * 10**9))
    native = subprocess.run([str(binary)], env=dict(os.environ, DOCKMETA="1"), input="\n".join(map(json.dumps, cases)) + "\n", capture_output=True, text=True, check=True)
    mine = [json.loads(x) for x in native.stdout.splitlines()]
    assert len(mine) == len(cases)
    plain = lambda s: re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "T", s)
    wrong = []
    for c, m in zip(cases, mine):
        p = published(bundle, c, f"http://127.0.0.1:{server.server_port}", tmp_path)
        for key in ["error"] if "error" in p or "error" in m else ["version", "tags", "labels", "annotations", "json", "bake-file", "bake-file-tags"]:
            have, want = m.get(key, ""), p.get(key, "")
            have = "\n".join(have) if isinstance(have, list) else have
            if key.startswith("bake"):
                want = pathlib.Path(want.split("\n")[0]).read_text()
            if key == "error":
                want, have = want[:24], have[:24]
            if plain(have) != plain(want):
                wrong.append((c["event"], c["ref"], c["tags"], c["flavor"], c["labels"], c["images"], key, "have", have, "want", want))
    server.shutdown()
    assert not wrong, "\n".join(map(str, wrong))


def test_login_metadata_build_push(sl, place, runner):
    r = run(sl, place, """
        on: push
        jobs:
          build:
            runs-on: ubuntu-latest
            steps:
              - uses: actions/checkout@v4
              - uses: docker/setup-qemu-action@v3
              - id: buildx
                uses: docker/setup-buildx-action@v3
              - uses: docker/login-action@v3
                with: {registry: ghcr.io, username: me, password: "${{ secrets.GITHUB_TOKEN }}"}
              - run: grep -q ghcr.io ~/.docker/config.json
              - id: meta
                uses: docker/metadata-action@v5
                with:
                  images: ghcr.io/acme/app
                  tags: |
                    type=ref,event=branch
                    type=sha
                  labels: com.example.mine=yes
              - run: |
                  test "$DOCKER_METADATA_OUTPUT_VERSION" = main
                  test "${{ fromJSON(steps.meta.outputs.json).labels['com.example.mine'] }}" = yes
                  python3 -c "import json,sys; assert json.load(open(sys.argv[1]))['target']['docker-metadata-action']['args']['DOCKER_META_VERSION']=='main'" "${{ steps.meta.outputs.bake-file }}"
                  echo changed > file
              - id: build
                uses: docker/build-push-action@v6
                with:
                  context: .
                  file: ./docker/Dockerfile
                  push: true
                  tags: ${{ steps.meta.outputs.tags }}
                  labels: ${{ steps.meta.outputs.labels }}
                  build-args: |
                    ONE=1
                    TWO=a,b
                  secrets: |
                    token=s3cret-value
                  cache-from: type=gha
                  cache-to: type=gha,mode=max
              - id: plain
                uses: docker/build-push-action@v6
                with: {file: docker/Dockerfile, load: true, tags: "local:1"}
              - run: |
                  echo "${{ steps.build.outputs.digest }}" | grep -Ex 'sha256:[0-9a-f]{64}'
                  echo "${{ steps.build.outputs.imageid }}" | grep -Ex 'sha256:[0-9a-f]{64}'
                  test "${{ fromJSON(steps.build.outputs.metadata)['containerimage.digest'] }}" = "${{ steps.build.outputs.digest }}"
                  docker run --rm ghcr.io/acme/app:main cat /out
                  test "$(docker run --rm ghcr.io/acme/app:main cat /out)" = "1 a,b changed s3cret-value"
                  test "$(docker run --rm local:1 cat /out)" = "  first none"
                  docker inspect ghcr.io/acme/app:main -f '{{ index .Config.Labels "com.example.mine" }}' | grep -x yes
              - id: fails
                continue-on-error: true
                uses: docker/build-push-action@v6
                with: {context: ., file: nothing}
              - run: test "${{ steps.fails.outcome }}" = failure
        """, files={"file": "first\n", "docker/Dockerfile": """
            FROM debian:bookworm-slim
            ARG ONE
            ARG TWO
            COPY file /file
            RUN --mount=type=secret,id=token echo "$ONE $TWO $(cat /file) $(cat /run/secrets/token 2>/dev/null || echo none)" > /out
        """})
    ev = events(r)
    captured = sorted(e["name"] for e in ev if e["event"] == "captured")
    assert len(captured) == 2 and captured[0].startswith("ghcr.io/acme/app:main"), captured
    posts = [e["name"] for e in ev if e["event"] == "step_end" and e["name"].startswith("Post")]
    assert posts == ["Post Run docker/login-action@v3"]
    assert "Nothing is installed" in outputs(r) or "Platforms that this host runs" in outputs(r)
    assert "s3cret-value" not in "".join(e.get("text", "") for e in ev if e["event"] == "output" and "--secret" in e.get("text", ""))
