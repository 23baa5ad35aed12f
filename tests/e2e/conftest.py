"""What the end-to-end tests share: the built slipway as root and as an ordinary user, each with a
state of its own that outlives the run (runner images and stand-ins are made once), and repositories.

  $SLIPWAY             the binary (build/slipway)
  $SLIPWAY_TEST_CACHE  where states and stand-ins live (~/.cache/slipway-tests)
"""
import os
import pathlib
import pwd
import shutil
import subprocess
import textwrap

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("SLIPWAY") or TOP / "build/slipway").resolve()
CACHE = pathlib.Path(os.environ.get("SLIPWAY_TEST_CACHE") or pathlib.Path.home() / ".cache/slipway-tests")
USER = "slipway-test"


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
        return subprocess.Popen([str(self.binary), *map(str, args)], cwd=cwd or self.home, env=dict(self.env, **(env or {})),
                                text=True, **self._identity(), **kw)

    def __call__(self, *args, cwd=None, env=None, timeout=600, check=None, input=None):
        r = subprocess.run([str(self.binary), *map(str, args)], cwd=cwd or self.home, env=dict(self.env, **(env or {})),
                           capture_output=True, text=True, timeout=timeout, input=input, errors="replace", **self._identity())
        if check is not None:
            assert r.returncode == check, f"{args}: exit {r.returncode}\n--- stdout\n{r.stdout[-6000:]}\n--- stderr\n{r.stderr[-3000:]}"
        return r

    def sh(self, script, cwd=None, check=True):
        r = subprocess.run(["bash", "-ec", script], cwd=cwd or self.home, env=self.env, capture_output=True, text=True, **self._identity())
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
    pub = pathlib.Path(os.environ.get("SLIPWAY_TEST_BIN") or "/var/tmp/slipway-test-bin")
    if os.geteuid() != 0:
        return BINARY
    (pub / "build").mkdir(parents=True, exist_ok=True)
    os.chmod(pub, 0o755)
    tmp = pub / "build/slipway.new"
    shutil.copy2(BINARY, tmp)
    os.replace(tmp, pub / "build/slipway")
    for d in ("share", "tools"):
        shutil.rmtree(pub / d, ignore_errors=True)
        shutil.copytree(TOP / d, pub / d)
    subprocess.run(["chmod", "-R", "a+rX", str(pub)], check=True)
    return pub / "build/slipway"


@pytest.fixture(scope="session")
def binary():
    assert BINARY.exists(), f"{BINARY} is not built"
    return _publish()


@pytest.fixture(scope="session")
def root(binary):
    """slipway as whoever runs the tests (root in CI)."""
    state = CACHE / "state"
    state.mkdir(parents=True, exist_ok=True)
    home = CACHE / "home"
    home.mkdir(exist_ok=True)
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
    subprocess.run(["chmod", "a+x", str(CACHE), str(CACHE.parent), str(CACHE.parent.parent)])
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
def standins(root):
    """The layout of stand-in images (python, postgres, redis, debian, ubuntu), made once."""
    layout = root.cache / "standins"
    subprocess.run([str(TOP / "tools/standin-images"), "make", "--nearest", "--out", str(layout), "debian:bookworm-slim", "ubuntu:24.04",
                    "python:3.11-slim-bookworm", "postgres:15", "redis:7"], check=True)
    return layout
