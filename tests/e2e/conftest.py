"""What the end-to-end tests share: the built slipway as root and as an ordinary user, each with a
state of its own that outlives the run (runner images and stand-ins are made once), and repositories.

  $SLIPWAY             the binary (build/slipway)
  $SLIPWAY_TEST_CACHE  where states and stand-ins live (as root /var/cache/slipway-tests, else
                       ~/.cache/slipway-tests)
  $SLIPWAY_TEST_BIN    a copy of the binary that every user can read (as root; removed at the end)

Docker Hub is one layout of stand-ins for both users, given as a mirror in their configuration. No
test can stall the run: a command has 180 seconds, a test 600, unless they say otherwise, and what a
test leaves running is killed.
"""
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import textwrap

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("SLIPWAY") or TOP / "build/slipway").resolve()
ROOT = os.geteuid() == 0
CACHE = pathlib.Path(os.environ.get("SLIPWAY_TEST_CACHE") or ("/var/cache/slipway-tests" if ROOT else pathlib.Path.home() / ".cache/slipway-tests"))
LAYOUT = CACHE / "standins"
STANDINS = ["debian:bookworm-slim", "ubuntu:24.04", "python:3.11-slim", "python:3.11-slim-bookworm", "postgres:15", "redis:7"]
USER = "slipway-test"
COMMAND_SECONDS, TEST_SECONDS = 180, 600
started = None  # what the running test has started


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """A limit of time for each test, and the end of what it leaves running."""
    global started
    mark = item.get_closest_marker("seconds")
    limit = mark.args[0] if mark else TEST_SECONDS

    def late(*_):
        raise TimeoutError(f"the test took more than {limit} s")
    started = []
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        for p in started:
            if p.poll() is None:
                p.kill()
                p.wait()
        started = None


def pytest_configure(config):
    # Asked to end, the tests end what they have started.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", 143))
    config.addinivalue_line("markers", "seconds(n): the test may take n seconds")


class Slipway:
    """slipway as one user. sl("run", cwd=repo) gives a CompletedProcess with text."""

    def __init__(self, name, binary, state, cache, uid, gid, home):
        self.name, self.binary, self.state, self.cache = name, binary, state, cache
        self.uid, self.gid, self.home = uid, gid, home
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "SLIPWAY"))}
        self.env.update(SLIPWAY_STATE=str(state), SLIPWAY_CACHE=str(cache), HOME=str(home), NO_COLOR="1", USER=name,
                        GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null", SLIPWAY_CONFIG=str(home / ".config/slipway"))

    def _identity(self):
        if self.uid == os.geteuid():
            return {}
        return dict(user=self.uid, group=self.gid, extra_groups=[])

    def popen(self, *args, cwd=None, env=None, **kw):
        p = subprocess.Popen([str(self.binary), *map(str, args)], cwd=cwd or self.home, env=dict(self.env, **(env or {})),
                             text=True, **self._identity(), **kw)
        if started is not None:
            started.append(p)
        return p

    def __call__(self, *args, cwd=None, env=None, timeout=COMMAND_SECONDS, check=None, input=None):
        r = subprocess.run([str(self.binary), *map(str, args)], cwd=cwd or self.home, env=dict(self.env, **(env or {})),
                           capture_output=True, text=True, timeout=timeout, input=input, errors="replace", **self._identity())
        if check is not None:
            assert r.returncode == check, f"{args}: exit {r.returncode}\n--- stdout\n{r.stdout[-6000:]}\n--- stderr\n{r.stderr[-3000:]}"
        return r

    def sh(self, script, cwd=None, check=True):
        r = subprocess.run(["bash", "-ec", script], cwd=cwd or self.home, env=self.env, capture_output=True, text=True, timeout=COMMAND_SECONDS,
                           **self._identity())
        assert not check or r.returncode == 0, f"{script}\n{r.stdout}{r.stderr}"
        return r

    def repo(self, path, files, branch="main", remote="https://github.com/acme/app.git"):
        """A git repository of this user with one commit."""
        path.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            f = path / name
            f.parent.mkdir(parents=True, exist_ok=True)
            f.write_text(textwrap.dedent(text).lstrip("\n"))
        if self.uid != os.geteuid():
            for d in [path, *path.rglob("*")]:
                os.chown(d, self.uid, self.gid)
        self.sh(f"git init -q -b {branch}; git config user.name Tester; git config user.email t@example.org; "
                f"git add -A; git commit -q --allow-empty -m first" + (f"; git remote add origin {remote}" if remote else ""), cwd=path)
        return path


def _publish():
    """A copy of the built program where every user may read it."""
    if not ROOT:
        return BINARY, None
    named = os.environ.get("SLIPWAY_TEST_BIN")
    pub = pathlib.Path(named or tempfile.mkdtemp(prefix="slipway-test-bin-", dir="/var/tmp"))
    (pub / "build").mkdir(parents=True, exist_ok=True)
    os.chmod(pub, 0o755)
    tmp = pub / "build/slipway.new"
    shutil.copy2(BINARY, tmp)
    os.replace(tmp, pub / "build/slipway")
    for d in ("share", "tools"):
        shutil.rmtree(pub / d, ignore_errors=True)
        shutil.copytree(TOP / d, pub / d)
    subprocess.run(["chmod", "-R", "a+rX", str(pub)], check=True)
    return pub / "build/slipway", None if named else pub


def processes(mark):
    """What runs with `mark` among its environment or its arguments: {pid: command line}."""
    found = {}
    for p in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            argv, env = (p / "cmdline").read_bytes(), (p / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in argv or mark.encode() in env:
            found[int(p.name)] = argv.replace(b"\0", b" ").decode(errors="replace")
    return found


@pytest.fixture(scope="session")
def binary():
    assert BINARY.exists(), f"{BINARY} is not built"
    path, temporary = _publish()
    yield path
    if temporary:
        shutil.rmtree(temporary, ignore_errors=True)


def _configure(home):
    """Docker Hub is the layout of stand-ins."""
    conf = home / ".config/slipway"
    conf.mkdir(parents=True, exist_ok=True)
    (conf / "config.yml").write_text(f"registry:\n  mirrors:\n    docker.io: oci:{LAYOUT}\n")
    subprocess.run(["chmod", "-R", "a+rX", str(home / ".config")], check=True)


@pytest.fixture(scope="session")
def root(binary):
    """slipway as whoever runs the tests (root in CI)."""
    state = CACHE / "state"
    state.mkdir(parents=True, exist_ok=True)
    home = CACHE / "home"
    home.mkdir(exist_ok=True)
    _configure(home)
    me = pwd.getpwuid(os.geteuid())
    return Slipway(me.pw_name, binary, state, CACHE / "cache", me.pw_uid, me.pw_gid, home)


def _ordinary_user():
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "-m", "-s", "/bin/bash", USER], check=True)
        return pwd.getpwnam(USER)


@pytest.fixture(scope="session")
def user(binary, root):
    """slipway as an ordinary user made for it (with subordinate ids, as Debian's useradd gives them)."""
    if os.geteuid() != 0:
        return root
    pw = _ordinary_user()
    for f in ("/etc/subuid", "/etc/subgid"):
        text = pathlib.Path(f).read_text() if os.path.exists(f) else ""
        if not any(line.startswith(USER + ":") for line in text.splitlines()):
            pathlib.Path(f).write_text(text + f"{USER}:300000:65536\n")
    if os.path.exists("/dev/net/tun"):
        os.chmod("/dev/net/tun", 0o666)  # as udev has it on an ordinary Debian
    home = pathlib.Path(pw.pw_dir)
    subprocess.run(["loginctl", "enable-linger", USER], capture_output=True)
    cache = CACHE / "user-cache"
    cache.mkdir(parents=True, exist_ok=True)
    state = home / "state"
    state.mkdir(exist_ok=True)
    for d in (cache, state):
        os.chown(d, pw.pw_uid, pw.pw_gid)
    _configure(home)
    return Slipway(USER, binary, state, cache, pw.pw_uid, pw.pw_gid, home)


@pytest.fixture(scope="session", params=["root", "user"])
def sl(request):
    """Runs a test twice: as root and as an ordinary user."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def place(sl, tmp_path):
    """A fresh folder of the user that `sl` is."""
    d = tmp_path / "work"
    d.mkdir()
    os.chown(d, sl.uid, sl.gid)
    for p in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        os.chmod(p, os.stat(p).st_mode | 0o055)
    return d


@pytest.fixture(scope="session")
def standins():
    """The layout of stand-in images that both users have as their mirror of Docker Hub, made once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    subprocess.run([str(TOP / "tools/standin-images"), "make", "--nearest", "--out", str(LAYOUT), *STANDINS], check=True)
    subprocess.run(["chmod", "-R", "a+rX", str(LAYOUT)], check=True)
    return LAYOUT


@pytest.fixture(scope="session")
def _runners():
    return set()


@pytest.fixture
def runner(request, standins, _runners):
    """The runner image of the test's user is built before its time counts."""
    sl = request.getfixturevalue("sl" if "sl" in request.fixturenames else "root")
    if sl.name not in _runners:
        sl("runner", "build", "ubuntu-latest", timeout=900, check=0)
        _runners.add(sl.name)
