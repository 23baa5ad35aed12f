"""Runs one recipe in a root file system and writes what it changed as a layer.

Runs in namespaces of its own (host.namespace()), as root there. The job comes as a
JSON file: lower layers, recipe, apt settings, output. What it found out (versions)
goes to standard output as JSON; messages of programs go to a log.
"""
import importlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading

ASSETS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "assets")
STAGE = "/.standin"       # where sources, lists and so on are seen inside
# Never part of a layer: mount points, caches, what differs from run to run.
SKIP_UNDER = ("dev", "proc", "sys", "run", "tmp", "var/tmp", "var/cache/apt", "var/lib/apt/lists",
              "var/cache/debconf", "var/log", STAGE[1:])
SKIP = ("etc/resolv.conf", "etc/hostname", "etc/hosts", "var/cache/ldconfig/aux-cache",
        "var/lib/dpkg/status-old", "var/lib/dpkg/available-old", "var/lib/dpkg/diversions-old",
        "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-",
        "etc/.pwd.lock", "etc/mtab", "var/lib/apt/extended_states", "root/.rnd")


class Failed(Exception):
    pass


class Box:
    """The root file system that a recipe works on."""

    def __init__(self, job):
        self.job = job
        self.root = os.path.join(job["work"], "root")
        self.stage = os.path.join(job["work"], "stage")
        self.log = open(job["log"], "ab", buffering=0)
        self.arguments = job.get("arguments", {})
        self.without = []         # paths that the layer leaves out
        self.keep = []            # paths below SKIP_UNDER that the layer has all the same
        self.facts = {}           # what the image's configuration quotes

    # -- what recipes use ----------------------------------------------------
    def path(self, inside):
        return os.path.join(self.root, inside.lstrip("/"))

    def asset(self, name, inside, mode=0o644):
        with open(os.path.join(ASSETS, name), encoding="utf-8") as file:
            self.write(inside, file.read(), mode)

    def write(self, inside, text, mode=0o644):
        path = self.path(inside)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path):
            os.unlink(path)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)

    def run(self, *command, environment=None):
        """Runs a command inside; its output."""
        full = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive",
                "DEBCONF_NONINTERACTIVE_SEEN": "true"}
        for name, value in os.environ.items():
            if name.lower() in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
                full[name] = value
        full.update(environment or {})
        self.log.write(("+ %s\n" % " ".join(command)).encode())
        done = subprocess.run(["chroot", self.root, *command], env=full, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=self.log)
        self.log.write(done.stdout)
        if done.returncode:
            raise Failed("%s ended with %d" % (" ".join(command[:4]), done.returncode))
        return done.stdout.decode()

    def shell(self, script):
        return self.run("/bin/sh", "-ec", script)

    def apt(self, *packages, download=None):
        """Installs packages, or unpacks them below the folder `download`."""
        get = ["apt-get", "-y", "-q", *self._apt_options()]
        if not self.job["lists"] and not getattr(self, "_updated", False):
            self.run(*get, "update")
        self._updated = True
        if not download:
            self.run(*get, "install", "--no-install-recommends", *packages)
            return
        folder = STAGE + "/debs"
        os.makedirs(self.path(folder), exist_ok=True)
        self.shell("cd %s && apt-get -q %s download %s"
                   % (folder, " ".join("'%s'" % o for o in self._apt_options()),
                      " ".join(packages)))
        for name in sorted(os.listdir(self.path(folder))):
            self.run("dpkg-deb", "-x", folder + "/" + name, download)
        shutil.rmtree(self.path(folder))

    def wheels(self, *requirements):
        """Wheels from PyPI in a folder outside the image.

        Debian's pip does it, run on the host: it reads the host's pip configuration,
        which knows how to reach PyPI or a mirror of it.
        """
        self.apt("python3-pip-whl", download=STAGE + "/pip")
        packages = self.path(STAGE + "/pip/usr/share/python-wheels")
        pip = next(n for n in os.listdir(packages) if n.startswith("pip-"))
        folder = os.path.join(self.stage, "wheels")
        os.makedirs(folder, exist_ok=True)
        done = subprocess.run([sys.executable, os.path.join(packages, pip, "pip"), "download",
                               "-q", "--no-deps", "--no-cache-dir", "--only-binary", ":all:",
                               "--disable-pip-version-check", "-d", folder, *requirements],
                              stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.PIPE,
                              text=True)
        self.log.write(done.stderr.encode())
        if done.returncode:
            raise Failed("PyPI does not give %s" % " ".join(requirements))
        return folder

    def version(self, package):
        """The upstream version of an installed package."""
        text = self.run("dpkg-query", "-W", "-f", "${Version}", package)
        return text.partition(":")[2].rpartition("-")[0] if ":" in text \
            else text.rpartition("-")[0]

    # -- setting up ----------------------------------------------------------
    def _apt_options(self):
        options = ["-o", "Dir::Etc::sourcelist=%s/sources.list" % STAGE,
                   "-o", "Dir::Etc::sourceparts=%s/none" % STAGE,
                   "-o", "Dir::Etc::netrc=%s/netrc" % STAGE,
                   "-o", "Dir::State::lists=%s/lists" % STAGE,
                   "-o", "Dir::Cache=%s/cache" % STAGE,
                   "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none",
                   "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0"]
        for key, value in self.job["apt_options"]:
            options += ["-o", "%s=%s" % (key, value)]
        return options

    def unpack(self):
        os.makedirs(self.root)
        for blob in self.job["lower"]:
            done = subprocess.run(["tar", "-x", "--numeric-owner", "-p", "-C", self.root, "-f", blob],
                                  stderr=subprocess.PIPE, text=True)
            if done.returncode:
                raise Failed("cannot unpack a layer: " + done.stderr.strip())
        for folder in ("proc", "sys", "dev", STAGE[1:]):
            os.makedirs(self.path(folder), exist_ok=True)

    def mount(self):
        def do(*arguments):
            subprocess.run(["mount", *arguments], check=True, stdin=subprocess.DEVNULL,
                           stderr=self.log)
        os.makedirs(self.stage, exist_ok=True)
        for name in ("none", "lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(self.stage, name), exist_ok=True)
        do("--bind", self.stage, self.path(STAGE))
        try:
            do("-t", "proc", "proc", self.path("proc"))
        except subprocess.CalledProcessError:
            do("--rbind", "/proc", self.path("proc"))
        do("-t", "tmpfs", "-o", "mode=755", "tmpfs", self.path("dev"))
        for node in ("null", "zero", "full", "random", "urandom", "tty"):
            open(self.path("dev/" + node), "w").close()
            do("--bind", "/dev/" + node, self.path("dev/" + node))
        for name, target in (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"),
                             ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")):
            os.symlink(target, self.path("dev/" + name))
        os.makedirs(self.path("dev/shm"))
        resolver = self.path("etc/resolv.conf")
        if not os.path.lexists(resolver):
            open(resolver, "w").close()
        if os.path.exists("/etc/resolv.conf"):
            do("--bind", os.path.realpath("/etc/resolv.conf"), resolver)
        if os.path.exists("/etc/hosts") and os.path.exists(self.path("etc/hosts")):
            do("--bind", "/etc/hosts", self.path("etc/hosts"))
        with open(os.path.join(self.stage, "sources.list"), "w", encoding="utf-8") as file:
            file.write("\n".join(self.job["sources"]) + "\n")
        with open(os.path.join(self.stage, "netrc"), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            for path in self.job["netrc"]:
                with open(path, encoding="utf-8") as other:
                    file.write(other.read() + "\n")
        options = []
        for number, (key, value) in enumerate(self.job["apt_options"]):
            if key in self.job["apt_files"]:
                name = "file%d" % number
                shutil.copyfile(self.job["apt_files"][key], os.path.join(self.stage, name))
                value = STAGE + "/" + name
            options.append((key, value))
        self.job["apt_options"] = options
        if self.job["lists"]:
            shutil.copytree(self.job["lists"], os.path.join(self.stage, "lists"),
                            dirs_exist_ok=True)

    # -- the layer -----------------------------------------------------------
    def survey(self):
        """Every path and what identifies its state."""
        seen = {}
        stack = [""]
        while stack:
            folder = stack.pop()
            with os.scandir(os.path.join(self.root, folder)) as entries:
                for entry in entries:
                    name = folder + "/" + entry.name if folder else entry.name
                    if name in SKIP or name in SKIP_UNDER:
                        continue
                    state = entry.stat(follow_symlinks=False)
                    seen[name] = (state.st_mode, state.st_uid, state.st_gid,
                                  0 if stat.S_ISDIR(state.st_mode) else state.st_size,
                                  state.st_mtime_ns, state.st_ino)
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(name)
        return seen

    def pack(self, before):
        after = self.survey()
        for name in self.keep:
            after[name] = "kept"
        links = {}
        with tarfile.open(self.job["output"], "w", format=tarfile.PAX_FORMAT,
                          bufsize=1 << 20) as tar:
            for name in sorted(set(before) | set(after)):
                if any(name == w or name.startswith(w + "/") for w in self.without):
                    continue
                if name not in after:
                    parent = os.path.dirname(name)
                    if parent and parent not in after:
                        continue          # the whiteout of the folder covers it
                    info = tarfile.TarInfo(os.path.join(parent, ".wh." + os.path.basename(name)))
                    tar.addfile(info)
                    continue
                if before.get(name) == after[name]:
                    continue
                path = os.path.join(self.root, name)
                state = os.lstat(path)
                if stat.S_ISSOCK(state.st_mode):
                    continue
                info = tarfile.TarInfo(name)
                info.mode = stat.S_IMODE(state.st_mode)
                info.uid, info.gid = state.st_uid, state.st_gid
                info.mtime = int(state.st_mtime)
                if stat.S_ISDIR(state.st_mode):
                    info.type = tarfile.DIRTYPE
                    tar.addfile(info)
                elif stat.S_ISLNK(state.st_mode):
                    info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
                    tar.addfile(info)
                elif stat.S_ISREG(state.st_mode):
                    if state.st_nlink > 1 and state.st_ino in links:
                        info.type, info.linkname = tarfile.LNKTYPE, links[state.st_ino]
                        tar.addfile(info)
                        continue
                    links[state.st_ino] = name
                    info.size = state.st_size
                    with open(path, "rb") as file:
                        tar.addfile(info, file)
                elif stat.S_ISFIFO(state.st_mode):
                    info.type = tarfile.FIFOTYPE
                    tar.addfile(info)


def _unmount_all(work):
    with open("/proc/self/mounts", encoding="utf-8") as file:
        points = [line.split()[1] for line in file]
    for point in reversed(points):
        if point.startswith(work + "/"):
            subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL)


def _end_with_parent():
    """Ends this process, and with it all of its pid namespace, at the end of its input."""
    while os.read(0, 1):
        pass
    os._exit(1)


def _guard(command):
    """Runs a command whose process group ends with our input."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def watch():
        while os.read(0, 1):
            pass
        if os.getpid() == 1:              # our namespace ends with us
            os._exit(1)
        os.killpg(0, signal.SIGKILL)      # our own group: the caller made it

    threading.Thread(target=watch, daemon=True).start()
    return 1 if process.wait() else 0


def main(job_path):
    os.umask(0o022)
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    if job.get("command"):                # mmdebstrap, which makes namespaces of its own
        return _guard(job["command"])
    if job.get("remove"):                 # leftovers of subordinate owners
        shutil.rmtree(job["remove"], ignore_errors=True)
        return 0
    threading.Thread(target=_end_with_parent, daemon=True).start()
    box = Box(job)
    try:
        box.unpack()
        before = box.survey()
        box.mount()
        recipe = importlib.import_module("standin.recipes." + job["recipe"])
        recipe.make(box)
        box.pack(before)
        json.dump(box.facts, sys.stdout)
        return 0
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        print("standin-images: %s: %s" % (job["layer"], error), file=sys.stderr)
        return 1
    finally:
        _unmount_all(job["work"])
        shutil.rmtree(box.root, ignore_errors=True)
        shutil.rmtree(box.stage, ignore_errors=True)
