"""The Docker Engine API with three clients: slipway's own, Debian's docker (DOCKER_BUILDKIT=0), and
docker-py; as root and as an ordinary user. The image is busybox from the host, loaded through the
API, so that no registry is needed."""
import hashlib
import io
import json
import os
import pathlib
import pty
import select
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import time

import pytest

BUSYBOX = shutil.which("busybox")
DEBIAN_DOCKER = "/usr/bin/docker"
pytestmark = pytest.mark.skipif(not BUSYBOX, reason="needs busybox-static")


def _add(tar, name, data=None, mode=0o755, kind=tarfile.REGTYPE, link=""):
    ti = tarfile.TarInfo(name)
    ti.mode, ti.type, ti.linkname = mode, kind, link
    if data is None:
        tar.addfile(ti)
    else:
        ti.size = len(data)
        tar.addfile(ti, io.BytesIO(data))


def busybox_image(path):
    """A docker-archive with busybox:test."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as t:
        for d in ("bin", "tmp", "etc", "root", "proc", "sys", "dev", "var", "home", "data"):
            _add(t, d, kind=tarfile.DIRTYPE, mode=0o1777 if d == "tmp" else 0o755)
        _add(t, "bin/busybox", pathlib.Path(BUSYBOX).read_bytes())
        for applet in subprocess.check_output([BUSYBOX, "--list"], text=True).split():
            if applet != "busybox":
                _add(t, "bin/" + applet, kind=tarfile.SYMTYPE, link="busybox")
        _add(t, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home:/bin/sh\n", 0o644)
        _add(t, "etc/group", b"root:x:0:\nweb:x:1000:\n", 0o644)
        _add(t, "data/seed", b"seed\n", 0o644)
    layer = layer.getvalue()
    config = json.dumps({
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine], "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}},
                   "Volumes": {"/anon": {}}},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "test"}]}).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    with tarfile.open(path, "w") as t:
        _add(t, name, config, 0o644)
        _add(t, "layer.tar", layer, 0o644)
        _add(t, "manifest.json", json.dumps([{"Config": name, "RepoTags": ["busybox:test"], "Layers": ["layer.tar"]}]).encode(), 0o644)


class Engine:
    def __init__(self, sl, folder):
        self.sl = sl
        self.sock = folder / "docker.sock"
        self.log = open(folder / "engine.log", "w+")
        self.proc = sl.popen("__engine", "--socket", self.sock, stdout=subprocess.PIPE, stderr=self.log)
        if self.proc.stdout.readline().strip() != "ready":
            self.log.seek(0)
            raise RuntimeError("the engine did not start: " + self.log.read())
        self.env = dict(sl.env, DOCKER_HOST=f"unix://{self.sock}", DOCKER_BUILDKIT="0", DOCKER_CONFIG=str(folder / "config"))
        self.client = [str(sl.binary.parent / "docker-client")]

    def stop(self):
        self.proc.terminate()
        assert self.proc.wait(20) == 0


@pytest.fixture(scope="session")
def engine(sl, tmp_path_factory):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="slipway-test-engine-", dir="/var/tmp"))  # a short path: a socket's
    folder.chmod(0o755)
    os.chown(folder, sl.uid, sl.gid)
    source = sl.binary.parent / "docker-client"
    if not source.exists() or os.geteuid() == 0:
        built = pathlib.Path(__file__).resolve().parents[2] / "build/docker-client"
        if built.resolve() != source.resolve():
            shutil.copy2(built, source)
    g = Engine(sl, folder)
    tar = folder / "busybox.tar"
    busybox_image(tar)
    os.chmod(tar, 0o644)
    r = subprocess.run([*g.client, "load", "-i", str(tar)], env=g.env, capture_output=True, text=True)
    assert r.returncode == 0 and "Loaded image: busybox:test" in r.stdout, r.stderr
    yield g
    try:
        g.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["slipway", "debian"])
def docker(request, engine):
    """A docker command: docker("run", …) gives a CompletedProcess."""
    if request.param == "debian" and not os.path.exists(DEBIAN_DOCKER):
        pytest.skip("docker.io is not installed")
    argv = engine.client if request.param == "slipway" else [DEBIAN_DOCKER]

    def run(*args, check=None, input=None, cwd=None, timeout=60):
        r = subprocess.run([*argv, *map(str, args)], env=engine.env, capture_output=True, text=True, input=input, cwd=cwd,
                           timeout=timeout, stdin=subprocess.DEVNULL if input is None else None)
        if check is not None:
            assert r.returncode == check, f"docker {' '.join(map(str, args))}: {r.returncode}\n{r.stdout}\n{r.stderr}"
        return r

    run.argv, run.env = argv, engine.env
    yield run
    ids = run("ps", "-aq").stdout.split()
    if ids:
        run("rm", "-f", *ids)


def wait_for(fn, seconds=10):
    end = time.time() + seconds
    while time.time() < end:
        if fn():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


# --- run -------------------------------------------------------------------------------------------

def test_run_output_and_exit_code(docker):
    r = docker("run", "--rm", "busybox:test", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (r.stdout, r.stderr, r.returncode) == ("out\n", "err\n", 7)
    assert docker("ps", "-aq").stdout == ""


def test_run_is_pid_one_with_the_images_environment(docker):
    r = docker("run", "--rm", "-e", "X=1 2", "-w", "/tmp/new", "-u", "web", "--name", "named", "busybox:test", "sh", "-c",
               "echo $$ $FROM_IMAGE $X $PWD; id -u; hostname", check=0)
    first, uid, host = r.stdout.splitlines()
    assert first == "1 yes 1 2 /tmp/new" and uid == "1000" and len(host) == 12


def test_stdin_half_close(docker):
    r = docker("run", "--rm", "-i", "busybox:test", "sh", "-c", "wc -c; echo done", input="x" * 3000000, check=0)
    assert r.stdout.split() == ["3000000", "done"]


def test_much_output_arrives_whole(docker):
    r = docker("run", "--rm", "busybox:test", "sh", "-c", "i=0; while [ $i -lt 400 ]; do head -c 100000 /dev/zero | tr '\\0' x; i=$((i+1)); done",
               check=0)
    assert len(r.stdout) == 40000000


@pytest.mark.parametrize("args,code,text", [
    (["nosuch:image"], 125, "nosuch"),
    (["--bad-flag", "busybox:test"], 125, "unknown flag: --bad-flag"),
    (["busybox:test", "no-such-command"], 127, "no-such-command"),
    (["busybox:test", "/etc/passwd"], 126, ""),
    (["busybox:test", "sh", "-c", "kill -9 $$"], None, ""),
    (["busybox:test", "false"], 1, ""),
])
def test_exit_codes(docker, args, code, text):
    r = docker("run", "--rm", *args)
    assert text in r.stderr
    assert r.returncode == code or code is None


def test_entrypoint(docker):
    assert docker("run", "--rm", "--entrypoint", "/bin/echo", "busybox:test", "a", "b", check=0).stdout == "a b\n"


def test_tty(docker):
    master, slave = pty.openpty()
    p = subprocess.Popen([*docker.argv, "run", "--rm", "-it", "busybox:test", "sh"], stdin=slave, stdout=slave, stderr=slave,
                         env=docker.env, start_new_session=True)
    os.close(slave)
    out = b""

    def expect(what):
        nonlocal out
        end = time.time() + 15
        while what not in out and time.time() < end:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    out += os.read(master, 4096)
                except OSError:
                    break
        assert what in out, out
    expect(b"#")
    os.write(master, b"tty && echo is-a-$((20+22))\n")
    expect(b"is-a-42")
    os.write(master, b"exit 3\n")
    assert p.wait(15) == 3
    os.close(master)


def test_signals_are_passed_on(docker):
    p = subprocess.Popen([*docker.argv, "run", "--rm", "busybox:test", "sh", "-c", "trap 'echo got; exit 9' TERM; echo up; while :; do sleep 0.1; done"],
                         env=docker.env, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "up\n"
    time.sleep(0.2)
    p.terminate()
    assert p.stdout.readline() == "got\n" and p.wait(10) == 9


# --- life ------------------------------------------------------------------------------------------

def test_life_of_a_container(docker):
    cid = docker("run", "-d", "--name", "life", "-l", "k=v", "busybox:test", "sh", "-c", "trap 'exit 5' TERM; echo one; echo two; while :; do sleep 0.1; done", check=0).stdout.strip()
    assert len(cid) == 64
    assert docker("ps", "--format", "{{.Names}} {{.Image}} {{.State}}").stdout == "life busybox:test running\n"
    assert docker("ps", "-q", "--filter", "label=k=v").stdout.strip() == cid[:12]
    assert docker("ps", "-q", "--filter", "name=other").stdout == ""
    wait_for(lambda: docker("logs", "life").stdout == "one\ntwo\n")
    assert docker("logs", "--tail", "1", "life").stdout == "two\n"
    assert docker("logs", "-t", "life").stdout.split()[0].endswith("Z")
    assert docker("rm", "life").returncode == 1
    docker("stop", "life", check=0)
    assert docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "life").stdout == "exited 5\n"
    docker("start", "life", check=0)
    wait_for(lambda: docker("logs", "life").stdout == "one\ntwo\none\ntwo\n")
    docker("kill", "life", check=0)
    assert docker("wait", "life", check=0).stdout == "137\n"
    docker("restart", "-t", "0", "life", check=0)
    docker("rename", "life", "lives", check=0)
    assert docker("rm", "-f", "lives", check=0).stdout == "lives\n"
    assert docker("inspect", "lives").returncode == 1


def test_logs_follow_ends_with_the_container(docker):
    docker("run", "-d", "--name", "slow", "busybox:test", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done", check=0)
    assert docker("logs", "-f", "slow", check=0).stdout == "1\n2\n3\n"


def test_names_are_unique(docker):
    docker("create", "--name", "same", "busybox:test", check=0)
    r = docker("create", "--name", "same", "busybox:test")
    assert r.returncode != 0 and "is already in use" in r.stderr


def test_exec(docker):
    docker("run", "-d", "--name", "box", "-e", "A=1", "busybox:test", "sleep", "100", check=0)
    r = docker("exec", "-e", "B=2", "-w", "/tmp", "-u", "1000", "box", "sh", "-c", "echo $A$B $PWD; id -u; echo e >&2; exit 4")
    assert (r.stdout, r.stderr, r.returncode) == ("12 /tmp\n1000\n", "e\n", 4)
    assert docker("exec", "-i", "box", "cat", input="abc", check=0).stdout == "abc"
    assert docker("exec", "box", "no-such").returncode in (126, 127)
    docker("exec", "-d", "box", "touch", "/made", check=0)
    wait_for(lambda: docker("exec", "box", "ls", "/made").returncode == 0)
    assert docker("exec", "nobox", "true").returncode == 1


def test_cp(docker, tmp_path):
    docker("create", "--name", "files", "busybox:test", "cat", "/in/f", "/in/d/g", check=0)
    (tmp_path / "in/d").mkdir(parents=True)
    (tmp_path / "in/f").write_text("f\n")
    (tmp_path / "in/d/g").write_text("g\n")
    docker("cp", tmp_path / "in", "files:/", check=0)
    assert docker("start", "-a", "files", check=0).stdout == "f\ng\n"
    docker("cp", "files:/in/f", tmp_path / "out", check=0)
    assert (tmp_path / "out").read_text() == "f\n"
    docker("cp", "files:/in", tmp_path / "tree", check=0)
    assert (tmp_path / "tree/d/g").read_text() == "g\n"
    docker("cp", "files:/in/.", tmp_path, check=0)
    assert (tmp_path / "d/g").read_text() == "g\n"
    docker("cp", tmp_path / "out", "files:/tmp/renamed", check=0)
    tar = subprocess.run([*docker.argv, "cp", "files:/tmp/renamed", "-"], env=docker.env, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as t:
        assert t.getnames() == ["renamed"]
    assert docker("cp", "files:/nope", tmp_path).returncode == 1


# --- mounts, network, health -------------------------------------------------------------------------

def test_volumes(docker):
    docker("volume", "create", "vol", check=0)
    try:
        docker("run", "--rm", "-v", "vol:/data", "busybox:test", "sh", "-c", "cat /data/seed && echo x > /data/new", check=0)
        r = docker("run", "--rm", "-v", "vol:/v:ro", "busybox:test", "sh", "-c", "ls /v; touch /v/no")
        assert r.stdout == "new\nseed\n" and "Read-only" in r.stderr
        assert docker("volume", "ls", "-q").stdout == "vol\n"
    finally:
        assert docker("volume", "rm", "vol", check=0).stdout == "vol\n"


def test_bind_and_tmpfs(docker, engine):
    src = pathlib.Path(engine.sock).parent / "bind"
    shutil.rmtree(src, ignore_errors=True)
    src.mkdir()
    (src / "f").write_text("bound\n")
    for p in (src, src / "f"):
        os.chown(p, engine.sl.uid, engine.sl.gid)
    r = docker("run", "--rm", "-v", f"{src}:/src:ro", "--tmpfs", "/t:size=1m", "busybox:test", "sh", "-c", "cat /src/f; touch /src/x; grep ' /t ' /proc/mounts")
    assert "bound" in r.stdout and "tmpfs" in r.stdout and "Read-only" in r.stderr


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(port):
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: s.recv(65536), b""))


def test_ports_names_and_health(docker):
    port = free_port()
    docker("network", "create", "side", check=0)
    docker("run", "-d", "--name", "web", "--network", "side", "--network-alias", "site", "-p", f"{port}:80", "-p", "81", "--health-cmd", "wget -qO- http://127.0.0.1/", "--health-interval", "1s",
           "busybox:test", "sh", "-c", "mkdir /www; echo hello-web > /www/index.html; sleep 0.3; exec httpd -f -p 80 -h /www", check=0)
    assert docker("inspect", "-f", "{{.State.Health.Status}}", "web").stdout == "starting\n"
    wait_for(lambda: docker("inspect", "-f", "{{.State.Health.Status}}", "web").stdout == "healthy\n")
    assert "(healthy)" in docker("ps").stdout
    assert b"hello-web" in get(port)
    assert f":{port}" in docker("port", "web", "80/tcp", check=0).stdout
    other = docker("inspect", "-f", '{{(index (index .NetworkSettings.Ports "81/tcp") 0).HostPort}}', "web", check=0).stdout
    assert 0 < int(other) < 65536
    for name in ("web", "site"):
        assert docker("run", "--rm", "busybox:test", "wget", "-qO-", f"http://{name}/", check=0).stdout == "hello-web\n"
    ip = docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "web").stdout.strip()
    assert docker("run", "--rm", "busybox:test", "wget", "-qO-", f"http://{ip}/", check=0).stdout == "hello-web\n"
    docker("rm", "-f", "web", check=0)
    docker("network", "rm", "side", check=0)


def test_unhealthy(docker):
    docker("run", "-d", "--name", "sick", "--health-cmd", "echo sick; exit 1", "--health-interval", "200ms", "--health-retries", "2", "busybox:test", "sleep", "100", check=0)
    wait_for(lambda: docker("inspect", "-f", "{{.State.Health.Status}}", "sick").stdout == "unhealthy\n")
    log = json.loads(docker("inspect", "-f", "{{json .State.Health.Log}}", "sick").stdout)
    assert log[0]["ExitCode"] == 1 and log[0]["Output"] == "sick\n"


# --- images ------------------------------------------------------------------------------------------

def test_build(docker, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM busybox:test\nARG V=1\nRUN echo built $V > /v\nCOPY . /ctx\nCMD [\"cat\", \"/v\"]\n")
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "left").write_text("left")
    (tmp_path / ".dockerignore").write_text("left\n")
    r = docker("build", "-t", "team/app:1", "--build-arg", "V=7", "--label", "x=y", tmp_path, check=0)
    assert "Successfully tagged team/app:1" in r.stdout
    assert docker("run", "--rm", "team/app:1", check=0).stdout == "built 7\n"
    assert "left" not in docker("run", "--rm", "team/app:1", "ls", "/ctx", check=0).stdout.split()
    assert docker("image", "inspect", "-f", '{{index .Config.Labels "x"}}', "team/app:1").stdout == "y\n"
    iid = docker("build", "-q", "-t", "team/app:1", "--build-arg", "V=7", "--label", "x=y", tmp_path, check=0).stdout.strip()
    assert iid.startswith("sha256:") and iid[7:19] == docker("images", "-q", "team/app:1").stdout.strip()
    docker("tag", "team/app:1", "registry.example/other:2", check=0)
    assert "registry.example/other" in docker("images").stdout
    assert "Untagged: registry.example/other:2" in docker("rmi", "registry.example/other:2", check=0).stdout
    assert "echo built" in docker("history", "--no-trunc", "team/app:1", check=0).stdout
    bad = docker("build", "-t", "bad", "-f", "-", tmp_path, input="FROM busybox:test\nRUN exit 3\n")
    assert bad.returncode == 1 and docker("images", "-q", "bad").stdout == ""


def test_build_errors_name_the_line(docker, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM busybox:test\nRUUN true\n")
    r = docker("build", tmp_path)
    assert r.returncode == 1 and "2" in r.stderr + r.stdout and "RUUN" in r.stderr + r.stdout


def test_save_and_load(docker, tmp_path):
    docker("save", "-o", tmp_path / "x.tar", "busybox:test", check=0)
    assert "Loaded image: busybox:test" in docker("load", "-i", tmp_path / "x.tar", check=0).stdout


def test_login_without_values(docker):
    r = docker("login", "-u", "x", "--password-stdin", "registry.invalid", input="")
    assert r.returncode != 0


@pytest.mark.parametrize("args", [["import", "x"], ["system", "df"], ["stats"], ["compose", "up"]])
def test_not_yet(engine, args):
    r = subprocess.run([*engine.client, *args], env=engine.env, capture_output=True, text=True)
    assert r.returncode == 1 and "not yet" in r.stderr


# --- docker-py -----------------------------------------------------------------------------------------

@pytest.fixture
def py(engine):
    module = pytest.importorskip("docker")
    client = module.DockerClient(base_url=f"unix://{engine.sock}", timeout=60)
    yield client
    for c in client.containers.list(all=True):
        c.remove(force=True)
    client.close()


def test_py_run(py):
    assert py.ping() and py.version()["ApiVersion"] == "1.44"
    assert py.containers.run("busybox:test", ["echo", "hi"], remove=True) == b"hi\n"
    c = py.containers.run("busybox:test", "sleep 100", detach=True, name="pybox", ports={"80/tcp": None}, environment={"A": "b"}, labels={"l": "m"})
    assert c.status == "created" and py.containers.get("pybox").status == "running"
    c.reload()
    assert int(c.ports["80/tcp"][0]["HostPort"]) > 0
    assert c.exec_run("sh -c 'echo $A; exit 3'") == (3, b"b\n")
    code, (out, err) = c.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True)
    assert (code, out, err) == (0, b"o\n", b"e\n")
    c.stop(timeout=0)
    assert c.wait()["StatusCode"] == 137
    assert [x.name for x in py.containers.list(all=True, filters={"label": "l=m"})] == ["pybox"]
    c.remove()


def test_py_errors(py):
    import docker
    with pytest.raises(docker.errors.ImageNotFound):
        py.images.get("nope:latest")
    with pytest.raises(docker.errors.NotFound):
        py.containers.get("nope")
    with pytest.raises(docker.errors.ContainerError) as e:
        py.containers.run("busybox:test", ["sh", "-c", "echo bad >&2; exit 2"], remove=True)
    assert e.value.exit_status == 2 and b"bad" in e.value.stderr


def test_py_archive_and_logs(py):
    c = py.containers.create("busybox:test", ["sh", "-c", "cat /tmp/x; for i in 1 2 3; do echo line $i; done"])
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as t:
        _add(t, "x", b"put\n", 0o644)
    assert c.put_archive("/tmp", data.getvalue())
    bits, stat = c.get_archive("/tmp/x")
    assert stat["name"] == "x" and stat["size"] == 4 and b"put\n" in b"".join(bits)
    c.start()
    assert list(c.logs(stream=True, follow=True)) and c.wait()["StatusCode"] == 0
    assert c.logs(tail=1) == b"line 3\n"


def test_py_build_and_events(py):
    since = int(time.time())
    image, log = py.images.build(fileobj=io.BytesIO(b"FROM busybox:test\nRUN echo from-py > /f\n"), tag="from/py:1", rm=True)
    assert "from/py:1" in image.tags
    assert py.containers.run("from/py:1", "cat /f", remove=True) == b"from-py\n"
    seen = [e["Action"] for e in py.events(since=since, until=int(time.time()) + 1, decode=True, filters={"type": "container"})]
    assert {"create", "start", "die", "destroy"} <= set(seen)
    py.images.remove("from/py:1")


def test_py_attach_stdin(py):
    c = py.containers.create("busybox:test", ["sh", "-c", "read x; echo got $x"], stdin_open=True)
    s = c.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    c.start()
    s._sock.sendall(b"word\n")
    assert c.wait(timeout=10)["StatusCode"] == 0
    assert c.logs() == b"got word\n"
    s.close()


def test_two_at_once(py):
    """Twenty containers from four threads: none is lost, each gives its own output."""
    bad = []

    def work(n):
        for i in range(5):
            if py.api.base_url and py.containers.run("busybox:test", ["echo", f"{n}-{i}"], remove=True) != f"{n}-{i}\n".encode():
                bad.append((n, i))
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not bad


# --- rude clients ------------------------------------------------------------------------------

def _raw(engine, text, wait=False):
    c = socket.socket(socket.AF_UNIX)
    c.connect(str(engine.sock))
    c.sendall(text.encode())
    if wait:
        c.settimeout(10)
        return c, c.recv(65536).decode("utf-8", "replace")
    return c, ""


def test_clients_that_leave_in_the_middle(docker, engine):
    """A body that never comes, commands and copies beside the removal of their container: the
    engine answers or forgets, and lives on."""
    docker("run", "-d", "--name", "rude", "busybox:test", "sleep", "1000")
    for path in ("containers/create", "containers/rude/exec", "auth", "volumes/create", "networks/create", "images/load",
                 "build", "exec/none/start"):
        c, _ = _raw(engine, f"POST /v1.44/{path} HTTP/1.1\r\nHost: d\r\nContent-Length: 5000\r\n\r\n{{")
        c.close()
    c, _ = _raw(engine, "PUT /v1.44/containers/rude/archive?path=/tmp HTTP/1.1\r\nHost: d\r\nContent-Length: 5000\r\n\r\nabc")
    c.close()
    # A command whose body arrives after its container has gone.
    body = json.dumps({"Cmd": ["true"], "AttachStdout": True})
    _, answer = _raw(engine, "POST /v1.44/containers/rude/exec HTTP/1.1\r\nHost: d\r\nContent-Length: "
                     f"{len(body)}\r\n\r\n{body}", wait=True)
    exec_id = answer.split('"Id":"')[1][:64]
    late, _ = _raw(engine, f"POST /v1.44/exec/{exec_id}/start HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n\r\n")
    # Copies and commands at the moment of removal.
    threads = [threading.Thread(target=subprocess.run, args=([*engine.client, *a],),
                                kwargs=dict(env=engine.env, capture_output=True))
               for a in [("cp", "rude:/bin", "-"), ("exec", "rude", "true")] * 6]
    for t in threads:
        t.start()
    docker("rm", "-f", "rude")
    for t in threads:
        t.join()
    late.sendall(b"{}")
    late.settimeout(10)
    assert b"409" in late.recv(65536)
    late.close()
    assert engine.proc.poll() is None
    assert docker("run", "--rm", "busybox:test", "echo", "alive").stdout == "alive\n"


def test_buildx_options(docker, tmp_path, request):
    """What only our own client sends: named contexts, checks, a context from the network."""
    if "debian" in request.node.name or "user" in request.node.name:
        pytest.skip("slipway's client, and a folder that the engine may read")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/f").write_text("named\n")
    (tmp_path / "Dockerfile").write_text("FROM base as x\nCOPY --from=files f /f\nRUN cat /f\n")
    r = docker("buildx", "build", "--no-cache", "-t", "team/ctx", "--build-context", f"files={tmp_path}/other", "--build-context",
               "base=docker-image://busybox:test", tmp_path, check=0)
    assert "named" in r.stdout + r.stderr
    r = docker("buildx", "build", "--check", tmp_path)
    assert r.returncode == 1 and "WARNING: FromAsCasing" in r.stdout
    r = docker("buildx", "build", "--call=targets", tmp_path, check=0)
    assert "x (default)" in r.stdout
    context = tmp_path / "ctx.tar"
    import functools, http.server, tarfile, threading
    (tmp_path / "other/Dockerfile").write_text("FROM scratch\nCOPY f /f\n")
    with tarfile.open(context, "w") as t:
        t.add(tmp_path / "other", arcname=".")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        docker("build", "-t", "team/url", f"http://127.0.0.1:{server.server_address[1]}/ctx.tar", check=0)
        docker("run", "--rm", "--entrypoint", "/nothing", "team/url")
        assert docker("image", "inspect", "team/url").returncode == 0
    finally:
        server.shutdown()


def test_named_volumes_outlive_the_engine(sl, tmp_path, docker):
    """`slipway docker` ends its engine when nothing runs; what was kept in a named volume stays."""
    name = f"kept-{tmp_path.name}-{sl.name}".replace("_", "-")
    try:
        assert docker("volume", "create", "--label", "a=b", name, check=0).stdout.strip() == name
        docker("run", "--rm", "-v", f"{name}:/v", "busybox:test", "sh", "-c", "echo here > /v/f", check=0)
        sl("prune", check=0)  # spares it
        with tempfile.TemporaryDirectory(dir="/var/tmp") as d:
            os.chmod(d, 0o755)
            os.chown(d, sl.uid, sl.gid)
            other = Engine(sl, pathlib.Path(d))
            try:
                run = lambda *a: subprocess.run([*other.client, *a], env=other.env, capture_output=True, text=True, timeout=60)  # noqa: E731
                assert name in run("volume", "ls", "-q").stdout.split()
                assert run("run", "--rm", "-v", f"{name}:/v", "busybox:test", "cat", "/v/f").stdout == "here\n"
                assert name not in run("volume", "prune", "-f").stdout
                assert name in run("volume", "prune", "-a", "-f").stdout
                assert name not in run("volume", "ls", "-q").stdout.split()
            finally:
                other.stop()
    finally:
        docker("volume", "rm", name)


def test_host_gateway(docker):
    out = docker("run", "--rm", "--add-host", "host.docker.internal:host-gateway", "busybox:test", "grep", "host.docker.internal", "/etc/hosts", check=0).stdout
    assert out.split()[0].count(".") == 3


# --- beside process 1 --------------------------------------------------------------------------------


def test_exec_and_probes_see_the_containers_processes(docker):
    docker("run", "-d", "--name", "one", "--health-cmd", "test \"$(cat /proc/1/cmdline | tr '\\0' ' ')\" = \"sh -c trap 'echo told' USR1; while :; do sleep 0.05; done \"",
           "--health-interval", "1s", "busybox:test", "sh", "-c", "trap 'echo told' USR1; while :; do sleep 0.05; done", check=0)
    wait_for(lambda: docker("inspect", "-f", "{{.State.Health.Status}}", "one").stdout == "healthy\n")
    assert docker("exec", "one", "kill", "-USR1", "1").returncode == 0
    wait_for(lambda: docker("logs", "one").stdout == "told\n")
    ps = docker("exec", "one", "ps", "-o", "pid,args", check=0).stdout
    assert "1 sh -c trap" in ps.splitlines()[1] and "ps -o" in ps
    assert docker("exec", "one", "sh", "-c", "echo $PPID", check=0).stdout == "0\n"
    # A command of its own is ended by the kernel with the container's.
    docker("exec", "-d", "one", "sleep", "1000", check=0)
    docker("rm", "-f", "one", check=0)


def test_what_cannot_be_executed_is_told_at_the_start(docker):
    docker("create", "--name", "none", "busybox:test", "no-such-program", check=0)
    r = docker("start", "none")
    assert r.returncode == 1 and "no-such-program" in r.stderr and "not found" in r.stderr
    assert docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "none").stdout == "created 127\n"
    assert docker("run", "--rm", "busybox:test", "/no/such").returncode == 127
    assert docker("run", "--rm", "busybox:test", "/etc/passwd").returncode == 126
    docker("run", "-d", "--name", "box", "busybox:test", "sleep", "1000", check=0)
    r = docker("exec", "box", "no-such")
    assert r.returncode in (126, 127) and "no-such" in r.stdout + r.stderr
    docker("rm", "-f", "none", "box", check=0)


# --- what a container wrote, and its processes --------------------------------------------------------

WRITES = "mkdir -m 700 -p /root/d; echo x >/root/d/f; echo hi >/new; rm /data/seed; echo more >>/etc/group; touch /ready; exec sleep 1000"


@pytest.fixture
def writer(docker):
    docker("run", "-d", "--name", "writer", "-e", "X=1", "busybox:test", "sh", "-c", WRITES, check=0)
    wait_for(lambda: docker("exec", "writer", "test", "-e", "/ready").returncode == 0)
    return "writer"


def test_diff(docker, writer):
    lines = docker("diff", writer, check=0).stdout.splitlines()
    assert sorted(lines) == sorted(["C /data", "D /data/seed", "C /etc", "C /etc/group", "A /new", "A /ready", "C /root", "A /root/d",
                                    "A /root/d/f"])
    docker("stop", "-t", "0", writer, check=0)
    assert "A /new" in docker("diff", writer, check=0).stdout.splitlines()


def test_export(docker, writer, tmp_path):
    docker("export", "-o", tmp_path / "t.tar", writer, check=0)
    with tarfile.open(tmp_path / "t.tar") as t:
        names = [n.rstrip("/") for n in t.getnames()]
        assert t.extractfile("new").read() == b"hi\n" and t.extractfile("root/d/f").read() == b"x\n"
        assert "bin/busybox" in names and "data/seed" not in names
        assert not [n for n in names if n.startswith(("proc/", "sys/")) or "/.wh." in n]


def test_commit(docker, writer):
    made = docker("commit", "-m", "said", "-a", "me", "-c", 'CMD ["cat", "/new"]', "-c", 'ENV A=b C="d e"', "-c", "EXPOSE 99", "-c", "LABEL q=r",
                  "-c", "WORKDIR /etc", writer, "made:one", check=0).stdout.strip()
    try:
        assert docker("inspect", "-f", "{{.Id}} {{.Author}} {{.Config.WorkingDir}} {{json .Config.Labels}}", "made:one",
                      check=0).stdout.strip() == made + ' me /etc {"a":"b","q":"r"}'
        assert docker("run", "--rm", "made:one", check=0).stdout == "hi\n"
        out = docker("run", "--rm", "made:one", "sh", "-c", "echo $A $C $X; pwd; ls /data; cat /root/d/f", check=0).stdout
        assert out == "b d e 1\n/etc\nx\n"
        assert docker("history", "--format", "{{.Comment}}", "made:one", check=0).stdout.splitlines()[0] == "said"
        assert docker("exec", writer, "cat", "/new", check=0).stdout == "hi\n"  # runs on
    finally:
        docker("rmi", "made:one")
    r = docker("commit", "-c", "RUN true", writer)
    assert r.returncode != 0 and "RUN is not a valid change command" in r.stderr


def test_top_pause_stats_update(docker, writer):
    top = docker("top", writer, check=0).stdout.splitlines()
    assert top[0].split()[:3] == ["UID", "PID", "PPID"] and len(top) == 2
    assert top[1].split()[0] == "root" and top[1].endswith("sleep 1000")
    pid = top[1].split()[1]
    assert docker("top", writer, "aux", check=0).stdout.splitlines()[1].split()[:2] == ["root", pid]
    docker("pause", writer, check=0)
    assert docker("inspect", "-f", "{{.State.Status}} {{.State.Paused}} {{.State.Running}}", writer).stdout == "paused true true\n"
    assert "(Paused)" in docker("ps").stdout and docker("ps", "-q", "--filter", "status=paused").stdout.strip()
    wait_for(lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] == "T")
    r = docker("exec", writer, "true")
    assert r.returncode == 1 and "is paused, unpause" in r.stderr
    assert "already paused" in docker("pause", writer).stderr
    docker("unpause", writer, check=0)
    wait_for(lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] == "S")
    docker("pause", writer, check=0)
    name, mem, pids = docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", writer, check=0).stdout.split(" ", 1)[0], \
        *docker("stats", "--no-stream", "--format", "{{.MemUsage}}|{{.PIDs}}", writer, check=0).stdout.strip().split("|")
    assert name == "writer" and mem.split()[0] not in ("0B", "") and int(pids) >= 1
    assert "not yet: --restart always" in docker("update", "--restart", "always", writer, check=1).stderr
    assert docker("update", "--restart", "no", writer, check=0).stdout == "writer\n"
    docker("stop", "-t", "1", writer, check=0)  # a paused one can be stopped
    assert docker("inspect", "-f", "{{.State.Status}}", writer).stdout == "exited\n"
    assert "is not running" in docker("top", writer).stderr


def test_prune_of_images_and_networks(docker):
    docker("network", "create", "idle", check=0)
    docker("network", "create", "taken", check=0)
    docker("run", "-d", "--name", "holds", "--network", "taken", "busybox:test", "sleep", "1000", check=0)
    try:
        gone = docker("network", "prune", "-f", check=0).stdout
        assert "idle" in gone and "taken" not in gone
        names = docker("network", "ls", "--format", "{{.Name}}").stdout.split()
        assert "idle" not in names and {"taken", "bridge"} <= set(names)
        used = docker("commit", "holds", check=0).stdout.strip()
        unused = docker("commit", "-c", "LABEL un=used", "holds", check=0).stdout.strip()
        docker("run", "-d", "--name", "uses", used, "sleep", "1000", check=0)
        gone = docker("image", "prune", "-f", check=0).stdout
        assert unused in gone and used not in gone
        assert docker("inspect", "--type", "image", unused).returncode == 1
        assert docker("inspect", "--type", "image", used, "busybox:test").returncode == 0
        assert "not yet" in docker("image", "prune", "-f", "--filter", "until=24h").stderr
    finally:
        docker("rm", "-f", "holds", "uses")
        docker("network", "rm", "taken")


def test_system_prune(docker):
    docker("network", "create", "idle", check=0)
    docker("run", "--name", "ended", "busybox:test", "true", check=0)
    gone = docker("system", "prune", "-f", check=0).stdout
    assert "idle" in gone and "Deleted Containers:" in gone
    assert docker("ps", "-aq").stdout == "" and docker("inspect", "--type", "image", "busybox:test").returncode == 0
