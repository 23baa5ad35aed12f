"""An OCI image layout with one descriptor for each name, and the records of its layers."""
import contextlib
import fcntl
import hashlib
import json
import os
import sys

REF = "org.opencontainers.image.ref.name"
STANDIN = "io.slipway.standin"
OF = "io.slipway.standin.of"
DIFFERENCE = "io.slipway.standin.difference"
RECIPE = "io.slipway.standin.recipe"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
# Layers stay uncompressed: the fastest to make and to unpack, and digest = diff id.
LAYER = "application/vnd.oci.image.layer.v1.tar"


def default_folder():
    if os.geteuid() == 0 and "XDG_CACHE_HOME" not in os.environ:
        return "/var/cache/slipway/standins"
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "slipway", "standins")


class Layout:
    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        self.blobs = os.path.join(self.folder, "blobs", "sha256")

    # Reading needs no lock: index and records are replaced, never rewritten.
    def _read(self, name, otherwise):
        try:
            with open(os.path.join(self.folder, name), "rb") as file:
                return json.load(file)
        except FileNotFoundError:
            return otherwise
        except ValueError:
            return otherwise

    def index(self):
        return self._read("index.json", {"schemaVersion": 2, "manifests": []})

    def records(self):
        """Layers made so far: recipe id -> digest, size, facts."""
        return self._read("standins.json", {"layers": {}})

    def find(self, name, recipe=None):
        """The descriptor of a name, if its manifest is there and of this recipe."""
        for entry in self.index()["manifests"]:
            notes = entry.get("annotations", {})
            if notes.get(REF) == name and (recipe is None or notes.get(RECIPE) == recipe):
                if self.has(entry["digest"]):
                    return entry
        return None

    def path(self, digest):
        return os.path.join(self.blobs, digest.partition(":")[2])

    def has(self, digest):
        return os.path.exists(self.path(digest))

    def prepare(self):
        os.makedirs(self.blobs, exist_ok=True)
        if not os.path.exists(os.path.join(self.folder, "oci-layout")):
            self._write("oci-layout", {"imageLayoutVersion": "1.0.0"})

    @contextlib.contextmanager
    def lock(self):
        self.prepare()
        with open(os.path.join(self.folder, ".lock"), "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("waiting for another standin-images in %s" % self.folder, file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _write(self, name, value):
        path = os.path.join(self.folder, name)
        temporary = "%s.%d.tmp" % (path, os.getpid())
        with open(temporary, "w") as file:
            json.dump(value, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)

    def write_index(self, index):
        index["mediaType"] = "application/vnd.oci.image.index.v1+json"
        index["manifests"].sort(key=lambda e: e.get("annotations", {}).get(REF, ""))
        self._write("index.json", index)

    def write_records(self, records):
        self._write("standins.json", records)

    def add_json(self, value):
        data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            temporary = self.path(digest) + ".tmp"
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, self.path(digest))
        return digest, len(data)

    def add_file(self, path):
        """Moves a file of the same file system in; its digest and size."""
        checksum = hashlib.sha256()
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                checksum.update(chunk)
            size = file.tell()
            os.fsync(file.fileno())
        digest = "sha256:" + checksum.hexdigest()
        os.chmod(path, 0o644)
        os.rename(path, self.path(digest))
        return digest, size

    def sweep(self):
        """Removes blobs that nothing names any more; the number of bytes freed."""
        index, records = self.index(), self.records()
        used = set()
        for entry in index["manifests"]:
            used.add(entry["digest"])
            try:
                with open(self.path(entry["digest"]), "rb") as file:
                    manifest = json.load(file)
            except (OSError, ValueError):
                continue
            used.add(manifest["config"]["digest"])
            used.update(layer["digest"] for layer in manifest["layers"])
        records["layers"] = {key: layer for key, layer in records["layers"].items()
                             if layer["digest"] in used}
        self.write_records(records)
        freed = 0
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.blobs):
                if "sha256:" + name not in used:
                    freed += os.path.getsize(os.path.join(self.blobs, name))
                    os.unlink(os.path.join(self.blobs, name))
        return freed
