"""`slipway build`: real Dockerfiles, compared with what buildah makes of them (configuration and files), and what only
slipway promises: errors in one pass, a cache that says why, nothing of the host in an image."""
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import textwrap
import time

import pytest

from conftest import processes

TOP = pathlib.Path(__file__).resolve().parents[2]
BASE = "debian:bookworm-slim"


@pytest.fixture
def build(sl, place, standins):
    """build(dockerfile, files, *options) -> the completed process; build.save(tag) -> the image."""
    conf = place / "conf"
    conf.mkdir()
    (conf / "config.yml").write_text(f"registry:\n  mirrors:\n    docker.io: oci:{standins}\n")
    subprocess.run(["chmod", "-R", "a+rX", str(standins), str(conf)], check=True)

    class Build:
        ctx = place / "ctx"
        env = {"SLIPWAY_CONFIG": str(conf), "SLIPWAY_STATE": str(sl.state) + "-build"}

        def __call__(self, dockerfile, files=None, *args, check=0, name="Dockerfile", env=None, keep=False, **kw):
            if not keep:
                subprocess.run(["chmod", "-R", "u+rwx", str(self.ctx)], capture_output=True)
                shutil.rmtree(self.ctx, ignore_errors=True)
            write(self.ctx, dict(files or {}, **({name: dockerfile} if dockerfile is not None else {})))
            subprocess.run(["chown", "-R", f"{sl.uid}:{sl.gid}", str(self.ctx)], check=True)
            return sl("build", *args, str(self.ctx), env=dict(self.env, **(env or {})), check=check, **kw)

        def run(self, *args, **kw):
            return sl(*args, env=self.env, **kw)

        def save(self, tag):
            out = place / "image.tar"
            out.unlink(missing_ok=True)
            sl("image", "save", "-o", str(out), tag, env=self.env, check=0)
            return Image(out)

        def files(self, dockerfile, files=None, *args, **kw):
            self(dockerfile, files, "-t", "t/files", *args, **kw)
            return self.save("t/files")

    return Build()


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        f = folder / name
        f.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            f.write_bytes(text)
        elif isinstance(text, tuple):  # a symlink
            f.symlink_to(text[0])
        else:
            f.write_text(textwrap.dedent(text).lstrip("\n"))


class Image:
    """A docker archive: configuration, and the files that its layers come to."""

    def __init__(self, path):
        self.texts, self.mtimes = {}, {}
        with tarfile.open(path) as t:
            manifest = json.load(t.extractfile("manifest.json"))[0]
            self.config = json.load(t.extractfile(manifest["Config"]))
            self.layers = [self._entries(t.extractfile(name)) for name in manifest["Layers"]]
        self.tree = {}
        for layer in self.layers:
            self._apply(layer)

    def read(self, name):
        """The text of a small file."""
        return self.texts[self.tree[name][4]]

    def _entries(self, f):
        out = []
        with tarfile.open(fileobj=io.BytesIO(f.read())) as t:
            for m in t:
                data = None
                self.mtimes[m.name.strip("/").removeprefix("./")] = m.mtime
                if m.isreg():
                    text = t.extractfile(m).read()
                    data = hashlib.sha256(text).hexdigest()
                    if len(text) < 4096:
                        self.texts[data] = text.decode(errors="replace")
                out.append((m.name.strip("/").removeprefix("./"), m, data))
        return out

    def _apply(self, layer):
        for name, m, data in layer:
            folder, base = os.path.split(name)
            if base == ".wh..wh..opq":
                for k in [k for k in self.tree if k.startswith(folder + "/")]:
                    del self.tree[k]
            elif base.startswith(".wh."):
                gone = os.path.join(folder, base[4:])
                for k in [k for k in self.tree if k == gone or k.startswith(gone + "/")]:
                    del self.tree[k]
        for name, m, data in layer:
            if os.path.basename(name).startswith(".wh.") or name in ("", "."):
                continue
            if m.islnk():
                data = self.tree.get(m.linkname.strip("/").removeprefix("./"), (None,) * 5)[4]
            kind = "file" if m.isreg() or m.islnk() else "dir" if m.isdir() else "link" if m.issym() else "other"
            if kind != "dir":
                for k in [k for k in self.tree if k.startswith(name + "/")]:
                    del self.tree[k]
            self.tree[name] = (kind, None if m.issym() else m.mode & 0o7777, m.uid, m.gid, m.linkname if m.issym() else data)

    def __contains__(self, name):
        return name in self.tree

    def mode(self, name):
        return self.tree[name][1]

    def owner(self, name):
        return self.tree[name][2:4]

    def text(self, name, text):
        return self.tree[name][4] == hashlib.sha256(text.encode()).hexdigest()


# What engines put there for their own running.
NOISE = ("etc/group-", "etc/passwd-", "etc/shadow-", "etc/gshadow-", "etc/hosts", "etc/resolv.conf", "etc/hostname", "run/.containerenv", "proc", "sys", "dev", ".dockerenv")
CONFIG = ("Env", "Cmd", "Entrypoint", "WorkingDir", "User", "ExposedPorts", "Volumes", "Labels", "StopSignal", "Shell", "Healthcheck", "OnBuild")

CONTEXT = {
    "a.txt": "a\n", "b.txt": "b\n", "dir/x": "x\n", "dir/sub/y": "y\n", "dir/link": ("x",), "script.sh": "#!/bin/sh\necho hi\n",
    "requirements/base.txt": "django\n", "requirements/local.txt": "-r base.txt\n", "one.md": "1\n", "two.md": "2\n",
}
CASES = {
    "config": """
        FROM BASE
        ENV A=1 B="two words" C=three\\ words
        ENV OLD style with = in it
        ENV A=2 D=$A E=${A}-${NOPE:-dflt}
        LABEL one=1 "two"="zwei" three='$A'
        EXPOSE 80 443/tcp 53/udp
        VOLUME /data ["/ignored
        WORKDIR /srv
        WORKDIR app
        USER 1000:1000
        STOPSIGNAL SIGINT
        HEALTHCHECK --interval=5m --timeout=3s --retries=2 CMD curl -f http://localhost/ || exit 1
        ENTRYPOINT ["/bin/echo", "$A"]
        CMD echo "$A" done
        SHELL ["/bin/bash", "-c"]
        ONBUILD RUN echo later
        """.replace(' ["/ignored', ""),
    "entrypoint resets cmd": """
        FROM BASE
        CMD ["inherited"]
        ENTRYPOINT run me
        """,
    "copy": """
        FROM BASE
        COPY a.txt /new/deep/
        COPY a.txt b.txt /two/
        COPY dir /dir-contents
        COPY dir/ /dir-contents-slash/
        COPY *.md /md/
        COPY a.txt /renamed
        COPY a.txt /etc
        WORKDIR /work
        COPY b.txt .
        COPY ["a.txt", "with space"]
        COPY dir/sub/ ./sub/
        COPY ../a.txt /clamped
        """,
    "owners and modes": """
        FROM BASE
        RUN groupadd -g 1234 team && useradd -u 4321 -g 1234 someone
        COPY --chown=1:2 a.txt /o/numbers
        COPY --chown=someone:team dir /o/names
        COPY --chown=55 a.txt /o/uid
        COPY --chmod=640 a.txt /o/mode
        COPY script.sh /o/script
        """,
    "links in the image": """
        FROM BASE
        RUN mkdir -p /real/inner && ln -s /real /link && ln -s inner /real/rel
        COPY a.txt /link/
        COPY a.txt /link/rel/other
        COPY dir /link/dir
        """,
    "stages": """
        FROM BASE AS one
        RUN echo one > /result && mkdir /tree && echo t > /tree/t && chown 7:8 /tree/t
        FROM BASE AS two
        COPY --from=one /result /from-one
        COPY --from=0 /tree /tree
        RUN echo two > /result
        FROM two
        ARG UNSET
        ARG SET=value
        RUN echo "$SET/$UNSET" > /args
        COPY --from=one /result /again
        """,
    "run forms": """
        FROM BASE
        RUN echo shell > /shell
        RUN ["/bin/sh", "-c", "echo exec > /exec"]
        RUN echo a \\
        # a comment between

          b > /continued
        RUN rm -rf /usr/share/doc && echo x > /usr/share/doc
        RUN cd /etc && rm -r alternatives && mkdir alternatives && echo new > alternatives/n
        """,
    "add": """
        FROM BASE
        ADD a.txt /plain/
        ADD files.tar /tar/
        ADD files.tar.gz /gz/
        ADD dir /dir
        """,
}


def archive(mode):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode=mode) as t:
        for name, kind, extra in [("d", tarfile.DIRTYPE, {"mode": 0o750}), ("d/f", tarfile.REGTYPE, {"data": b"data\n", "uid": 5, "gid": 6, "mode": 0o4711}),
                                  ("d/s", tarfile.SYMTYPE, {"linkname": "f"}), ("h", tarfile.LNKTYPE, {"linkname": "d/f", "uid": 5, "gid": 6, "mode": 0o4711})]:
            m = tarfile.TarInfo(name)
            m.type = kind
            m.mtime = 1600000000
            data = extra.pop("data", b"")
            m.size = len(data)
            for k, v in extra.items():
                setattr(m, k, v)
            t.addfile(m, io.BytesIO(data))
    return b.getvalue()


CONTEXT["files.tar"] = archive("w")
CONTEXT["files.tar.gz"] = archive("w:gz")


@pytest.fixture(scope="session")
def buildah(root, standins, tmp_path_factory):
    if os.geteuid() != 0 or not shutil.which("buildah") or not shutil.which("skopeo"):
        pytest.skip("buildah as root is the reference")
    store = tmp_path_factory.mktemp("buildah")
    for driver in ("overlay", "vfs"):  # vfs copies the base for every step, and works everywhere
        place = store / driver
        opts = ["--root", str(place / "root"), "--runroot", str(place / "run"), "--storage-driver", driver]
        r = subprocess.run(["skopeo", "copy", "-q", f"oci:{standins}:docker.io/library/{BASE}",
                            f"containers-storage:[{driver}@{place}/root+{place}/run]docker.io/library/{BASE}"], capture_output=True, text=True)
        if r.returncode == 0:
            break
    assert r.returncode == 0, r.stderr

    def make(ctx, out, *args):
        r = subprocess.run(["buildah", *opts, "bud", "-q", "--isolation", "chroot", "--format", "docker", "--layers=false", "-t", "t/ref", *args, str(ctx)],
                           capture_output=True, text=True)
        assert r.returncode == 0, r.stderr[-3000:]
        out.unlink(missing_ok=True)
        subprocess.run(["buildah", *opts, "push", "-q", "t/ref", f"docker-archive:{out}"], check=True, capture_output=True)
        return Image(out)

    yield make
    subprocess.run(["buildah", *opts, "rmi", "-af"], capture_output=True)
    subprocess.run(["umount", str(store / "overlay/root/overlay")], capture_output=True)


def tidy(config):
    c = {k: config["config"].get(k) or None for k in CONFIG}
    if c["Labels"]:
        c["Labels"] = {k: v for k, v in c["Labels"].items() if not k.startswith("io.buildah")} or None
    if c["Healthcheck"]:
        c["Healthcheck"] = {k: v for k, v in c["Healthcheck"].items() if v}
    return c


REFERENCES = {}


@pytest.mark.parametrize("case", CASES)
def test_same_as_buildah(build, buildah, place, case):
    text = CASES[case].replace("BASE", BASE)
    ours = build.files(text, CONTEXT)
    if case not in REFERENCES:  # the same for every user of ours
        REFERENCES[case] = buildah(build.ctx, place / "ref.tar")
    theirs = REFERENCES[case]
    assert tidy(ours.config) == tidy(theirs.config)
    left = {k: v for k, v in ours.tree.items() if not k.startswith(NOISE)}
    right = {k: v for k, v in theirs.tree.items() if not k.startswith(NOISE)}
    different = {k: (left.get(k), right.get(k)) for k in left.keys() | right.keys() if left.get(k) != right.get(k)}
    assert not different, "\n".join(f"{k}: {v}" for k, v in sorted(different.items())[:40])


def test_history_and_layers(build):
    img = build.files(f"FROM {BASE}\nENV A=1\nRUN true\nRUN echo x > /x\nCOPY a.txt /\nCMD [\"sh\"]\n", CONTEXT)
    new = [h for h in img.config["history"] if "slipway" in h.get("comment", "")]
    assert [h["created_by"].split()[0] for h in new] == ["ENV", "RUN", "RUN", "COPY", "CMD"]
    assert [bool(h.get("empty_layer")) for h in new] == [True, True, False, False, True]
    assert len(img.config["rootfs"]["diff_ids"]) == len([h for h in img.config["history"] if not h.get("empty_layer")])
    assert new[2]["created_by"] == "RUN /bin/sh -c echo x > /x"


def test_ignore_files(build):
    files = {".dockerignore": "# all but\n*\n!keep\n!src/**/*.py\nkeep/not\n", "keep/yes": "1", "keep/not": "2", "src/a.py": "a", "src/deep/b.py": "b",
             "src/c.txt": "c", "top": "t"}
    img = build.files(f"FROM {BASE}\nCOPY . /ctx/\n", files)
    assert sorted(k for k, v in img.tree.items() if k.startswith("ctx/") and v[0] == "file") == ["ctx/keep/yes", "ctx/src/a.py", "ctx/src/deep/b.py"]
    # a Dockerfile's own ignore file wins
    img = build.files(f"FROM {BASE}\nCOPY . /ctx/\n", dict(files, **{"other.Dockerfile.dockerignore": "src\n"}), "-f", str(build.ctx / "other.Dockerfile"),
                      name="other.Dockerfile")
    assert "ctx/top" in img and "ctx/src" not in img


def test_heredocs(build):
    img = build.files(f"""FROM {BASE}
RUN <<EOF
set -e
echo one > /one
echo two > /two
EOF
RUN <<'EOF'
#!/usr/bin/perl
open(F, ">/perl"); print F "perl\\n";
EOF
RUN cat <<A > /a && cat <<-B > /b
$HOME
A
	tab
	B
ENV V=value
COPY --chmod=600 <<-expanded <<'plain' /dest/
	v=$V
expanded
v=$V
plain
""")
    assert img.text("one", "one\n") and img.text("two", "two\n") and img.text("perl", "perl\n")
    assert img.text("a", "/root\n") and img.text("b", "tab\n")
    assert img.text("dest/expanded", "v=value\n") and img.text("dest/plain", "v=$V\n") and img.mode("dest/plain") == 0o600


def test_cache_and_its_reasons(build):
    text = f"FROM {BASE}\nARG WHO=me\nCOPY src /src\nRUN echo $WHO > /who\nRUN ls -R /src > /list\n"
    now = time.time_ns()  # nothing that an earlier run has cached
    files = {"src/a": f"1 {now}", "src/b": "2", "unrelated": "x"}
    first = build(text, files, "-q").stdout
    assert build(None, {"unrelated": "y"}, "-q", keep=True).stdout == first
    r = build(None, {"src/a": f"changed {now}"}, "--explain", keep=True)
    assert "not cached: src/a changed" in r.stderr and "a step before it changed" in r.stderr
    r = build(None, {}, "--explain", "--build-arg", "WHO=you", keep=True)
    assert "not cached: WHO changed" in r.stderr and r.stderr.count("CACHED") == 1
    r = build(text.replace("ls -R", "ls -lR"), {}, "--explain", "--build-arg", "WHO=you", keep=True)
    assert "not cached: command changed" in r.stderr
    os.chmod(build.ctx / "src/b", 0o600)
    r = build(None, {}, "--explain", "--build-arg", "WHO=you", keep=True)
    assert "src/b has another mode" in r.stderr
    # --no-cache runs again, and what it made counts from then on
    text = f"FROM {BASE}\nRUN date +%s%N > /now\nRUN cat /now > /copy\n"
    a, b, c = (build(text, {}, "-q", *o).stdout for o in ([], ["--no-cache"], []))
    assert a != b and b == c


def test_copy_from_a_changed_stage_with_the_same_result(build):
    text = "FROM {0} AS one\nRUN echo {1} > /noise && echo same > /result\nFROM {0}\nCOPY --from=one /result /r\nRUN cat /r > /s\n"
    build(text.format(BASE, time.time_ns()))
    r = build(text.format(BASE, time.time_ns()))
    assert r.stderr.count("CACHED") == 2


def test_unneeded_stage_is_not_built_and_others_run_in_parallel(build):
    r = build(f"FROM {BASE} AS never\nRUN false\nFROM {BASE} AS a\nRUN sleep 2; date +%s%N > /end\nFROM {BASE} AS b\nRUN date +%s%N > /begin; sleep 2\n"
              f"FROM {BASE}\nCOPY --from=a /end /\nCOPY --from=b /begin /\nRUN test $(cat /begin) -lt $(cat /end)\n", {}, "--no-cache", "--parallel", "2")
    assert "false" not in r.stderr


def test_errors_in_one_pass_with_places(build):
    r = build("FROM x\nRUNN a\nCOPY a\nENV =\n", {}, check=2)
    assert "Dockerfile:2:1: error: unknown instruction: RUNN" in r.stderr and "did you mean RUN?" in r.stderr
    assert "Dockerfile:3:1:" in r.stderr and "Dockerfile:4:5:" in r.stderr and "    ^" in r.stderr
    r = build(f"FROM {BASE}\nRUN echo before && exit 7\n", {}, check=1)
    assert "before" in r.stderr and "exit code 7" in r.stderr and "Dockerfile:2" in r.stderr
    r = build(f"FROM {BASE}\nCOPY nope /\n", {}, check=1)
    assert "nope: not found" in r.stderr and "Dockerfile:2" in r.stderr
    r = build("FROM no.such.registry.invalid/x\n", {}, check=1)
    assert "no.such.registry.invalid" in r.stderr
    r = build(f"FROM {BASE}\n", {}, "--target", "nope", check=2)
    assert "no stage" in r.stderr


def test_mounts(build, place, sl):
    secret = place / "token"
    secret.write_text("s3cr3t-value")
    os.chown(secret, sl.uid, sl.gid)
    text = f"""FROM {BASE} AS other
RUN mkdir /lib2 && echo lib > /lib2/l
FROM {BASE}
RUN --mount=type=cache,target=/cache,id=t-slipway echo run >> /cache/log && wc -l < /cache/log > /lines
RUN --mount=type=bind,target=/ctx,source=dir cat /ctx/x > /bound && ! touch /ctx/new
RUN --mount=type=bind,target=/ctx/f,source=a.txt cat /ctx/f > /file
RUN --mount=type=bind,from=other,source=/lib2,target=/o,rw cat /o/l > /lib-copy && touch /o/written
RUN --mount=type=tmpfs,target=/t touch /t/x && grep ' /t ' /proc/mounts | cut -d' ' -f3 > /fstype
RUN --mount=type=secret,id=tok,mode=0400 test "$(cat /run/secrets/tok | wc -c)" = 12 && stat -c %a /run/secrets/tok > /mode
RUN --mount=type=secret,id=tok,env=TOKEN test "${{#TOKEN}}" = 12
"""
    img = build.files(text, CONTEXT, "--secret", f"id=tok,src={secret}")
    assert img.text("bound", "x\n") and img.text("file", "a\n") and img.text("lib-copy", "lib\n") and img.text("fstype", "tmpfs\n") and img.text("mode", "400\n")
    for gone in ("cache", "ctx", "o", "t", "run/secrets"):
        assert gone not in img, gone
    assert "s3cr3t" not in json.dumps(img.config)
    img2 = build.files(text, CONTEXT, "--secret", f"id=tok,src={secret}", "--no-cache")
    assert img2.tree["lines"][4] != img.tree["lines"][4]
    r = build(f"FROM {BASE}\nRUN --mount=type=secret,id=none,required=true true\n", {}, check=2)
    assert "secret \"none\" was not given" in r.stderr


def test_nothing_of_the_host_stays(build):
    env = {"HTTPS_PROXY": "http://proxy-of-the-host.invalid:3128", "https_proxy": "http://proxy-of-the-host.invalid:3128"}
    img = build.files(f"FROM {BASE}\nRUN echo $https_proxy | wc -c > /seen\nRUN true\n", {}, env=env)
    assert "proxy-of-the-host" not in json.dumps(img.config)
    assert not img.text("seen", "1\n")
    assert "etc/slipway" not in img and not any(k.startswith("run/slipway") for k in img.tree)
    # the proxy is no part of the key
    assert build(None, {}, keep=True).stderr.count("CACHED") == 2


def test_hostile_paths_stay_inside(build, place):
    def evil(*members):
        b = io.BytesIO()
        with tarfile.open(fileobj=b, mode="w") as t:
            for name, link in members:
                m = tarfile.TarInfo(name)
                if link:
                    m.type, m.linkname = tarfile.SYMTYPE, link
                else:
                    m.size = 1
                t.addfile(m, None if link else io.BytesIO(b"x"))
        return b.getvalue()

    build(f"FROM {BASE}\nADD evil.tar /dest/\n", {"evil.tar": evil(("out", "/etc"), ("out/evil", None))}, check=1)
    r = build(f"FROM {BASE}\nADD evil.tar /dest/\n", {"evil.tar": evil(("../../evil", None))}, check=1)
    assert "outside" in r.stderr
    (place / "outside").write_text("host secret")
    r = build(f"FROM {BASE}\nCOPY link /x\n", {"link": (str(place / "outside"),)}, check=1)
    assert "not found" in r.stderr
    img = build.files(f"FROM {BASE}\nRUN ln -s /../../../../../../etc /esc && rm -f /etc/motd\nCOPY a.txt /esc/motd\n", CONTEXT)
    assert img.text("etc/motd", "a\n")


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_what_is_mounted_on_is_no_link(build, name):
    """An image's own /proc and the like lead nowhere else, where a step could put something in their place."""
    r = build("FROM scratch\nCOPY d/ /\nRUN true\n", {f"d/{name}": ("../../../../../../../tmp",)}, check=3)
    assert f"the image's folder {name}: Not a directory" in r.stderr
    r = build("FROM scratch\nCOPY d/ /\nRUN true\n", {f"d/{name}": "a file\n"}, check=3)
    assert f"the image's folder {name}: Not a directory" in r.stderr


def test_archives_take_the_place_of_what_is_there(build):
    def tar(name, kind):
        b = io.BytesIO()
        with tarfile.open(fileobj=b, mode="w") as t:
            m = tarfile.TarInfo(name)
            m.type, m.mode = kind, 0o755
            t.addfile(m)
        return b.getvalue()

    img = build.files(f"FROM {BASE}\nRUN touch /file && mkdir /folder && touch /folder/x && ln -s /etc /link\nADD a.tar b.tar c.tar /\n",
                      {"a.tar": tar("file", tarfile.DIRTYPE), "b.tar": tar("folder", tarfile.REGTYPE), "c.tar": tar("link", tarfile.DIRTYPE)})
    assert [img.tree[n][0] for n in ("file", "folder", "link")] == ["dir", "file", "dir"] and "folder/x" not in img.tree
    r = build(f"FROM {BASE}\nRUN mkdir -p /folder/x\nCOPY x /folder/x\nCOPY x /folder\n", {"x": "1"}, check=None)
    assert r.returncode == 1 and "cannot replace the folder" in r.stderr


def test_folders_that_are_left_out_come_with_what_is_taken_in_again(build):
    files = {".dockerignore": "*\n!keep/deep/wanted\n!**/*.yes\n", "keep/deep/wanted": "1", "keep/other": "2", "none/of/it": "3", "some/a.yes": "4",
             "some/a.no": "5"}
    img = build.files("FROM scratch\nCOPY . /c/\n", files)
    assert sorted(n for n in img.tree if n.startswith("c/")) == ["c/keep", "c/keep/deep", "c/keep/deep/wanted", "c/some", "c/some/a.yes"]


def test_onbuild(build):
    build(f"FROM {BASE}\nONBUILD COPY a.txt /on/\nONBUILD RUN cat /on/a.txt > /ran\n", {}, "-t", "t/onbuild")
    img = build.files("FROM t/onbuild\nRUN test -f /ran\n", CONTEXT)
    assert img.text("ran", "a\n") and not img.config["config"].get("OnBuild")


TREES = {}


def test_same_files_as_root_and_as_a_user(build, sl):
    text = f"FROM {BASE}\nCOPY dir /dir\nCOPY --chown=1000:1000 a.txt /x/a\nADD files.tar.gz /y/\nRUN echo x > /z && chown 12:34 /z\n"
    build(text, {k: CONTEXT[k] for k in ("dir/x", "a.txt", "files.tar.gz")}, "-t", "t/same")
    TREES[sl.name] = build.save("t/same").tree
    assert len({json.dumps(t, sort_keys=True) for t in TREES.values()}) == 1


def test_kill_and_go_on(build, sl):
    mark = f"30.{time.time_ns()}"
    text = f"FROM {BASE}\nRUN echo one > /one\nRUN sleep {mark}\n"
    build("FROM scratch\nCOPY a.txt /\n", CONTEXT)
    write(build.ctx, {"Dockerfile": text})
    p = sl.popen("build", "--no-cache", str(build.ctx), env=build.env, stderr=subprocess.PIPE)
    deadline, seen = time.time() + 60, ""
    while "RUN sleep" not in seen and time.time() < deadline:
        seen += p.stderr.readline()
    p.kill()
    p.wait()
    p.stderr.close()
    r = build(text.replace(f"sleep {mark}", "true"), {})
    assert r.stderr.count("CACHED") == 1
    deadline = time.time() + 10
    while processes(mark) and time.time() < deadline:
        time.sleep(0.1)
    assert not processes(mark)


@pytest.mark.parametrize("dockerfile", ["compose/local/django/Dockerfile", "compose/local/docs/Dockerfile"])
def test_example(build, dockerfile):
    if not os.environ.get("SLIPWAY_SLOW"):
        pytest.skip("SLIPWAY_SLOW=1 (needs PyPI and Debian's archive)")
    shutil.rmtree(build.ctx, ignore_errors=True)
    shutil.copytree(TOP / "examples/django", build.ctx)
    build(None, {}, "-f", str(build.ctx / dockerfile), "-t", "t/example", keep=True, timeout=1500)
    img = build.save("t/example")
    assert img.config["config"]["Cmd"] and "app/manage.py" in img


def test_context_on_stdin(build, sl, place):
    tar = place / "context.tar.gz"
    with tarfile.open(tar, "w:gz") as t:
        for name, text in {"Dockerfile": f"FROM {BASE}\nCOPY a/ /x/\n", "a/b": "data\n", "not": "sent", ".dockerignore": "not\n"}.items():
            m = tarfile.TarInfo(name)
            m.size = len(text)
            t.addfile(m, io.BytesIO(text.encode()))
    os.chmod(tar, 0o644)
    env = " ".join(f"{k}={v}" for k, v in build.env.items())
    sl.sh(f"{env} {sl.binary} build -t t/stdin - < {tar}")
    assert build.save("t/stdin").text("x/b", "data\n")
    r = build.run("build", "-q", "-", input=f"FROM {BASE}\nRUN true\n")
    assert r.returncode == 0 and r.stdout.startswith("sha256:")
    r = build.run("build", "-", input=f"FROM {BASE}\nCOPY a /\n")
    assert r.returncode == 2 and "no build context" in r.stderr


CHECKED = """\
# check=skip=JSONArgsRecommended
ARG TAG=bookworm-slim
ARG NOTHING
# web the server
FROM debian:$TAG AS web
FROM --platform=linux/amd64 debian:${NOTHING} AS odd
FROM --platform=$TARGETPLATFORM debian:${TAGG:-bookworm-slim} AS typo
FROM scratch AS last
# PORT where it listens
ARG PORT=8000
COPY secret.txt $PORTS/
WORKDIR app
EXPOSE 80/TCP 127.0.0.1:81:81
CMD serve
RUN --mount=type=secret,id=pip,required=true --mount=type=cache,target=/c true
"""


def test_check_says_what_buildkit_says(build):
    files = {".dockerignore": "secret*\n"}
    r = build(CHECKED, files, "--check", "--build-arg", "NOTHING=bookworm-slim", check=None)
    assert r.returncode == 1
    for text in ("FROM argument 'TAGG' is not declared (did you mean TAG?)",
                 "Default value for ARG debian:${NOTHING} results in empty or invalid base image name",
                 "FROM --platform flag should not use constant value \"linux/amd64\"",
                 "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
                 "Usage of undefined variable '$PORTS' (did you mean $PORT?)",
                 "Attempting to Copy file \"secret.txt\" that is excluded by .dockerignore",
                 "Relative workdir \"app\" can have unexpected results if the base image changes",
                 "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
                 "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:81:81'"):
        assert text in r.stdout, text
    assert "JSONArgs" not in r.stdout
    assert "WARNING: UndefinedVar - https://docs.docker.com/go/dockerfile/rule/undefined-var/" in r.stdout
    assert "  11 | >>> COPY secret.txt $PORTS/" in r.stdout
    report = json.loads(build(CHECKED, files, "--call=check,format=json", "--build-arg", "NOTHING=bookworm-slim", check=None).stdout)
    assert {w["ruleName"] for w in report["warnings"]} >= {"UndefinedVar", "CopyIgnoredFile"}
    r = build("FROM scratch\nLABEL a=b\n", None, "--call", "check")
    assert r.stdout == "Check complete, no warnings found.\n"
    r = build("# check=error=true\nFROM scratch AS Base\nLABEL a=b\n", None, check=2)
    assert "lint violation found for rules: StageNameCasing" in r.stderr


def test_outline_and_targets(build):
    r = build(CHECKED, None, "--call=outline")
    assert "TARGET:              last" in r.stdout
    assert "PORT                 8000                 where it listens" in r.stdout
    assert "pip                  true" in r.stdout
    out = json.loads(build(CHECKED, None, "--call=targets,format=json").stdout)
    assert [t.get("name") for t in out["targets"]] == ["web", "odd", "typo", "last"]
    assert out["targets"][0]["description"] == "the server" and out["targets"][3]["default"]
