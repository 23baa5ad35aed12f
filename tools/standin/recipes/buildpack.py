"""What the images without `slim` carry: compilers, headers, git, curl."""

PACKAGES = """
    autoconf automake bzip2 ca-certificates curl dpkg-dev file g++ gcc git gnupg
    libbz2-dev libc6-dev libcurl4-openssl-dev libdb-dev libevent-dev libffi-dev libgdbm-dev
    libglib2.0-dev libgmp-dev libjpeg-dev libkrb5-dev liblzma-dev libncurses-dev libpng-dev
    libpq-dev libreadline-dev libsqlite3-dev libssl-dev libtool libwebp-dev libxml2-dev
    libxslt1-dev libyaml-dev make netbase openssh-client patch pkg-config procps tzdata
    unzip wget xz-utils zlib1g-dev
""".split()


def make(box):
    box.apt(*PACKAGES)
