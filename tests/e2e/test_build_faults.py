"""Builds under bad input and bad luck, and what a build promises of its results: the same bytes elsewhere, one result
for equal steps at once, secrets nowhere."""
import json
import os
import pathlib
import shutil
import subprocess
import time

import pytest

from test_build import BASE, CONTEXT, build, write  # noqa: F401 (a fixture)

IDS = {}


def test_same_digest_elsewhere_and_on_another_day(build, place, sl):
    """Two stores, two folders with other times: one image. (And the same one as root and as an ordinary user.)"""
    df = (f"FROM {BASE}\nARG SOURCE_DATE_EPOCH\nWORKDIR /srv/app\nCOPY app .\nRUN date > /dev/null; echo built > /built; mkdir -p /new/folder; "
          "touch -d 2001-01-01 /old\nUSER 1000\nENV A=b\nCMD [\"/built\"]\n")
    out = []
    for i in range(2):
        ctx = place / f"somewhere{i}" / ("deeper" if i else "")
        write(ctx, {"Dockerfile": df, "app/x.py": "x = 1\n", "app/d/y": "y"})
        for p in ctx.rglob("*"):
            os.utime(p, (1_700_000_000 + 1000 * i,) * 2)
        subprocess.run(["chown", "-R", f"{sl.uid}:{sl.gid}", str(ctx)], check=True)
        env = dict(build.env, SOURCE_DATE_EPOCH="1600000000")
        if i:
            env["SLIPWAY_STATE"] = str(place / "another-store")
            (place / "another-store").mkdir()
            os.chown(place / "another-store", sl.uid, sl.gid)
        r = sl("build", "-q", "--no-cache", str(ctx), env=env, check=0)
        out.append(r.stdout.strip())
    IDS[sl.name] = out[0]
    assert out[0] == out[1]
    assert len(set(IDS.values())) == 1
    build(df, {"app/x.py": "x = 1\n", "app/d/y": "y"}, "-t", "t/epoch", env={"SOURCE_DATE_EPOCH": "1600000000"})
    img = build.save("t/epoch")
    assert img.mtimes["built"] == 1600000000 and img.mtimes["old"] < 1600000000 and img.mtimes["srv/app/x.py"] == 1600000000
    assert {h["created"][:19] for h in img.config["history"][-6:]} == {"2020-09-13T12:26:40"}
    r = build(df, {}, "--build-arg", "SOURCE_DATE_EPOCH=yesterday", check=2)
    assert "invalid SOURCE_DATE_EPOCH" in r.stderr


def test_equal_steps_at_once_are_done_once(build, sl, place):
    df = f"FROM {BASE}\nRUN echo {time.time_ns()} && sleep 1\n"
    procs = []
    for i in range(2):
        ctx = place / f"c{i}"
        write(ctx, {"Dockerfile": df})
        subprocess.run(["chmod", "-R", "a+rX", str(ctx)], check=True)
        procs.append(sl.popen("build", "--progress=plain", str(ctx), env=build.env, stderr=subprocess.PIPE))
    said = [p.communicate(timeout=60)[1] for p in procs]
    assert [p.returncode for p in procs] == [0, 0]
    assert sum("CACHED" in s for s in said) == 1, said


def test_reasons(build):
    n = time.time_ns()  # what an earlier run of the tests has built is still cached
    df = f"FROM {BASE}\nARG V=1\nRUN echo $V {n}\nWORKDIR /w\nCOPY a b ./\nRUN ls\n"
    build(df, {"a": "1", "b": "1"})
    r = build(df, {"a": "1", "b": "1"}, "--explain", "--progress=plain", "--build-arg", "V=2")
    assert "not cached: V changed" in r.stderr
    r = build(df.replace("RUN echo $V", "RUN echo other $V"), {"a": "1", "b": "1"}, "--explain", "--progress=plain", "--build-arg", "V=2")
    assert "not cached: command changed" in r.stderr
    r = build(df.replace("RUN echo $V", "RUN echo other $V"), {"a": "1", "b": f"{n}"}, "--explain", "--progress=plain", "--build-arg", "V=2")
    assert "not cached: b changed" in r.stderr
    assert "not cached: a step before it changed: [4/5] COPY a b ./" in r.stderr
    r = build(df.replace(BASE, "debian:bookworm-slim@" + "sha256:" + "0" * 64), {"a": "1", "b": "2"}, check=1)


def test_secrets_are_nowhere(build, place, sl):
    value = f"s3cr3t-{time.time_ns()}"
    (place / "secret").write_text(value)
    os.chmod(place / "secret", 0o644)
    df = (f"FROM {BASE}\nRUN --mount=type=secret,id=one wc -c < /run/secrets/one > /n\n"
          "RUN --mount=type=secret,id=one,env=TOKEN test -n \"$TOKEN\" && env | grep -c TOKEN > /m\n")
    r = build(df, None, "-t", "t/secret", "--progress=plain", "--secret", f"id=one,src={place}/secret")
    img = build.save("t/secret")
    assert value not in json.dumps(img.config) and value not in r.stderr
    assert not any(value in t for t in img.texts.values())
    found = subprocess.run(["grep", "-rlF", value, str(build.env["SLIPWAY_STATE"]) + "/records.db", str(build.env["SLIPWAY_STATE"]) + "/scratch"],
                           capture_output=True, text=True)
    assert not found.stdout
    # another value of the secret is no reason to run the step again
    (place / "secret").write_text("another")
    assert build(df, None, "--secret", f"id=one,src={place}/secret", keep=True).stderr.count("CACHED") == 2
    r = build(f"FROM {BASE}\nARG GITHUB_TOKEN\nRUN true\n", None, "--build-arg", "GITHUB_TOKEN=x", "--progress=plain")
    assert "SecretsUsedInArgOrEnv" in r.stderr


@pytest.mark.parametrize("workdir", ["/proc/self/root/etc", "/dev/fd/3", "/proc/1/cwd", "/sys/kernel/x"])
def test_workdir_in_places_of_the_kernel(build, workdir):
    build(f"FROM {BASE}\nWORKDIR {workdir}\nRUN echo here > f || true\n", None, check=None)
    assert not pathlib.Path("/etc/f").exists()


@pytest.mark.parametrize("passwd", ["ln -sf /etc/shadow /etc/passwd", "rm /etc/passwd && mkfifo /etc/passwd", "truncate -s 3G /etc/passwd",
                                    "ln -sf /etc/passwd /etc/passwd", "ln -sf /proc/self/mem /etc/passwd", "rm /etc/passwd && mkdir /etc/passwd"])
@pytest.mark.seconds(90)
def test_passwd_that_is_something_else(build, passwd):
    """Names are looked up in the image's own file: whatever it is, the build ends."""
    for use in ("USER someone\nRUN true\n", "COPY --chown=someone:other a.txt /x\n"):
        r = build(f"FROM {BASE}\nRUN {passwd}\n{use}", CONTEXT, check=None)
        assert r.returncode not in (0, -11, -6), r.stderr
        assert "someone" in r.stderr or "passwd" in r.stderr


@pytest.mark.parametrize("mount", ["type=cache,id=../../../etc,target=/c", "type=cache,target=/../../c", "type=bind,source=../../../etc,target=/c",
                                   "type=bind,source=out,target=/c", "type=tmpfs,target=/../c", "type=secret,id=../../etc/passwd"])
def test_mounts_that_climb(build, mount):
    """Nothing of the host is seen: a bind of what leads out is not found, an id is only a name."""
    r = build(f"FROM {BASE}\nRUN --mount={mount} ls -l /c && ! test -e /c/shadow && ! test -e /c/hostname\n", {"out": ("/etc",)}, check=None)
    assert "hostname" not in r.stderr.replace("! test -e /c/hostname", "")
    assert r.returncode >= 0


def test_context_links_lead_nowhere(build, place):
    (place / "outside").mkdir()
    (place / "outside" / "f").write_text("of the host")
    for dockerfile in ("COPY out/f /f", "COPY out /f/", "COPY o*/f /f", "ADD out/f /f"):
        r = build(f"FROM {BASE}\n{dockerfile}\n", {"out": (str(place / "outside"),)}, check=None)
        if r.returncode == 0:
            img = build.files(f"FROM {BASE}\n{dockerfile}\n", {"out": (str(place / "outside"),)})
            assert "of the host" not in img.texts.values()
    r = build(None, {"Dockerfile": ("/etc/passwd",)}, check=None)
    assert "root:" not in r.stdout


def test_disk_full(build, sl, place):
    """A store on a file system that fills up: the step fails with a reason, the store is whole afterwards."""
    if sl.uid:
        pytest.skip("needs a mount")
    state = place / "small"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=755", "tmpfs", str(state)], check=True)
    try:
        env = dict(build.env, SLIPWAY_STATE=str(state))
        ctx = place / "full"
        write(ctx, {"Dockerfile": f"FROM {BASE}\nRUN echo one > /one\nRUN dd if=/dev/zero of=/big bs=1M count=600\n"})
        r = sl("build", str(ctx), env=env)
        assert r.returncode != 0 and "No space left" in r.stderr
        write(ctx, {"Dockerfile": f"FROM {BASE}\nRUN echo one > /one\nRUN test -f /one && ! test -e /big\n"})
        r = sl("build", "--progress=plain", str(ctx), env=env, check=0)
        assert r.stderr.count("CACHED") == 1
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)
