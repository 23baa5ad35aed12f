"""Where a build takes from besides its context (URLs, git, named contexts, the ssh agent, caches with a beginning), and
what becomes of its result (archives, folders, several platforms)."""
import hashlib
import http.server
import io
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tarfile
import threading
import time
import urllib.request

import pytest

from test_build import BASE, Image, build, write  # noqa: F401 (a fixture)


@pytest.fixture
def web(tmp_path):
    """A web server of our own: web.files[path] = bytes; web.seen = requests."""
    class Web:
        files, seen = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            data = Web.files.get(self.path)
            tag = data and '"%s"' % hashlib.sha256(data).hexdigest()[:16]
            Web.seen.append((self.path, self.headers.get("If-None-Match")))
            if data is not None and self.headers.get("If-None-Match") == tag:
                self.send_response(304)
                self.end_headers()
                return
            self.send_response(404 if data is None else 200)
            if data is not None:
                self.send_header("ETag", tag)
                self.send_header("Last-Modified", "Wed, 01 Feb 2023 10:00:00 GMT")
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Web.url = "http://127.0.0.1:%d" % server.server_address[1]
    Web.files, Web.seen = {}, []
    yield Web
    server.shutdown()


@pytest.fixture
def repo(tmp_path, web):
    """A git repository behind the web server (the dumb protocol)."""
    work = tmp_path / "repo"
    write(work, {"Dockerfile": "FROM scratch\nCOPY app /app\n", "app/a.txt": "one\n", "top.txt": "top\n"})

    def git(*args):
        return subprocess.run(["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@t", *args], check=True,
                              capture_output=True, text=True, env=dict(os.environ, GIT_COMMITTER_DATE="2024-05-06T07:08:09Z")).stdout.strip()

    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-qm", "one")
    git("tag", "v1")
    write(work, {"app/a.txt": "two\n"})
    git("commit", "-qam", "two")

    class Repo:
        port = None

        def __getattr__(self, name):
            return git(*{"first": ["rev-parse", "v1"], "second": ["rev-parse", "main"]}[name])

    bare = tmp_path / "served" / "repo.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(bare)], check=True)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        Repo.port = s.getsockname()[1]
    daemon = subprocess.Popen(["git", "daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1", f"--port={Repo.port}",
                               f"--base-path={bare.parent}", str(bare.parent)], stderr=subprocess.PIPE,
                              env=dict(os.environ, GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="safe.directory", GIT_CONFIG_VALUE_0="*"))
    for _ in range(200):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", Repo.port)) == 0:
                break
    Repo.url = f"git://127.0.0.1:{Repo.port}/repo.git"
    yield Repo()
    daemon.kill()
    daemon.wait()


def tar_of(files, mode="w:gz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as t:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            t.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


# --- ADD from the network --------------------------------------------------------------------------------------------


def test_add_url(build, web):
    web.files = {"/pkg/file.txt": b"hello\n", "/a.tar.gz": tar_of({"in/x": "x\n"})}
    digest = "sha256:" + hashlib.sha256(b"hello\n").hexdigest()
    df = (f"FROM scratch\nADD {web.url}/pkg/file.txt /d/\nADD --chmod=755 --checksum={digest} {web.url}/pkg/file.txt?q=1 /e/named\n"
          f"ADD {web.url}/a.tar.gz /t/\nADD --unpack=true {web.url}/a.tar.gz /u/\n")
    web.files["/pkg/file.txt?q=1"] = b"hello\n"
    img = build.files(df)
    assert img.tree["d/file.txt"][:2] == ("file", 0o600)
    assert img.read("d/file.txt") == "hello\n" and img.read("e/named") == "hello\n"
    assert img.tree["e/named"][1] == 0o755
    assert img.tree["t/a.tar.gz"][0] == "file" and img.read("u/in/x") == "x\n"
    r = build(df, None, keep=True)
    assert "4 cached" in r.stderr
    assert any(tag for path, tag in web.seen)
    web.files["/pkg/file.txt"] = b"changed\n"
    img = build.files(df)
    assert img.read("d/file.txt") == "changed\n"


def test_add_url_failures(build, web):
    r = build(f"FROM scratch\nADD {web.url}/none /d/\n", check=1)
    assert "404" in r.stderr and "Dockerfile:2" in r.stderr
    web.files = {"/f": b"other"}
    r = build(f"FROM scratch\nADD --checksum=sha256:{'0' * 64} {web.url}/f /d/\n", check=1)
    assert "digest mismatch" in r.stderr
    r = build(f"FROM scratch\nADD --checksum=md5:1 {web.url}/f /d/\n", check=2)
    assert "invalid checksum" in r.stderr
    r = build(f"FROM scratch\nCOPY {web.url}/f /d/\n", check=2)
    assert "source can't be a URL for COPY" in r.stderr


def test_add_git(build, repo):
    df = (f"FROM scratch\nADD {repo.url}#v1 /one/\nADD {repo.url}#main:app /two/\nADD --keep-git-dir=true {repo.url} /git/\n"
          f"ADD --checksum={repo.second} {repo.url} /sum/\nADD {repo.url}?ref=v1&subdir=app /query/\n")
    img = build.files(df)
    assert img.read("one/app/a.txt") == "one\n" and img.read("one/top.txt") == "top\n"
    assert img.read("two/a.txt") == "two\n" and "two/top.txt" not in img.tree
    assert "git/.git/HEAD" in img.tree and "one/.git" not in img.tree
    assert img.read("sum/app/a.txt") == "two\n" and img.read("query/a.txt") == "one\n"
    assert img.mtimes["one/top.txt"] == 1714979289  # the commit's time
    assert "5 cached" in build(df, None, keep=True).stderr
    r = build(f"FROM scratch\nADD --checksum={'0' * 40} {repo.url} /x/\n", check=1)
    assert "checksum" in r.stderr or "not our ref" in r.stderr or "remote" in r.stderr


@pytest.mark.parametrize("ref", ["#--upload-pack=touch /tmp/x", "#main:../..", "#a..b", "#main:app/../../etc", "?submodules=1"])
def test_git_refs_that_mean_something_else(build, repo, ref):
    r = build(f"FROM scratch\nADD [\"{repo.url}{ref}\", \"/x/\"]\n", check=2)
    assert "not a git ref" in r.stderr or "leads out" in r.stderr or "not yet" in r.stderr


def test_git_subdir_that_is_a_link_out(build, repo, tmp_path):
    work = tmp_path / "repo"
    os.symlink("/etc", work / "out")
    for cmd in (["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "link"],
                ["push", "-q", str(tmp_path / "served/repo.git"), "main"]):
        subprocess.run(["git", "-C", str(work), *cmd], check=True)
    r = build(f"FROM scratch\nADD {repo.url}#main:out /x/\n", check=None)
    assert r.returncode != 0 and "folder out" in r.stderr


# --- contexts --------------------------------------------------------------------------------------------------------


def test_context_from_git_and_tarball(build, repo, web, sl):
    r = build.run("build", "-t", "t/git", repo.url + "#v1", check=0)
    assert build.save("t/git").read("app/a.txt") == "one\n"
    web.files = {"/ctx.tar.gz": tar_of({"Dockerfile": "FROM scratch\nCOPY f /f\n", "f": "from a tarball\n"}),
                 "/Dockerfile": b"FROM scratch\nLABEL only=this\n"}
    build.run("build", "-t", "t/tar", web.url + "/ctx.tar.gz", check=0)
    assert build.save("t/tar").read("f") == "from a tarball\n"
    build.run("build", "-t", "t/text", web.url + "/Dockerfile", check=0)
    assert build.save("t/text").config["config"]["Labels"] == {"only": "this"}
    r = build.run("build", repo.url + "#nothing-of-that-name", check=1)
    assert "nothing-of-that-name" in r.stderr


def test_named_contexts(build, place, web):
    other = place / "other"
    write(other, {"x.txt": "x\n", "secret": "no\n", ".dockerignore": "secret\n", "d/y": "y\n"})
    df = "FROM base AS one\nCOPY --from=files x.txt d /got/\nFROM files\nCOPY --from=one /got /all\nCOPY --from=replaced /r /r\n"
    write(place / "rep", {"r": "r\n"})
    img = build.files("FROM scratch AS replaced\nLABEL a=b\n" + df, None, "--build-context", f"files={other}", "--build-context", f"base=docker-image://{BASE}",
                      "--build-context", f"replaced={place}/rep")
    assert img.read("all/x.txt") == "x\n" and img.read("all/y") == "y\n" and img.read("d/y") == "y\n" and img.read("r") == "r\n"
    assert "secret" not in img.tree
    write(other, {"x.txt": f"changed {time.time()}\n"})  # the cache outlives a run of the tests
    r = build("FROM scratch AS replaced\nLABEL a=b\n" + df, None, "--explain", "--build-context", f"files={other}", "--build-context",
              f"base=docker-image://{BASE}", "--build-context", f"replaced={place}/rep")
    assert "x.txt changed" in r.stderr
    r = build(df, None, "--build-context", "files=/nonexistent", check=2)
    assert "--build-context" in r.stderr


# --- mounts ----------------------------------------------------------------------------------------------------------


def test_ssh_agent(build, place, sl):
    sock = place / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL, user=sl.uid, group=sl.gid)
    try:
        while not sock.exists():
            assert agent.poll() is None
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "the-key", "-f", str(place / "key")], check=True)
        subprocess.run(["ssh-add", "-q", str(place / "key")], check=True, env=dict(os.environ, SSH_AUTH_SOCK=str(sock)))
        ask = ("import os,socket;s=socket.socket(socket.AF_UNIX);s.connect(os.environ['SSH_AUTH_SOCK']);s.sendall(b'\\\\0\\\\0\\\\0\\\\1\\\\x0b');"
               "print('KEY' if b'the-key' in s.recv(4096) else 'NONE')")
        df = ("FROM python:3.11-slim\nRUN --mount=type=ssh python3 -c \"" + ask + "\"\n"
              "RUN --mount=type=ssh,id=other,target=/a.sock test ! -e /a.sock\nUSER 1000\nRUN --mount=type=ssh python3 -c \"" + ask + "\"\n")
        r = build(df, None, "--progress=plain", "--no-cache", "--ssh", f"default={sock}")
        assert r.stderr.count(" KEY") == 2
        r = build("FROM python:3.11-slim\nRUN --mount=type=ssh,required=true true\n", check=2)
        assert "no ssh agent" in r.stderr
    finally:
        agent.kill()
        agent.wait()


def test_cache_mount_that_begins_with_a_stage(build):
    df = (f"FROM {BASE} AS seed\nRUN mkdir /s && echo seeded > /s/f\nFROM {BASE}\n"
          "RUN --mount=type=cache,id=seeded,from=seed,source=/s,target=/c cat /c/f > /out && echo more >> /c/f\n")
    assert build.files(df).read("out") == "seeded\n"
    r = build(f"FROM {BASE}\nRUN --mount=type=cache,source=/x,target=/c true\n", check=2)
    assert "from=" in r.stderr


def test_what_reaches_beyond_the_box_has_to_be_allowed(build):
    for flag, word in (("--network=host", "network.host"), ("--security=insecure", "security.insecure")):
        r = build(f"FROM {BASE}\nRUN {flag} true\n", check=2)
        assert f"{word} is not allowed" in r.stderr and f"--allow {word}" in r.stderr
    r = build(f"FROM {BASE}\nRUN --security=insecure grep CapEff /proc/self/status\n", None, "--progress=plain", "--no-cache", "--allow", "security.insecure")
    assert "000001ffffffffff" in r.stderr


# --- results ---------------------------------------------------------------------------------------------------------


def test_outputs(build, place, sl):
    out = place / "out"
    out.mkdir()
    os.chown(out, sl.uid, sl.gid)
    df = f"FROM {BASE} AS b\nRUN mkdir /r && echo hi > /r/f && ln -s f /r/l && chown 5:6 /r/f\nFROM scratch\nCOPY --from=b /r /r\nCOPY --from=b /r/f /g\n"
    build(df, None, "-t", "t/out:1", "-o", str(out / "folder"), "--output", f"type=tar,dest={out}/fs.tar", "--output",
          f"type=oci,dest={out}/oci.tar", "--output", f"type=docker,dest={out}/docker.tar", "--metadata-file", str(out / "meta.json"))
    assert (out / "folder/r/f").read_text() == "hi\n" and os.readlink(out / "folder/r/l") == "f"
    with tarfile.open(out / "fs.tar") as t:
        f = t.getmember("r/f")
        assert (f.uid, f.gid) == (5, 6) and t.getmember("r/l").linkname == "f"
    with tarfile.open(out / "oci.tar") as t:
        assert "oci-layout" in t.getnames()
    with tarfile.open(out / "docker.tar") as t:
        manifest = json.load(t.extractfile("manifest.json"))
        assert manifest[0]["RepoTags"] == ["t/out:1"]
        meta = json.loads((out / "meta.json").read_text())
        assert meta["containerimage.config.digest"].split(":")[1] in manifest[0]["Config"]
    build(df, None, "-o", str(out / "folder"))  # once more, over what is there
    r = build(df, None, "--output", "type=zip", check=2)
    assert "type is image" in r.stderr


def test_result_for_another_platform(build, place):
    df = "FROM scratch\nARG TARGETPLATFORM BUILDPLATFORM TARGETARCH TARGETVARIANT\nLABEL t=$TARGETPLATFORM b=$BUILDPLATFORM a=$TARGETARCH v=$TARGETVARIANT\nCOPY f /f\n"
    build(df, {"f": "x"}, "-t", "t/arm", "--platform", "linux/arm/v7")
    img = build.save("t/arm")
    assert img.config["architecture"] == "arm" and img.config["config"]["Labels"]["t"] == "linux/arm/v7"
    assert img.config["config"]["Labels"]["v"] == "v7" and img.config["config"]["Labels"]["b"].startswith("linux/")
    r = build(df, {"f": "x"}, "--platform", "linux/nonsense", check=2)
    assert "is no platform" in r.stderr
    r = build(f"FROM {BASE}\nRUN true\n", None, "--platform", "linux/s390x", check=None)
    assert r.returncode != 0 and "s390x" in r.stderr


def test_explain_only_runs_nothing(build):
    df = f"FROM {BASE}\nCOPY a /a\nRUN cat /a && date +%N > /n\nRUN true && true\n"
    build(df, {"a": "1\n", "b": "1"})
    # The same under another name: cached as a whole, and still what the next ones are compared with.
    build(df, {"a": "1\n", "b": "1", "other.Dockerfile": df}, "-f", build.ctx / "other.Dockerfile")
    r = build(df, {"a": "2\n", "b": "1", "other.Dockerfile": df}, "-f", build.ctx / "other.Dockerfile", "--explain-only", "--progress=plain")
    assert "WOULD RUN: a changed" in r.stderr
    r = build(df, {"a": "1\n", "b": "2"}, "--explain-only", "--progress=plain")
    assert "WOULD RUN" not in r.stderr and r.stderr.count("CACHED") == 3
    for _ in range(2):  # nothing is recorded
        r = build(df, {"a": "2\n", "b": "2"}, "--explain-only", "--progress=plain")
        assert "WOULD RUN: a changed" in r.stderr and r.stderr.count("WOULD RUN: a step before it is run") == 2


def test_cache_to_another_store(build, place, sl):
    out, other = place / "cache", place / "other-store"
    for d in (out, other):
        d.mkdir()
        os.chown(d, sl.uid, sl.gid)
    df = f"FROM {BASE} AS one\nRUN echo one > /one && mkdir /d\nFROM {BASE}\nWORKDIR /w\nCOPY a .\nCOPY --from=one /one /one\nRUN cat a /one > /both\nRUN true\n"
    build(df, {"a": "a\n"}, "--cache-to", f"type=local,dest={out}/c", "-t", "t/first")
    assert (out / "c/index.json").exists() and (out / "c/oci-layout").exists()
    env = {"SLIPWAY_STATE": str(other)}
    r = build(df, {"a": "a\n"}, "--cache-from", f"type=local,src={out}/c", "--progress=plain", "-t", "t/first", "--output",
              f"type=docker,dest={out}/image.tar", env=env)
    assert "6 steps taken over" in r.stderr and r.stderr.count("CACHED") == 6, r.stderr
    assert Image(out / "image.tar").read("both") == "a\none\n"
    r = build(df, {"a": "changed\n"}, "--progress=plain", env=env)  # what stands before is still known
    assert r.stderr.count("CACHED") == 2, r.stderr
    r = build(df, {"a": "a\n"}, "--cache-from", "type=local,src=/nonexistent", "--cache-from", "type=gha", "--cache-to", "type=gha")
    assert r.stderr.count("slipway: warning: --cache-") == 3
    r = build(df, {"a": "a\n"}, "--cache-to", "type=nonsense", check=2)


def test_cache_inside_the_image(build, place, sl):
    out, other = place / "img", place / "other-store"
    for d in (out, other):
        d.mkdir()
        os.chown(d, sl.uid, sl.gid)
    df = f"FROM {BASE}\nRUN echo {time.time_ns()} > /x\nRUN echo y > /y\n"
    build(df, None, "--cache-to", "type=inline", "-t", "t/inline", "--output", f"type=oci,dest={out}/i.tar")
    subprocess.run(["tar", "-C", str(out), "-xf", str(out / "i.tar")], check=True)
    subprocess.run(["chmod", "-R", "a+rX", str(out)], check=True)
    r = build(df, None, "--cache-from", f"type=local,src={out}", "--progress=plain", env={"SLIPWAY_STATE": str(other)})
    assert r.stderr.count("CACHED") == 2, r.stderr
    assert "io.slipway.cache" in build.save("t/inline").config["config"]["Labels"]
    build(f"FROM t/inline\nRUN true\n", None, "-t", "t/child")
    assert not (build.save("t/child").config["config"].get("Labels") or {}).get("io.slipway.cache")


@pytest.fixture
def registry(build, place, sl):
    """A registry of slipway's own, with a store of its own; its address."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    store = place / "registry"
    store.mkdir()
    os.chown(store, sl.uid, sl.gid)
    server = sl.popen("registry", "serve", "--addr", f"127.0.0.1:{port}", env=dict(build.env, SLIPWAY_STATE=str(store)),
                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline, up = time.time() + 20, False
        while not up and time.time() < deadline:
            with socket.socket() as s:
                up = s.connect_ex(("127.0.0.1", port)) == 0
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def test_index_of_platforms_in_a_registry(build, registry):
    df = "FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY f /f\n"
    build(df, {"f": "x"}, "-t", f"{registry}/t/multi:1", "--platform", "linux/amd64,linux/arm64", "--push")
    rq = urllib.request.Request(f"http://{registry}/v2/t/multi/manifests/1", headers={"Accept": "application/vnd.oci.image.index.v1+json"})
    index = json.load(urllib.request.urlopen(rq))
    assert [m["platform"]["architecture"] for m in index["manifests"]] == ["amd64", "arm64"]
    for m in index["manifests"]:
        rq = urllib.request.Request(f"http://{registry}/v2/t/multi/manifests/{m['digest']}", headers={"Accept": m["mediaType"]})
        manifest = json.load(urllib.request.urlopen(rq))
        config = json.load(urllib.request.urlopen(f"http://{registry}/v2/t/multi/blobs/{manifest['config']['digest']}"))
        assert config["config"]["Labels"]["arch"] == config["architecture"] == m["platform"]["architecture"]


def test_cache_in_a_registry(build, place, sl, registry):
    other = place / "other-store"
    other.mkdir()
    os.chown(other, sl.uid, sl.gid)
    env = {"SLIPWAY_STATE": str(other)}
    df = (f"FROM {BASE} AS one\nRUN echo {time.time_ns()} > /one && mkdir /d\nFROM {BASE}\nWORKDIR /w\nCOPY a .\n"
          "COPY --from=one /one /one\nRUN cat a /one > /both\nRUN true\n")
    build(df, {"a": "a\n"}, "--cache-to", f"type=registry,ref={registry}/t/cache:1", "-t", f"{registry}/t/plain:1", "--push")
    r = build(df, None, "--cache-from", f"type=registry,ref={registry}/t/cache:1", "--cache-from",
              f"type=registry,ref={registry}/t/cache:absent", "--cache-from", f"{registry}/t/absent", "--cache-from", f"{registry}/t/plain:1",
              "--progress=plain", "-t", "t/second", "--cache-to", f"type=registry,ref={registry}/t/cache:2", env=env, keep=True)
    assert "6 steps taken over" in r.stderr and r.stderr.count("CACHED") == 6, r.stderr
    assert r.stderr.count("answered 404") == 2 and "no label io.slipway.cache" in r.stderr, r.stderr
    # what was taken over can be handed on whole, from a store that ran nothing
    shutil.rmtree(other)
    other.mkdir()
    os.chown(other, sl.uid, sl.gid)
    r = build(df, None, "--cache-from", f"type=registry,ref={registry}/t/cache:2", "--progress=plain", "--output",
              f"type=docker,dest={place}/image.tar", env=env, keep=True)
    assert r.stderr.count("CACHED") == 6, r.stderr
    assert Image(place / "image.tar").read("both").startswith("a\n")


def test_cache_of_a_registry_in_trouble(build):
    """It is asked once, not again and again with pauses; the build goes on."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(200 if self.path == "/v2/" else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        addr = "127.0.0.1:%d" % server.server_address[1]
        r = build("FROM scratch\nCOPY a /a\n", {"a": "a\n"}, "--cache-from", f"type=registry,ref={addr}/t/cache:1", "-t", "t/trouble")
    finally:
        server.shutdown()
    assert r.stderr.count("slipway: warning: --cache-from") == 1 and "503" in r.stderr
    assert seen.count("/v2/t/cache/manifests/1") == 1, seen
