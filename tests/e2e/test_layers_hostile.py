"""Layers and manifests that mean harm: contained or refused with a reason, and nothing half-written. What is
contained is compared with what buildah makes of the same bytes, where the two should agree."""
import gzip
import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import tarfile

import pytest

from test_images import NAME, fresh, layer, old_archive  # noqa: F401 (a fixture)

SYM, LNK, CHR, BLK, FIFO, DIR = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)


def raw_header(name, size=0, kind=b"0", link=b"", pax=b""):
    """A tar header by hand, for what tarfile refuses to write."""
    def one(name, size, kind, link=b""):
        h = bytearray(512)
        h[:len(name)] = name
        h[100:108], h[108:116], h[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
        h[124:136] = b"%011o\0" % size
        h[136:148] = b"%011o\0" % 0
        h[148:156], h[156:157] = b" " * 8, kind
        h[157:157 + len(link)] = link
        h[257:265] = b"ustar\00000"
        h[148:156] = b"%06o\0 " % sum(h)
        return bytes(h)
    out = b""
    if pax:
        out += one(b"pax", len(pax), b"x") + pax + b"\0" * (-len(pax) % 512)
    return out + one(name, size, kind, link)


def pax(key, value):
    n = len(key) + len(value) + 3
    while len(str(n)) + len(key) + len(value) + 3 != n:
        n = len(str(n)) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (n, key, value)


END = b"\0" * 1024
REFUSED = {
    "dotdot": layer([("a/../../evil", "x", {})]),
    "hardlink out": layer([("x", None, {"type": LNK, "linkname": "../../../../etc/passwd"})]),
    "hardlink through a link": layer([("l", None, {"type": SYM, "linkname": "/etc"}), ("h", None, {"type": LNK, "linkname": "l/passwd"})]),
    "hardlink to a folder": layer([("d", None, {"type": DIR}), ("h", None, {"type": LNK, "linkname": "d"})]),
    "hardlink to nothing": layer([("h", None, {"type": LNK, "linkname": "none"})]),
    "4096 deep": layer([("/".join("d" * 4096), "x", {})]),
    "name of 300": layer([("n" * 300, "x", {})]),
    "empty link": layer([("l", None, {"type": SYM, "linkname": ""})]),
    "below a file": layer([("f", "x", {}), ("f/g", "y", {})]),
    "whiteout of dotdot": layer([("d/.wh...", "", {})]),
    "whiteout of nothing": layer([("d/.wh.", "", {})]),
    "pax size disagrees": raw_header(b"f", 4, pax=pax(b"size", b"99999999999")) + b"abcd" + b"\0" * 508 + END,
    "pax size negative": raw_header(b"f", 4, pax=pax(b"size", b"-1")) + b"abcd" + b"\0" * 508 + END,
    "gnu sparse": raw_header(b"f", 512, b"S") + b"\0" * 512 + END,
    "pax sparse": raw_header(b"f", 512, pax=pax(b"GNU.sparse.major", b"1") + pax(b"GNU.sparse.realsize", b"99999999")) + b"\0" * 512 + END,
    "uid too large": layer([("f", "x", {"uid": 70000})]),
    "ends in the middle": layer([("f", "x" * 5000, {})])[:3000],
    "wrong checksum": layer([("f", "x", {})])[:20] + b"!" + layer([("f", "x", {})])[21:],
}


def load(fresh, place, layers, **kw):
    path = place / "in.tar"
    cid = old_archive(path, layers, **kw)
    return cid, fresh("image", "load", "-i", path)


def nothing_left(fresh):
    assert fresh("image", "ls", "-a", "-q", check=0).stdout == ""
    for d in ("snap", "scratch", "lease"):
        left = [p.name for p in (fresh.state / d).iterdir()]
        assert left == [], (d, left)


def test_refused(fresh, place):
    for name, tar in REFUSED.items():
        _, r = load(fresh, place, [tar])
        assert r.returncode in (1, 2) and ("entry" in r.stderr or "damaged" in r.stderr or "archive" in r.stderr), (name, r.returncode, r.stderr)
        assert r.stderr.count("\n") <= 3 and "/etc/passwd" not in open("/etc/passwd").read(), name
    nothing_left(fresh)


def listing(fresh, name):
    r = fresh("image", "mount", name, "sh", "-c", r"find . -mindepth 1 -printf '%p %y %m %U:%G %l\n' | sort", check=0)
    return dict((line.split(" ")[0], line.split(" ", 1)[1].strip()) for line in r.stdout.splitlines())


def test_contained(fresh, place):
    """Odd, but with one meaning inside."""
    tar = layer([("/abs/file", "1", {}), ("./dot/./file", "2", {}), ("tmp", None, {"type": DIR, "mode": 0o1777}),
                 ("out", None, {"type": SYM, "linkname": "../../../../../../tmp"}),
                 ("out/through", "3", {}), ("loop", None, {"type": SYM, "linkname": "loop"}),
                 ("dev/null", None, {"type": CHR, "devmajor": 1, "devminor": 3}), ("dev/sda", None, {"type": BLK, "devmajor": 8, "devminor": 0}),
                 ("fifo", None, {"type": FIFO}), ("suid", "x", {"mode": 0o4755, "uid": 0}), ("twice", "old", {}), ("twice", "new!", {}),
                 ("was-dir/inner", "x", {}), ("was-dir", "now a file", {}), ("hard", None, {"type": LNK, "linkname": "twice"}),
                 (".wh.none", "", {}), (".wh..wh.plnk", None, {"type": DIR}), ("dir/.wh..wh..opq", "", {}), ("dir/kept", "k", {})])
    cid, r = load(fresh, place, [tar])
    assert r.returncode == 0, r.stderr
    got = listing(fresh, NAME)
    assert got["./abs/file"].startswith("f 644") and got["./dot/file"].startswith("f") and got["./out"] == "l 777 0:0 ../../../../../../tmp"
    assert got["./tmp/through"].startswith("f") and not os.path.exists("/tmp/through")
    assert "./dev/null" not in got and "./dev/sda" not in got
    assert got["./fifo"].startswith("p") and got["./suid"].startswith("f 4755 0:0") and got["./was-dir"].startswith("f") and "./dir/kept" in got
    assert not any(".wh." in name for name in got)
    text = fresh("image", "mount", NAME, "cat", "twice", "hard", check=0).stdout
    assert text == "new!new!"


def test_whiteouts_over_layers(fresh, place):
    base = layer([("a", "1", {}), ("d/x", "1", {}), ("d/y", "1", {}), ("e/z", "1", {}), ("link", None, {"type": SYM, "linkname": "d"})])
    top = layer([(".wh.a", "", {}), ("d/.wh..wh..opq", "", {}), ("d/new", "2", {}), (".wh.e", "", {}), ("e/back", "2", {}), (".wh.link", "", {}),
                 ("link/f", "in a folder now", {})])
    _, r = load(fresh, place, [base, top])
    assert r.returncode == 0, r.stderr
    assert sorted(listing(fresh, NAME)) == ["./d", "./d/new", "./e", "./e/back", "./link", "./link/f"]


def test_many_entries(fresh, place):
    """Thirty thousand names in one folder; a thousand duplicates of one file."""
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w") as t:
        for i in range(30_000):
            t.addfile(tarfile.TarInfo(f"many/{i:06}"))
        for i in range(1000):
            t.addfile(tarfile.TarInfo("same"))
    _, r = load(fresh, place, [b.getvalue()])
    assert r.returncode == 0, r.stderr
    assert fresh("image", "mount", NAME, "sh", "-c", "ls many | wc -l", check=0).stdout.strip() == "30000"


# --- compressed, and through a layout ---------------------------------------------------------

def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layout(folder, blobs, **change):
    """An OCI layout whose layers are given as (bytes, media type, diff id); change: what to lie about."""
    shutil.rmtree(folder, ignore_errors=True)
    at = folder / "blobs/sha256"
    at.mkdir(parents=True)

    def put(data, media):
        (at / digest(data)[7:]).write_bytes(data)
        return {"mediaType": media, "digest": digest(data), "size": len(data)}
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    config = put(json.dumps({"architecture": arch, "os": "linux", "rootfs": {"type": "layers", "diff_ids": change.get("diff_ids") or [d for _, _, d in blobs]}}).encode(),
                 "application/vnd.oci.image.config.v1+json")
    kind = "application/vnd.oci.image.manifest.v1+json"
    m = dict({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [put(b, m) for b, m, _ in blobs]}, **change.get("manifest", {}))
    manifest = put(json.dumps(m).encode(), kind)
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
        dict(manifest, annotations={"org.opencontainers.image.ref.name": "docker.io/team/bad:1"})]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    return folder


GZ = "application/vnd.oci.image.layer.v1.tar+gzip"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


def zstd(data, *options):
    return subprocess.run(["zstd", "-q", "-c", *options], input=data, stdout=subprocess.PIPE, check=True).stdout


def zstd_window():
    """A frame whose head asks for a window of 2 GiB (RFC 8878, 3.1.1.1.2)."""
    return b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([21 << 3]) + b"\x01\x00\x00"


def test_damaged_compression(fresh, place):
    good = layer([("f", "x" * 100_000, {})])
    packed = gzip.compress(good)
    cases = {
        "truncated gzip": packed[:-20],
        "gzip with rubbish after it": packed + b"rubbish that is no member",
        "gzip with a wrong checksum": packed[:-8] + struct.pack("<I", 1) + packed[-4:],
        "flipped bits": packed[:60] + bytes([packed[60] ^ 0xff]) + packed[61:],
    }
    if shutil.which("zstd"):
        z = zstd(good)
        cases["truncated zstd"] = z[:-5]
        cases["zstd with a window of 2 GiB"] = zstd_window()
    for name, blob in cases.items():
        media = ZSTD if "zstd" in name else GZ
        r = fresh("image", "load", "-i", layout(place / "l", [(blob, media, digest(good))]))
        assert r.returncode in (1, 2) and "layer" in r.stderr, (name, r.stderr)
    nothing_left(fresh)
    fresh("image", "load", "-i", layout(place / "l", [(packed, GZ, digest(good))]), check=0)


def test_bombs(fresh, place, sl):
    """Three gigabytes of zeros in three megabytes are stopped at the first."""
    if sl.uid:
        pytest.skip("once is enough")
    size = 3 << 30
    head = raw_header(b"zeros", 0, pax=pax(b"size", str(size).encode()))
    member = gzip.compress(b"\0" * (64 << 20), 9)
    bomb = gzip.compress(head) + member * (size // (64 << 20))
    r = fresh("image", "load", "-i", layout(place / "l", [(bomb, GZ, digest(b"whatever"))]))
    assert r.returncode == 1 and "bomb" in r.stderr, r.stderr
    nothing_left(fresh)


def test_lies(fresh, place):
    good = layer([("f", "x", {})])
    packed = gzip.compress(good)
    cases = {
        "diff id": layout(place / "l1", [(packed, GZ, digest(b"other"))]),
        "too few diff ids": layout(place / "l2", [(packed, GZ, digest(good))], diff_ids=["sha256:" + "0" * 64] * 2),
        "both kinds": layout(place / "l3", [(packed, GZ, digest(good))], manifest={"manifests": []}),
        "foreign": layout(place / "l4", [(packed, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", digest(good))]),
        "layers by the thousand": layout(place / "l5", [(packed, GZ, digest(good))],
                                         manifest={"layers": [{"mediaType": GZ, "digest": digest(packed), "size": len(packed)}] * 10_000}),
        "schema 1": layout(place / "l6", [(packed, GZ, digest(good))], manifest={"schemaVersion": 1}),
        "a manifest of megabytes": layout(place / "l7", [(packed, GZ, digest(good))], manifest={"annotations": {"x": "y" * (5 << 20)}}),
        "encrypted": layout(place / "l8", [(packed, GZ + "+encrypted", digest(good))]),
    }
    for name, folder in cases.items():
        r = fresh("image", "load", "-i", folder)
        assert r.returncode in (1, 2) and r.stderr.startswith("error:") and len(r.stderr) < 600, (name, r.stderr)
    wrong = layout(place / "l9", [(packed, GZ, digest(good))])
    (wrong / "blobs/sha256" / digest(packed)[7:]).write_bytes(packed[:-1] + b"!")
    assert "not sha256:" + digest(packed)[7:] in fresh("image", "load", "-i", wrong).stderr
    # an index that leads to itself cannot be made; one that leads to many of its like can
    inner = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    for _ in range(20):
        nested = place / "nest"
        shutil.rmtree(nested, ignore_errors=True)
        (nested / "blobs/sha256").mkdir(parents=True)
    chain = [inner]
    for _ in range(20):
        chain.append(json.dumps({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest(chain[-1]),
                                                                    "size": len(chain[-1])}]}).encode())
    for c in chain:
        (nested / "blobs/sha256" / digest(c)[7:]).write_bytes(c)
    (nested / "index.json").write_bytes(chain[-1])
    subprocess.run(["chmod", "-R", "a+rX", nested], check=True)
    r = fresh("image", "load", "-i", nested)
    assert r.returncode == 1 and "nested" in r.stderr
    nothing_left(fresh)


def test_capabilities_and_attributes(fresh, place):
    """security.capability stays, what overlayfs or the host's own modules mean by theirs does not get in."""
    cap = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0).decode("latin-1")
    tar = layer([("ping", "x", {"mode": 0o755, "pax_headers": {"SCHILY.xattr.security.capability": cap}}),
                 ("d", None, {"type": DIR, "mode": 0o755, "pax_headers": {"SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.trusted.overlay.opaque": "y",
                                                                         "SCHILY.xattr.user.note": "kept"}})])
    base = layer([("d/below", "seen", {})])
    _, r = load(fresh, place, [base, tar])
    assert r.returncode == 0, r.stderr
    assert fresh("image", "mount", NAME, "cat", "d/below", check=0).stdout == "seen"
    fresh("image", "export", "-o", place / "out.tar", NAME, check=0)
    with tarfile.open(place / "out.tar") as t:
        heads = {m.name.rstrip("/"): m.pax_headers for m in t.getmembers()}
    assert "SCHILY.xattr.security.capability" in heads["ping"] and heads["d"].get("SCHILY.xattr.user.note") == "kept"
    assert not any("overlay" in k for h in heads.values() for k in h)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("buildah"), reason="needs buildah as root")
def test_as_buildah_unpacks(fresh, place, sl):
    """The same headers from the same layers."""
    if sl.uid:
        pytest.skip("buildah runs as root here")
    base = layer([("etc/a", "1", {"uid": 7, "gid": 8, "mode": 0o640}), ("d/x", "1", {}), ("d/y", "22", {}), ("bin", None, {"type": SYM, "linkname": "usr/bin"}),
                  ("usr/bin/su", "x", {"mode": 0o4755}), ("h", None, {"type": LNK, "linkname": "etc/a"}), ("tmp", None, {"type": DIR, "mode": 0o1777}),
                  ("gone/f", "1", {}), ("file-to-dir", "x", {}), ("dir-to-file/f", "x", {}), ("pipe", None, {"type": FIFO})])
    top = layer([("d/.wh.x", "", {}), (".wh.gone", "", {}), ("etc/.wh..wh..opq", "", {}), ("etc/b", "2", {"mode": 0o600}), ("file-to-dir", None, {"type": DIR, "mode": 0o755}), ("file-to-dir/g", "y", {}),
                 ("dir-to-file", "y", {}), ("usr/bin/su", "newer", {"mode": 0o2755, "gid": 5})])
    old_archive(place / "in.tar", [base, top], tags=("x:1",))
    fresh("image", "load", "-i", place / "in.tar", check=0)
    fresh("image", "export", "-o", place / "out.tar", "x:1", check=0)
    at = ["--root", str(place / "b"), "--runroot", str(place / "r"), "--storage-driver", "vfs"]
    try:
        def buildah(*args):
            r = subprocess.run(["buildah", *at, *args], capture_output=True, text=True)
            assert r.returncode == 0, r.stderr
            return r.stdout.strip()
        name = buildah("pull", "-q", f"docker-archive:{place}/in.tar")
        root = buildah("mount", buildah("from", name))
        theirs = {}
        for folder, dirs, files in os.walk(root):
            for n in dirs + files:
                p = os.path.join(folder, n)
                st = os.lstat(p)
                kind = {0o040000: "d", 0o100000: "f", 0o120000: "l", 0o010000: "p"}[st.st_mode & 0o170000]
                theirs[os.path.relpath(p, root)] = (kind, st.st_mode & 0o7777 if kind != "l" else 0, st.st_uid, st.st_gid,
                                                    st.st_size if kind == "f" else os.readlink(p) if kind == "l" else 0)
    finally:
        subprocess.run(["buildah", *at, "rm", "-a"], capture_output=True)
        subprocess.run(["buildah", *at, "rmi", "-a", "-f"], capture_output=True)
    ours, sizes = {}, {}
    with tarfile.open(place / "out.tar") as t:
        for m in t.getmembers():
            kind = "d" if m.isdir() else "l" if m.issym() else "p" if m.isfifo() else "f"
            if m.isreg() and not m.islnk():
                sizes[m.name] = m.size
            ours[m.name.rstrip("/")] = (kind, m.mode if kind != "l" else 0, m.uid, m.gid,
                                        m.linkname if kind == "l" else sizes.get(m.linkname if m.islnk() else m.name, 0) if kind == "f" else 0)
    assert ours == theirs
