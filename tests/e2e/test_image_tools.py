"""`slipway image history, diff, inspect, export, import, mount`, and layouts as folders."""
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile

import pytest

from test_images import NAME, fresh, layer, old_archive  # noqa: F401 (a fixture)

STATUS = "Package: a\nStatus: install ok installed\nVersion: {}\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"


def two(folder, fresh):
    """old and new: a layer in common, then what a Dockerfile's next version changes."""
    base = layer([("etc/a", "base\n", {}), ("var/lib/dpkg/status", STATUS.format("1.0"), {}), ("big", "x" * 100_000, {}),
                  ("dir/one", "1", {}), ("dir/two", "22", {}), ("link", None, {"type": tarfile.SYMTYPE, "linkname": "etc/a"})])
    old_archive(folder / "old.tar", [base], tags=("old:1",))
    old_archive(folder / "new.tar", [base, layer([(".wh.big", "", {}), ("dir/.wh..wh..opq", "", {}), ("dir/three", "333", {}),
                                                  ("etc/a", "base\n", {"mode": 0o600}), ("var/lib/dpkg/status", STATUS.format("1.1"), {}),
                                                  ("usr/lib/python3/dist-packages/Django-4.2.dist-info/METADATA", "", {})])], tags=("new:1",))
    for name in ("old", "new"):
        fresh("image", "load", "-i", folder / f"{name}.tar", check=0)


def test_history_costs(fresh, place):
    two(place, fresh)
    steps = [json.loads(x) for x in fresh("image", "history", "--json", "new:1", check=0).stdout.splitlines()]
    assert [s["created_by"] for s in steps] == ["step 1", "step 0"]
    assert steps[1]["lost_bytes"] == 100_000 + 3 + 5 + len(STATUS.format("1.0")) and steps[1]["lost_files"] == 5
    assert steps[0]["lost_bytes"] == 0 and steps[0]["whiteouts"] == 2
    assert "deleted or replaced" in fresh("image", "history", "new:1", check=0).stdout


def test_diff(fresh, place):
    two(place, fresh)
    found = {(d["kind"], d["name"]): d for d in json.loads(fresh("image", "diff", "--json", "old:1", "new:1", check=0).stdout)}
    assert found[("package", "deb a")]["was"] == "1.0" and found[("package", "deb a")]["is"] == "1.1"
    assert found[("package", "pip Django")]["change"] == "added" and ("package", "deb gone") not in found
    files = {n: (d["change"], d.get("what")) for (k, n), d in found.items() if k == "file"}
    assert files["big"] == ("removed", None) and files["dir/three"] == ("added", None) and files["dir/one"][0] == "removed"
    assert files["etc/a"] == ("changed", "mode") and files["var/lib/dpkg/status"] == ("changed", "content")
    assert "link" not in files and "dir" not in files
    assert json.loads(fresh("image", "diff", "--json", "old:1", "old:1", check=0).stdout) == []
    assert fresh("image", "diff", "--exit-code", "old:1", "new:1").returncode == 1
    text = fresh("image", "diff", "old:1", "new:1", check=0).stdout
    assert "~ deb a: 1.0 -> 1.1" in text and "- big" in text


def test_inspect_forms(fresh, place):
    cid = old_archive(place / "in.tar", [layer([("a", "1", {})])])
    fresh("image", "load", "-i", place / "in.tar", check=0)
    config = fresh("image", "inspect", "--config", NAME, check=0).stdout
    assert "sha256:" + hashlib.sha256(config.encode()).hexdigest() == cid
    raw = json.loads(fresh("image", "inspect", "--raw", NAME, check=0).stdout)
    assert raw["config"]["digest"] == cid and len(raw["layers"]) == 1
    assert fresh("image", "inspect", "-f", "{{.id}} {{json .config.config.Env}}", NAME, check=0).stdout == cid + ' ["A=b"]\n'
    assert fresh("image", "inspect", "-f", "{{.nothing}}", NAME).returncode == 2


def test_export_import_mount(fresh, place):
    two(place, fresh)
    fresh("image", "export", "-o", place / "flat.tar", "new:1", check=0)
    with tarfile.open(place / "flat.tar") as t:
        names = set(t.getnames())
        assert {"dir/three", "etc/a", "link"} <= names and not names & {"big", "dir/one", "dir/two"}
        assert not any(".wh." in n for n in names)
    r = fresh("image", "import", "-e", "X=y", "-u", "1000", "--cmd", "run me", place / "flat.tar", "flat:1", check=0)
    shown = json.loads(fresh("image", "inspect", "flat:1", check=0).stdout)[0]
    assert shown["id"] == r.stdout.strip() and len(shown["layers"]) == 1
    assert shown["config"]["config"]["Env"] == ["X=y"] and shown["config"]["config"]["Cmd"] == ["/bin/sh", "-c", "run me"]
    assert json.loads(fresh("image", "diff", "--files", "--json", "new:1", "flat:1", check=0).stdout) == []
    for name in ("new:1", "flat:1"):  # of several layers, and of one
        r = fresh("image", "mount", name, "sh", "-c", 'cd "$SLIPWAY_MOUNT" && cat dir/three && ls && ! touch x 2>/dev/null', check=0)
        assert r.stdout.startswith("333") and "big" not in r.stdout
    assert fresh("image", "mount", "new:1", "sh", "-c", "exit 7").returncode == 7
    assert fresh("image", "import", place / "nothing.tar").returncode == 2
    (place / "bad.tar").write_bytes(b"no tar")
    os.chmod(place / "bad.tar", 0o644)
    assert fresh("image", "import", place / "bad.tar", "bad:1").returncode == 2
    assert fresh("image", "inspect", "bad:1").returncode == 1


def test_layout_folders(fresh, place):
    two(place, fresh)
    where = place / "layout"
    fresh("image", "save", "-o", f"{where}/", "old:1", "new:1", check=0)
    assert len(json.loads((where / "index.json").read_text())["manifests"]) == 2
    if shutil.which("skopeo"):
        r = subprocess.run(["skopeo", "inspect", "--raw", f"oci:{where}:1"], capture_output=True, text=True)
        assert r.returncode == 0 or "more than one" in r.stderr, r.stderr
    assert fresh("image", "save", "-o", f"{where}/", "old:1").returncode == 1  # not over it
    ids = fresh("image", "ls", "-q", check=0).stdout.split()
    fresh("image", "rm", "-f", *ids)
    assert "old:1" in fresh("image", "load", "-i", where, check=0).stdout
    assert sorted(fresh("image", "ls", "-q", check=0).stdout.split()) == sorted(ids)
    next((where / "blobs/sha256").iterdir()).write_bytes(b"damaged")
    assert fresh("image", "load", "-i", where).returncode == 1
