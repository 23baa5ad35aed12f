"""Makes layers and images that are missing."""
import concurrent.futures
import contextlib
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from standin import catalog, host, layout
from standin.cli import CANNOT, FAILED, OK, image_id, recipe_id, say, size_text
from standin.recipes import debian

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))),
                       "standin-images")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Failure(Exception):
    pass


class Maker:
    def __init__(self, options, work):
        self.options = options
        self.store = options.store
        self.work = work
        self.sources, self.origin = host.sources()
        self.apt_options, self.apt_files = host.apt_options()
        self.lists = None                 # apt's lists, when the base was made just now
        self.records = self.store.records()
        self.running = []
        self.guard = threading.Lock()

    def log(self, name):
        return os.path.join(self.work, name + ".log")

    def failure(self, name, code):
        text = ""
        with contextlib.suppress(OSError):
            with open(self.log(name), encoding="utf-8", errors="replace") as file:
                text = "".join(file.readlines()[-25:])
        return Failure("making %s failed (%d)\n%s" % (name, code, text))

    def start(self, command, name, **more):
        """Runs a program whose messages go to the log of `name`; its exit code and output."""
        error = None if self.options.verbose else open(self.log(name), "ab")
        # a worker ends when its standard input does, whatever happened to this process
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=error,
                                   start_new_session=True, **more)
        with self.guard:
            self.running.append(process)
        output = process.stdout.read() if process.stdout else None
        process.wait()
        process.stdin.close()
        with self.guard:
            self.running.remove(process)
        return process.returncode, output

    def stop(self):
        with self.guard:
            for process in self.running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def layer(self, name):
        record = self.records["layers"].get(recipe_id(name))
        return record if record and self.store.has(record["digest"]) else None

    def keep(self, name, path, facts, began):
        digest, size = self.store.add_file(path)
        with self.guard:
            self.records["layers"][recipe_id(name)] = {
                "layer": name, "digest": digest, "size": size, "facts": facts,
                "made": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            self.store.write_records(self.records)
        say("  %-12s %10s  %5.1f s" % (name, size_text(size), time.monotonic() - began))

    def make_debian(self):
        began = time.monotonic()
        say("making debian: about 30 MB of packages from %s" % self.origin)
        output = os.path.join(self.work, "debian.tar")
        files = os.path.join(self.work, "files")
        for name, text in debian.FILES.items():
            path = os.path.join(files, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(path, 0o755 if name in debian.EXECUTABLE else 0o644)
        lists = os.path.join(self.work, "lists")
        os.makedirs(lists)
        command = ["mmdebstrap", "--mode=" + ("root" if os.geteuid() == 0 else "unshare"),
                   "--variant=minbase", "--format=tar", "--skip=output/dev",
                   "--keyring=" + host.KEYRING]
        # a merged /usr from the start: the package that merges it would bring all of Perl
        hooks = "/usr/share/mmdebstrap/hooks/merged-usr"
        if os.path.isdir(hooks):
            command.append("--hook-dir=" + hooks)
        command += ["--aptopt=%s \"%s\"" % pair for pair in self.apt_options]
        command += ["--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Retries \"3\""]
        command += ["--dpkgopt=" + line for line in debian.DPKG]
        command += ["--customize-hook=sync-in %s /" % files,
                    "--customize-hook=cd \"$1\" && rm -rf " + " ".join(debian.REMOVED)
                    + " && chown -R 0:0 etc/dpkg etc/apt usr/sbin/policy-rc.d",
                    "--customize-hook=rm -f \"$1\"/var/cache/apt/*.bin",
                    "--customize-hook=copy-out /var/lib/apt/lists %s" % self.work]
        command += [host.SUITE, "-"] + self.sources
        job = os.path.join(self.work, "debian.json")
        with open(job, "w", encoding="utf-8") as file:
            json.dump({"command": command}, file)
        environment = dict(os.environ, TMPDIR=_temporary(self.work))
        with open(output, "wb") as file:
            # as root it mounts where it is started; as a user it makes its own namespaces
            prefix = host.namespace() + ["--mount-proc"] if os.geteuid() == 0 else []
            code, _ = self.start(prefix + [sys.executable, PROGRAM, "--worker", job], "debian",
                                 stdout=file, env=environment)
        if code:
            raise self.failure("debian", code)
        # mmdebstrap needs the options of this host to the end, and removes its own policy-rc.d
        for command in (["tar", "--delete", "-f", output] + ["./" + n for n in debian.OPTIONS],
                        ["tar", "--append", "-f", output, "--owner=0:0", "--group=0:0",
                         "-C", files] + ["./" + n for n in debian.EXECUTABLE]):
            code, _ = self.start(command, "debian")
            if code:
                raise self.failure("debian", code)
        self.lists = lists
        self.keep("debian", output, {}, began)

    def make_layer(self, name):
        began = time.monotonic()
        spec = catalog.LAYERS[name]
        work = os.path.join(self.work, name)
        os.makedirs(work)
        output = os.path.join(self.work, name + ".tar")
        job = {"layer": name, "recipe": spec["recipe"], "arguments": spec.get("arguments", {}),
               "lower": [self.store.path(self.layer(p)["digest"]) for p in spec["parents"]],
               "work": work, "output": output, "log": self.log(name),
               "sources": self.sources, "apt_options": self.apt_options,
               "apt_files": self.apt_files, "netrc": host.netrc_files(), "lists": self.lists}
        path = os.path.join(self.work, name + ".json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(job, file)
        code, answer = self.start(host.namespace() + [sys.executable, PROGRAM, "--worker", path],
                                  name, stdout=subprocess.PIPE)
        if code:
            raise self.failure(name, code)
        self.keep(name, output, json.loads(answer), began)

    def chain(self, top):
        return catalog.LAYERS[top]["parents"] + [top]

    def make_image(self, resolved):
        """Writes configuration and manifest; the descriptor."""
        top, configuration = catalog.IMAGES[resolved.canonical]
        layers = [self.layer(name) for name in self.chain(top)]
        facts = {}
        for layer in layers:
            facts.update(layer["facts"])
        exact = catalog.resolve(resolved.canonical)
        configuration = dict(configuration)
        configuration["Env"] = [value.format(**facts) if "{" in value else value
                                for value in configuration["Env"]]
        configuration["Labels"] = {layout.STANDIN: "true", layout.OF: resolved.standin,
                                   layout.DIFFERENCE: exact.difference}
        made = max(layer["made"] for layer in layers)
        machine = os.uname().machine
        digest, size = self.store.add_json({
            "architecture": ARCHITECTURES.get(machine, machine), "os": "linux", "created": made,
            "config": configuration,
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
            "history": [{"created": layer["made"],
                         "created_by": "standin-images: " + layer["layer"]} for layer in layers]})
        manifest, length = self.store.add_json({
            "schemaVersion": 2, "mediaType": layout.MANIFEST,
            "config": {"mediaType": layout.CONFIG, "digest": digest, "size": size},
            "layers": [{"mediaType": layout.LAYER, "digest": layer["digest"],
                        "size": layer["size"]} for layer in layers],
            "annotations": {layout.STANDIN: "true", layout.OF: resolved.standin,
                            layout.DIFFERENCE: exact.difference}})
        return {"mediaType": layout.MANIFEST, "digest": manifest, "size": length,
                "platform": {"architecture": ARCHITECTURES.get(machine, machine), "os": "linux"}}

    def name_images(self, wanted):
        index = self.store.index()
        for resolved in wanted:
            descriptor = self.make_image(resolved)
            exact = catalog.resolve(resolved.canonical)
            for name, difference in ((resolved.standin, exact.difference),
                                     (resolved.ref, resolved.difference)):
                entry = dict(descriptor, annotations={
                    layout.REF: name, layout.STANDIN: "true", layout.DIFFERENCE: difference,
                    layout.OF: name, "io.slipway.standin.by": resolved.standin,
                    layout.RECIPE: image_id(resolved)})
                index["manifests"] = [e for e in index["manifests"]
                                      if e.get("annotations", {}).get(layout.REF) != name]
                index["manifests"].append(entry)
            # names given earlier mean the same image
            for entry in index["manifests"]:
                notes = entry.get("annotations", {})
                if notes.get("io.slipway.standin.by") == resolved.standin:
                    entry.update(descriptor)
                    notes[layout.RECIPE] = image_id(resolved)
        self.store.write_index(index)

    def make_all(self, wanted):
        needed = []
        for resolved in wanted:
            for name in self.chain(catalog.IMAGES[resolved.canonical][0]):
                if name not in needed and not self.layer(name):
                    needed.append(name)
        if "debian" in needed:
            self.make_debian()
            needed.remove("debian")
        # a layer starts when those below it are there
        with concurrent.futures.ThreadPoolExecutor(max(1, self.options.jobs)) as pool:
            pending = {}
            try:
                while needed or pending:
                    for name in list(needed):
                        if all(self.layer(p) for p in catalog.LAYERS[name]["parents"]) \
                                and len(pending) < max(1, self.options.jobs):
                            needed.remove(name)
                            say("making %s" % name)
                            pending[pool.submit(self.make_layer, name)] = name
                    done, _ = concurrent.futures.wait(
                        pending, return_when=concurrent.futures.FIRST_COMPLETED)
                    for future in done:
                        del pending[future]
                        future.result()
            except BaseException:
                self.stop()
                raise
        self.name_images(wanted)
        self.store.sweep()


def _temporary(work):
    """A folder for mmdebstrap that goes with the work folder.

    A user's subordinate ids cannot pass a home that is closed to others: theirs lies in
    /tmp, and a link remembers it.
    """
    link = os.path.join(work, "tmp")
    if os.geteuid() == 0:
        os.mkdir(link)
    else:
        folder = tempfile.mkdtemp(prefix="standin-")
        os.chmod(folder, 0o755)
        os.symlink(folder, link)
    return os.path.realpath(link)


def _remove(folder):
    """Removes a work folder, whoever owns what is in it."""
    if os.path.islink(os.path.join(folder, "tmp")):
        _remove(os.path.realpath(os.path.join(folder, "tmp")))
    # mounts are private to workers; should one be here all the same, nothing goes through it
    with open("/proc/self/mounts", encoding="utf-8") as file:
        if any(line.split()[1].startswith(os.path.realpath(folder) + "/") for line in file):
            say("standin-images: something is mounted below %s; it is left alone" % folder)
            return
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.exists(folder) and os.geteuid() != 0:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"remove": folder}, file)
            file.flush()
            subprocess.run(host.namespace() + [sys.executable, PROGRAM, "--worker", file.name],
                           stderr=subprocess.DEVNULL)


def run(options, wanted):
    store = options.store
    try:
        host.check()
        with store.lock():
            # whatever lies here belongs to a process that is gone: the lock was free
            for name in os.listdir(store.folder):
                if name.startswith("work-") or name.endswith(".tmp"):
                    path = os.path.join(store.folder, name)
                    if os.path.isdir(path):
                        _remove(path)
                    else:
                        os.unlink(path)
            began = time.monotonic()
            work = tempfile.mkdtemp(prefix="work-", dir=store.folder)
            os.chmod(work, 0o755)
            try:
                Maker(options, work).make_all(wanted)
            finally:
                _remove(work)
            say("%d image%s in %s  %.1f s" % (len(wanted), "s" if len(wanted) != 1 else "",
                                             store.folder, time.monotonic() - began))
            for resolved in wanted:
                say("  %s: %s" % (resolved.ref, resolved.difference))
    except host.Cannot as error:
        say("standin-images: %s" % error)
        return CANNOT
    except Failure as error:
        say("standin-images: %s" % error)
        return FAILED
    return OK
