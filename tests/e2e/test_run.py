"""slipway run on small workflows: what a step sees, how jobs depend, what fails and how it is said.

Each workflow asserts inside its own steps, with bash; a test passes only when slipway reports what the
processes reported.
"""
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from conftest import processes


def events(r):
    return [json.loads(line) for line in r.stdout.splitlines() if line.startswith("{")]


def outputs(r):
    return "".join(e.get("text", "") for e in events(r) if e["event"] == "output")


def outcome(r, job):
    ends = [e for e in events(r) if e["event"] == "job_end" and e["job"].startswith(job)]
    assert ends, f"no job_end of {job}: {r.stdout[-3000:]}{r.stderr[-2000:]}"
    return ends[-1]["outcome"]


def run(sl, place, workflow, *args, check=0, files=None, **kw):
    tree = {".github/workflows/ci.yml": workflow}
    tree.update(files or {})
    d = place if (place / ".git").exists() else sl.repo(place, tree)
    return sl("run", "--json", *args, cwd=d, check=check, **kw)


def test_a_step_runs_isolated(sl, place, runner):
    r = run(sl, place, """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - run: |
                  test "$(id -un)" = runner
                  test "$(id -u)" = 1001
                  test "$PWD" = /home/runner/work/app/app
                  test -z "$(ls -A)"
                  sudo id -u | grep -x 0
                  test "$GITHUB_ACTIONS$CI" = truetrue
                  test "$GITHUB_REPOSITORY" = acme/app
                  test "$GITHUB_REF" = refs/heads/main
                  test "$RUNNER_OS" = Linux
                  test -s "$GITHUB_EVENT_PATH"
                  ! test -e /root/.ssh
                  python3 --version; git --version
                  echo all-well
        """)
    assert "all-well\n" in outputs(r)


def test_contexts_env_outputs_and_files(sl, place, runner):
    r = run(sl, place, """
        name: Contexts
        on: [push]
        env: {LEVEL: workflow, A: one}
        jobs:
          first:
            runs-on: ubuntu-latest
            env: {LEVEL: job, B: "${{ github.ref_name }}-two"}
            outputs:
              answer: ${{ steps.set.outputs.answer }}
            steps:
              - id: set
                env: {LEVEL: step}
                run: |
                  test "$LEVEL/$A/$B" = step/one/main-two
                  echo "answer=42" >> "$GITHUB_OUTPUT"
                  echo "MULTI<<EOF" >> "$GITHUB_ENV"
                  printf 'a\\nb\\n' >> "$GITHUB_ENV"
                  echo "EOF" >> "$GITHUB_ENV"
                  mkdir -p $HOME/bin; printf '#!/bin/sh\\necho from-path\\n' > $HOME/bin/tool; chmod +x $HOME/bin/tool
                  echo "$HOME/bin" >> "$GITHUB_PATH"
              - run: |
                  test "$LEVEL" = job
                  test "$MULTI" = "$(printf 'a\\nb')"
                  tool | grep from-path
                  test "${{ steps.set.outputs.answer }}" = 42
                  test "${{ steps.set.outcome }}" = success
              - shell: python
                run: |
                  import os
                  assert os.environ["B"] == "main-two"
              - working-directory: /tmp
                shell: sh
                run: test "$PWD" = /tmp
              - if: github.event_name == 'pull_request'
                run: exit 1
          second:
            needs: first
            runs-on: ubuntu-latest
            steps:
              - run: test "${{ needs.first.outputs.answer }}-${{ needs.first.result }}" = 42-success
        """)
    assert outcome(r, "first") == outcome(r, "second") == "success"


def test_failure_skips_what_needs_it(sl, place, runner):
    r = run(sl, place, """
        on: push
        jobs:
          bad:
            runs-on: ubuntu-latest
            steps:
              - run: exit 3
              - run: echo never
              - if: always()
                run: echo cleaned up
              - if: failure()
                run: echo saw the failure
          after: {needs: bad, runs-on: ubuntu-latest, steps: [{run: echo never}]}
          always:
            needs: bad
            if: always() && needs.bad.result == 'failure'
            runs-on: ubuntu-latest
            steps: [{run: echo always}]
        """, check=1)
    assert outcome(r, "bad") == "failure" and outcome(r, "after") == "skipped" and outcome(r, "always") == "success"
    text = outputs(r)
    assert "cleaned up" in text and "saw the failure" in text and "never" not in text
    assert [e["code"] for e in events(r) if e["event"] == "step_end" and e["outcome"] == "failure"] == [3]


def test_continue_on_error_and_timeout(root, tmp_path, runner):
    t = time.time()
    r = run(root, tmp_path, """
        on: push
        jobs:
          soft:
            runs-on: ubuntu-latest
            steps:
              - id: s
                continue-on-error: true
                run: exit 1
              - run: test "${{ steps.s.outcome }}/${{ steps.s.conclusion }}" = failure/success
          slow:
            runs-on: ubuntu-latest
            steps:
              - timeout-minutes: 0.03
                run: trap '' TERM INT; sleep 100
        """, check=1)
    assert outcome(r, "soft") == "success" and outcome(r, "slow") == "failure"
    assert time.time() - t < 60


def test_matrix(root, tmp_path, runner):
    r = run(root, tmp_path, """
        on: push
        jobs:
          m:
            runs-on: ubuntu-latest
            strategy:
              fail-fast: false
              matrix:
                a: [1, 2]
                b: [x, y]
                exclude: [{a: 1, b: y}]
                include: [{a: 2, b: x, extra: more}, {a: 9, b: z}]
            steps:
              - run: echo "leg=${{ matrix.a }}${{ matrix.b }}${{ matrix.extra }}"; test ${{ matrix.a }} != 9
        """, check=1)
    assert sorted(re.findall(r"^leg=(\S+)", outputs(r), re.M)) == ["1x", "2xmore", "2y", "9z"]
    assert sorted(e["outcome"] for e in events(r) if e["event"] == "job_end") == ["failure", "success", "success", "success"]


def test_secrets_are_masked_everywhere(sl, place, runner):
    r = run(sl, place, """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - run: |
                  echo "token is $T"; echo -n "$T" | base64; printf '%s' "${T:0:6}"; sleep 0.2; printf '%s\\n' "${T:6}"
                  echo "::add-mask::later-value"; echo later-value
                  echo "::warning file=a.py,line=3::about $T"
                env: {T: "${{ secrets.TOKEN }}"}
        """, "-s", "TOKEN=correct-horse-battery")
    assert "correct-horse" not in r.stdout + r.stderr
    assert "later-value" not in outputs(r).replace("::add-mask::later-value", "")
    assert "Y29ycmVjdC1ob3JzZ" not in r.stdout
    notes = [e for e in events(r) if e["event"] == "annotation"]
    assert notes and notes[0]["line"] == 3 and "***" in notes[0]["text"]
    logs = root_logs(sl, place)
    assert "correct-horse" not in logs and "token is ***" in logs


def root_logs(sl, place):
    return sl("logs", cwd=place, check=0).stdout


def test_missing_secrets_are_named_first(root, tmp_path, runner):
    r = run(root, tmp_path, """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - run: test -z "${{ secrets.ABSENT }}${{ vars.NOPE }}"; test -n "${{ secrets.GITHUB_TOKEN }}"; test "${{ vars.THERE }}" = yes
        """, "--var", "THERE=yes")
    evs = events(r)
    first_job = next(i for i, e in enumerate(evs) if e["event"] == "job_start")
    said = " ".join(e.get("text", "") for e in evs[:first_job] if e["event"] == "note")
    assert "secrets.ABSENT" in said and "-s ABSENT" in said and "vars.NOPE" in said and "THERE" not in said and "GITHUB_TOKEN" not in said


def test_checkout_brings_the_work_tree_and_leaves_it_alone(sl, place, runner):
    d = sl.repo(place, {".gitignore": ".env\n", "a.txt": "committed\n", "dir/b.txt": "b\n", ".github/workflows/ci.yml": """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - run: test ! -e a.txt
              - uses: actions/checkout@v4
              - run: |
                  test "$(cat a.txt)" = changed
                  test -f new.txt; test -f dir/b.txt; test ! -e .env
                  test "$(git rev-parse HEAD)" = "$GITHUB_SHA"
                  git status --short
                  echo junk > junk.txt; rm dir/b.txt; echo over > a.txt
        """})
    sl.sh("echo changed > a.txt; echo new > new.txt; echo SECRET=1 > .env", cwd=d)
    before = sl.sh("git status --porcelain; cat a.txt; ls -A", cwd=d).stdout
    run(sl, d, "")
    assert sl.sh("git status --porcelain; cat a.txt; ls -A", cwd=d).stdout == before
    # --clean: the commit itself
    sl.sh("sed -i 's/= changed/= committed/; s/test -f new.txt;/test ! -e new.txt;/' .github/workflows/ci.yml; git commit -qm two .github", cwd=d)
    run(sl, d, "", "--clean")


def test_bind_writes_through(sl, place, runner):
    d = sl.repo(place, {".github/workflows/ci.yml": """
        on: push
        jobs: {j: {runs-on: ubuntu-latest, steps: [{uses: actions/checkout@v4}, {run: "echo made > made.txt"}]}}
        """})
    run(sl, d, "", "--bind")
    assert (d / "made.txt").read_text() == "made\n" and (d / "made.txt").stat().st_uid == sl.uid


def test_sudo_apt_and_pip_leave_nothing_behind(root, tmp_path, runner):
    wf = """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - run: |
                  ! python3 -c 'import sqlparse' 2>/dev/null
                  ! command -v hello
                  pip install -q sqlparse
                  python3 -c 'import sqlparse'
                  sudo apt-get update -q && sudo apt-get install -y -q hello
                  hello
        """
    run(root, tmp_path, wf)
    run(root, tmp_path, wf)


def test_setup_python(sl, place, runner):
    r = run(sl, place, """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            strategy: {matrix: {python-version: ["3.11"]}}
            steps:
              - uses: actions/checkout@v2
              - id: py
                uses: actions/setup-python@v5
                with: {python-version: "${{ matrix.python-version }}", cache: pip}
              - run: |
                  python --version | grep '3\\.11'
                  python -m pip install --quiet sqlparse
                  python -c 'import sqlparse'
                  test -n "${{ steps.py.outputs.python-version }}"; test -n "$pythonLocation"
        """)
    assert outcome(r, "j") == "success"


def test_a_python_of_this_machine_is_moved_whole(root, tmp_path, runner):
    """Its build settings name the new place too: virtualenv looks there for the shared library."""
    old = tmp_path / "pyenv/versions/3.11.99"
    (old / "bin").mkdir(parents=True)
    shutil.copy("/usr/bin/python3.11", old / "bin/python3.11")
    (old / "bin/python3").symlink_to("python3.11")
    shutil.copytree("/usr/lib/python3.11", old / "lib/python3.11", ignore=shutil.ignore_patterns("test", "__pycache__", "*-packages"))
    for data in (old / "lib/python3.11").glob("_sysconfigdata*.py"):
        if not data.is_symlink():
            text = re.sub(r"'(prefix|exec_prefix)': '/usr'", rf"'\1': '{old}'", data.read_text())
            data.write_text(re.sub(r"'LIBDIR': '[^']*'", f"'LIBDIR': '{old}/lib'", text))
            assert f"'prefix': '{old}'" in data.read_text()
    run(root, tmp_path / "r", """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - {uses: actions/setup-python@v6, with: {python-version: 3.11.99}}
              - run: python -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))' | tee lib; test "$(cat lib)" = "$pythonLocation/lib"
        """, env={"PYENV_ROOT": str(tmp_path / "pyenv")})


def test_a_python_that_is_nowhere_is_named(root, tmp_path, runner):
    r = run(root, tmp_path, """
        on: push
        jobs: {j: {runs-on: ubuntu-latest, steps: [{uses: actions/setup-python@v5, with: {python-version: "3.4.99"}}]}}
        """, check=1)
    assert "3.4.99" in r.stdout


def test_called_workflows(root, tmp_path, runner):
    called = """
        on:
          workflow_call:
            inputs: {word: {type: string, required: true}, n: {type: number, default: 3}}
            secrets: {TOKEN: {required: true}}
            outputs: {said: {value: "${{ jobs.inner.outputs.said }}"}}
        jobs:
          inner:
            runs-on: ubuntu-latest
            outputs: {said: "${{ steps.s.outputs.said }}"}
            steps:
              - id: s
                run: echo "said=${{ inputs.word }}${{ inputs.n }}" >> $GITHUB_OUTPUT; test "${{ secrets.TOKEN }}" = hush-hush
        """
    r = run(root, tmp_path, """
        on: push
        jobs:
          local:
            uses: ./.github/workflows/called.yml
            with: {word: hello}
            secrets: {TOKEN: "${{ secrets.T }}"}
          remote:
            uses: acme/app/.github/workflows/called.yml@main
            with: {word: bye, n: 7}
            secrets: {TOKEN: "${{ secrets.T }}"}
          after:
            needs: [local, remote]
            runs-on: ubuntu-latest
            steps: [{run: 'test "${{ needs.local.outputs.said }}/${{ needs.remote.outputs.said }}" = hello3/bye7'}]
        """, "-s", "T=hush-hush", files={".github/workflows/called.yml": called})
    assert outcome(r, "after") == "success"


def test_filters_and_nothing_matches(root, tmp_path):
    d = root.repo(tmp_path, {".github/workflows/a.yml": "on: {push: {branches: [release/**]}}\njobs: {j: {runs-on: x, steps: [{run: 'true'}]}}\n",
                             ".github/workflows/b.yml": "on: [workflow_dispatch]\njobs: {j: {runs-on: x, steps: [{run: 'true'}]}}\n"})
    r = root("run", cwd=d, check=2)
    assert "a.yml" in r.stderr and "b.yml" in r.stderr and "release/**" in r.stderr and "slipway run" in r.stderr
    r = root("run", "--ref", "release/1", "-l", cwd=d, check=0)
    assert "a.yml" in r.stdout


def test_every_error_before_anything_starts(root, tmp_path):
    d = root.repo(tmp_path, {".github/workflows/ci.yml": """
        on: push
        jobs:
          a: {needs: b, runs-on: ubuntu-latest, steps: [{run: echo}]}
          b: {needs: a, runs-on: ubuntu-latest, stepz: []}
          c: {runs-on: ubuntu-latest, steps: [{run: "echo ${{ github.ref == }}"}]}
        """})
    r = root("run", cwd=d, check=2)
    assert "stepz" in r.stderr and "ci.yml:" in r.stderr and "^" in r.stderr
    assert len(re.findall(r"^\S+ci\.yml:\d+:\d+: error", r.stderr, re.M)) >= 3


def test_unavailable_runner(root, tmp_path, runner):
    wf = """
        on: push
        jobs:
          w: {runs-on: windows-latest, steps: [{run: dir}]}
          u: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}
        """
    r = run(root, tmp_path, wf, check=1)
    assert outcome(r, "w") == "unavailable" and outcome(r, "u") == "success"
    run(root, tmp_path, wf, "--skip-unavailable", check=0)


def test_host_label_is_asked_for(sl, place):
    r = run(sl, place, "on: push\njobs: {j: {runs-on: mine, steps: [{run: 'echo on-$(id -u)'}]}}\n", "-P", "mine=host")
    assert f"on-{sl.uid}\n" in outputs(r)
    assert "without isolation" in r.stdout + r.stderr
    (place / ".slipway.yml").write_text("platforms: {mine: host}\n")
    r = run(sl, place, "", check=1)
    assert outcome(r, "j") == "unavailable"


HOST = """
        on: push
        env: {LEVEL: workflow}
        jobs:
          j:
            runs-on: mine
            outputs: {answer: "${{ steps.s.outputs.answer }}"}
            steps:
              - id: s
                env: {LEVEL: step}
                run: |
                  test "$LEVEL/$FROM_HOST/$HOME" = "step/yes/$REAL_HOME"
                  test -z "$(ls -A)"; test "$RUNNER_ENVIRONMENT" = self-hosted; test -z "$DOCKER_HOST"
                  echo answer=42 >> $GITHUB_OUTPUT; echo A=b >> $GITHUB_ENV
                  mkdir $RUNNER_TEMP/bin; printf '#!/bin/sh\\necho from-path\\n' > $RUNNER_TEMP/bin/tool
                  chmod +x $RUNNER_TEMP/bin/tool; echo $RUNNER_TEMP/bin >> $GITHUB_PATH
                  echo "it is ${{ secrets.WORD }}"
                  (setsid sleep 4141 >/dev/null 2>&1 &)
              - uses: actions/checkout@v4
              - run: |
                  test "$A" = b; tool | grep -x from-path; pgrep -f 'sleep 4141'
                  cat dir/file; test -x run.sh; test ! -e ignored; test "$(readlink link)" = dir/file
                  git status --short; git log -1 --format=log-%s
                  echo changed > dir/file; git -c user.name=a -c user.email=a@b commit -qam two
                  git push -q origin HEAD:refs/heads/new
              - run: nothing-of-this-name
                continue-on-error: true
              - run: sleep 60
                timeout-minutes: 0.01
                continue-on-error: true
              - uses: actions/checkout@v4
                with: {path: again, ref: main, fetch-depth: 0}
              - run: cat again/dir/file; echo all-well
        """


def host_repo(sl, place):
    d = sl.repo(place, {".github/workflows/ci.yml": HOST, "dir/file": "one\n", "run.sh": "#!/bin/sh\n", ".gitignore": "ignored\n"})
    sl.sh("chmod +x run.sh; ln -s dir/file link; echo x > ignored; git add -A; git -c user.name=a -c user.email=a@b commit -qm more; echo dirty > dir/file", cwd=d)
    return d


def gone(*patterns):
    import subprocess
    deadline = time.time() + 5
    while time.time() < deadline:
        left = [p for p in patterns if subprocess.run(["pgrep", "-f", p], capture_output=True).stdout]
        if not left:
            return
        time.sleep(0.1)
    assert not left, left


def test_a_job_on_the_host(sl, place):
    d = host_repo(sl, place)
    before = set((sl.state / "scratch").glob("*"))
    env = {**sl.env, "FROM_HOST": "yes", "REAL_HOME": sl.env["HOME"]}
    r = run(sl, place, "", "-P", "mine=host", "-s", "WORD=hush-hush", env=env)
    out = outputs(r)
    assert "all-well\n" in out and "dirty\n" in out and " M dir/file" in out and "log-more" in out
    assert "hush-hush" not in r.stdout and "it is ***" in out
    assert "git push acme/app refs/heads/new" in r.stdout
    assert (d / "dir/file").read_text() == "dirty\n"
    gone("sleep 4141")
    assert not set((sl.state / "scratch").glob("*")) - before


def test_a_job_on_the_host_bound(sl, place):
    d = sl.repo(place, {".github/workflows/ci.yml": """
        on: push
        jobs:
          j:
            runs-on: mine
            steps:
              - uses: actions/checkout@v4
              - run: test "$PWD" = "$GITHUB_WORKSPACE"; echo new >> f
              - uses: actions/checkout@v4
                with: {path: sub}
        """, "f": "old\n"})
    r = run(sl, place, "", "-P", "mine=host", "--bind", check=1)
    assert "nothing else is checked out" in r.stdout
    assert (d / "f").read_text() == "old\nnew\n" and not (d / "sub").exists()


def test_a_step_that_kills_its_keeper(sl, place):
    r = run(sl, place, """
        on: push
        jobs:
          j:
            runs-on: mine
            steps:
              - run: (setsid sleep 4545 >/dev/null 2>&1 &) ; kill -9 $PPID; sleep 4546
              - if: always()
                run: echo the-next; for i in $(seq 200); do (setsid sh -c 'while :; do sleep 0.04547; done' >/dev/null 2>&1 &) ; done
        """, "-P", "mine=host", check=1)
    assert outcome(r, "j") == "failure" and "the-next\n" in outputs(r)
    gone("sleep 454[56]", "0.04547")


def test_host_services_are_refused(root, tmp_path):
    r = run(root, tmp_path, """
        on: push
        jobs: {j: {runs-on: mine, services: {db: {image: "postgres:15"}}, steps: [{run: echo started}]}}
        """, "-P", "mine=host", check=1)
    assert "services need" in r.stdout and "started" not in outputs(r)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_host_is_left_clean(sl, place, how):
    d = sl.repo(place, {".github/workflows/ci.yml": """
        on: push
        jobs:
          j:
            runs-on: mine
            steps: [{run: "echo started; (setsid sleep 4242 >/dev/null 2>&1 &) ; sleep 4243 & trap '' TERM; sleep 4244"}]
        """})
    import subprocess
    p = sl.popen("run", "--json", "-P", "mine=host", cwd=d, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in p.stdout:
        if '"text":"started' in line:
            break
    p.send_signal(how)
    if how == signal.SIGINT:
        p.stdout.read()
    assert p.wait(30) == (130 if how == signal.SIGINT else -9)
    gone("sleep 424[234]", f"^{sl.binary} __host-step")


def test_interrupt_runs_always_steps_and_ends(sl, place, runner):
    d = sl.repo(place, {".github/workflows/ci.yml": """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - run: echo started; sleep 300
              - if: always()
                run: echo cleaning
              - run: echo never
        """})
    p = sl.popen("run", "--json", cwd=d, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = ""
    for line in p.stdout:
        text += line
        if '"text":"started' in line:
            p.send_signal(signal.SIGINT)
            break
    t = time.time()
    text += p.stdout.read()
    assert p.wait(60) == 130 and time.time() - t < 30
    assert "cleaning" in text and '"never' not in text


def stale_scratch(state):
    """Scratch folders whose lease no process holds."""
    stale = []
    for d in (state / "scratch").glob("*"):
        try:
            with open(state / "lease" / d.name) as f:
                fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
            stale.append(d)
        except FileNotFoundError:
            stale.append(d)
        except BlockingIOError:
            pass
    return stale


@pytest.mark.parametrize("after", [0.05, 0.2, 0.5, 1.0])
def test_kill_9_leaves_nothing(sl, place, runner, after):
    mark = "SLIPWAY_MARK=m" + os.urandom(8).hex()
    d = sl.repo(place, {".github/workflows/ci.yml": f"""
        on: push
        env: {{{mark.replace("=", ": ")}}}
        jobs:
          j:
            runs-on: ubuntu-latest
            steps: [{{run: "echo started; sleep 7777 & sleep 7777"}}]
        """})
    p = sl.popen("run", "--json", cwd=d, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict([mark.split("=")]))
    if after >= 0.5:
        for line in p.stdout:
            if '"text":"started' in line:
                break
        deadline = time.time() + 15
        while not any("sleep 7777" in c for c in processes(mark).values()):
            assert time.time() < deadline
            time.sleep(0.01)
    time.sleep(after)
    p.kill()
    p.wait()
    deadline = time.time() + 15
    while processes(mark) and time.time() < deadline:
        time.sleep(0.05)
    assert not processes(mark)
    sl("run", "-q", "-l", cwd=d, check=0)  # the next command sweeps
    assert not stale_scratch(sl.state)


def test_output_is_bounded_and_processes_are_reaped(root, tmp_path, runner):
    mark = f"8888.{time.time_ns()}"
    r = run(root, tmp_path, """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - run: (setsid sleep MARK >/dev/null 2>&1 &) ; yes 0123456789 | head -c 200M
              - run: ":(){ :|:& };: ; sleep 1; true"
                continue-on-error: true
              - run: echo survived
        """.replace("MARK", mark), files={".slipway.yml": "limits: {pids: 400}\n"})
    assert "survived" in outputs(r)
    assert not processes(mark)


def test_two_runs_at_once_with_the_same_port(sl, place, runner):
    wf = """
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            services:
              redis: {image: "redis:7", ports: ["6379:6379"], options: --health-cmd "redis-cli ping" --health-interval 1s}
            steps:
              - run: |
                  exec 3<>/dev/tcp/localhost/6379; printf 'SET who %s\\r\\n' "$GITHUB_RUN_ID" >&3; head -n1 <&3 | grep OK
                  sleep 2; printf 'GET who\\r\\n' >&3; head -n2 <&3 | grep -x "$GITHUB_RUN_ID."
        """
    a = sl.repo(place / "a", {".github/workflows/ci.yml": wf})
    ps = [sl.popen("run", "--json", cwd=a, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    for p in ps:
        out = p.communicate(timeout=300)[0]
        assert p.returncode == 0, out[-3000:]


def test_service_commands_and_services_by_expression(root, tmp_path, standins):
    r = run(root, tmp_path, """
        on: push
        jobs:
          a:
            runs-on: ubuntu-latest
            services:
              one:
                image: redis:7
                command: redis-server --port 7000 --requirepass "two words"
                ports: ["7000:7000"]
              two:
                image: redis:7
                entrypoint: redis-server
                command: --port 7001 --protected-mode no
                ports: ["7001:7001"]
            steps:
              - run: |
                  ask() { for i in $(seq 50); do (exec 3<>/dev/tcp/localhost/$1 && printf "$2" >&3 && head -1 <&3 | grep .) 2>/dev/null && return; sleep 0.1; done; exit 1; }
                  ask 7000 'AUTH "two words"\\r\\n' | grep OK
                  ask 7001 'PING\\r\\n' | grep PONG
                  echo both
          b:
            runs-on: ubuntu-latest
            services: ${{ fromJSON('{"cache":{"image":"redis:7","ports":["7002:6379"],"options":"--health-cmd \\"redis-cli ping\\" --health-interval 1s"}}') }}
            steps:
              - run: exec 3<>/dev/tcp/localhost/${{ job.services.cache.ports['6379'] }}; printf 'PING\\r\\n' >&3; head -1 <&3 | grep PONG
          c:
            runs-on: ubuntu-latest
            services: ${{ fromJSON('{}') }}
            steps: [{run: echo none}]
          d:
            runs-on: ubuntu-latest
            services: ${{ fromJSON('{"x":{"image":"redis:7","port":[1]}}') }}
            steps: [{run: echo never}]
        """, check=1)
    assert [outcome(r, j) for j in "abcd"] == ["success"] * 3 + ["failure"], r.stdout[-4000:]
    assert "both\n" in outputs(r) and "unexpected key" in r.stdout and "never" not in outputs(r)


def test_volumes_of_a_job_container(root, tmp_path, standins):
    r = run(root, tmp_path, """
        on: push
        jobs:
          a:
            runs-on: ubuntu-latest
            container:
              image: debian:bookworm-slim
              volumes: ["data:/data", /anonymous, "/home/runner/work/app/app/sub:/srv/sub:ro", "${{ github.workspace }}/out:/out", "/var/run/docker.sock:/var/run/docker.sock"]
            steps:
              - run: echo x > /data/f; echo x > /anonymous/f; test -z "$(ls -A /srv/sub)"
              - uses: actions/checkout@v4
              - run: |
                  cat /data/f; grep seen /srv/sub/file; ! echo x > /srv/sub/new
                  echo made > /out/it; grep made "$GITHUB_WORKSPACE/out/it"
                  echo all-well
          b:
            runs-on: ubuntu-latest
            container: {image: "debian:bookworm-slim", volumes: ["/etc:/host-etc"]}
            steps: [{run: echo never}]
        """, check=1, files={"sub/file": "seen\n"})
    assert outcome(r, "a") == "success", r.stdout[-4000:]
    assert outcome(r, "b") == "failure" and "does not see this machine's files" in r.stdout and "never" not in outputs(r)


@pytest.mark.parametrize("wanted", ["false", "true"])
def test_submodules_are_empty_unless_asked_for(root, tmp_path, standins, wanted):
    inner = root.repo(tmp_path / "inner", {"in.txt": "inside\n"})
    d = root.repo(tmp_path / "outer", {"a.txt": "a\n", ".github/workflows/ci.yml": f"""
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            steps:
              - uses: actions/checkout@v4
                with: {{submodules: {wanted}}}
              - run: test -f a.txt; test -d sub; echo "has=$(ls sub)."; touch sub/new
        """})
    root.sh(f"git -c protocol.file.allow=always submodule -q add {inner} sub; git commit -qm sub", cwd=d)
    r = run(root, d, "")
    assert ("has=in.txt." if wanted == "true" else "has=.") in outputs(r)
    assert sorted(p.name for p in (d / "sub").iterdir()) == [".git", "in.txt"]
    if wanted == "true":
        root.sh("git submodule -q deinit -f sub", cwd=d)
        assert "git submodule update --init" in run(root, d, "", check=1).stdout


def test_a_container_job_reaches_its_services_by_name(sl, place, standins):
    r = run(sl, place, r"""
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            container: python:3.11-slim-bookworm
            services:
              db:
                image: postgres:15
                env: {POSTGRES_PASSWORD: pw}
                options: --health-cmd "pg_isready -h localhost" --health-interval 2s --health-retries 30
            steps:
              - uses: actions/checkout@v4
              - run: |
                  test "$PWD" = /__w/app/app; test "$GITHUB_WORKSPACE" = "$PWD"; test "$HOME" = /github/home
                  test -s "$GITHUB_EVENT_PATH"; test -f .github/workflows/ci.yml
                  docker ps --format '{{.Names}}' | grep db
                  echo "answer=yes" >> "$GITHUB_OUTPUT"
                id: one
              - shell: python
                run: |
                  import socket
                  s = socket.create_connection(("db", 5432), 10)
                  s.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
                  assert s.recv(1) in b"SN"
                  assert "${{ steps.one.outputs.answer }}" == "yes"
        """)
    assert outcome(r, "j") == "success"
