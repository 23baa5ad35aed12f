"""Makes stand-ins for official container images from Debian packages.

catalog   which images can be had, and which one stands in for a reference
layout    the OCI image layout on disk: blobs, index, records, lock
host      what this machine offers: mirrors, certificates, namespaces
worker    runs one recipe in a root file system and writes the layer
recipes   one file for each layer
assets    files that recipes copy into images
"""
