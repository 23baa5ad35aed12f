"""Registries: slipway's own served to skopeo, docker and plain HTTP; slipway as a client of Debian's
docker-registry and of one that asks for tokens, redirects, and breaks."""
import base64
import crypt
import gzip
import hashlib
import http.client
import http.server
import io
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tarfile
import threading
import time
import urllib.parse

import pytest

OCI = "application/vnd.oci.image.manifest.v1+json"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def make_layout(folder, name="docker.io/team/mini:1", payload=3_000_000, seed=b"x"):
    """A small image of three layers as an OCI layout."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def add(data, media):
        (blobs / digest(data)[7:]).write_bytes(data)
        return {"mediaType": media, "digest": digest(data), "size": len(data)}
    layers, diff_ids = [], []
    noise = b"".join(hashlib.sha256(seed + i.to_bytes(4, "big")).digest() for i in range(payload // 32))
    for i, content in enumerate((b"one\n" + seed, noise, b"three\n" + seed)):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as t:
            info = tarfile.TarInfo(f"file{i}")
            info.size = len(content)
            info.mtime = 1700000000
            t.addfile(info, io.BytesIO(content))
        diff_ids.append(digest(out.getvalue()))
        layers.append(add(gzip.compress(out.getvalue(), 1, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip"))
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    config = add(json.dumps({"architecture": arch, "os": "linux", "config": {"Env": ["A=1"], "Cmd": ["/bin/true"]},
                             "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode(), "application/vnd.oci.image.config.v1+json")
    manifest = add(json.dumps({"schemaVersion": 2, "mediaType": OCI, "config": config, "layers": layers}).encode(), OCI)
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
        dict(manifest, annotations={"org.opencontainers.image.ref.name": name})]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return {"dir": folder, "name": name, "manifest": manifest["digest"], "config": config["digest"], "layers": layers}


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    d = tmp_path_factory.mktemp("mini")
    os.chmod(d, 0o755)
    return make_layout(d)


class Server:
    def __init__(self, sl, state, *args):
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.p = sl.popen("registry", "serve", "--addr", self.host, *args, env={"SLIPWAY_STATE": str(state)},
                          stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        line = self.p.stderr.readline()
        assert self.host in line, line

    def request(self, method, path, body=None, headers={}):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        c.request(method, path, body=body, headers=headers)
        r = c.getresponse()
        r.body = r.read()
        c.close()
        return r

    def stop(self):
        self.p.terminate()
        assert self.p.wait(20) == 0, self.p.stderr.read()


@pytest.fixture(scope="module")
def registry(root, tmp_path_factory):
    s = Server(root, tmp_path_factory.mktemp("registry-state"))
    yield s
    s.stop()


def skopeo(*args, check=True):
    r = subprocess.run(["skopeo", *args], capture_output=True, text=True, timeout=120)
    assert not check or r.returncode == 0, r.stdout + r.stderr
    return r


def client(sl, place, **extra):
    """An environment with a store and a docker configuration of its own."""
    state, docker = place / "state", place / "docker"
    for d in (state, docker):
        d.mkdir(exist_ok=True)
        os.chown(d, sl.uid, sl.gid)
    return dict(SLIPWAY_STATE=str(state), DOCKER_CONFIG=str(docker), **extra)


# --- slipway's registry, other clients --------------------------------------------------------

def test_skopeo_both_ways(registry, mini, tmp_path):
    name = f"docker://{registry.host}/team/mini:1"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{mini['dir']}:{mini['name']}", name)
    again = skopeo("copy", "--dest-tls-verify=false", f"oci:{mini['dir']}:{mini['name']}", name)
    assert "already exists" in again.stderr + again.stdout or again.returncode == 0
    info = json.loads(skopeo("inspect", "--tls-verify=false", name).stdout)
    assert info["Digest"] == mini["manifest"] and info["RepoTags"] == ["1"]
    skopeo("copy", "--src-tls-verify=false", name, f"dir:{tmp_path}/out")
    for layer in mini["layers"]:
        assert digest((tmp_path / "out" / layer["digest"][7:]).read_bytes()) == layer["digest"]


def test_distribution_spec(registry):
    blob = os.urandom(100_000)
    d = digest(blob)
    r = registry.request("POST", "/v2/spec/x/blobs/uploads/")
    assert r.status == 202 and r.headers["Docker-Upload-Uuid"]
    where = r.headers["Location"]
    r = registry.request("PATCH", where, blob[:60_000], {"Content-Range": "0-59999", "Content-Type": "application/octet-stream"})
    assert r.status == 202 and r.headers["Range"] == "0-59999"
    assert registry.request("PATCH", where, blob[:10], {"Content-Range": "10-19"}).status == 416
    assert registry.request("GET", where).status == 204
    r = registry.request("PUT", f"{where}?digest={d}", blob[60_000:], {"Content-Range": "60000-99999"})
    assert r.status == 201 and r.headers["Docker-Content-Digest"] == d
    assert registry.request("GET", where).status == 404
    assert registry.request("GET", f"/v2/spec/x/blobs/{d}").body == blob
    r = registry.request("GET", f"/v2/spec/x/blobs/{d}", headers={"Range": "bytes=100-199"})
    assert r.status == 206 and r.body == blob[100:200] and r.headers["Content-Range"] == "bytes 100-199/100000"
    assert registry.request("GET", f"/v2/spec/x/blobs/{d}", headers={"Range": "bytes=100000-"}).status == 416
    r = registry.request("HEAD", f"/v2/spec/x/blobs/{d}")
    assert r.status == 200 and r.headers["Content-Length"] == "100000"
    assert registry.request("POST", f"/v2/spec/y/blobs/uploads/?mount={d}&from=spec/x").status == 201
    small = b"{}"
    assert registry.request("POST", f"/v2/spec/x/blobs/uploads/?digest={digest(small)}", small).status == 201
    assert registry.request("POST", f"/v2/spec/x/blobs/uploads/?digest={digest(b'other')}", small).status == 400
    assert registry.request("POST", "/v2/spec/x/blobs/uploads/?digest=md5:1", small).status == 400

    def manifest(**more):
        return json.dumps(dict({"schemaVersion": 2, "mediaType": OCI, "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": d, "size": len(blob)}],
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(small), "size": 2}}, **more)).encode()
    m = manifest()
    put = registry.request("PUT", "/v2/spec/x/manifests/v1", m, {"Content-Type": OCI})
    assert put.status == 201 and put.headers["Docker-Content-Digest"] == digest(m)
    for tag in ("v2", "v3"):
        assert registry.request("PUT", f"/v2/spec/x/manifests/{tag}", m, {"Content-Type": OCI}).status == 201
    r = registry.request("GET", "/v2/spec/x/manifests/v1")
    assert r.body == m and r.headers["Content-Type"] == OCI
    bad = m.replace(d.encode(), digest(b"not there").encode())
    r = registry.request("PUT", "/v2/spec/x/manifests/v1", bad, {"Content-Type": OCI})
    assert r.status == 404 and json.loads(r.body)["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"
    assert registry.request("PUT", "/v2/spec/x/manifests/v1", b"{", {"Content-Type": OCI}).status == 400
    r = registry.request("GET", "/v2/spec/x/tags/list?n=2")
    assert json.loads(r.body) == {"name": "spec/x", "tags": ["v1", "v2"]} and "last=v2" in r.headers["Link"]
    assert json.loads(registry.request("GET", "/v2/spec/x/tags/list?n=2&last=v2").body)["tags"] == ["v3"]
    sbom = manifest(artifactType="application/x-sbom", subject={"mediaType": OCI, "digest": digest(m), "size": len(m)}, annotations={"k": "v"})
    r = registry.request("PUT", f"/v2/spec/x/manifests/{digest(sbom)}", sbom, {"Content-Type": OCI})
    assert r.status == 201 and r.headers["OCI-Subject"] == digest(m)
    found = json.loads(registry.request("GET", f"/v2/spec/x/referrers/{digest(m)}").body)["manifests"]
    assert [f["digest"] for f in found] == [digest(sbom)] and found[0]["annotations"] == {"k": "v"}
    assert json.loads(registry.request("GET", f"/v2/spec/x/referrers/{digest(m)}?artifactType=a/b").body)["manifests"] == []
    assert registry.request("DELETE", "/v2/spec/x/manifests/v3").status == 202
    assert registry.request("GET", "/v2/spec/x/manifests/v3").status == 404
    assert registry.request("DELETE", f"/v2/spec/x/manifests/{digest(m)}").status == 202
    assert registry.request("GET", "/v2/spec/x/manifests/v1").status == 404
    for path in ("/v2/spec/../x/manifests/1", "/v2/Spec/manifests/1", "/v2/spec/x/blobs/sha256:../../etc", "/etc/passwd", "/v2/%2e%2e/blobs/x"):
        assert registry.request("GET", path).status in (400, 404)


def test_read_only_and_basic_auth(root, tmp_path):
    (tmp_path / "pw").write_text("geheim\n")
    s = Server(root, tmp_path / "state", "--user", "bob", "--password-file", str(tmp_path / "pw"), "--read-only")
    try:
        r = s.request("GET", "/v2/")
        assert r.status == 401 and r.headers["WWW-Authenticate"].startswith("Basic ")
        ok = {"Authorization": "Basic " + base64.b64encode(b"bob:geheim").decode()}
        assert s.request("GET", "/v2/", headers=ok).status == 200
        assert s.request("GET", "/v2/", headers={"Authorization": "Basic " + base64.b64encode(b"bob:x").decode()}).status == 401
        assert s.request("POST", "/v2/a/blobs/uploads/", headers=ok).status == 405
    finally:
        s.stop()


def dockerd(tmp_path, registry):
    """dockerd by hand, without touching the network of this machine."""
    sock = tmp_path / "docker.sock"
    p = subprocess.Popen(["dockerd", "-H", f"unix://{sock}", "--data-root", str(tmp_path / "data"), "--exec-root", str(tmp_path / "exec"),
                          "-p", str(tmp_path / "pid"), "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs",
                          f"--insecure-registry={registry.host}"],
                         stdout=open(tmp_path / "dockerd.log", "w"), stderr=subprocess.STDOUT)
    for _ in range(150):
        if sock.exists() and subprocess.run(["docker", "-H", f"unix://{sock}", "version"], capture_output=True).returncode == 0:
            return p, sock
        if p.poll() is not None:
            break
        time.sleep(0.1)
    p.kill()
    pytest.skip("dockerd does not start here: " + (tmp_path / "dockerd.log").read_text()[-300:])


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("dockerd") or not shutil.which("docker"), reason="needs dockerd as root")
def test_docker_pulls_and_pushes(registry, mini, tmp_path):
    skopeo("copy", "--dest-tls-verify=false", f"oci:{mini['dir']}:{mini['name']}", f"docker://{registry.host}/team/mini:docker")
    p, sock = dockerd(tmp_path, registry)
    try:
        def docker(*args):
            r = subprocess.run(["docker", "-H", f"unix://{sock}", *args], capture_output=True, text=True, timeout=120)
            assert r.returncode == 0, r.stdout + r.stderr
            return r.stdout
        docker("pull", f"{registry.host}/team/mini:docker")
        docker("tag", f"{registry.host}/team/mini:docker", f"{registry.host}/other/name:2")
        docker("push", f"{registry.host}/other/name:2")
        docker("rmi", f"{registry.host}/other/name:2", f"{registry.host}/team/mini:docker")
        docker("pull", f"{registry.host}/other/name:2")
        assert mini["config"][7:19] in docker("images", "--no-trunc")
    finally:
        p.terminate()
        p.wait(30)


# --- slipway as a client ----------------------------------------------------------------------

@pytest.fixture(scope="module")
def debian_registry(tmp_path_factory):
    """Debian's docker-registry with basic authentication (u, p)."""
    if not shutil.which("docker-registry"):
        pytest.skip("docker-registry is not installed")
    d = tmp_path_factory.mktemp("docker-registry")
    port = free_port()
    (d / "htpasswd").write_text("u:" + crypt.crypt("p", crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)) + "\n")
    (d / "config.yml").write_text(f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {d}/data\n  delete: {{enabled: true}}\n"
                                  f"http:\n  addr: 127.0.0.1:{port}\nauth:\n  htpasswd:\n    realm: x\n    path: {d}/htpasswd\n")
    p = subprocess.Popen(["docker-registry", "serve", str(d / "config.yml")], stdout=open(d / "log", "w"), stderr=subprocess.STDOUT)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.1)
    yield f"127.0.0.1:{port}"
    p.terminate()
    p.wait(10)


def test_login_push_pull(sl, place, debian_registry, mini):
    env = client(sl, place)
    host = debian_registry
    (place / "conf").mkdir()
    (place / "conf/config.yml").write_text(f"registry:\n  mirrors: {{docker.io: 'oci:{mini['dir']}'}}\n")
    env["SLIPWAY_CONFIG"] = str(place / "conf")
    sl("pull", "team/mini:1", env=env, check=0)
    sl("image", "tag", "team/mini:1", f"{host}/team/mini:a", env=env, check=0)
    r = sl("push", f"{host}/team/mini:a", env=env, check=1)
    assert "401" in r.stderr and "slipway login" in r.stderr
    r = sl("login", "-u", "u", "-p", "wrong", host, env=env, check=1)
    assert "refused" in r.stderr
    assert not (place / "docker/config.json").exists()
    sl("login", "-u", "u", "--password-stdin", host, env=env, input="p\n", check=0)
    conf = place / "docker/config.json"
    assert json.loads(conf.read_text())["auths"][host]["auth"] == base64.b64encode(b"u:p").decode()
    assert conf.stat().st_mode & 0o777 == 0o600
    r = sl("push", f"{host}/team/mini:a", env=env, check=0)
    pushed = re.search(r"sha256:[0-9a-f]{64}", r.stdout)[0]
    r = sl("push", f"{host}/team/mini:a", env=env, check=0)  # nothing is sent again
    assert " 0 B sent" in r.stdout or "0 bytes sent" in r.stdout, r.stdout
    other = dict(env, SLIPWAY_STATE=str(place / "state2"))
    r = sl("pull", f"{host}/team/mini:a", env=other, check=0)
    assert r.stdout.strip() == mini["config"]
    r = sl("pull", f"{host}/team/mini@{pushed}", env=other, check=0)
    assert r.stdout.strip() == mini["config"]
    r = sl("pull", f"{host}/team/mini:none", env=other, check=1)
    assert "404" in r.stderr
    sl("logout", host, env=env, check=0)
    assert host not in conf.read_text()
    assert sl("pull", f"{host}/team/mini:a", env=other).returncode == 1


def test_credential_helper(sl, place, debian_registry, mini):
    env = client(sl, place)
    helper = place / "bin/docker-credential-toy"
    helper.parent.mkdir()
    helper.write_text('#!/bin/sh\nread url\n[ "$1" = get ] && echo "{\\"ServerURL\\":\\"$url\\",\\"Username\\":\\"u\\",\\"Secret\\":\\"p\\"}"\n')
    helper.chmod(0o755)
    (place / "docker/config.json").write_text(json.dumps({"credHelpers": {debian_registry: "toy"}}))
    env["PATH"] = f"{helper.parent}:{os.environ['PATH']}"
    skopeo("copy", "--dest-tls-verify=false", "--dest-creds=u:p", f"oci:{mini['dir']}:{mini['name']}", f"docker://{debian_registry}/h/mini:1")
    r = sl("pull", f"{debian_registry}/h/mini:1", env=env, check=0)
    assert r.stdout.strip() == mini["config"]


class Moody(http.server.BaseHTTPRequestHandler):
    """A registry in front of another one: asks for tokens, sends blobs from another host, breaks."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self):
        s = self.server
        auth = self.headers.get("Authorization")
        url = urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) if "chunked" not in self.headers.get("Transfer-Encoding", "") else b""
        with s.lock:
            s.seen.append((self.command, self.headers.get("Host"), self.path, auth))
            count = sum(1 for x in s.seen if x[0] == self.command and x[2] == self.path)
        if url.path == "/token":
            want = "Basic " + base64.b64encode(b"tok:secret").decode()
            if auth not in (None, want):
                return self.reply(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}')
            return self.reply(200, json.dumps({"token": "T-" + ("user" if auth else "anon"), "expires_in": 300}).encode())
        if url.path.startswith("/cdn/"):
            if auth:
                return self.reply(400, b"credentials leaked")
            blob = s.blobs[url.path[5:]]
            start = int(re.match(r"bytes=(\d+)-", self.headers["Range"])[1]) if self.headers.get("Range") else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(blob) - 1}/{len(blob)}")
            self.send_header("Content-Length", str(len(blob) - start))
            self.end_headers()
            if len(blob) > 1_000_000 and count == 1 and s.breaks:
                self.wfile.write(blob[start:start + 700_000])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.wfile.write(blob[start:])
            return
        if not auth or not auth.startswith("Bearer T-"):
            return self.reply(401, b"{}", WWW_Authenticate=f'Bearer realm="{s.realm}",service="moody",scope="repository:x:pull"')
        if s.throttle and "/manifests/" in url.path and count == 1:
            return self.reply(429, b'{"errors":[{"code":"TOOMANYREQUESTS"}]}', Retry_After="0")
        if self.command == "GET" and "/blobs/sha256:" in url.path:
            return self.reply(307, Location=f"http://localhost:{s.server_port}/cdn/{url.path.rsplit('/', 1)[1]}")
        torn = self.command in ("PUT", "PATCH") and "/blobs/uploads/" in url.path and s.breaks and len(body) > 1_000_000 and not s.broken
        if torn:  # a part of it gets through
            s.broken, body = True, body[:700_000]
        if self.command == "PATCH":
            s.patched.append(len(body))
        up = http.client.HTTPConnection("127.0.0.1", s.behind)
        up.request(self.command, self.path, body=body, headers={k: v for k, v in self.headers.items() if k.lower() not in ("authorization", "host", "content-length")})
        r = up.getresponse()
        data = r.read()
        if torn:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if r.status == 204 and s.forgets:
            return self.reply(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
        keep = {k: v for k, v in r.getheaders() if k.lower() in ("content-type", "docker-content-digest", "location", "range")}
        self.send_response(r.status)
        for k, v in keep.items():
            self.send_header(k, v)
        self.send_header("Content-Length", r.headers.get("Content-Length") or str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = handle_any


@pytest.fixture
def moody(registry, mini):
    skopeo("copy", "--dest-tls-verify=false", f"oci:{mini['dir']}:{mini['name']}", f"docker://{registry.host}/moody/mini:1")
    s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    s.lock, s.seen, s.behind, s.breaks, s.broken, s.throttle = threading.Lock(), [], registry.port, True, False, True
    s.patched, s.forgets = [], False
    s.blobs = {"sha256:" + p.name: p.read_bytes() for p in (mini["dir"] / "blobs/sha256").iterdir()}
    s.realm = f"http://127.0.0.1:{s.server_port}/token"
    s.host = f"127.0.0.1:{s.server_port}"
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield s
    s.shutdown()


def test_tokens_redirects_and_breaks(sl, place, moody, mini):
    env = client(sl, place)
    r = sl("pull", f"{moody.host}/moody/mini:1", env=env, check=0)
    assert r.stdout.strip() == mini["config"]
    big = max(mini["layers"], key=lambda x: x["size"])["digest"]
    asked = [x for x in moody.seen if x[2] == f"/cdn/{big}"]
    assert len(asked) == 2 and not any(x[3] for x in moody.seen if x[2].startswith("/cdn/"))  # continued, without credentials
    assert not any(x[3] for x in moody.seen if x[2].startswith("/token"))


@pytest.mark.parametrize("forgets", [False, True])
def test_push_with_token(root, tmp_path, moody, forgets):
    """A torn upload goes on from what the registry has; where it does not say, from the beginning."""
    moody.forgets = forgets
    os.chmod(tmp_path, 0o755)
    fresh = make_layout(tmp_path / "fresh", name="docker.io/team/fresh:1", seed=os.urandom(8))
    env = client(root, tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/config.yml").write_text(f"registry:\n  mirrors: {{docker.io: 'oci:{fresh['dir']}'}}\n")
    env["SLIPWAY_CONFIG"] = str(tmp_path / "conf")
    root("pull", "team/fresh:1", env=env, check=0)
    root("login", "-u", "tok", "-p", "secret", moody.host, env=env, check=0)
    root("image", "tag", "team/fresh:1", f"{moody.host}/moody/fresh{forgets:d}:1", env=env, check=0)
    r = root("push", f"{moody.host}/moody/fresh{forgets:d}:1", env=env, check=0)
    big = max(layer["size"] for layer in fresh["layers"])
    assert moody.broken and moody.patched == [700_000, big if forgets else big - 700_000]
    assert any("push" in x[2] for x in moody.seen if x[2].startswith("/token"))
    assert re.search(r"sha256:[0-9a-f]{64}", r.stdout)
    out = skopeo("inspect", "--tls-verify=false", f"docker://127.0.0.1:{moody.behind}/moody/fresh{forgets:d}:1")
    assert json.loads(out.stdout)["Digest"] in r.stdout


def test_credentials_stay_with_the_registry(root, tmp_path, moody):
    """A token server elsewhere, without TLS, gets nothing."""
    env = client(root, tmp_path)
    moody.realm = "http://tokens.example.org/token"
    (tmp_path / "docker/config.json").write_text(json.dumps({"auths": {moody.host: {"auth": base64.b64encode(b"tok:secret").decode()}}}))
    r = root("pull", f"{moody.host}/moody/mini:1", env=env, check=1)
    assert "tokens.example.org" in r.stderr and "refused" in r.stderr


def test_credential_helpers(root, tmp_path, moody, mini):
    """credHelpers before credsStore before auths; a helper that fails is passed over, what it says on the way is not shown."""
    env = client(root, tmp_path)
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    for name, script in {"good": f"""read url; echo "$url" >> {tmp_path}/asked; echo '{{"ServerURL":"x","Username":"tok","Secret":"secret"}}'""",
                         "bad": f"echo bad >> {tmp_path}/asked; echo the-secret-word >&2; exit 1"}.items():
        (bin_dir / f"docker-credential-{name}").write_text("#!/bin/sh\n" + script + "\n")
        os.chmod(bin_dir / f"docker-credential-{name}", 0o755)
    env["PATH"] = f"{bin_dir}:{os.environ['PATH']}"
    wrong = {moody.host: {"auth": base64.b64encode(b"tok:wrong").decode()}}
    conf = tmp_path / "docker/config.json"

    def pull(**config):
        moody.seen.clear()
        conf.write_text(json.dumps(config))
        r = root("pull", f"{moody.host}/moody/mini:1", env=env)
        return r, any(x[3] for x in moody.seen if x[2].startswith("/token"))
    moody.breaks = moody.throttle = False
    r, sent = pull(credHelpers={moody.host: "good"}, credsStore="bad", auths=wrong)
    assert r.returncode == 0 and sent and (tmp_path / "asked").read_text() == moody.host + "\n"
    r, sent = pull(credsStore="bad")
    assert r.returncode == 0 and not sent and "the-secret-word" not in r.stdout + r.stderr
    r, sent = pull(credHelpers={moody.host: "../../evil"}, auths=wrong)
    assert r.returncode == 1 and sent  # what the file says itself, and that is refused
    r, sent = pull(credHelpers={"other.example.org": "good"}, auths={"other.example.org": {"auth": "eDp5"}})
    assert r.returncode == 0 and not sent


def test_damaged_blob_is_refused(root, tmp_path, moody, mini):
    env = client(root, tmp_path)
    moody.breaks = False
    big = max(mini["layers"], key=lambda x: x["size"])["digest"]
    moody.blobs[big] = moody.blobs[big][:-1] + b"!"
    r = root("pull", f"{moody.host}/moody/mini:1", env=env, check=1)
    assert "not " + big in r.stderr.replace("\n", " ") or "content is" in r.stderr
    assert root("image", "inspect", f"{moody.host}/moody/mini:1", env=env).returncode != 0
    moody.blobs[big] += b"more than was announced"
    assert root("pull", f"{moody.host}/moody/mini:1", env=env).returncode == 1


def test_mirror_url(sl, place, registry, mini):
    env = client(sl, place)
    skopeo("copy", "--dest-tls-verify=false", f"oci:{mini['dir']}:{mini['name']}", f"docker://{registry.host}/docker.io/mirrored/mini:1")
    (place / "conf").mkdir()
    (place / "conf/config.yml").write_text(f"registry:\n  mirrors: {{docker.io: 'http://{registry.host}'}}\n")
    env["SLIPWAY_CONFIG"] = str(place / "conf")
    r = sl("pull", "mirrored/mini:1", env=env, check=0)
    assert r.stdout.strip() == mini["config"]
    r = sl("pull", "--policy", "missing", "--offline", "mirrored/mini:1", env=env, check=0)
    r = sl("pull", "--offline", "mirrored/other:1", env=env, check=1)
    assert "no network" in r.stderr or "--offline" in r.stderr


def test_killed_pull_leaves_nothing_that_counts(root, tmp_path, moody, mini):
    env = client(root, tmp_path)
    moody.throttle = moody.breaks = False
    for delay in (0.02, 0.08, 0.2):
        p = root.popen("pull", f"{moody.host}/moody/mini:1", env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        p.kill()
        p.wait()
    r = root("pull", f"{moody.host}/moody/mini:1", env=env, check=0)
    assert r.stdout.strip() == mini["config"]
    assert root("image", "inspect", f"{moody.host}/moody/mini:1", env=env).returncode == 0
