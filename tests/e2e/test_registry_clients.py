"""slipway's registry before other people's programs: the distribution-spec's conformance suite, crane,
buildah, podman, containerd; and what a registry of a team needs: users, deletion, a mirror, bad days."""
import base64
import crypt
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

import gotools
from test_registry import OCI, Server, client, digest, free_port, make_layout, skopeo

pytestmark = pytest.mark.seconds(600)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("clients-state")


@pytest.fixture(scope="module")
def registry(root, state):
    s = Server(root, state)
    yield s
    s.stop()


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    d = tmp_path_factory.mktemp("mini")
    os.chmod(d, 0o755)
    return make_layout(d)


def run(*argv, check=True, **kw):
    r = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=180, **kw)
    assert not check or r.returncode == 0, f"{argv}: {r.returncode}\n{r.stdout[-3000:]}{r.stderr[-3000:]}"
    return r


def put_blob(reg, repo, data, alg="sha256"):
    d = f"{alg}:{hashlib.new(alg, data).hexdigest()}"
    r = reg.request("POST", f"/v2/{repo}/blobs/uploads/?digest={d}", data)
    assert r.status == 201, (r.status, r.body)
    return d


def manifest_of(config, *layers, config_size=2, **more):
    def desc(d, size, media):
        return {"mediaType": media, "digest": d, "size": size}
    return json.dumps(dict({"schemaVersion": 2, "mediaType": OCI, "config": desc(config, config_size, "application/vnd.oci.image.config.v1+json"),
                            "layers": [desc(d, n, "application/vnd.oci.image.layer.v1.tar") for d, n in layers]}, **more)).encode()


# --- the specification ------------------------------------------------------------------------

def test_conformance(registry, tmp_path):
    suite = gotools.conformance()
    env = dict(os.environ, OCI_ROOT_URL=f"http://{registry.host}", OCI_NAMESPACE="conformance/one", OCI_CROSSMOUNT_NAMESPACE="conformance/two",
               OCI_AUTOMATIC_CROSSMOUNT="1", OCI_HIDE_SKIPPED_WORKFLOWS="0", OCI_REPORT_DIR=str(tmp_path), OCI_DEBUG="0")
    for what in ("PULL", "PUSH", "CONTENT_DISCOVERY", "CONTENT_MANAGEMENT"):
        env["OCI_TEST_" + what] = "1"
    r = run(suite, cwd=tmp_path, env=env, check=False)
    text = re.sub(r"\x1b\[[0-9;]*m", "", r.stdout)
    m = re.search(r"(\d+) Passed \| (\d+) Failed \| (\d+) Pending \| (\d+) Skipped", text)
    assert r.returncode == 0 and m and int(m[2]) == 0 and int(m[1]) >= 70, text[-5000:]


def test_blob_delete_and_repositories(registry):
    a = os.urandom(1000)
    d = put_blob(registry, "del/one", a)
    assert registry.request("HEAD", f"/v2/del/two/blobs/{d}").status == 404  # another repository's
    assert registry.request("POST", f"/v2/del/two/blobs/uploads/?mount={d}&from=del/none").status == 202
    assert registry.request("POST", f"/v2/del/two/blobs/uploads/?mount={d}&from=del/one").status == 201
    assert registry.request("DELETE", f"/v2/del/one/blobs/{d}").status == 202
    assert registry.request("HEAD", f"/v2/del/one/blobs/{d}").status == 404
    assert registry.request("DELETE", f"/v2/del/one/blobs/{d}").status == 404
    assert registry.request("GET", f"/v2/del/two/blobs/{d}").body == a
    assert registry.request("GET", f"/v2/del/two/blobs/{d}", headers={"Range": "bytes=-10"}).body == a[-10:]
    assert registry.request("PUT", "/v2/del/one/blobs/" + d, a).status == 405


def test_sha512(registry):
    data, small = os.urandom(70_000), b"{}"
    big = put_blob(registry, "long/x", data, "sha512")
    assert registry.request("GET", f"/v2/long/x/blobs/{big}").body == data
    wrong = "sha512:" + hashlib.sha512(b"other").hexdigest()
    r = registry.request("POST", f"/v2/long/x/blobs/uploads/?digest={wrong}", data)
    assert r.status == 400 and json.loads(r.body)["errors"][0]["code"] == "DIGEST_INVALID"
    m = manifest_of(put_blob(registry, "long/x", small, "sha512"), (big, len(data)))
    name = "sha512:" + hashlib.sha512(m).hexdigest()
    r = registry.request("PUT", f"/v2/long/x/manifests/{name}?tag=a&tag=b", m, {"Content-Type": OCI})
    assert r.status == 201 and r.headers["Docker-Content-Digest"] == name and r.headers.get_all("OCI-Tag") == ["a", "b"]
    for ref in (name, "a", "b"):
        r = registry.request("GET", f"/v2/long/x/manifests/{ref}")
        assert r.body == m and r.headers["Docker-Content-Digest"] == name
    assert registry.request("PUT", f"/v2/long/x/manifests/{name}", m + b" ", {"Content-Type": OCI}).status == 400


def test_referrers(registry):
    config = put_blob(registry, "ref/x", b"{}")
    m = manifest_of(config)
    assert registry.request("PUT", "/v2/ref/x/manifests/1", m, {"Content-Type": OCI}).status == 201
    subject = {"mediaType": OCI, "digest": digest(m), "size": len(m)}
    sent = {}
    for kind in ("sig", "sbom"):
        r = manifest_of(config, subject=subject, artifactType="application/x-" + kind, annotations={"kind": kind})
        assert registry.request("PUT", f"/v2/ref/x/manifests/{digest(r)}", r, {"Content-Type": OCI}).headers["OCI-Subject"] == digest(m)
        sent[kind] = digest(r)
    # what a client noted under the fallback tag counts too, once
    old = manifest_of(config, annotations={"kind": "old"})
    assert registry.request("PUT", f"/v2/ref/x/manifests/{digest(old)}", old, {"Content-Type": OCI}).status == 201
    index = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {"mediaType": OCI, "digest": digest(old), "size": len(old), "artifactType": "application/x-old"},
        {"mediaType": OCI, "digest": sent["sig"], "size": 1, "artifactType": "application/x-sig"}]}).encode()
    fallback = digest(m).replace(":", "-")
    assert registry.request("PUT", f"/v2/ref/x/manifests/{fallback}", index).status == 201
    found = json.loads(registry.request("GET", f"/v2/ref/x/referrers/{digest(m)}").body)["manifests"]
    assert sorted(f["digest"] for f in found) == sorted([*sent.values(), digest(old)])
    r = registry.request("GET", f"/v2/ref/x/referrers/{digest(m)}?artifactType=application/x-sbom")
    assert r.headers["OCI-Filters-Applied"] == "artifactType"
    assert [f["annotations"] for f in json.loads(r.body)["manifests"]] == [{"kind": "sbom"}]
    assert json.loads(registry.request("GET", f"/v2/ref/x/referrers/{digest(b'none')}").body)["manifests"] == []


def test_limits_and_refusals(registry):
    big = b'{"schemaVersion":2,"x":"' + b"a" * (4 << 20) + b'"}'
    r = registry.request("PUT", "/v2/lim/x/manifests/1", big, {"Content-Type": OCI})
    assert r.status == 413 and json.loads(r.body)["errors"][0]["code"] == "SIZE_INVALID"
    config = put_blob(registry, "lim/x", b"{}")
    foreign = manifest_of(config)
    doc = json.loads(foreign)
    doc["layers"] = [{"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "digest": digest(b"elsewhere"), "size": 9,
                      "urls": ["https://example.org/x"]}]
    assert registry.request("PUT", "/v2/lim/x/manifests/f", json.dumps(doc).encode(), {"Content-Type": OCI}).status == 201
    assert registry.request("PUT", "/v2/lim/x/manifests/bad!tag", foreign).status == 400
    assert registry.request("PUT", "/v2/lim/x/manifests/i", foreign, {"Content-Type": "application/vnd.oci.image.index.v1+json"}).status == 400
    where = registry.request("POST", "/v2/lim/x/blobs/uploads/").headers["Location"]
    assert registry.request("PATCH", where, b"abc").status == 202
    assert registry.request("DELETE", where).status == 204
    assert registry.request("PATCH", where, b"def").status == 404
    assert registry.request("PUT", where + "?digest=" + digest(b"abc")).status == 404


# --- other clients ----------------------------------------------------------------------------

def test_crane(registry, mini, tmp_path):
    crane = [gotools.crane(), "--insecure"]
    src, dst = f"{registry.host}/crane/mini", f"{registry.host}/crane/copy"
    run(*crane, "push", mini["dir"], f"{src}:1")
    got = run(*crane, "digest", f"{src}:1").stdout.strip()
    assert run(*crane, "ls", src).stdout.split() == ["1"]
    run(*crane, "copy", f"{src}:1", f"{dst}:a")
    run(*crane, "tag", f"{dst}:a", "b")
    assert run(*crane, "digest", f"{dst}:b").stdout.strip() == got
    run(*crane, "validate", "--remote", f"{dst}:b")
    run(*crane, "pull", f"{dst}:b", tmp_path / "x.tar")
    assert {f"crane/{x}" for x in ("mini", "copy")} <= set(run(*crane, "catalog", registry.host).stdout.split())
    run(*crane, "delete", f"{dst}@{got}")
    assert run(*crane, "ls", dst).stdout.split() == []
    run(*crane, "validate", "--remote", f"{src}:1")  # the other repository has it still


@pytest.mark.parametrize("program", ["buildah", "podman"])
def test_buildah_podman(registry, mini, tmp_path, program):
    if not shutil.which(program) or os.geteuid():
        pytest.skip(f"needs {program} as root")
    short = pathlib.Path(tempfile.mkdtemp(prefix="sl-", dir="/var/tmp"))  # podman wants short paths
    store = ["--root", short / "root", "--runroot", short / "run", "--storage-driver", "vfs"]
    skopeo("copy", "--dest-tls-verify=false", f"oci:{mini['dir']}:{mini['name']}", f"docker://{registry.host}/{program}/mini:1")
    try:
        run(program, *store, "pull", "--tls-verify=false", f"{registry.host}/{program}/mini:1")
        run(program, *store, "push", "--tls-verify=false", f"{registry.host}/{program}/mini:1", f"docker://{registry.host}/{program}/other:2")
    finally:
        run(program, *store, "rmi", "-a", "-f", check=False)
        shutil.rmtree(short, ignore_errors=True)
    info = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{registry.host}/{program}/other:2").stdout)
    assert info["Digest"] and len(info["Layers"]) == 3


def test_containerd(registry, mini, tmp_path):
    if not shutil.which("ctr") or not shutil.which("containerd") or os.geteuid():
        pytest.skip("needs containerd as root")
    sock = tmp_path / "c.sock"
    (tmp_path / "config.toml").write_text(f'version = 2\nroot = "{tmp_path}/root"\nstate = "{tmp_path}/state"\n'
                                          f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "{sock}"\n')
    name = f"{registry.host}/ctr/mini:1"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{mini['dir']}:{mini['name']}", f"docker://{name}")
    p = subprocess.Popen(["containerd", "-c", tmp_path / "config.toml"], stdout=subprocess.DEVNULL, stderr=open(tmp_path / "log", "w"))
    try:
        ctr = ["ctr", "-a", sock, "-n", "test"]
        for _ in range(100):
            if sock.exists() and run(*ctr, "version", check=False).returncode == 0:
                break
            time.sleep(0.1)
        else:
            pytest.skip("containerd does not start here: " + (tmp_path / "log").read_text()[-300:])
        run(*ctr, "content", "fetch", "--plain-http", name)
        run(*ctr, "images", "push", "--plain-http", f"{registry.host}/ctr/other:2", name)
        assert run(*ctr, "images", "ls", "-q").stdout.split() == [name]
    finally:
        p.terminate()
        p.wait(30)
    assert json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{registry.host}/ctr/other:2").stdout)["Digest"] == mini["manifest"]


# --- slipway image copy -----------------------------------------------------------------------

def test_copy(root, registry, tmp_path):
    """An index with two platforms and what refers to it, within a registry, to another, and to one
    without a referrers API."""
    env = client(root, tmp_path)
    children = []
    for arch in ("amd64", "arm64"):
        text = json.dumps({"os": "linux", "architecture": arch, "rootfs": {"type": "layers", "diff_ids": []}}).encode()
        data = os.urandom(200_000)
        m = manifest_of(put_blob(registry, "cp/src", text), (put_blob(registry, "cp/src", data), len(data)), config_size=len(text))
        assert registry.request("PUT", f"/v2/cp/src/manifests/{digest(m)}", m, {"Content-Type": OCI}).status == 201
        children.append({"mediaType": OCI, "digest": digest(m), "size": len(m), "platform": {"os": "linux", "architecture": arch}})
    kind = "application/vnd.oci.image.index.v1+json"
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": children}).encode()
    assert registry.request("PUT", "/v2/cp/src/manifests/1", index, {"Content-Type": kind}).status == 201
    sig = manifest_of(put_blob(registry, "cp/src", b"{}"), artifactType="application/x-sig",
                      subject={"mediaType": kind, "digest": digest(index), "size": len(index)})
    assert registry.request("PUT", f"/v2/cp/src/manifests/{digest(sig)}", sig, {"Content-Type": OCI}).status == 201

    r = root("image", "copy", f"{registry.host}/cp/src:1", f"{registry.host}/cp/dst:2", env=env, check=0)
    assert digest(index) in r.stdout and " 0 B sent" in r.stdout, r.stdout  # all was mounted
    for d in [*(c["digest"] for c in children), digest(sig)]:
        assert registry.request("HEAD", f"/v2/cp/dst/manifests/{d}").status == 200
    found = json.loads(registry.request("GET", f"/v2/cp/dst/referrers/{digest(index)}").body)["manifests"]
    assert [f["digest"] for f in found] == [digest(sig)]
    r = root("image", "copy", "-q", "--no-referrers", "--platform", "linux/arm64", f"{registry.host}/cp/src:1", f"{registry.host}/cp/arm:1", env=env, check=0)
    assert r.stdout.strip() == children[1]["digest"]
    assert root("image", "copy", f"{registry.host}/cp/src:none", f"{registry.host}/cp/x:1", env=env).returncode == 1
    if not shutil.which("docker-registry"):
        return
    port = free_port()
    (tmp_path / "old.yml").write_text(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/old}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n")
    p = subprocess.Popen(["docker-registry", "serve", tmp_path / "old.yml"], stdout=subprocess.DEVNULL, stderr=open(tmp_path / "old.log", "w"))
    try:
        for _ in range(100):
            if run("skopeo", "inspect", "--tls-verify=false", f"docker://127.0.0.1:{port}/none", check=False).stderr.find("refused") < 0:
                break
            time.sleep(0.05)
        root("image", "copy", f"{registry.host}/cp/src:1", f"127.0.0.1:{port}/cp/far:1", env=env, check=0)
        back = root("image", "copy", f"127.0.0.1:{port}/cp/far:1", f"{registry.host}/cp/back:1", env=env, check=0)
        assert digest(index) in back.stdout  # and through the fallback tag the signature came back too
        found = json.loads(registry.request("GET", f"/v2/cp/back/referrers/{digest(index)}").body)["manifests"]
        assert [f["digest"] for f in found] == [digest(sig)]
    finally:
        p.terminate()
        p.wait(10)


# --- users, mirror ----------------------------------------------------------------------------

def test_htpasswd(root, tmp_path, mini):
    users = tmp_path / "users"

    def write(**pairs):
        users.write_text("# comment\n" + "".join(f"{u}:{crypt.crypt(p, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))}\n" for u, p in pairs.items()))
    write(ann="one", bob="two")
    s = Server(root, tmp_path / "state", "--htpasswd", str(users), "--anonymous-pull")
    try:
        def get(user, password, path="/v2/"):
            return s.request("GET", path, headers={"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}).status
        assert [get("ann", "one"), get("bob", "two"), get("ann", "two"), get("eve", "one"), get("ann", "one")] == [200, 200, 401, 401, 200]
        assert s.request("GET", "/v2/").status == 401 and s.request("POST", "/v2/a/blobs/uploads/").status == 401
        name = f"docker://{s.host}/auth/mini:1"
        assert skopeo("copy", "--dest-tls-verify=false", "--dest-creds=ann:no", f"oci:{mini['dir']}:{mini['name']}", name, check=False).returncode
        skopeo("copy", "--dest-tls-verify=false", "--dest-creds=bob:two", f"oci:{mini['dir']}:{mini['name']}", name)
        assert s.request("GET", "/v2/auth/mini/manifests/1").status == 200  # anonymous
        time.sleep(0.01)
        write(ann="new")
        assert [get("ann", "one"), get("ann", "new"), get("bob", "two")] == [401, 200, 401]
        users.write_text("ann:plain\n")
        assert get("ann", "plain") == 401  # a broken file lets nobody in
    finally:
        s.stop()
    r = root("registry", "serve", "--htpasswd", str(users), env={"SLIPWAY_STATE": str(tmp_path / "state")})
    assert r.returncode == 2 and "line 1" in r.stderr


def test_mirror(root, registry, mini, tmp_path):
    up = f"docker://{registry.host}/up/mini:1"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{mini['dir']}:{mini['name']}", up)
    m = Server(root, tmp_path / "state", "--mirror-of", f"http://{registry.host}")
    try:
        via = f"docker://{m.host}/up/mini:1"
        skopeo("copy", "--src-tls-verify=false", via, f"dir:{tmp_path}/out")
        for layer in mini["layers"]:
            assert digest((tmp_path / "out" / layer["digest"][7:]).read_bytes()) == layer["digest"]
        assert m.request("POST", "/v2/up/mini/blobs/uploads/").status == 405
        assert m.request("GET", "/v2/up/mini/manifests/none").status == 404
        assert m.request("GET", f"/v2/up/mini/blobs/{digest(b'none')}").status == 404
        # a tag that moved is seen; then the upstream goes, and what was fetched is there still
        other = make_layout(tmp_path / "l2", seed=b"second")
        skopeo("copy", "--dest-tls-verify=false", f"oci:{other['dir']}:{other['name']}", up)
        assert json.loads(skopeo("inspect", "--tls-verify=false", via).stdout)["Digest"] == other["manifest"]
    finally:
        m.stop()
    m = Server(root, tmp_path / "state", "--mirror-of", "http://127.0.0.1:9")
    try:
        assert m.request("GET", "/v2/up/mini/manifests/1").status == 502  # known under the name of its upstream only
    finally:
        m.stop()


def test_mirror_survives_its_upstream(root, mini, tmp_path):
    up = Server(root, tmp_path / "up")
    skopeo("copy", "--dest-tls-verify=false", f"oci:{mini['dir']}:{mini['name']}", f"docker://{up.host}/a/mini:1")
    m = Server(root, tmp_path / "state", "--mirror-of", f"http://{up.host}")
    try:
        skopeo("copy", "--src-tls-verify=false", f"docker://{m.host}/a/mini:1", f"dir:{tmp_path}/out")
        up.stop()
        skopeo("copy", "--src-tls-verify=false", f"docker://{m.host}/a/mini:1", f"dir:{tmp_path}/out2")
    finally:
        m.stop()


# --- deletion and bad days --------------------------------------------------------------------

def test_collection(root, tmp_path, mini):
    env = {"SLIPWAY_STATE": str(tmp_path / "state")}
    s = Server(root, tmp_path / "state")
    try:
        for tag in ("1", "2"):
            layout = make_layout(tmp_path / tag, seed=tag.encode())
            skopeo("copy", "--dest-tls-verify=false", f"oci:{layout['dir']}:{layout['name']}", f"docker://{s.host}/gc/x:{tag}")
        loose = put_blob(s, "gc/x", b"of a push that is under way")
        root("prune", "--all", env=env, check=0)
        assert s.request("GET", f"/v2/gc/x/blobs/{loose}").status == 200
        for tag in ("1", "2"):
            skopeo("copy", "--src-tls-verify=false", f"docker://{s.host}/gc/x:{tag}", f"dir:{tmp_path}/out{tag}")
        assert "Removed: gc/x:2" in root("registry", "rm", "gc/x:2", env=env, check=0).stdout
        out = root("registry", "gc", "--older", "0m", "--dry-run", env=env, check=0).stdout
        assert out.count("Would remove: gc/x@") == 1
        root("registry", "gc", "--older", "0m", env=env, check=0)
        assert s.request("DELETE", f"/v2/gc/x/blobs/{loose}").status == 202
        before = sum(f.stat().st_size for f in (tmp_path / "state/blobs/sha256").rglob("*") if f.is_file())
        skopeo("copy", "--src-tls-verify=false", f"docker://{s.host}/gc/x:1", f"dir:{tmp_path}/again")
        assert root("registry", "rm", "gc/none", env=env).returncode == 1
        root("registry", "rm", "gc/x", env=env, check=0)
        assert s.request("GET", "/v2/gc/x/tags/list").status == 404
        time.sleep(2.1)
        root("prune", "--all", env=env, check=0)
        after = sum(f.stat().st_size for f in (tmp_path / "state/blobs/sha256").rglob("*") if f.is_file())
        assert before > 6_000_000 and after == 0
    finally:
        s.stop()


def test_killed_server(root, tmp_path, mini):
    """kill -9 in the middle of pushes: what was answered 201 is there, and the next push goes through."""
    state = tmp_path / "state"
    done = None
    for i in range(6):
        s = Server(root, state)
        layout = make_layout(tmp_path / f"l{i}", seed=bytes([i]))
        p = subprocess.Popen(["skopeo", "copy", "-q", "--retry-times=0", "--dest-tls-verify=false", f"oci:{layout['dir']}:{layout['name']}",
                              f"docker://{s.host}/kill/x:{i}"], stderr=subprocess.DEVNULL)
        time.sleep(0.03 * i)
        s.p.send_signal(signal.SIGKILL)
        s.p.wait()
        if p.wait() == 0:
            done = (i, layout)
    s = Server(root, state)
    try:
        for i, layout in ([done] if done else []) + [(9, make_layout(tmp_path / "l9", seed=b"nine"))]:
            if i == 9:
                skopeo("copy", "--dest-tls-verify=false", f"oci:{layout['dir']}:{layout['name']}", f"docker://{s.host}/kill/x:9")
            skopeo("copy", "--src-tls-verify=false", f"docker://{s.host}/kill/x:{i}", f"dir:{tmp_path}/o{i}")
        for tag in json.loads(s.request("GET", "/v2/kill/x/tags/list").body)["tags"]:
            m = json.loads(s.request("GET", f"/v2/kill/x/manifests/{tag}").body)
            for d in [m["config"], *m["layers"]]:
                assert s.request("HEAD", f"/v2/kill/x/blobs/{d['digest']}").status == 200
    finally:
        s.stop()
    assert list((state / "blobs/tmp").iterdir()) == []
