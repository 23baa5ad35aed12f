"""Bitbucket pipelines: what a step has beyond its script. Each script asserts inside itself."""
import os
import json


def events(r):
    return [json.loads(line) for line in r.stdout.splitlines() if line.startswith("{")]


def notes(r):
    return [e["text"] for e in events(r) if e["event"] == "note"]


def outcomes(r):
    return {e["job"]: e["outcome"] for e in events(r) if e["event"] == "job_end"}


def outputs(r):
    return "".join(e.get("text", "") for e in events(r) if e["event"] == "output")


def run(sl, place, text, *args, check=0, files=None):
    tree = {"bitbucket-pipelines.yml": text}
    tree.update(files or {})
    d = place if (place / ".git").exists() else sl.repo(place, tree)
    return sl("run", "--json", *args, cwd=d, check=check)


def test_artifacts_variables_and_after_script(sl, place, standins):
    pipeline = """
        image: python:3.11-slim-bookworm
        pipelines:
          default:
            - step:
                name: Make
                script:
                  - test "$PWD" = "$BITBUCKET_CLONE_DIR"
                  - mkdir -p "dist/a b"; echo made > "dist/a b/x.txt"; echo not > other.txt
                  - echo "VERSION=1.2.3" >> "$BITBUCKET_PIPELINES_VARIABLES_PATH"
                  - echo "number=$BITBUCKET_BUILD_NUMBER."
                artifacts: ["dist/**"]
                output-variables: [VERSION]
            - step:
                name: Use
                script:
                  - grep made "dist/a b/x.txt"; test ! -e other.txt
                  - test "$VERSION" = 1.2.3
            - step:
                name: Break
                script: ["exit 7"]
                after-script:
                  - echo "after with $BITBUCKET_EXIT_CODE."
        """
    a = run(sl, place, pipeline, check=1)
    assert outcomes(a) == {"Make": "success", "Use": "success", "Break": "failure"}
    assert "after with 7." in outputs(a)
    b = run(sl, place, pipeline, check=1)
    number = [int(outputs(r).split("number=")[1].split(".")[0]) for r in (a, b)]
    assert number[1] == number[0] + 1


def test_on_fail(root, tmp_path, standins):
    r = run(root, tmp_path, """
        image: python:3.11-slim-bookworm
        pipelines:
          default:
            - step:
                name: Flaky
                on-fail: {strategy: retry, max-retries: 3}
                script: ["test ! -e mark; touch mark; echo try $BITBUCKET_STEP_RUN_NUMBER.; test $BITBUCKET_STEP_RUN_NUMBER = 3"]
            - step:
                name: Soft
                on-fail: {strategy: ignore}
                script: ["exit 1"]
            - step:
                name: Last
                script: ["true"]
        """)
    assert outcomes(r) == {"Flaky": "success", "Soft": "failure", "Last": "success"}
    text = outputs(r)
    assert "try 1." in text and "try 2." in text and "try 3." in text
    assert sum("on-fail: retry" in n for n in notes(r)) == 2
    r = run(root, tmp_path / "two", """
        image: python:3.11-slim-bookworm
        pipelines: {default: [{step: {name: No, on-fail: {strategy: retry, max-retries: 1}, script: ["exit 1"]}}]}
        """, check=1)
    assert outcomes(r) == {"No": "failure"}


def test_changesets(root, tmp_path, standins):
    r = run(root, tmp_path, """
        image: python:3.11-slim-bookworm
        pipelines:
          default:
            - step: {name: Docs, condition: {changesets: {includePaths: ["docs/**"]}}, script: [echo ran-docs]}
            - step: {name: Code, condition: {changesets: {includePaths: ["src/**"]}}, script: [echo ran-code]}
            - step: {name: Rest, condition: {changesets: {excludePaths: ["**/*.yml", "*.yml", "src/**"]}}, script: [echo ran-rest]}
            - step: {name: Last, script: [echo ran-last]}
        """, files={"src/a.py": "pass\n"})
    assert outcomes(r) == {"Docs": "skipped", "Code": "success", "Rest": "skipped", "Last": "success"}
    assert "ran-docs" not in outputs(r) and "ran-rest" not in outputs(r) and "ran-last" in outputs(r)


def test_caches(sl, place, standins):
    pipeline = """
        image: python:3.11-slim-bookworm
        definitions:
          caches:
            own: .own
            keyed: {path: ~/keyed, key: {files: [lock.txt]}}
        pipelines:
          default:
            - step:
                name: C
                caches: [node, own, keyed, docker]
                script:
                  - cat node_modules/x .own/y ~/keyed/z || echo nothing-there
                  - mkdir -p node_modules .own ~/keyed; echo node-kept > node_modules/x; echo own-kept > .own/y; echo key-kept > ~/keyed/z
        """
    sl.repo(place, {"bitbucket-pipelines.yml": pipeline, "lock.txt": "1\n"}, remote=f"https://github.com/acme/cache-{os.urandom(6).hex()}.git")
    a = run(sl, place, "")
    assert "nothing-there" in outputs(a) and any("cache own:" in n and "saved" in n for n in notes(a))
    b = run(sl, place, "")
    assert all(w in outputs(b) for w in ("node-kept", "own-kept", "key-kept")) and "nothing-there" not in outputs(b)
    sl.sh("echo 2 > lock.txt", cwd=place)
    c = run(sl, place, "")
    assert "own-kept" in outputs(c) and "key-kept" not in outputs(c)


def test_services_on_localhost(root, tmp_path, standins):
    r = run(root, tmp_path, """
        image: python:3.11-slim-bookworm
        definitions: {services: {store: {image: "redis:7"}}}
        pipelines:
          default:
            - step:
                name: S
                services: [store]
                script:
                  - |
                    python3 - <<END
                    import socket, time
                    for i in range(50):
                        try:
                            s = socket.create_connection(("localhost", 6379), 5)
                            break
                        except OSError:
                            time.sleep(0.1)
                    s.sendall(b"PING\\r\\n")
                    assert s.recv(64).startswith(b"+PONG")
                    END
        """)
    assert outcomes(r) == {"S": "success"}


def test_artifacts_by_name_ignored_and_deep(root, tmp_path, standins):
    r = run(root, tmp_path, """
        image: python:3.11-slim-bookworm
        pipelines:
          default:
            - step:
                name: Make
                script:
                  - mkdir -p a/b/c; echo 1 > a/keep.txt; echo 2 > a/skip.log; echo 3 > a/b/c/deep.txt; echo 4 > two.txt; echo 5 > three.txt
                artifacts:
                  upload:
                    - {name: first, paths: ["a/**"], ignore-paths: ["**/*.log", "*.log"], depth: 2}
                    - {name: second, paths: [two.txt]}
                    - {name: third, type: scoped, paths: [three.txt]}
            - step:
                name: Named
                artifacts: {download: [second]}
                script: [test -e two.txt, test ! -e a]
            - step:
                name: All
                script: [test -e two.txt, test -e a/keep.txt, test ! -e a/skip.log, test ! -e three.txt]
        """)
    assert outcomes(r) == {"Make": "success", "Named": "success", "All": "success"}


def test_fail_fast_of_a_parallel_group(root, tmp_path, standins):
    r = run(root, tmp_path, """
        image: python:3.11-slim-bookworm
        pipelines:
          default:
            - parallel:
                fail-fast: true
                steps:
                  - step: {name: Bad, script: [exit 1]}
                  - step: {name: Slow, script: [sleep 60]}
        """, check=1)
    assert outcomes(r) == {"Bad": "failure", "Slow": "cancelled"} and "fail-fast" in r.stdout
