"""Stand-ins for official images: valid as layouts, and like the originals where it shows.

The images are made once into a cache that outlives the run (conftest.LAYOUT) and run with unshare and chroot, so that no engine is tested here.
"""
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from conftest import LAYOUT

TOOL = Path(__file__).resolve().parents[2] / "tools" / "standin-images"
WANTED = ["debian:bookworm-slim", "python:3.11-slim-bookworm", "postgres:15", "redis:7",
          "mariadb:10.11"]


def tool(*arguments, check=True):
    done = subprocess.run([str(TOOL), *arguments], capture_output=True, text=True)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def full(name):
    return "docker.io/library/" + name


def blob(digest):
    return LAYOUT / "blobs" / "sha256" / digest.partition(":")[2]


def load(digest):
    return json.loads(blob(digest).read_text())


def manifest_of(name):
    index = json.loads((LAYOUT / "index.json").read_text())
    for entry in index["manifests"]:
        if entry["annotations"]["org.opencontainers.image.ref.name"] == full(name):
            return entry, load(entry["digest"])
    raise AssertionError("no %s in the index" % name)


@pytest.fixture(scope="session", autouse=True)
def layout(standins):
    for program in ("mmdebstrap", "skopeo", "unshare", "chroot"):
        assert shutil.which(program), "%s is needed for these tests and not installed" % program
    tool("make", "--out", str(LAYOUT), *WANTED, "python:3.11-slim")
    return LAYOUT


class Root:
    """An image unpacked, and programs run in it as root of namespaces of their own."""

    def __init__(self, folder, name):
        _, manifest = manifest_of(name)
        self.config = load(manifest["config"]["digest"])["config"]
        self.folder = folder
        self.inside = folder / "root"
        self.inside.mkdir()
        for layer in manifest["layers"]:
            self._namespace(["tar", "-x", "--numeric-owner", "-p", "-C", str(self.inside),
                             "-f", str(blob(layer["digest"]))], check=True)

    def _prefix(self):
        prefix = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        if os.geteuid() != 0:
            prefix += ["--user", "--map-root-user", "--map-auto"]
        return prefix

    def _namespace(self, command, **options):
        return subprocess.run(self._prefix() + command, **options)

    def command(self, *command, environment=None):
        env = ["env", "-i", "HOME=/root", *self.config["Env"]]
        env += ["%s=%s" % item for item in (environment or {}).items()]
        script = ('root=$1; shift; mkdir -p "$root/proc" "$root/dev"; '
                  '{ mount -t proc proc "$root/proc" || mount --rbind /proc "$root/proc"; } && '
                  'mount --rbind /dev "$root/dev" && mount -t tmpfs tmpfs "$root/dev/shm" && '
                  'exec chroot "$root" "$@"')
        return self._prefix() + ["sh", "-c", script, "sh", str(self.inside), *env, *command]

    def run(self, *command, environment=None, check=True, user=None):
        if user:
            command = ("setpriv", "--reuid=" + user, "--regid=" + user, "--clear-groups", *command)
        done = subprocess.run(self.command(*command, environment=environment),
                              capture_output=True, text=True, timeout=120)
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def out(self, *command, **options):
        return self.run(*command, **options).stdout.strip()

    def remove(self):
        self._namespace(["rm", "-rf", str(self.inside)])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    roots = {}

    def get(name):
        if name not in roots:
            roots[name] = Root(tmp_path_factory.mktemp("root"), name)
        return roots[name]

    yield get
    for one in roots.values():
        one.remove()


@pytest.mark.parametrize("name", WANTED)
def test_skopeo_reads_it(name):
    done = subprocess.run(["skopeo", "inspect", "oci:%s:%s" % (LAYOUT, full(name))],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["Labels"]["io.slipway.standin"] == "true"
    assert shown["Labels"]["io.slipway.standin.of"] == full(name)
    assert shown["Labels"]["io.slipway.standin.difference"]


@pytest.mark.parametrize("name", WANTED)
def test_layers_are_what_the_manifest_says(name):
    import hashlib
    entry, manifest = manifest_of(name)
    assert blob(entry["digest"]).stat().st_size == entry["size"]
    config = load(manifest["config"]["digest"])
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    for layer in manifest["layers"]:
        assert blob(layer["digest"]).stat().st_size == layer["size"]
        with open(blob(layer["digest"]), "rb") as file:
            assert "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() == layer["digest"]


def test_the_base_is_shared():
    bases = {manifest_of(name)[1]["layers"][0]["digest"] for name in WANTED}
    assert len(bases) == 1


def test_another_name_is_the_same_manifest():
    entry, _ = manifest_of("python:3.11-slim")
    assert entry["digest"] == manifest_of("python:3.11-slim-bookworm")[0]["digest"]
    assert entry["annotations"]["io.slipway.standin"] == "true"
    assert entry["annotations"]["io.slipway.standin.difference"]


def test_made_again_at_once():
    before = (LAYOUT / "index.json").stat().st_mtime_ns
    began = time.monotonic()
    assert tool("make", "--out", str(LAYOUT), *WANTED).stderr == ""
    assert time.monotonic() - began < 5
    assert (LAYOUT / "index.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("ref, standin, difference", [
    ("python:3.11-slim", "python:3.11-slim-bookworm", "official build"),
    ("python:3.11.3-slim-bullseye", "python:3.11-slim-bookworm", "instead of 3.11.3"),
    ("docker.io/library/python:3.11", "python:3.11-bookworm", "official build"),
    ("docker.io/python:3.11-alpine", "python:3.11-slim-bookworm", "Alpine"),
    ("library/postgres:12", "postgres:15", "PostgreSQL 15 of Debian 12 instead of 12"),
    ("postgres:12-alpine", "postgres:15", "instead of Alpine"),
    ("redis:7-alpine", "redis:7", "instead of Alpine"),
    ("node:22", "node:22-bookworm", "Node 22"),
    ("nginx", "nginx:1.22", "nginx 1.22"),
    ("mysql:8", "mysql:8.0", "MariaDB 10.11 of Debian 12 instead of MySQL 8"),
    ("mariadb:11.8-noble", "mariadb:10.11", "instead of 11.8"),
    ("memcached:1.6-alpine", "memcached:1.6", "instead of Alpine"),
    ("postgis/postgis:17-3.5", "postgis/postgis:15-3.3", "PostGIS 3.3 on PostgreSQL 15"),
    ("debian:bookworm-slim", "debian:bookworm-slim", "mmdebstrap"),
    ("ubuntu:22.04", "ubuntu:22.04", "Debian 12 instead of Ubuntu 22.04"),
])
def test_resolve(ref, standin, difference):
    answer = json.loads(tool("resolve", "--out", str(LAYOUT), ref).stdout)
    assert answer["standin"] == ("docker.io/" + standin if "/" in standin else full(standin))
    assert difference in answer["difference"]


def test_resolve_tells_whether_it_is_there(tmp_path):
    there = json.loads(tool("resolve", "--out", str(LAYOUT), "postgres:12").stdout)
    assert there["manifest"] == manifest_of("postgres:15")[0]["digest"]
    assert json.loads(tool("resolve", "--out", str(tmp_path), "postgres").stdout)["manifest"] is None


@pytest.mark.parametrize("ref", ["rabbitmq:3", "acme/postgis", "ghcr.io/acme/python:3.11",
                                 "python@sha256:" + "0" * 64, "bad ref"])
def test_unknown_is_3(ref):
    done = tool("resolve", ref, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("standin-images: ")


def test_another_version_only_when_asked_for():
    done = tool("make", "--out", str(LAYOUT), "postgres:12", check=False)
    assert done.returncode == 3
    assert "--nearest" in done.stderr
    tool("make", "--nearest", "--out", str(LAYOUT), "postgres:12")
    assert "instead of 12" in \
        manifest_of("postgres:12")[0]["annotations"]["io.slipway.standin.difference"]
    tool("rm", "--out", str(LAYOUT), "postgres:12")
    names = [row["ref"] for row in json.loads(tool("list", "--json", "--out", str(LAYOUT)).stdout)]
    assert full("postgres:15") in names and full("postgres:12") not in names


def test_usage_is_2():
    assert tool("make", check=False).returncode == 2


def test_debian_is_honest_and_plain(root):
    box = root("debian:bookworm-slim")
    assert 'VERSION_ID="12"' in box.out("cat", "/etc/os-release")
    assert "deb.debian.org" in box.out("cat", "/etc/apt/sources.list.d/debian.sources")
    # nothing of this machine
    assert box.out("find", "/etc/apt", "-name", "99*") == ""
    assert box.out("cat", "/etc/resolv.conf", "/etc/hostname") == ""
    assert box.run("policy-rc.d", check=False).returncode == 101
    assert int(box.out("sh", "-c", "ls /usr/share/man/man1 2>/dev/null | wc -l")) == 0


def test_python_is_in_usr_local(root):
    box = root("python:3.11-slim")
    assert box.config["Cmd"] == ["python3"]
    version = dict(v.split("=", 1) for v in box.config["Env"])["PYTHON_VERSION"]
    assert box.out("python", "--version") == "Python " + version
    shown = json.loads(box.out("python", "-c", """
import json, site, sys, sysconfig
print(json.dumps([sys.prefix, sys.executable, site.getsitepackages(),
                  sysconfig.get_paths(), [p for p in sys.path if "packages" in p],
                  sysconfig.get_config_vars("LIBDIR", "INCLUDEPY", "CC")]))"""))
    packages = "/usr/local/lib/python3.11/site-packages"
    assert shown[0] == "/usr/local" and shown[1] == "/usr/local/bin/python"
    assert shown[2] == shown[4] == [packages]
    assert shown[3]["purelib"] == packages and shown[3]["scripts"] == "/usr/local/bin"
    assert shown[5] == ["/usr/local/lib", "/usr/local/include/python3.11", "gcc"]
    assert box.out("python3-config", "--includes").split()[0] == \
        "-I/usr/local/include/python3.11"
    assert re.match(r"pip \d.* from " + packages, box.out("pip", "--version"))
    box.run("test", "-f", "/usr/local/include/python3.11/Python.h")
    box.run("test", "!", "-e", "/usr/local/lib/python3.11/EXTERNALLY-MANAGED")
    box.run("test", "!", "-e", "/usr/bin/python3")


def test_python_modules(root):
    root("python:3.11-slim").run("python", "-c", "import bz2, ctypes, curses, dbm.gnu, lzma, "
                                 "readline, sqlite3, ssl, uuid, zlib, zoneinfo, tomllib")


def test_python_virtual_environment_and_a_package(root):
    box = root("python:3.11-slim")
    box.run("sh", "-ec", """
        mkdir -p /src/hello && cd /src
        echo 'greeting = "ahoy"' > hello/__init__.py
        printf 'from setuptools import setup\\nsetup(name="hello", version="1", '\\
'packages=["hello"])\\n' > setup.py
    """)
    box.run("python", "-m", "venv", "/env")
    assert "/env/lib/python3.11/site-packages" in box.out("/env/bin/pip", "--version")
    box.run("pip", "install", "--no-index", "--no-build-isolation", "/src",
            environment={"PIP_ROOT_USER_ACTION": "ignore"})
    assert box.out("python", "-c", "import hello; print(hello.__file__)") == \
        "/usr/local/lib/python3.11/site-packages/hello/__init__.py"


def test_postgres_needs_a_password(root):
    box = root("postgres:15")
    assert box.config["ExposedPorts"] == {"5432/tcp": {}}
    assert box.config["Volumes"] == {"/var/lib/postgresql/data": {}}
    assert box.config["StopSignal"] == "SIGINT"
    done = box.run(*box.config["Entrypoint"], *box.config["Cmd"], check=False)
    assert done.returncode == 1
    assert "POSTGRES_PASSWORD" in done.stderr
    assert box.out("id", "-u", "postgres") == "999"


def test_postgres_serves(root, unused_port):
    box = root("postgres:15")
    box.run("sh", "-ec", """
        echo secret > /password
        cd /docker-entrypoint-initdb.d
        echo 'create table t (a int); insert into t values (1);' > 1.sql
        echo 'insert into t values (2);' | gzip > 2.sql.gz
        echo 'psql -U "$POSTGRES_USER" -c "insert into t values (3)" "$POSTGRES_DB"' > 3.sh
    """)
    settings = {"POSTGRES_USER": "app", "POSTGRES_PASSWORD_FILE": "/password",
                "POSTGRES_DB": "shop", "POSTGRES_INITDB_ARGS": "--data-checksums",
                "PGPORT": str(unused_port)}
    log = open(box.folder / "log", "w+")
    server = subprocess.Popen(box.command(*box.config["Entrypoint"], *box.config["Cmd"],
                                          environment=settings), stdout=log, stderr=log)
    try:
        ready = False
        for _ in range(120):
            log.seek(0)
            if "init process complete" in log.read() and box.run(
                    "pg_isready", "-h", "127.0.0.1", "-p", str(unused_port),
                    check=False).returncode == 0:
                ready = True
                break
            assert server.poll() is None, "it ended"
            time.sleep(0.25)
        log.seek(0)
        assert ready, log.read()
        query = ("psql", "-h", "127.0.0.1", "-p", str(unused_port), "-U", "app", "-At",
                 "shop", "-c")
        password = {"PGPASSWORD": "secret"}
        assert box.out(*query, "select a from t order by a",
                       environment=password).split() == ["1", "2", "3"]
        assert box.out(*query, "show data_checksums", environment=password) == "on"
        assert box.out(*query, "select datcollate from pg_database where datname = 'shop'",
                       environment=password) == "en_US.utf8"
        # as in the official image: trusted on the server's own loopback, a password elsewhere
        assert box.out("tail", "-1", "/var/lib/postgresql/data/pg_hba.conf") == \
            "host all all all scram-sha-256"
        box.run("sh", "-c", "test $(stat -c %u /var/lib/postgresql/data/PG_VERSION) = 999")
    finally:
        server.kill()
        server.wait()


def test_mariadb_serves(root, unused_port):
    box = root("mariadb:10.11")
    done = box.run(*box.config["Entrypoint"], *box.config["Cmd"], check=False)
    assert done.returncode == 1 and "MARIADB_ROOT_PASSWORD" in done.stderr
    box.run("sh", "-ec", """
        printf "it's \\\\" > /password
        echo 'create table t (a int); insert into t values (1);' > /docker-entrypoint-initdb.d/1.sql
    """)
    settings = {"MYSQL_ROOT_PASSWORD": "root-secret", "MARIADB_PASSWORD_FILE": "/password",
                "MYSQL_USER": "app", "MYSQL_DATABASE": "test_shop"}
    log = open(box.folder / "log", "w+")
    server = subprocess.Popen(box.command(*box.config["Entrypoint"], "--port=%d" % unused_port,
                                          environment=settings), stdout=log, stderr=log)
    client = ("mariadb", "--protocol=tcp", "-h127.0.0.1", "-P%d" % unused_port, "-N")
    try:
        for _ in range(240):
            # answers only once everything is made: the private server has no network
            if "Access denied" in box.run(*client, "-uapp", "-pwrong", check=False).stderr:
                break
            assert server.poll() is None, log.seek(0) or log.read()
            time.sleep(0.25)
        assert box.out(*client, "-uapp", "-pit's \\", "test_shop", "-e", "select a from t") == "1"
        assert box.run(*client, "-uapp", "-pit's \\", "mysql", "-e", "select 1", check=False).returncode == 1
        assert box.out(*client, "-uroot", "-proot-secret", "-e",
                       "show variables like 'character_set_server'").split()[1] == "utf8mb4"
        assert box.out("sh", "-c", "stat -c %u /var/lib/mysql/ibdata1") == "999"
    finally:
        server.kill()
        server.wait()


def test_redis_serves_others(root, unused_port):
    box = root("redis:7")
    log = open(box.folder / "log", "w+")
    server = subprocess.Popen(
        box.command("sh", "-c", 'cd /data && exec docker-entrypoint.sh "$@"', "sh",
                    "redis-server", "--port", str(unused_port)), stdout=log, stderr=log)
    try:
        client = ("redis-cli", "-p", str(unused_port))
        for _ in range(100):
            if box.run(*client, "ping", check=False).stdout.strip() == "PONG":
                break
            time.sleep(0.1)
        assert box.out(*client, "config", "get", "protected-mode").split() == \
            ["protected-mode", "no"]
        assert box.out(*client, "config", "get", "dir").split() == ["dir", "/data"]
        assert box.out("sh", "-c", "id -u redis; stat -c %u /data").split() == ["999", "999"]
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def unused_port():
    import socket
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
