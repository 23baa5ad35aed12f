"""Commands, and the order of work."""
import argparse
import json
import os
import sys

from standin import catalog, layout

OK, FAILED, USAGE, CANNOT = 0, 1, 2, 3
HERE = os.path.dirname(os.path.realpath(__file__))

HELP = """\
Makes stand-ins for official container images (%(families)s)
from the packages of Debian 12, for machines that reach no registry. They behave
like the originals where it shows and are labelled as what they are.

The images lie in an OCI image layout, layers as uncompressed tar:
    skopeo inspect oci:DIR:docker.io/library/python:3.11-slim-bookworm

Exit codes: 0 done, 1 a recipe failed, 2 usage, 3 no stand-in, or this host
cannot make one.
"""


def say(text):
    print(text, file=sys.stderr, flush=True)


def size_text(size):
    return "%.1f MB" % (size / 1e6)


def recipe_id(name, cache={}):
    """Identifies how a layer is made: its recipe, assets, arguments and parents."""
    import hashlib
    if name in cache:
        return cache[name]
    spec = catalog.LAYERS[name]
    checksum = hashlib.sha256()
    parts = ["recipes/%s.py" % spec["recipe"]] + (["worker.py"] if spec["parents"] else [])
    for part in parts:
        with open(os.path.join(HERE, part), "rb") as file:
            checksum.update(file.read())
    assets = os.path.join(HERE, "assets", spec["recipe"])
    if os.path.isdir(assets):
        for asset in sorted(os.listdir(assets)):
            with open(os.path.join(assets, asset), "rb") as file:
                checksum.update(asset.encode() + b"\0" + file.read())
    checksum.update(json.dumps(spec.get("arguments", {}), sort_keys=True).encode())
    checksum.update(os.uname().machine.encode())
    for parent in spec["parents"]:
        checksum.update(recipe_id(parent).encode())
    cache[name] = checksum.hexdigest()[:32]
    return cache[name]


def image_id(resolved):
    """Identifies an image: its layers, its configuration and what it says about itself."""
    import hashlib
    top, configuration = catalog.IMAGES[resolved.canonical]
    text = json.dumps([recipe_id(top), configuration, resolved.canonical], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def find(store, resolved):
    return store.find(resolved.standin, image_id(resolved))


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="standin-images", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=HELP % {"families": ", ".join(catalog.FAMILIES)})
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name, text, folder=True):
        command = commands.add_parser(name, help=text, description=text)
        if folder:
            command.add_argument("--out", metavar="DIR", default=None,
                                 help="the image layout (default: %s)" % layout.default_folder())
        return command

    make = add("make", "make stand-ins; what is there already is not made again")
    make.add_argument("--nearest", action="store_true",
                      help="take the nearest version when there is none of the asked one")
    make.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), metavar="N",
                      help="images made at the same time (default: %(default)s)")
    make.add_argument("--verbose", action="store_true", help="show what programs print")
    make.add_argument("refs", nargs="+", metavar="REF")
    resolve = add("resolve", "print what stands in for a reference, as JSON")
    resolve.add_argument("ref", metavar="REF")
    listing = add("list", "list the stand-ins that are there")
    listing.add_argument("--json", action="store_true")
    remove = add("rm", "remove stand-ins")
    remove.add_argument("--all", action="store_true")
    remove.add_argument("refs", nargs="*", metavar="REF")
    options = parser.parse_args(argv)
    options.store = layout.Layout(options.out or layout.default_folder())
    return options


def command_resolve(options):
    resolved = catalog.resolve(options.ref)
    entry = find(options.store, resolved)
    print(json.dumps({"ref": resolved.ref, "standin": resolved.standin,
                      "difference": resolved.difference, "same_series": resolved.same_series,
                      "manifest": entry["digest"] if entry else None}))
    return OK


def command_list(options):
    rows = []
    for entry in options.store.index()["manifests"]:
        notes = entry.get("annotations", {})
        size = 0
        try:
            with open(options.store.path(entry["digest"]), "rb") as file:
                size = sum(part["size"] for part in json.load(file)["layers"])
        except (OSError, ValueError):
            continue
        rows.append({"ref": notes.get(layout.REF), "digest": entry["digest"], "size": size,
                     "standin": notes.get("io.slipway.standin.by", notes.get(layout.REF)),
                     "difference": notes.get(layout.DIFFERENCE, "")})
    if options.json:
        print(json.dumps(rows, indent=1))
        return OK
    if not rows:
        say("no stand-ins in %s" % options.store.folder)
    for row in rows:
        print("%-48s %s %10s  %s" % (row["ref"], row["digest"][7:19], size_text(row["size"]),
                                     row["difference"]))
    return OK


def command_rm(options):
    if not options.refs and not options.all:
        say("standin-images: rm needs names, or --all")
        return USAGE
    names = {catalog.normalize(ref)[0] for ref in options.refs}
    with options.store.lock():
        index = options.store.index()
        there = {e.get("annotations", {}).get(layout.REF) for e in index["manifests"]}
        for name in sorted(names - there):
            say("standin-images: there is no %s" % name)
        index["manifests"] = [e for e in index["manifests"]
                              if not options.all
                              and e.get("annotations", {}).get(layout.REF) not in names]
        options.store.write_index(index)
        say("%s freed" % size_text(options.store.sweep()))
    return OK if names <= there else FAILED


def command_make(options):
    wanted = [catalog.resolve(ref) for ref in options.refs]
    refused = [r for r in wanted if not r.same_series and not options.nearest]
    for resolved in refused:
        say("standin-images: no stand-in for %s; the nearest is %s (%s): take it with --nearest"
            % (resolved.ref, resolved.standin, resolved.difference))
    if refused:
        return CANNOT
    store = options.store
    if all(find(store, r) and store.find(r.ref, image_id(r)) for r in wanted):
        return OK
    from standin import make
    return make.run(options, wanted)


def main(argv):
    options = parse(argv)
    commands = {"make": command_make, "resolve": command_resolve, "list": command_list,
                "rm": command_rm}
    try:
        return commands[options.command](options)
    except catalog.Unknown as error:
        say("standin-images: %s" % error)
        return CANNOT
    except OSError as error:
        say("standin-images: %s" % error)
        return CANNOT
    except KeyboardInterrupt:
        return 130
