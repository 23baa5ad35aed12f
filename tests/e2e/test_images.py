"""`slipway image`, `prune` and `system df`: archives of and for other programs, and the store after bad days."""
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time

import pytest

NAME = "registry.example.org/team/tool:1.2"


def layer(entries):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w") as t:
        for name, text, extra in entries:
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            data = (text or "").encode()
            info.size = len(data)
            for k, v in extra.items():
                setattr(info, k, v)
            t.addfile(info, io.BytesIO(data))
    return b.getvalue()


def old_archive(path, layers, tags=(NAME,)):
    """The form that docker save had before version 25."""
    config = {"architecture": "amd64", "os": "linux", "config": {"Env": ["A=b"], "Cmd": ["sh"]},
              "created": "2024-01-02T03:04:05Z",
              "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(x).hexdigest() for x in layers]},
              "history": [{"created_by": f"step {i}", "created": "2024-01-02T03:04:05Z"} for i in range(len(layers))]}
    text = json.dumps(config).encode()
    cid = hashlib.sha256(text).hexdigest()
    with tarfile.open(path, "w") as t:
        def put(name, data):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
        put(cid + ".json", text)
        for i, x in enumerate(layers):
            put(f"layer{i}/VERSION", b"1.0")
            put(f"layer{i}/layer.tar", x)
        put("manifest.json", json.dumps([{"Config": cid + ".json", "RepoTags": list(tags),
                                          "Layers": [f"layer{i}/layer.tar" for i in range(len(layers))]}]).encode())
    os.chmod(path, 0o644)
    return "sha256:" + cid


@pytest.fixture
def fresh(sl, place):
    """slipway with an empty state of its own."""
    class Fresh:
        state = place / "state"

        def __call__(self, *args, **kw):
            return sl(*args, env=dict(SLIPWAY_STATE=str(self.state)), **kw)

        def popen(self, *args, **kw):
            return sl.popen(*args, env=dict(SLIPWAY_STATE=str(self.state)), **kw)
    f = Fresh()
    yield f
    f("prune", "--all")


def layers():
    return [layer([("etc/a", "base\n", {}), ("bin", None, {"type": tarfile.SYMTYPE, "linkname": "usr/bin"}),
                   ("home/u/f", "mine", {"uid": 1000, "gid": 1000, "mode": 0o600})]),
            layer([("etc/.wh.a", "", {}), ("usr/bin/tool", "#!x", {"mode": 0o4755})])]


def test_load_show_tag_remove(fresh, place):
    cid = old_archive(place / "in.tar", layers())
    assert "Loaded: " + NAME in fresh("image", "load", "-i", place / "in.tar", check=0).stdout
    assert NAME in fresh("image", "ls", check=0).stdout
    shown = json.loads(fresh("image", "inspect", NAME, check=0).stdout)[0]
    assert shown["id"] == cid and shown["config"]["config"]["Env"] == ["A=b"] and len(shown["layers"]) == 2
    assert fresh("image", "history", NAME, check=0).stdout.index("step 1") < fresh("image", "history", NAME).stdout.index("step 0")
    fresh("image", "tag", NAME, "other", check=0)
    assert "docker.io" not in fresh("image", "ls", "other", check=0).stdout
    assert "Untagged" in fresh("image", "rm", NAME, check=0).stdout
    fresh("image", "inspect", "other", check=0)
    r = fresh("image", "inspect", NAME)
    assert r.returncode == 1 and "no such image" in r.stderr
    assert "Deleted: " + cid in fresh("image", "rm", "other", check=0).stdout
    assert fresh("image", "ls", "-a", "-q", check=0).stdout == ""


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_skopeo_reads_and_writes(fresh, place, form):
    cid = old_archive(place / "in.tar", layers())
    fresh("image", "load", "-i", place / "in.tar", check=0)
    fresh("image", "save", *(["--oci"] if form.startswith("oci") else []), "-o", place / "out.tar", NAME, check=0)
    out = subprocess.run(["skopeo", "inspect", "--config", f"{form}:{place}/out.tar"], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout)["config"]["Env"] == ["A=b"]
    # and the other way: what skopeo writes is read, with the same layers (and id, where it does not
    # rewrite the configuration)
    diffs = [x["diff_id"] for x in json.loads(fresh("image", "inspect", NAME, check=0).stdout)[0]["layers"]]
    for to in ("docker-archive", "oci-archive"):
        f = place / f"by-skopeo-{to}.tar"
        dest = f"{to}:{f}:{NAME}"
        r = subprocess.run(["skopeo", "copy", "-q", "--insecure-policy", f"{form}:{place}/out.tar", dest], capture_output=True, text=True)
        assert r.returncode == 0, r.stderr
        os.chmod(f, 0o644)
        fresh("image", "rm", "-f", cid)
        assert NAME in fresh("image", "load", "-i", f, check=0).stdout
        got = json.loads(fresh("image", "inspect", NAME, check=0).stdout)[0]
        assert [x["diff_id"] for x in got["layers"]] == diffs
        assert got["id"] == cid or to != form


def test_hostile_archives(fresh, place):
    bad = [[("../../../evil", "x", {})],
           [("x", None, {"type": tarfile.LNKTYPE, "linkname": "../../../etc/passwd"})],
           [("l", None, {"type": tarfile.SYMTYPE, "linkname": "/"}), ("h", None, {"type": tarfile.LNKTYPE, "linkname": "l/etc/passwd"})]]
    for i, entries in enumerate(bad):
        old_archive(place / "in.tar", [layer(entries)])
        r = fresh("image", "load", "-i", place / "in.tar")
        assert r.returncode == 1 and "layer entry" in r.stderr, (i, r.stderr)
    assert fresh("image", "ls", "-a", "-q", check=0).stdout == ""
    (place / "junk.tar").write_bytes(b"no archive " * 100)
    os.chmod(place / "junk.tar", 0o644)
    assert fresh("image", "load", "-i", place / "junk.tar").returncode != 0
    assert fresh("image", "load", "-i", place / "nothing.tar").returncode == 2


def test_prune_and_df(fresh, place):
    old_archive(place / "a.tar", layers())
    old_archive(place / "b.tar", [layer([("big", "x" * 300000, {})])], tags=("gone:1",))
    fresh("image", "load", "-i", place / "a.tar", check=0)
    fresh("image", "load", "-i", place / "b.tar", check=0)
    assert json.loads(fresh("system", "df", "--json", check=0).stdout)["layers"]["count"] == 3
    fresh("image", "rm", "gone:1", check=0)
    time.sleep(2.1)
    assert "would free" in fresh("prune", "--dry-run", check=0).stdout
    assert "1 layers" in fresh("prune", check=0).stdout
    df = json.loads(fresh("system", "df", "--json", check=0).stdout)
    assert df["layers"]["count"] == 2 and df["images"] == 1
    fresh("image", "save", "-o", place / "out.tar", NAME, check=0)


def test_keep_storage(fresh, place):
    """Down to a size, the oldest first; what has a name stays, and is named as the reason."""
    for i in range(4):
        old_archive(place / "a.tar", [layer([("big", str(i) * 1_000_000, {})])], tags=(f"img:{i}",))
        fresh("image", "load", "-i", place / "a.tar", check=0)
        time.sleep(0.02)
    for i in range(3):
        fresh("image", "rm", f"img:{i}", check=0)
    time.sleep(2.1)
    sizes = json.loads(fresh("system", "df", "--json", check=0).stdout)
    total = sizes["blobs"]["bytes"] + sizes["layers"]["bytes"]
    assert "would free" in fresh("prune", "--dry-run", "--keep-storage", str(total - 1_500_000), check=0).stdout
    fresh("prune", "--keep-storage", str(total - 1_500_000), check=0)
    sizes = json.loads(fresh("system", "df", "--json", check=0).stdout)
    left = sizes["blobs"]["bytes"] + sizes["layers"]["bytes"]
    assert total - 3_600_000 < left <= total - 1_500_000
    r = fresh("prune", "--keep-storage", "1k", check=0)
    assert "are left" in r.stderr
    fresh("image", "save", "-o", place / "out.tar", "img:3", check=0)


def test_killed_loads(fresh, place):
    """kill -9 at any moment: the next command finds a store that is whole, and nothing left over."""
    big = [layer([(f"d{i % 20}/f{i}", str(i) * 500, {}) for i in range(1500)])]
    cid = old_archive(place / "in.tar", big)
    for i in range(12):
        p = fresh.popen("image", "load", "-i", place / "in.tar", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.005 + i * 0.012)
        p.send_signal(signal.SIGKILL)
        p.wait()
    fresh("image", "load", "-i", place / "in.tar", check=0)
    assert json.loads(fresh("image", "inspect", NAME, check=0).stdout)[0]["id"] == cid
    assert len(list((fresh.state / "snap").iterdir())) == 1
    assert list((fresh.state / "scratch").iterdir()) == []
    assert list((fresh.state / "lease").iterdir()) == []
