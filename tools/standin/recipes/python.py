"""CPython in /usr/local, as the official image has it, from Debian's packages.

The packages are unpacked, not installed: Debian's own Python may be installed beside
it with apt and neither sees the other. Debian's changes to where packages go
(dist-packages) are taken back.
"""
import os
import re
import shutil
import struct

VERSION = "3.11"
PACKAGES = ("python3.11", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib",
            "libpython3.11", "libpython3.11-dev", "python3.11-dev", "python3.11-venv",
            "python3-distutils", "python3-gdbm", "python3-lib2to3")
# Debian's own wheels of these install into dist-packages; the official image has these
WHEELS = ("pip==24.0", "setuptools==65.5.1", "wheel==0.45.1")
# what the interpreter and its extension modules are linked with
LIBRARIES = ("ca-certificates", "netbase", "tzdata", "media-types", "libbz2-1.0", "libdb5.3",
             "libexpat1", "libffi8", "libgdbm6", "liblzma5", "libncursesw6", "libnsl2",
             "libreadline8", "libsqlite3-0", "libssl3", "libtirpc3", "libuuid1", "zlib1g")


def _edit(path, *changes):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for old, new in changes:
        text, count = re.subn(old, new, text, flags=re.S)
        if not count:
            raise OSError("%s is not as expected: %s" % (os.path.basename(path), old[:50]))
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _thaw_site(path):
    """Makes the interpreter read `site` from its file.

    The module is also compiled into the program, with Debian's paths. In the table of
    such modules its name is made to point one character on, so that nothing finds it.
    """
    with open(path, "rb") as file:
        data = bytearray(file.read())
    if data[:6] != b"\x7fELF\x02\x01":
        raise OSError("the interpreter is not a 64-bit ELF program")
    offset, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = []
    for number in range(count):
        kind, _, at, address, _, length = struct.unpack_from("<IIQQQQ", data,
                                                             offset + number * size)
        if kind == 1:
            segments.append((at, address, length))

    def address_of(position):
        for at, address, length in segments:
            if at <= position < at + length:
                return address + position - at
        return None

    def mapped(address):
        return any(start <= address < start + length for _, start, length in segments)

    found = []
    start = data.find(b"site\0")
    while start >= 0:
        address = address_of(start)
        pointer = struct.pack("<Q", address) if address else None
        place = data.find(pointer) if pointer else -1
        while place >= 0:
            # struct _frozen: name, code, size, is_package, get_code; the code is a function
            if place % 8 == 0 and place + 32 <= len(data):
                _, code, length, package, function = struct.unpack_from("<QQiiQ", data, place)
                if (code, length, package) == (0, 0, 0) and mapped(function):
                    found.append((place, address))
            place = data.find(pointer, place + 1)
        start = data.find(b"site\0", start + 1)
    if len(found) != 1:
        raise OSError("the table of built-in modules was not found in the interpreter")
    place, address = found[0]
    struct.pack_into("<Q", data, place, address + 1)
    with open(path, "wb") as file:
        file.write(data)


def make(box):
    box.apt(*LIBRARIES)
    box.apt(*PACKAGES, download="/.standin/python")
    source = box.path("/.standin/python/usr")
    local = box.path("usr/local")
    library = os.path.join(local, "lib/python3.11")
    machine = next(n for n in os.listdir(os.path.join(source, "lib"))
                   if n.endswith("-linux-gnu"))

    shutil.copytree(os.path.join(source, "lib/python3.11"), library, symlinks=True, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("EXTERNALLY-MANAGED", "sitecustomize.py",
                                                  "_distutils_system_mod.py", "test", "__pycache__",
                                                  "libpython3.11*.a", "python.o"))
    # distutils and lib2to3 come from packages of their own
    for name in ("lib/python3.11", "lib/python3"):
        for module in ("distutils", "lib2to3"):
            extra = os.path.join(source, name, module)
            if os.path.isdir(extra):
                shutil.copytree(extra, os.path.join(library, module), dirs_exist_ok=True)
    for folder in ("lib/python3/dist-packages", "lib/python3.11/dist-packages"):
        extra = os.path.join(source, folder)
        for name in os.listdir(extra) if os.path.isdir(extra) else ():
            if name.endswith(".so"):
                shutil.copy(os.path.join(extra, name), os.path.join(library, "lib-dynload"))
    os.makedirs(os.path.join(library, "site-packages"), exist_ok=True)
    shutil.copytree(os.path.join(source, "include/python3.11"),
                    os.path.join(local, "include/python3.11"), dirs_exist_ok=True)
    shutil.copyfile(os.path.join(source, "include", machine, "python3.11/pyconfig.h"),
                    os.path.join(local, "include/python3.11/pyconfig.h"))

    # the shared library, and what is linked with it
    for name in os.listdir(os.path.join(source, "lib", machine)):
        if name.startswith("libpython3.11.so.1.0"):
            shutil.copyfile(os.path.join(source, "lib", machine, name),
                            os.path.join(local, "lib/libpython3.11.so.1.0"))
    for link, target in (("lib/libpython3.11.so", "libpython3.11.so.1.0"),):
        os.symlink(target, os.path.join(local, link))
    configuration = os.path.join(library, "config-3.11-" + machine)
    link = os.path.join(configuration, "libpython3.11.so")
    if os.path.lexists(link):
        os.unlink(link)
    os.symlink("../../libpython3.11.so", link)
    os.makedirs(os.path.join(local, "lib/pkgconfig"), exist_ok=True)
    packages = os.path.join(source, "lib", machine, "pkgconfig")
    for name in os.listdir(packages):
        with open(os.path.join(packages, name), encoding="utf-8") as file:
            text = file.read()
        text = text.replace("prefix=/usr\n", "prefix=/usr/local\n").replace("/lib/" + machine,
                                                                           "/lib")
        box.write("usr/local/lib/pkgconfig/" + name, text)
    for short, full in (("python3.pc", "python-3.11.pc"),
                        ("python3-embed.pc", "python-3.11-embed.pc")):
        os.symlink(full, os.path.join(local, "lib/pkgconfig", short))

    # programs
    programs = os.path.join(local, "bin")
    shutil.copy(os.path.join(source, "bin/python3.11"), programs)
    _thaw_site(os.path.join(programs, "python3.11"))
    shutil.copy(os.path.join(source, "bin/pydoc3.11"), programs)
    shutil.copy(os.path.join(source, "bin", machine + "-python3.11-config"),
                os.path.join(programs, "python3.11-config"))
    _edit(os.path.join(programs, "python3.11-config"),
          (r'prefix="/usr"', 'prefix="/usr/local"'),
          (r'libdir=\$\(echo "/usr/lib/[^"]*"', 'libdir=$(echo "/usr/local/lib"'))
    _edit(os.path.join(programs, "pydoc3.11"), (r"^#!/usr/bin/python3.11",
                                                "#!/usr/local/bin/python3.11"))
    for link, target in (("python3", "python3.11"), ("python", "python3"),
                         ("python3-config", "python3.11-config"),
                         ("python-config", "python3-config"),
                         ("pydoc3", "pydoc3.11"), ("pydoc", "pydoc3")):
        os.symlink(target, os.path.join(programs, link))

    # back to where packages go by the original
    _edit(os.path.join(library, "site.py"),
          (r"            if is_virtual_environment:\n.*?            # this one is deprecated "
           r"for Debian\n", ""),
          (r'(libdir,\s*"python%d\.%d" % sys\.version_info\[:2\],\s*)"dist-packages"',
           r'\1"site-packages"'),
          (r"    is_virtual_environment = [^\n]*\n\n", ""))
    _edit(os.path.join(library, "sysconfig.py"),
          (r"    if sys\.base_prefix != sys\.prefix or hasattr\(sys, \"real_prefix\"\):\n"
           r".*?\n    return \{\n        'prefix': prefix_scheme,",
           "    return {\n        'prefix': 'posix_prefix',"),
          (r"    'deb_system': \{.*?\n        \},\n", ""),
          (r"    'posix_local': \{.*?\n        \},\n", ""),
          (r", 'posix_local', 'deb_system'\)", ")"))
    _edit(os.path.join(library, "distutils/command/install.py"),
          (r'self\.select_scheme\("unix_local"\)', 'self.select_scheme("unix_prefix")'),
          (r"                if os\.path\.normpath\(self\.prefix\) == '/usr/local':\n"
           r"                    self\.prefix = [^\n]*\n"
           r"                    self\.install_base = [^\n]*\n", ""))
    _edit(os.path.join(library, "distutils/sysconfig.py"),
          (r"        elif is_default_prefix and not is_virtual_environment\(\):\n[^\n]*\n", ""))
    _edit(os.path.join(library, "ensurepip/__init__.py"),
          (r"def _ensurepip_is_disabled_in_debian_for_system\(\):.*?    sys\.exit\(1\)\n", ""))
    _edit(os.path.join(library, "ensurepip/__init__.py"),
          (r"\n *_ensurepip_is_disabled_in_debian_for_system\(\)[^\n]*", "\n"))

    # what builds of extension modules are told
    data = os.path.join(library, "_sysconfigdata__%s.py" % machine)
    with open(data, encoding="utf-8") as file:
        text = file.read()
    text = text.replace(machine + "-gcc", "gcc").replace(machine + "-g++", "g++")
    text = re.sub(r"/usr/(lib|include|share/man|bin)/?" + machine + r"\b", r"/usr/local/\1", text)
    text = re.sub(r"(?<=')/usr/(lib|include)(?=[/' ])", r"/usr/local/\1", text)
    text = re.sub(r"(?<= )/usr/(lib|include)(?=[/' ])", r"/usr/local/\1", text)
    text = re.sub(r"'(BINDIR|prefix|exec_prefix|datarootdir|MANDIR)': '/usr",
                  r"'\1': '/usr/local", text)
    text = text.replace("'--prefix=/usr'", "'--prefix=/usr/local'")
    text = text.replace("/usr/local/include/tirpc", "/usr/include/tirpc")
    text = text.replace("'WHEEL_PKG_DIR': '/usr/share/python-wheels/'",
                        "'WHEEL_PKG_DIR': '/usr/local/lib/python3.11/ensurepip/_bundled'")
    with open(data, "w", encoding="utf-8") as file:
        file.write(text)
    _edit(os.path.join(configuration, "Makefile"),
          (r"(?m)^(prefix=\s*)/usr$", r"\1/usr/local"),
          (r"(?m)^(LIBDIR=\s*)\S+$", r"\1/usr/local/lib"))

    # pip, setuptools and wheel; ensurepip gives the first two to virtual environments
    wheels = os.path.join(library, "ensurepip/_bundled")
    downloaded = box.wheels(*WHEELS)
    shutil.copytree(downloaded, wheels, dirs_exist_ok=True)
    box.shell("ldconfig")
    python = "/usr/local/bin/python3.11"
    pip = next(n for n in os.listdir(wheels) if n.startswith("pip-"))
    folder = "/usr/local/lib/python3.11/ensurepip/_bundled"
    box.run(python, "-I", "%s/%s/pip" % (folder, pip), "install", "--no-index", "--no-compile",
            "--find-links", folder, "--no-cache-dir", "--root-user-action", "ignore",
            "pip", "setuptools", "wheel")
    os.unlink(os.path.join(wheels, next(n for n in os.listdir(wheels) if n.startswith("wheel-"))))
    shutil.rmtree(box.path("/.standin/python"))

    # a check of what all of this is for
    box.shell("""
        cd /tmp
        python -I -c 'import sys, site, sysconfig
lib = "/usr/local/lib/python3.11"
assert site.__file__ == lib + "/site.py", site.__file__
assert sys.prefix == "/usr/local", sys.prefix
assert [p for p in sys.path if "packages" in p] == [lib + "/site-packages"], sys.path
assert site.getsitepackages() == [lib + "/site-packages"], site.getsitepackages()
assert sysconfig.get_paths()["purelib"] == lib + "/site-packages", sysconfig.get_paths()
assert sysconfig.get_paths()["include"] == "/usr/local/include/python3.11"
assert sysconfig.get_config_var("LIBDIR") == "/usr/local/lib"
import bz2, ctypes, curses, dbm.gnu, hashlib, lzma, readline, sqlite3, ssl, uuid, zlib
import distutils.core, ensurepip, lib2to3, tomllib, venv'
    """)
    version = box.run(python, "-I", "-c", "import platform; print(platform.python_version())")
    box.facts["PYTHON_VERSION"] = version.strip()
    # compiled once here instead of in every container; never out of date by the clock
    box.run(python, "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash",
            "-x", "lib2to3/tests|/bad_|turtledemo|idlelib", "/usr/local/lib/python3.11")
