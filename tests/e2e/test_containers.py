"""Where a job runs: options of its container, images that -P names, Bitbucket's variables in images and services."""
import json

import pytest

from test_run import events, outcome, outputs, run


def notes(r):
    return [e["text"] for e in events(r) if e["event"] == "note"]


def errors(r):
    return [e["text"] for e in events(r) if e["event"] == "annotation" and e["level"] == "error"]


def test_options_of_a_job_container(sl, place, standins):
    r = run(sl, place, r"""
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            container:
              image: python:3.11-slim-bookworm
              env: {FROM_FILE: file}
              volumes: ["first:/first"]
              options: >-
                --cpus 1 --memory=512m --hostname build.example --env OPTION=yes -e "TWO=a b" --volume data:/data
                --add-host db.example:10.9.8.7 --tmpfs /quick:size=16m --cap-drop NET_RAW --shm-size 32m --rm --init
                --health-cmd "exit 1" --entrypoint /never --user 1001 --privileged
            steps:
              - run: |
                  test "$(id -u)" = 1001
                  test "$(cat /etc/hostname)" = build.example
                  test "$OPTION/$TWO/$FROM_FILE" = "yes/a b/file"
                  grep -q '10.9.8.7.*db.example' /etc/hosts
                  test -d /data && test -d /first
                  grep ' /quick tmpfs' /proc/mounts | grep size=16384k
                  grep ' /dev/shm tmpfs' /proc/mounts | grep size=32768k
        """)
    assert outcome(r, "j") == "success"
    said = " ".join(notes(r))
    assert "--entrypoint has no effect" in said and "--privileged" in said


@pytest.mark.parametrize("options, what", [("--network host", "--network is not supported"), ("--cpus many", "no number"),
                                           ("--memory 1x", "invalid size"), ("--bogus", "unknown flag: --bogus"),
                                           ("--mount type=tmpfs", "not there yet"), ("-v /etc:/host", "does not see this machine")])
def test_options_that_cannot_be(root, tmp_path, standins, options, what):
    r = run(root, tmp_path, f"""
        on: push
        jobs:
          j:
            runs-on: ubuntu-latest
            container: {{image: python:3.11-slim-bookworm, options: {options}}}
            steps: [{{run: 'true'}}]
        """, check=1)
    assert any(what in e for e in errors(r)), errors(r)


def test_a_label_mapped_to_an_image(sl, place, standins):
    r = run(sl, place, r"""
        on: push
        jobs:
          j:
            runs-on: [self-hosted, big]
            steps:
              - uses: actions/checkout@v4
              - run: |
                  test "$(id -u)" = 0; test "$HOME" = /root
                  test -f .github/workflows/ci.yml; echo x > new; cd ~; touch there
                  command -v python3; test "$PWD" = /root
        """, "-P", "big=python:3.11-slim-bookworm")
    assert outcome(r, "j") == "success"
    assert any(e.get("detail", "").startswith("big → python:3.11") for e in events(r) if e["event"] == "job_start")


def test_bitbucket_variables_in_images_and_services(root, tmp_path, standins):
    d = root.repo(tmp_path, {"bitbucket-pipelines.yml": """
        image:
          name: $REGISTRY_IMAGE:${TAG}-slim-bookworm
          username: $USER_OF_HUB
          password: $MISSING
        definitions:
          services:
            store:
              image: redis:$REDIS
              memory: 256
              variables: {LEVEL: "a-$TAG-$$"}
        pipelines:
          default:
            - step:
                name: S
                services: [store]
                script:
                  - python3 --version | grep 3.11
                  - docker inspect --format '{{.Config.Env}}' $(docker ps -q) | grep 'LEVEL=a-3.11-\\$\\$'
        """})
    r = root("run", "--json", "--var", "REGISTRY_IMAGE=python", "--var", "TAG=3.11", "--var", "REDIS=7", "--var", "USER_OF_HUB=u", cwd=d, check=0)
    assert any("MISSING not given" in n for n in notes(r))
    assert outcome(r, "S") == "success"
