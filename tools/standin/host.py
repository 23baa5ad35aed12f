"""What this machine offers: Debian mirrors, apt options, certificates, namespaces."""
import glob
import os
import re
import shutil
import subprocess

SUITE = "bookworm"
PUBLIC = ["deb http://deb.debian.org/debian bookworm main",
          "deb http://deb.debian.org/debian bookworm-updates main",
          "deb http://deb.debian.org/debian-security bookworm-security main"]
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Cannot(Exception):
    """This host cannot do it; the text says what is missing and what mends it."""


def _deb822(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    for block in re.split(r"\n\s*\n", text):
        fields = {}
        for line in block.splitlines():
            if line.startswith("#") or ":" not in line or line[:1].isspace():
                continue
            key, _, value = line.partition(":")
            fields[key.strip().lower()] = value.split()
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"]) != ["no"]:
            for uri in fields.get("uris", []):
                for suite in fields.get("suites", []):
                    yield uri, suite


def _one_line(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            match = re.match(r"\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)", line)
            if match:
                yield match.group(1), match.group(2)


def sources():
    """Lines for Debian 12, from the host's own mirrors where it has them, and their origin."""
    if os.environ.get("SLIPWAY_DEBIAN_MIRROR"):
        mirror = os.environ["SLIPWAY_DEBIAN_MIRROR"].rstrip("/")
        return ["deb %s bookworm main" % mirror, "deb %s bookworm-updates main" % mirror], mirror
    found = {}
    files = ["/etc/apt/sources.list"] if os.path.exists("/etc/apt/sources.list") else []
    for path in files + sorted(glob.glob("/etc/apt/sources.list.d/*")):
        reader = _deb822 if path.endswith(".sources") else \
            _one_line if path.endswith(".list") else None
        if reader is None:
            continue
        try:
            for uri, suite in reader(path):
                if suite in (SUITE, SUITE + "-updates", SUITE + "-security"):
                    found.setdefault(suite, "deb %s %s main" % (uri, suite))
        except OSError:
            continue
    if SUITE not in found:
        return PUBLIC, "deb.debian.org"
    lines = [found[SUITE]]
    lines += [found[s] for s in (SUITE + "-updates", SUITE + "-security") if s in found]
    return lines, found[SUITE].split()[1]


# apt options that say how the host reaches its mirrors, and which of them name files
_KEPT = re.compile(r"^(Acquire::(https?|ftp)(::|$)|Acquire::Check-|Acquire::Retries|"
                   r"Acquire::AllowInsecure|Acquire::socks)", re.I)
_FILES = re.compile(r"::(CAInfo|SslCert|SslKey|CrlFile)$", re.I)


def apt_options():
    """The host's options for reaching mirrors: ([(key, value)], {key: file})."""
    options, files = [], {}
    try:
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True,
                              check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return options, files
    for line in dump.splitlines():
        match = re.match(r'^(\S+) "(.*)";$', line)
        if not match or not _KEPT.match(match.group(1)) or match.group(1).endswith("::"):
            continue
        key, value = match.groups()
        if value == "":
            continue
        if _FILES.search(key) and os.path.exists(value):
            files[key] = value
        options.append((key, value))
    if not any(key.lower() == "acquire::https::cainfo" for key, _ in options):
        for bundle in (os.environ.get("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt"):
            if bundle and os.path.exists(bundle):
                options.append(("Acquire::https::CAInfo", bundle))
                files["Acquire::https::CAInfo"] = bundle
                break
    return options, files


def netrc_files():
    paths = ["/etc/apt/auth.conf"] + sorted(glob.glob("/etc/apt/auth.conf.d/*.conf"))
    return [p for p in paths if os.access(p, os.R_OK)]


def _subordinate(path, user, uid):
    try:
        with open(path, encoding="utf-8") as file:
            return any(line.split(":")[0] in (user, str(uid)) for line in file)
    except OSError:
        return False


def check():
    """Raises Cannot unless mmdebstrap and the namespaces that it needs are here."""
    missing = [p for p in ("mmdebstrap", "unshare", "tar", "dpkg-deb") if not shutil.which(p)]
    if missing:
        packages = {"unshare": "util-linux", "dpkg-deb": "dpkg"}
        raise Cannot("%s not found; sudo apt-get install -y %s"
                     % (", ".join(missing), " ".join(packages.get(m, m) for m in missing)))
    if not os.path.exists(KEYRING):
        raise Cannot("Debian's archive keys are not here; "
                     "sudo apt-get install -y debian-archive-keyring")
    if os.geteuid() == 0:
        return
    import pwd
    uid = os.geteuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    if not (_subordinate("/etc/subuid", user, uid) and _subordinate("/etc/subgid", user, uid)):
        raise Cannot("user %s has no subordinate ids; "
                     "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s"
                     % (user, user))
    if not shutil.which("newuidmap"):
        raise Cannot("newuidmap not found; sudo apt-get install -y uidmap")
    probe = subprocess.run(namespace() + ["true"], capture_output=True, text=True)
    if probe.returncode:
        raise Cannot("user namespaces do not work here: %s" % probe.stderr.strip())


def namespace():
    """The command before a command that needs to be root over a root file system."""
    if os.geteuid() == 0:
        return ["unshare", "--mount", "--propagation", "private", "--pid", "--fork",
                "--kill-child"]
    return ["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--propagation",
            "private", "--pid", "--fork", "--kill-child"]
