"""Caches and artifacts: slipway's own versions of the actions, the published ones against the job's
services, and the published npm packages against the server alone. What the two versions print into files
and outputs is compared on the same input.
"""
import json
import os
import pathlib
import shutil
import subprocess
import zipfile

import pytest

from conftest import CACHE, TOP

PLACES = [os.environ.get("SLIPWAY_TEST_ACTIONS") or TOP.parent / "shared/actions", TOP.parents[1] / "shared/actions"]
MIRROR = next((p for p in map(pathlib.Path, PLACES) if p.exists()), pathlib.Path(PLACES[0]))  # of published actions


def events(r):
    return [json.loads(line) for line in r.stdout.splitlines() if line.startswith("{")]


def outputs(r):
    return "".join(e.get("text", "") for e in events(r) if e["event"] == "output")


def annotations(r):
    return [e.get("text", "") for e in events(r) if e["event"] == "annotation"]


def run(sl, place, workflow, *args, check=0, files=None):
    tree = {".github/workflows/ci.yml": workflow}
    tree.update(files or {})
    d = place if (place / ".git").exists() else sl.repo(place, tree)
    return sl("run", "--json", *args, cwd=d, check=check)


def run_id(r):
    return events(r)[0]["run"]


TREE = """
                  mkdir -p tree/sub/.hidden "tree/with space" ~/.cache/thing
                  echo one > tree/one; echo two > tree/sub/two; echo h > tree/sub/.hidden/h; echo s > "tree/with space/s"
                  head -c 3000000 /dev/urandom > tree/big; ln -s one tree/link; ln tree/one tree/hard; mkdir tree/empty
                  chmod 755 tree/sub/two; chmod 555 tree/sub; echo home > ~/.cache/thing/f
"""


def test_cache_saves_and_restores(sl, place, runner):
    key = os.urandom(6).hex()
    flow = f"""
        on: push
        jobs:
          save:
            runs-on: ubuntu-latest
            steps:
              - id: c
                uses: actions/cache@v4
                with: {{path: "tree\\n~/.cache/thing", key: "k-{key}", restore-keys: "none-{key}"}}
              - run: |
                  test "${{{{ steps.c.outputs.cache-hit }}}}" != true
{TREE}
                  sha256sum tree/big > sum
              - uses: actions/cache/save@v4
                with: {{path: "su?", key: "sum-{key}"}}
          restore:
            needs: save
            runs-on: ubuntu-latest
            steps:
              - id: c
                uses: actions/cache@v4
                with: {{path: "tree\\n~/.cache/thing", key: "k-{key}-more", restore-keys: "x\\nk-{key}"}}
              - id: s
                uses: actions/cache/restore@v4
                with: {{path: "su?", key: "sum-{key}", fail-on-cache-miss: true}}
              - run: |
                  test "${{{{ steps.c.outputs.cache-hit }}}}" = false
                  test "${{{{ steps.s.outputs.cache-hit }}}}" = true
                  test "${{{{ steps.s.outputs.cache-matched-key }}}}" = sum-{key}
                  sha256sum -c sum
                  test "$(readlink tree/link)" = one; test "$(stat -c %h tree/hard)" = 2; test -d tree/empty
                  test "$(stat -c %a:%U tree/sub/two)" = 755:runner; test "$(stat -c %a tree/sub)" = 555
                  test "$(cat ~/.cache/thing/f tree/sub/.hidden/h "tree/with space/s")" = "$(printf 'home\\nh\\ns')"
              - id: v
                uses: actions/cache/restore@v4
                with: {{path: "other", key: "sum-{key}"}}
              - run: test -z "${{{{ steps.v.outputs.cache-hit }}}}"
        """
    r = run(sl, place, flow)
    assert f"Cache restored from key: k-{key}\n" in outputs(r)
    assert f"Cache saved with key: k-{key}-more" in outputs(r)
    again = run(sl, place, flow, check=1)  # now there is one: the first job's own check fails
    assert f"Cache restored from key: k-{key}\n" in outputs(again)


def test_cache_of_a_pull_request_stays_there(sl, place, runner):
    key = os.urandom(6).hex()
    step = f"""
        on: [push, pull_request]
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - id: c
                uses: actions/cache@v5
                with: {{path: f, key: "{key}"}}
              - run: |
                  echo "found: $(cat f 2>/dev/null || echo nothing)"
                  echo "$GITHUB_REF" > f
        """
    pull = ("pull_request",)
    assert "found: nothing\n" in outputs(run(sl, place, step, *pull))
    assert "found: nothing\n" in outputs(run(sl, place, step))  # the branch does not see what the pull request wrote
    assert "found: refs/pull/" in outputs(run(sl, place, step, *pull))


def test_artifacts_go_from_job_to_job(sl, place, runner):
    r = run(sl, place, f"""
        on: push
        jobs:
          up:
            runs-on: ubuntu-latest
            outputs: {{id: "${{{{ steps.a.outputs.artifact-id }}}}", digest: "${{{{ steps.a.outputs.artifact-digest }}}}", url: "${{{{ steps.a.outputs.artifact-url }}}}"}}
            steps:
              - run: |
{TREE}
                  chmod 755 tree/sub
              - id: a
                uses: actions/upload-artifact@v4
                with: {{name: whole, path: tree, compression-level: 0}}
              - uses: actions/upload-artifact@v4
                with: {{name: part-1, path: "tree/*\\n!tree/big", include-hidden-files: true}}
              - uses: actions/upload-artifact@v4
                with: {{name: part-2, path: "tree/one\\ntree/sub/two"}}
              - uses: actions/upload-artifact@v4
                with: {{name: one, path: tree/one}}
              - id: again
                continue-on-error: true
                uses: actions/upload-artifact@v4
                with: {{name: one, path: tree/one}}
              - run: test "${{{{ steps.again.outcome }}}}" = failure; echo changed > tree/one
              - uses: actions/upload-artifact@v4
                with: {{name: one, path: tree/one, overwrite: true}}
              - uses: actions/upload-artifact@v4
                with: {{name: none, path: nothing-here}}
              - id: err
                continue-on-error: true
                uses: actions/upload-artifact@v4
                with: {{name: none, path: nothing-here, if-no-files-found: error}}
              - run: test "${{{{ steps.err.outcome }}}}" = failure
              - uses: actions/upload-artifact@v7
                with: {{path: tree/big, archive: false}}
          down:
            needs: up
            runs-on: ubuntu-latest
            steps:
              - id: d
                uses: actions/download-artifact@v4
                with: {{name: whole, path: out}}
              - uses: actions/download-artifact@v5
                with: {{pattern: "part-*", path: parts}}
              - uses: actions/download-artifact@v4
                with: {{pattern: "{{part-1,part-2}}", path: merged, merge-multiple: true}}
              - uses: actions/download-artifact@v4
                with: {{artifact-ids: "${{{{ needs.up.outputs.id }}}}", path: byid}}
              - uses: actions/upload-artifact/merge@v4
                with: {{name: all, pattern: "part-*", separate-directories: true, delete-merged: true}}
              - uses: actions/download-artifact@v4
                with: {{path: everything}}
              - run: |
                  test "${{{{ steps.d.outputs.download-path }}}}" = "$PWD/out"
                  test "$(cd out && find . -type f | sort | tr '\\n' ' ')" = "./big ./hard ./link ./one ./sub/two ./with space/s "
                  test "$(stat -c %a:%U out/sub/two)" = 644:runner
                  test "$(cd parts && find . -type f | sort | tr '\\n' ' ')" = "./part-1/hard ./part-1/link ./part-1/one ./part-1/sub/.hidden/h ./part-1/sub/two ./part-1/with space/s ./part-2/one ./part-2/sub/two "
                  test "$(cat merged/one merged/sub/two)" = "$(printf 'one\\ntwo')"
                  cmp byid/big out/big
                  cmp everything/big/big out/big
                  test "$(ls everything | tr '\\n' ' ')" = "all big one whole "
                  test "$(cat everything/one/one)" = changed
                  test "$(cat everything/all/part-2/sub/two)" = two; test ! -e everything/all/part-1/sub/.hidden
                  echo "${{{{ needs.up.outputs.url }}}}" | grep -q "/actions/runs/$GITHUB_RUN_ID/artifacts/${{{{ needs.up.outputs.id }}}}$"
                  echo "${{{{ needs.up.outputs.digest }}}}" | grep -Eqx '[0-9a-f]{{64}}'
              - id: missing
                continue-on-error: true
                uses: actions/download-artifact@v4
                with: {{name: nothing}}
              - run: test "${{{{ steps.missing.outcome }}}}" = failure
        """)
    said = "\n".join(annotations(r))
    assert "No files were found with the provided path: nothing-here. No artifacts will be uploaded." in said
    assert "Artifact not found for name: nothing" in said
    ls = json.loads(sl("artifact", "ls", "--json", cwd=place, check=0).stdout)
    assert sorted(a["name"] for a in ls) == ["all", "big", "one", "whole"]
    sl("artifact", "get", run_id(r), "one", "--dir", str(place / "got"), cwd=place, check=0)
    assert (place / "got/one").read_text() == "changed\n"
    sl("artifact", "get", "whole", "--zip", str(place / "w.zip"), cwd=place, check=0)
    assert zipfile.ZipFile(place / "w.zip").testzip() is None
    assert sl("artifact", "get", "absent", cwd=place).returncode == 1


def test_hash_files(sl, place, runner):
    r = run(sl, place, """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - uses: actions/checkout@v4
              - env:
                  ALL: ${{ hashFiles('**/*.txt') }}
                  ONE: ${{ hashFiles('a.txt') }}
                  NONE: ${{ hashFiles('*.none') }}
                  NOT: ${{ hashFiles('**/*.txt', '!b/**') }}
                run: |
                  raw() { for f; do sha256sum < "$f" | cut -c1-64 | python3 -c 'import sys;sys.stdout.buffer.write(bytes.fromhex(sys.stdin.read().strip()))'; done | sha256sum | cut -c1-64; }
                  test "$ALL" = "$(raw a.txt b/c.txt)"
                  test "$ONE" = "$(raw a.txt)"
                  test "$NOT" = "$ONE"
                  test -z "$NONE"
        """, files={"a.txt": "hello\n", "b/c.txt": "there\n"})
    assert r.returncode == 0


PACKAGES = ["@actions/artifact@6.2.1", "@actions/cache@6.3.0", "@actions/core@3.0.1", "@actions/github@9.1.1"]
SCRIPT = """
import {DefaultArtifactClient} from '@actions/artifact'
import * as cache from '@actions/cache'
import * as core from '@actions/core'
import * as github from '@actions/github'
import assert from 'assert'
import crypto from 'crypto'
import fs from 'fs'
process.chdir(process.env.GITHUB_WORKSPACE)
fs.mkdirSync('d/sub', {recursive: true})
fs.writeFileSync('d/a.txt', 'hello')
const big = crypto.randomBytes(20 << 20)
fs.writeFileSync('d/sub/big', big)
assert.equal(github.context.repo.repo, 'app')
core.setOutput('x', 'y')
const client = new DefaultArtifactClient()
const ws = process.cwd()
const up = await client.uploadArtifact('art', [ws + '/d/a.txt', ws + '/d/sub/big'], ws, {compressionLevel: 0, retentionDays: 3})
await assert.rejects(client.uploadArtifact('art', [ws + '/d/a.txt'], ws))
const found = (await client.listArtifacts()).artifacts
assert.equal(found.length, 1)
assert.equal(found[0].id, up.id)
assert.equal(found[0].digest, 'sha256:' + up.digest)
const down = await client.downloadArtifact(up.id, {path: ws + '/out', expectedHash: 'sha256:' + up.digest})
assert.equal(down.digestMismatch, false)
assert(fs.readFileSync('out/d/sub/big').equals(big))
assert.equal((await client.getArtifact('art')).artifact.size, up.size)
await client.deleteArtifact('art')
assert.equal((await client.listArtifacts()).artifacts.length, 0)
const key = process.env.KEY
assert(await cache.saveCache(['d'], key + '-1') > 0)
assert.equal(await cache.saveCache(['d'], key + '-1'), -1)
fs.rmSync('d', {recursive: true})
assert.equal(await cache.restoreCache(['d'], key + '-0', [key]), key + '-1')
assert(fs.readFileSync('d/sub/big').equals(big))
assert.equal(await cache.restoreCache(['e'], key), undefined)
console.log('all-well')
"""


@pytest.fixture(scope="session")
def packages():
    """The published packages, installed once."""
    if not shutil.which("npm"):
        pytest.skip("needs node and npm")
    d = CACHE / "npm"
    if not (d / "done").exists():
        d.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(d), *PACKAGES], check=True, capture_output=True)
        (d / "done").write_text("")
    return d


def test_published_packages_speak_with_the_server(packages, tmp_path):
    server = TOP / "build/test_results"
    if not server.exists():
        subprocess.run(["ninja", "-C", str(TOP / "build"), "test_results"], check=True, capture_output=True)
    (tmp_path / "w").mkdir()
    (packages / "try.mjs").write_text(SCRIPT)
    p = subprocess.Popen([str(server)], env=dict(os.environ, RESULTS_SERVE=str(tmp_path / "state")), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        url, token = p.stdout.readline().split()
        for v2 in ("True", ""):
            env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ACTIONS_RESULTS_URL": url + "/", "ACTIONS_RUNTIME_URL": url + "/", "ACTIONS_CACHE_URL": url + "/",
                   "ACTIONS_RUNTIME_TOKEN": token, "ACTIONS_CACHE_SERVICE_V2": v2, "GITHUB_WORKSPACE": str(tmp_path / "w"), "RUNNER_TEMP": str(tmp_path),
                   "GITHUB_REPOSITORY": "acme/app", "GITHUB_SERVER_URL": "https://github.com", "KEY": f"k{v2}"}
            r = subprocess.run(["node", str(packages / "try.mjs")], env=env, capture_output=True, text=True, timeout=120)
            assert r.returncode == 0 and "all-well" in r.stdout, r.stdout[-3000:] + r.stderr[-3000:]
    finally:
        p.stdin.close()
        p.wait(20)


@pytest.fixture
def mirror():
    if not (MIRROR / "actions/cache.git").exists():
        pytest.skip("needs the mirror of published actions")
    return ["--actions-mirror", str(MIRROR)]


def test_published_and_native_share_caches_and_artifacts(root, tmp_path, standins, mirror):
    """One writes, the other reads, both ways; what they set and print is compared."""
    sl, key = root, os.urandom(6).hex()
    sl("runner", "build", "ubuntu-latest", timeout=900, check=0)
    place = tmp_path / "app"
    flow = """
        on: push
        jobs:
          put:
            runs-on: ubuntu-latest
            steps:
              - run: |
                  mkdir -p d/sub; echo one > d/a; head -c 300000 /dev/urandom > d/sub/b; ln -s a d/l; chmod 755 d/a; sha256sum d/sub/b > sum
              - uses: actions/cache@v5
                with: {path: "d\\nsum", key: "KEY"}
              - uses: actions/upload-artifact@v3
                with: {name: art, path: d}
              - run: echo two > more.txt
              - uses: actions/upload-artifact@v3
                with: {name: art, path: more.txt}
        """.replace("KEY", key)
    read = """
        on: push
        jobs:
          get:
            runs-on: ubuntu-latest
            steps:
              - id: c
                uses: actions/cache/restore@v5
                with: {path: "d\\nsum", key: "KEY-none", restore-keys: "KEY"}
              - run: sha256sum -c sum; test "$(stat -c %a:%U d/a)" = 755:runner; test "$(readlink d/l)" = a; echo "hit=${{ steps.c.outputs.cache-hit }} key=${{ steps.c.outputs.cache-matched-key }}"
              - uses: actions/cache/restore@v5
                with: {path: "d\\nsum", key: "KEY", lookup-only: true, fail-on-cache-miss: true}
        """
    get = """
          get:
            needs: put
            runs-on: ubuntu-latest
            steps:
              - id: d
                uses: actions/download-artifact@v3
                with: {name: art, path: out}
              - run: |
                  test "$(cd out && find . -type f | sort | tr '\\n' ' ')" = "./a ./l ./more.txt ./sub/b "
                  test "$(cat out/a out/more.txt)" = "$(printf 'one\\ntwo')"
                  test "${{ steps.d.outputs.download-path }}" = "$PWD/out"
        """
    seen = {}
    for writer in ((), ("--no-native",)):
        name = "native" if not writer else "published"
        d = sl.repo(place / name, {".github/workflows/ci.yml": flow.replace(key, key + name) + get})
        sl("run", "--json", *mirror, *writer, cwd=d, check=0)
        for reader in ((), ("--no-native",)):
            r2 = place / f"{name}-{len(reader)}"
            sl.repo(r2, {".github/workflows/ci.yml": read.replace("KEY", key + name)})
            r = sl("run", "--json", *mirror, *reader, cwd=r2, check=0)
            line = [x for x in outputs(r).splitlines() if x.startswith("hit=")]
            seen[name, bool(reader)] = line
            assert line == [f"hit=false key={key}{name}"]
            assert f"Cache restored from key: {key}{name}" in outputs(r)


def test_summaries_are_kept_and_shown(root, tmp_path, runner):
    r = run(root, tmp_path / "work", """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - run: printf '# Result\\n- **good** `code`\\n\\033[31mred\\n' >> $GITHUB_STEP_SUMMARY
              - run: echo 'second, of ${{ secrets.WORD }}' >> $GITHUB_STEP_SUMMARY
        """, "-s", "WORD=hidden-word")
    kept = (root.state / "runs" / run_id(r) / "summary.md").read_text()
    assert "# Result\n" in kept and "second, of ***\n" in kept
    shown = root("logs", "--summary", run_id(r), check=0).stdout
    assert "- **good** `code`" in shown and "\033" not in shown
    coloured = root("logs", "--summary", run_id(r), check=0, env={"CLICOLOR_FORCE": "1", "NO_COLOR": ""}).stdout
    assert "\u2022 \033[1mgood\033[0m \033[36mcode\033[0m" in coloured and "[31mred" in coloured and "\033[31m" not in coloured
