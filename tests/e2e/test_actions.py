"""Actions as published: JavaScript, composite and Docker ones, from a folder, a mirror or the workspace.

The small actions here state a rule each, in their own steps; what they print is compared as a whole
where order matters. Real published actions run from a mirror of them ($SLIPWAY_TEST_ACTIONS, else the
folder shared/actions beside the repository); without one those tests are skipped.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import uuid

import pytest

from conftest import TOP
from test_run import events, outcome, outputs, run

PUBLISHED = pathlib.Path(os.environ.get("SLIPWAY_TEST_ACTIONS") or TOP.parent / "shared/actions")
published = pytest.mark.skipif(not (PUBLISHED / "actions/checkout.git").exists(), reason="no mirror of published actions ($SLIPWAY_TEST_ACTIONS)")

JS = {
    "action.yml": """
        name: js
        inputs:
          who: {description: whom, default: nobody, required: true}
          two words: {default: "${{ github.repository }}"}
          old: {deprecationMessage: use who}
        outputs: {greeting: {description: what}}
        runs: {using: node20, pre: pre.js, main: main.js, post: post.js, post-if: "always()"}
    """,
    "pre.js": """
        const fs = require('fs'), e = process.env;
        console.log('SAY', e.INPUT_WHO, 'pre');
        fs.appendFileSync(e.GITHUB_STATE, 'pre=1\\n');
    """,
    "main.js": """
        const fs = require('fs'), e = process.env;
        const put = (f, t) => fs.appendFileSync(e[f], t + '\\n');
        console.log('SAY', e.INPUT_WHO, 'main', e.INPUT_TWO_WORDS, e.GITHUB_ACTION, e.GITHUB_ACTION_REPOSITORY, e.GITHUB_ACTION_REF,
                    e.STATE_pre, process.cwd() === e.GITHUB_WORKSPACE);
        put('GITHUB_OUTPUT', 'greeting<<EOT\\nhello\\n' + e.INPUT_WHO + '\\nEOT');
        put('GITHUB_ENV', 'FROM_MAIN=' + e.INPUT_WHO);
        put('GITHUB_STATE', 'n=7');
        if (e.INPUT_WHO === 'fails') process.exit(2);
    """,
    "post.js": """
        console.log('SAY', process.env.INPUT_WHO, 'post', process.env.STATE_n, process.env.FROM_MAIN || '-');
        if (process.env.INPUT_WHO === 'breaks') process.exit(3);
    """,
}
COMPOSITE = {
    "sub/action.yml": """
        name: outer
        inputs: {name: {required: true}, plain: {default: given}, empty: {description: none}}
        outputs:
          result: {description: r, value: "${{ steps.first.outputs.v }}/${{ steps.second.outcome }}/${{ steps.third.outputs.greeting }}"}
        runs:
          using: composite
          steps:
            - id: first
              run: |
                echo "v=${{ inputs.name }}-${{ inputs.plain }}-${{ inputs.empty }}-$OUTER-${{ env.OUTER }}-${WITHIN}" >> "$GITHUB_OUTPUT"
                test "$GITHUB_ACTION_PATH" = "${{ github.action_path }}"
                test -f "$GITHUB_ACTION_PATH/helper.sh" && bash "$GITHUB_ACTION_PATH/helper.sh"
                echo "REPO=$GITHUB_ACTION_REPOSITORY REF=$GITHUB_ACTION_REF"
                echo SET=1 >> "$GITHUB_ENV"
              shell: bash
              env: {WITHIN: w}
            - id: second
              run: "test \\"$SET\\" = 1; test -z \\"$WITHIN\\"; exit 4"
              shell: bash
              continue-on-error: true
            - id: third
              uses: acme/js@v1
              with: {who: "nested ${{ inputs.name }}"}
            - if: failure()
              run: echo NEVER
              shell: bash
            - run: pwd
              shell: bash
              working-directory: /tmp
    """,
    "sub/helper.sh": "echo HELPER\n",
}


def bare(sl, top, name, files, ref="v1"):
    """OWNER/NAME.git below `top`: one commit, one tag."""
    work = top / ".work" / name
    sl.repo(work, files, remote=None)
    sl.sh(f"git tag {ref}; mkdir -p $(dirname {top}/{name}.git); git clone -q --bare . {top}/{name}.git", cwd=work)
    return work


@pytest.fixture
def mirror(sl, place):
    top = place.parent / "mirror"
    top.mkdir()
    os.chown(top, sl.uid, sl.gid)
    bare(sl, top, "acme/js", JS)
    bare(sl, top, "acme/tools", COMPOSITE)
    return top


def said(r):
    return [line[4:] for line in outputs(r).splitlines() if line.startswith("SAY ")]


def test_stages_state_and_composites(sl, place, mirror, runner):
    """One job with all of it: order of stages, inputs, outputs, state, nesting, scopes of env."""
    r = run(sl, place, """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - id: one
                uses: acme/js@v1
                with: {who: first, old: x, unknown: y}
              - run: |
                  test "${{ steps.one.outputs.greeting }}" = $'hello\\nfirst'
                  test "$FROM_MAIN" = first
              - id: two
                uses: acme/tools/sub@v1
                env: {OUTER: o}
                with: {name: n}
              - run: |
                  test "${{ steps.two.outputs.result }}" = $'n-given--o-o-w/failure/hello\\nnested n'
                  test -z "$OUTER"; test "$SET" = 1; test "${{ steps.first.outputs.v }}" = ""
    """, "--actions-mirror", mirror)
    assert said(r) == [
        "first pre", "nested n pre",
        "first main acme/app one acme/js v1 1 true", "nested n main acme/app third acme/js v1 1 true",
        "nested n post 7 nested n", "first post 7 nested n"]
    text = outputs(r)
    assert "HELPER" in text and "REPO=acme/tools REF=v1" in text and "NEVER" not in text and "\n/tmp\n" in text
    notes = [e["text"] for e in events(r) if e["event"] == "annotation"]
    assert "Input 'old' has been deprecated with message: use who" in notes
    assert "Unexpected input(s) 'unknown', valid inputs are ['who', 'two words', 'old']" in notes
    titles = [e["text"] for e in events(r) if e["event"] == "step_start"]
    assert titles[0] == "Pre Run acme/js@v1" and titles[-1] == "Post Run acme/js@v1"


def test_post_after_failure(root, tmp_path, runner):
    """A failed main has its post step, and so has one that had its pre step; else a skipped one has none. A failed post
    fails the job."""
    os.chmod(tmp_path, 0o755)
    top = tmp_path / "mirror"
    top.mkdir()
    bare(root, top, "acme/js", JS)
    cautious = dict(JS)
    cautious["action.yml"] = JS["action.yml"].replace("always()", "success()").replace("pre: pre.js, ", "")
    bare(root, top, "acme/cautious", cautious)
    r = run(root, tmp_path / "work", """
        on: push
        jobs:
          a:
            runs-on: ubuntu-latest
            steps:
              - {uses: acme/js@v1, with: {who: fails}}
              - {uses: acme/js@v1, with: {who: skipped}}
              - run: echo NOT HERE
          b:
            runs-on: ubuntu-latest
            steps:
              - {uses: acme/js@v1, with: {who: breaks}}
          c:
            runs-on: ubuntu-latest
            steps:
              - {id: x, uses: acme/js@v1, with: {who: fails}, continue-on-error: true}
              - run: test "${{ steps.x.outcome }}-${{ steps.x.conclusion }}" = failure-success
              - {if: false, uses: acme/cautious@v1, with: {who: never}}
              - run: exit 1
    """, "--actions-mirror", top, check=1)
    assert [outcome(r, j) for j in "abc"] == ["failure"] * 3
    per = {j: [e["text"] for e in events(r) if e["event"] == "output" and e["job"] == j and e["text"].startswith("SAY")] for j in "abc"}
    lines = {j: [x[4:] for t in per[j] for x in t.splitlines() if x.startswith("SAY")] for j in "abc"}
    assert [x.split(" acme")[0] for x in lines["a"][:3]] == ["fails pre", "skipped pre", "fails main"]
    assert lines["a"][3:] == ["skipped post undefined fails", "fails post 7 fails"]
    assert "breaks post 7 breaks" in lines["b"]
    assert not any(x.startswith("never") for x in lines["c"])


def test_docker_actions(sl, place, mirror, runner):
    docker = {
        "action.yml": """
            name: d
            inputs: {who: {default: world}}
            outputs: {said: {description: x}}
            runs:
              using: docker
              image: Dockerfile
              args: [greet, "${{ inputs.who }}"]
              env: {EXTRA: "for ${{ inputs.who }}"}
              pre-entrypoint: /pre.sh
              post-entrypoint: /post.sh
        """,
        "Dockerfile": """
            FROM debian:bookworm-slim
            COPY run.sh pre.sh post.sh /
            ENTRYPOINT ["/run.sh"]
        """,
        "run.sh": """
            #!/bin/sh -e
            echo "SAY main $# $1 [$2] $EXTRA $INPUT_WHO"
            test "$HOME $PWD" = "/github/home /github/workspace"
            test "$GITHUB_WORKSPACE $RUNNER_TEMP" = "/github/workspace /github/runner_temp"
            test -s "$GITHUB_EVENT_PATH"; test -f file
            test "$FROM_JOB" = job; test -z "$SHOULD_NOT"
            echo "said=$2" >> "$GITHUB_OUTPUT"; echo k=v >> "$GITHUB_STATE"; echo made > made
            echo "SEEN=yes" >> "$GITHUB_ENV"
        """,
        "pre.sh": "#!/bin/sh\necho SAY pre $INPUT_WHO\n",
        "post.sh": "#!/bin/sh\necho SAY post $STATE_k $SEEN\n",
    }
    work = mirror / ".work/acme/docker"
    sl.repo(work, docker, remote=None)
    sl.sh(f"chmod +x *.sh; git commit -qam x; git tag v1; git clone -q --bare . {mirror}/acme/docker.git", cwd=work)
    r = run(sl, place, """
        on: push
        env: {FROM_JOB: job}
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - run: touch file
              - id: d
                uses: acme/docker@v1
                with: {who: a b}
              - run: test "${{ steps.d.outputs.said }}" = "a b"; test "$SEEN" = yes; test -f made
              - uses: docker://debian:bookworm-slim
                with: {entrypoint: /bin/sh, args: "-c 'echo SAY image $0 $FROM_JOB' zero"}
          fails:
            runs-on: ubuntu-latest
            container: python:3.11-slim
            steps:
              - uses: docker://debian:bookworm-slim
                with: {args: sh -c "exit 7"}
    """, "--actions-mirror", mirror, check=1)
    assert said(r) == ["pre a b", "main 2 greet [a b] for a b a b", "image zero job", "post v yes"]
    assert outcome(r, "j") == "success" and outcome(r, "fails") == "failure"
    assert "exit code 7" in r.stdout


def test_container_job_and_local_actions(sl, place, runner):
    js = {f"js/{k}": v.replace("pre: pre.js, ", "") if k == "action.yml" else v for k, v in JS.items()}
    r = run(sl, place, """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            container: python:3.11-slim
            steps:
              - uses: ./js
                continue-on-error: true
              - uses: actions/checkout@v4
              - {uses: ./js, with: {who: here}}
              - {id: c, uses: ./comp}
              - run: test "${{ steps.c.outputs.o }}" = 1
              - uses: ./deep
          host:
            runs-on: plain
            steps:
              - uses: actions/checkout@v4
              - {uses: ./js, with: {who: host}}
    """, "-P", "plain=host", check=1, files={
        **js,
        "comp/action.yaml": """
            runs:
              using: composite
              steps: [{run: 'echo o=1 >> $GITHUB_OUTPUT', shell: sh, id: x}, {uses: ./js, with: {who: inner}}]
            outputs: {o: {value: '${{ steps.x.outputs.o }}'}}
        """,
        "deep/action.yml": "runs: {using: composite, steps: [{uses: ./deep}]}\n",
    })
    assert any(x.startswith("here main") for x in said(r)) and any(x.startswith("inner main") for x in said(r))
    text = json.dumps([e["text"] for e in events(r) if e["event"] == "annotation"])
    assert "Did you forget to run actions/checkout before running your local action?" in text
    assert "Composite action depth exceeded max depth 10" in text
    assert outcome(r, "host") == "success" and outcome(r, "j") == "failure"


BROKEN = {
    "using": ("runs: {using: node8, main: x.js}\n", "1:15", "'using: node8' is not supported"),
    "main": ("name: x\nruns:\n  using: node20\n", "3:10", "Required property is missing: main"),
    "shell": ("runs:\n  using: composite\n  steps:\n    - run: echo\n", "4:7", "Required property is missing: shell"),
    "context": ("inputs: {a: {default: '${{ secrets.X }}'}}\nruns: {using: node20, main: x.js}\n", "1:", "Unrecognized named-value: 'secrets'"),
    "both": ("runs:\n  using: docker\n  image: Dockerfile\n  main: x.js\n", "4:9", "not with runs.using 'docker'"),
}


def test_errors_of_metadata(root, tmp_path, runner):
    """All of them in one run: a job each, failed before its first step, with the place."""
    os.chmod(tmp_path, 0o755)
    top = tmp_path / "mirror"
    top.mkdir()
    jobs = ""
    for name, (text, _, _) in BROKEN.items():
        bare(root, top, f"acme/{name}", {"action.yml": text})
        jobs += f"  {name}:\n    runs-on: ubuntu-latest\n    steps: [{{run: echo NOT REACHED}}, {{uses: acme/{name}@v1}}]\n"
    jobs += "  missing:\n    runs-on: ubuntu-latest\n    steps: [{uses: acme/using/nothing@v1}]\n"
    jobs += "  noref:\n    runs-on: ubuntu-latest\n    steps: [{uses: acme/using@v9}]\n"
    r = run(root, tmp_path / "work", "on: push\njobs:\n" + jobs, "--actions-mirror", top, check=1)
    assert "NOT REACHED" not in outputs(r)
    for name, (_, at, message) in BROKEN.items():
        found = [e for e in events(r) if e["event"] == "annotation" and e["job"] == name and message in e["text"]]
        assert found, (name, [e for e in events(r) if e.get("job") == name])
        assert found[0]["file"] == f"acme/{name}@v1/action.yml" and f"{found[0]['line']}:{found[0]['col']}".startswith(at), found[0]
    assert "Can't find 'action.yml', 'action.yaml' or 'Dockerfile' for action 'acme/using/nothing@v1'" in r.stdout
    assert "has neither a tag, a branch nor a commit" in r.stdout


USES = "on: push\njobs:\n  j:\n    runs-on: ubuntu-latest\n    steps: [{uses: acme/js@v1}]\n"


def test_lock_and_moved_tags(root, tmp_path, runner):
    os.chmod(tmp_path, 0o755)
    top, d = tmp_path / "mirror", tmp_path / "work"
    top.mkdir()
    work = bare(root, top, "acme/js", JS)
    root.repo(d, {".github/workflows/ci.yml": USES})
    r = root("check", "--update-lock", "--actions-mirror", top, cwd=d, check=0)
    sha = root.sh("git rev-parse v1", cwd=work).stdout.strip()
    assert f"acme/js@v1 {sha}\n" in (d / ".slipway.lock").read_text()
    root("run", "--actions-mirror", top, cwd=d, check=0)
    root.sh(f"echo >> main.js; git commit -qam two; git tag -f v1; git push -qf {top}/acme/js.git v1", cwd=work)
    r = root("run", "--actions-mirror", top, cwd=d, check=1)
    assert "acme/js@v1 has moved: .slipway.lock has it at " + sha[:12] in r.stdout and "slipway check --update-lock" in r.stdout
    r = root("check", "--actions-mirror", top, cwd=d, check=1)
    assert "has moved" in r.stdout
    r = root("check", "--update-lock", "--actions-mirror", top, cwd=d, check=0)
    assert "acme/js@v1" in r.stdout and sha[:12] in r.stdout
    root("run", "--actions-mirror", top, cwd=d, check=0)
    (d / ".slipway.lock").write_text("acme/js@v1 nothing\n")
    r = root("run", "--actions-mirror", top, cwd=d, check=2)
    assert ".slipway.lock:1:1" in r.stderr


def test_local_repository_cache_and_url(root, tmp_path, runner):
    """A folder that stands for a repository; a URL template; the cache when offline."""
    os.chmod(tmp_path, 0o755)
    top, d = tmp_path / f"mirror-{uuid.uuid4().hex}", tmp_path / "work"  # never fetched before
    top.mkdir()
    work = bare(root, top, "acme/js", JS)
    root.repo(d, {".github/workflows/ci.yml": USES})
    r = root("run", "--json", "--offline", "--local-repository", f"acme/js@v1={work}", cwd=d, check=0)
    assert "nobody main" in outputs(r)
    url = f"file://{top}/{{owner}}/{{repo}}.git"
    r = root("run", "--json", "--offline", "--actions-mirror", url, cwd=d, check=1)
    assert "is not cached and this run is offline" in r.stdout
    root("run", "--actions-mirror", url, cwd=d, check=0)
    shutil.rmtree(top)
    r = root("run", "--json", "--offline", "--actions-mirror", url, cwd=d, check=0)
    assert "nobody main" in outputs(r)
    r = root("run", "--local-repository", "acme=nowhere", cwd=d, check=2)
    assert "OWNER/REPO@REF=DIR" in r.stderr


# --- published ones ------------------------------------------------------------------------------------

@published
@pytest.mark.parametrize("version", ["v2", "v3", "v4", "v5", "v6"])
def test_published_checkout(root, tmp_path, runner, version):
    root.repo(tmp_path, {"README": "x\n", ".github/workflows/ci.yml": f"""
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - uses: actions/checkout@{version}
                with: {{fetch-depth: 0}}
              - run: test -f README; git log --oneline | grep first; test "$(git rev-parse HEAD)" = "$GITHUB_SHA"
              - uses: actions/checkout@{version}
                with: {{path: again, ref: other}}
              - run: test -f again/README
    """})
    root.sh("git branch other", cwd=tmp_path)
    r = root("run", "--json", "--no-native", "--actions-mirror", PUBLISHED, cwd=tmp_path, check=0)
    assert "Download action repository 'actions/checkout@" in outputs(r)
    posts = [e["text"] for e in events(r) if e["event"] == "step_start" and e["text"].startswith("Post ")]
    assert len(posts) == 2


@published
@pytest.mark.parametrize("version", ["v4", "v6"])
def test_published_setup_python(root, tmp_path, runner, version):
    """The Pythons that are here lie in the tool cache, where the published action looks first."""
    root.repo(tmp_path, {".python-version": "3.11\n", ".github/workflows/ci.yml": f"""
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - uses: actions/checkout@v4
              - {{id: a, uses: actions/setup-python@{version}, with: {{python-version: "3.11"}}}}
              - run: python -c 'import sys; assert sys.version_info[:2] == (3, 11)'; which python | grep "$pythonLocation"
              - {{id: b, uses: actions/setup-python@{version}, with: {{python-version-file: .python-version}}}}
              - run: test "${{{{ steps.a.outputs.python-version }}}}" = "${{{{ steps.b.outputs.python-version }}}}"
    """})
    r = root("run", "--json", "--no-native", "--actions-mirror", PUBLISHED, cwd=tmp_path, check=0)
    assert "Successfully set up CPython (3.11" in outputs(r)


# --- background steps ------------------------------------------------------------------------------------

def test_background_steps(sl, place, runner):
    """What runs beside what, when it is seen, how it is waited for, cancelled, and fails."""
    js = {f"js/{k}": v.replace("pre: pre.js, ", "") if k == "action.yml" else v for k, v in JS.items()}
    r = run(sl, place, """
        on: push
        jobs:
          a:
            runs-on: ubuntu-latest
            steps:
              - uses: actions/checkout@v4
              - id: one
                background: true
                run: |
                  until test -e /tmp/main; do sleep 0.02; done
                  echo v=1 >> $GITHUB_OUTPUT; echo BG=1 >> $GITHUB_ENV; echo /bg >> $GITHUB_PATH
              - {id: two, background: true, uses: ./js, with: {who: behind}}
              - run: test "${{ steps.one.outputs.v }}${{ steps.one.outcome }}$BG" = ""; touch /tmp/main
              - wait: [one, two]
              - run: |
                  test "${{ steps.one.outputs.v }}-${{ steps.one.outcome }}-$BG" = 1-success-1
                  test "${{ steps.two.outputs.greeting }}" = $'hello\\nbehind'
                  case ":$PATH" in *:/bg:*) ;; *) exit 1;; esac
              - parallel:
                  - {id: left, run: 'touch /tmp/l; until test -e /tmp/r; do sleep 0.02; done; echo o=l >> $GITHUB_OUTPUT'}
                  - {id: right, run: 'touch /tmp/r; until test -e /tmp/l; do sleep 0.02; done; exit 3', continue-on-error: true}
              - run: test "${{ steps.left.outputs.o }} ${{ steps.right.outcome }} ${{ steps.right.conclusion }}" = "l failure success"
              - {id: server, background: true, run: sleep 1000}
              - cancel: server
              - run: test "${{ steps.server.outcome }}" = cancelled
              - {id: bad, background: true, run: exit 3}
              - {id: w, wait-all: true, continue-on-error: true}
              - run: test "${{ steps.w.outcome }}-${{ steps.w.conclusion }}-${{ steps.bad.outcome }}" = failure-success-failure
          b:
            runs-on: ubuntu-latest
            steps:
              - {background: true, run: "sleep 0.2; echo WAITED FOR; exit 5"}
          many:
            runs-on: ubuntu-latest
            steps:
MANY
              - wait-all:
              - run: test $(wc -l < /tmp/many) = 24
    """.replace("MANY", "\n".join(f"              - {{background: true, run: 'echo {i} >> /tmp/many'}}" for i in range(24))), check=1, files=js)
    assert outcome(r, "a") == "success" and outcome(r, "b") == "failure" and outcome(r, "many") == "success"
    assert "WAITED FOR" in outputs(r) and said(r)[-1].startswith("behind post")


@published
def test_published_setup_python_cache_and_login(root, tmp_path, runner):
    """As published: an interpreter of this machine, a cache saved and found again, a login that is captured."""
    root.repo(tmp_path, {"requirements.txt": "", ".github/workflows/ci.yml": """
        on: push
        jobs:
          first:
            runs-on: ubuntu-latest
            strategy: {matrix: {cache: [v4, v5]}, max-parallel: 1}
            steps:
              - id: c
                uses: actions/cache@v4
                with: {path: kept, key: "key-${{ github.run_id }}-${{ matrix.cache }}"}
              - run: test "${{ steps.c.outputs.cache-hit }}" != true; mkdir -p kept; echo ${{ matrix.cache }} > kept/file
          second:
            needs: first
            runs-on: ubuntu-latest
            steps:
              - id: c
                uses: actions/cache@v5
                with: {path: kept, key: "key-${{ github.run_id }}-v4"}
              - run: test "${{ steps.c.outputs.cache-hit }}" = true; test "$(cat kept/file)" = v4
          python:
            runs-on: ubuntu-latest
            steps:
              - {id: p, uses: actions/setup-python@v5, with: {python-version: 3.x}}
              - run: test "$(which python)" = "${{ steps.p.outputs.python-path }}"; python -c 'import ssl'
              - {uses: docker/login-action@v3, with: {username: someone, password: something}}
    """})
    r = root("run", "--json", "--no-native", "--actions-mirror", PUBLISHED, cwd=tmp_path, check=None)
    have = subprocess.run(["sh", "-c", "ls -d ~/.pyenv/versions/3* /opt/hostedtoolcache/Python/3* ~/.local/share/uv/python/* 2>/dev/null"],
                          capture_output=True, text=True, env=root.env).stdout
    assert outcome(r, "second") == "success"
    if have:
        assert outcome(r, "python") == "success", r.stdout[-3000:]


def test_checkout_sparse_submodules_and_lfs(root, tmp_path, runner):
    """Another repository with its submodules (through the mirror), sparse patterns, and an LFS pointer that is none."""
    os.chmod(tmp_path, 0o755)
    top, d = tmp_path / "mirror", tmp_path / "work"
    top.mkdir()
    bare(root, top, "acme/lib", {"lib.txt": "of the library\n"})
    other = top / ".work/acme/other"
    root.repo(other, {"a/x": "1\n", "b/y": "2\n", "top": "3\n"}, remote=None)
    root.sh(f"git -c protocol.file.allow=always submodule add -q {top}/acme/lib.git sub; git config -f .gitmodules submodule.sub.url ../lib; "
            f"git commit -qam sub; git tag v1; git clone -q --bare . {top}/acme/other.git", cwd=other)
    root.repo(d, {"keep/k": "k\n", "drop/d": "d\n", ".gitattributes": "*.bin filter=lfs\n", "big.bin": "real content\n",
                  "deep/p.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", ".github/workflows/ci.yml": """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - id: c
                uses: actions/checkout@v4
                with: {sparse-checkout: keep}
              - run: test -f keep/k; test ! -e drop; test -f big.bin; test "${{ steps.c.outputs.commit }}" = "$GITHUB_SHA"
              - id: o
                uses: actions/checkout@v4
                with: {repository: acme/other, ref: v1, path: other, submodules: true}
              - run: test -f other/a/x; grep library other/sub/lib.txt; test "$(git -C other rev-parse HEAD)" = "${{ steps.o.outputs.commit }}"
              - uses: actions/checkout@v4
                with: {repository: acme/other, ref: v1, path: plain, sparse-checkout: "/b/*", sparse-checkout-cone-mode: false}
              - run: test -f plain/b/y; test ! -e plain/a; test -z "$(ls plain/sub 2>/dev/null)"
          lfs:
            runs-on: ubuntu-latest
            steps:
              - {uses: actions/checkout@v4, with: {lfs: true}}
    """})
    r = root("run", "--json", "--actions-mirror", top, cwd=d, check=1)
    assert outcome(r, "j") == "success", outputs(r)
    assert outcome(r, "lfs") == "failure" and "deep/p.bin is a pointer still: git lfs pull" in r.stdout


def test_hostile_mirror_of_the_repository(sl, place, runner):
    """The mirror that a repository brings along: its git configuration runs nothing on the host, and a submodule
    names no other folder of it."""
    out = place.parent / "out"
    out.mkdir()
    os.chown(out, sl.uid, sl.gid)
    hook, private = out / "ran", sl.repo(out / "private", {"key": "of the host\n"}, remote=None)
    sl.sh("mkdir -p m/acme m/w", cwd=place)
    sl.repo(place / "m/w/evil", {".gitattributes": "* filter=x\n", "action.yml": "runs: {using: composite, steps: []}\n"}, remote=None)
    sl.sh(f"git clone -q --bare m/w/evil m/acme/evil.git; git -C m/acme/evil.git config filter.x.smudge 'touch {hook}; cat'", cwd=place)
    jobs = "  evil: {runs-on: ubuntu-latest, steps: [{uses: acme/evil@main}]}\n"
    for i, url in enumerate([f"file://{private}", str(private), "linked"]):
        work = sl.repo(place / f"m/w/s{i}", {"a": "1\n"}, remote=None)
        sl.sh(f"ln -s {private} linked; git -c protocol.file.allow=always submodule add -q {private} sub; "
              f"git config -f .gitmodules submodule.sub.url {url}; git add -A; git commit -qm sub; git tag v1; git clone -q --bare . {place}/m/acme/s{i}.git", cwd=work)
        jobs += (f"  s{i}: {{runs-on: ubuntu-latest, steps: [{{uses: actions/checkout@v4, with: {{repository: acme/s{i}, ref: v1, submodules: true}}}}, "
                 f"{{run: cat sub/key}}]}}\n")
    sl.sh("rm -rf m/w", cwd=place)
    r = run(sl, place, "on: push\njobs:\n" + jobs, check=1, files={".slipway.yml": "actions: {mirror: m}\n"})
    assert not hook.exists() and "filter.x.smudge" in r.stdout
    assert [outcome(r, j) for j in ("evil", "s0", "s1", "s2")] == ["failure"] * 4, r.stdout[-3000:]
    assert "of the host" not in outputs(r)


LOCKED = '{"name":"p","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{"":{"name":"p","version":"1.0.0"}}}'


def test_setup_node(sl, place, runner):
    """Versions from a file and by name, npm with a place of its own, a registry, the manager's cache."""
    r = run(sl, place, """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - uses: actions/checkout@v4
              - id: a
                uses: actions/setup-node@v4
                with: {node-version-file: package.json, cache: npm, registry-url: "https://npm.pkg.github.com"}
              - run: |
                  case "${{ steps.a.outputs.node-version }}" in v24.*) ;; *) exit 1;; esac
                  test "$(node --version)" = "${{ steps.a.outputs.node-version }}"
                  test "$(npm --version)" = "$("$(dirname "$(which node)")/npm" --version)"
                  test -w "$(dirname "$(which node)")"
                  grep -x '@acme:registry=https://npm.pkg.github.com/' "$NPM_CONFIG_USERCONFIG"
                  grep -xF '//npm.pkg.github.com/:_authToken=${NODE_AUTH_TOKEN}' "$NPM_CONFIG_USERCONFIG"
                  test "${{ steps.a.outputs.cache-hit }}" != true
                  mkdir -p ~/.npm; echo kept > ~/.npm/marker
          again:
            needs: j
            runs-on: ubuntu-latest
            steps:
              - uses: actions/checkout@v4
              - {id: a, uses: actions/setup-node@v4, with: {node-version: lts/krypton, cache: npm}}
              - run: test "${{ steps.a.outputs.cache-hit }}" = true; grep kept ~/.npm/marker
          wrong:
            runs-on: ubuntu-latest
            steps: [{uses: actions/setup-node@v4, with: {node-version: lts/nobody}}]
          nofile:
            runs-on: ubuntu-latest
            steps: [{uses: actions/setup-node@v4, with: {node-version-file: .nvmrc}}]
    """, check=1, files={"package.json": '{"name":"p","version":"1.0.0","engines":{"node":"24.x"}}', "package-lock.json": LOCKED.replace('"p"', f'"p-{uuid.uuid4().hex}"')})
    assert outcome(r, "j") == "success" and outcome(r, "again") == "success", outputs(r)
    assert "Unable to find LTS release 'nobody'" in r.stdout and "The specified node version file at: /home/runner/work/app/app/.nvmrc does not exist" in r.stdout


def test_post_after_cancel(root, tmp_path, runner):
    """An action that never ends is ended; what always() runs and the post steps still do."""
    root.repo(tmp_path, {
        "s/action.yml": "name: s\nruns: {using: node20, main: m.js, post: p.js}\n",
        "s/m.js": "console.log('STARTED'); setTimeout(() => {}, 600000);\n",
        "s/p.js": "console.log('SAY post');\n",
        ".github/workflows/ci.yml": """
            on: push
            jobs:
              j:
                runs-on: ubuntu-latest
                steps: [{uses: actions/checkout@v4}, {uses: ./s}, {run: echo NEVER}, {if: always(), run: echo SAY always}]
        """})
    p = root.popen("run", "--json", cwd=tmp_path, stdout=subprocess.PIPE)
    text = ""
    for line in p.stdout:
        text += line
        if "STARTED" in line:
            p.send_signal(signal.SIGINT)
            break
    text += p.stdout.read()
    assert p.wait() == 130
    assert "SAY always" in text and "SAY post" in text and '"text":"NEVER' not in text


def test_called_workflow_and_pipe_from_the_mirror(root, tmp_path, runner):
    os.chmod(tmp_path, 0o755)
    top = tmp_path / "mirror"
    top.mkdir()
    bare(root, top, "acme/shared", {
        ".github/workflows/x.yml": "on: {workflow_call: {inputs: {n: {type: string, required: true}}}}\n"
                                   "jobs: {c: {runs-on: ubuntu-latest, steps: [{run: 'echo SAY called ${{ inputs.n }}'}]}}\n",
        "pipe.yml": "name: p\nimage: 'mine:1'\n"})
    caller = "on: push\njobs:\n  a: {uses: acme/shared/.github/workflows/x.yml@v1, with: {n: yes}}\n"
    r = run(root, tmp_path / "caller", caller, "--actions-mirror", top)
    assert said(r) == ["called yes"]
    d = root.repo(tmp_path / "caller2", {".github/workflows/ci.yml": caller.replace("{n: yes}", "{m: yes}")})
    r = root("check", "--actions-mirror", top, cwd=d, check=1)
    assert "n" in r.stdout and "ci.yml:3" in r.stdout
    d = root.repo(tmp_path / "pipes", {
        "Dockerfile": "FROM debian:bookworm-slim\nENTRYPOINT [\"/bin/sh\", \"-c\", "
                      "\"echo SAY pipe $WHAT $BITBUCKET_BRANCH $PWD; test -f seen || exit 9; test -n $BITBUCKET_PIPE_STORAGE_DIR\"]\n",
        "bitbucket-pipelines.yml": """
            image: python:3.11-slim
            pipelines:
              default:
                - step:
                    services: [docker]
                    script:
                      - docker build -t mine:1 .
                      - touch seen
                      - pipe: acme/shared:v1
                        variables: {WHAT: "it is"}
        """})
    r = root("run", "--json", "--actions-mirror", top, cwd=d, check=0)
    assert said(r) == ["pipe it is main /opt/atlassian/pipelines/agent/build"]
