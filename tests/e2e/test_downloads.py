"""Download caches: what one run has downloaded, the next one does not. The index is a small one of the
test's own that sends Cache-Control as PyPI does and counts what it is asked for."""
import http.server
import json
import ssl
import subprocess
import threading
import zipfile

import pytest


def wheel(path):
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("tinypkg.py", "WORD = 'tiny-and-well'\n")
        z.writestr("tinypkg-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinypkg\nVersion: 1.0\n")
        z.writestr("tinypkg-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr("tinypkg-1.0.dist-info/RECORD", "tinypkg.py,,\ntinypkg-1.0.dist-info/METADATA,,\ntinypkg-1.0.dist-info/WHEEL,,\ntinypkg-1.0.dist-info/RECORD,,\n")


class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/simple/tinypkg/":
            body, kind, age = b'<!DOCTYPE html><a href="/files/tinypkg-1.0-py3-none-any.whl">tinypkg-1.0-py3-none-any.whl</a>', "text/html", 600
        elif self.path == "/files/tinypkg-1.0-py3-none-any.whl":
            body, kind, age = self.server.wheel, "application/octet-stream", 365000000
        else:
            self.send_error(404)
            return
        tag = f'"{len(body)}"'
        if self.headers.get("If-None-Match") == tag:
            self.server.unchanged += 1
            self.send_response(304)
            self.send_header("ETag", tag)
            self.send_header("Cache-Control", f"max-age={age}, public")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", tag)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", f"max-age={age}, public")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def index(tmp_path):
    """An https server on an address of this host that jobs can reach."""
    route = json.loads(subprocess.run(["ip", "-j", "route", "get", "1.1.1.1"], capture_output=True, text=True).stdout or "[]")
    if not route:
        pytest.skip("no way out of this host")
    ip = route[0]["prefsrc"]
    wheel(tmp_path / "w.whl")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={ip}",
                    "-addext", f"subjectAltName=IP:{ip}", "-keyout", tmp_path / "k.pem", "-out", tmp_path / "c.pem"], check=True, capture_output=True)
    srv = http.server.ThreadingHTTPServer((ip, 0), Index)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    srv.socket = tls.wrap_socket(srv.socket, server_side=True)
    srv.unchanged = 0
    srv.asked, srv.wheel = [], (tmp_path / "w.whl").read_bytes()
    srv.at = f"{ip}:{srv.server_address[1]}"
    threading.Thread(target=srv.serve_forever, daemon=True).start()
    yield srv
    srv.shutdown()


def test_the_second_run_of_pip_downloads_nothing(sl, place, runner, index):
    d = sl.repo(place, {".github/workflows/ci.yml": """
        on: push
        jobs:
          on-the-runner:
            runs-on: ubuntu-latest
            steps:
              - run: pip install --index-url https://%s/simple/ --trusted-host %s tinypkg
              - run: python -c 'import tinypkg; print(tinypkg.WORD)'
        """ % (index.at, index.at)}, remote=f"https://github.com/acme/{place.parent.name.replace('_', '-')}.git")
    first = sl("run", cwd=d, timeout=300, check=0)
    assert "tiny-and-well" in first.stdout
    assert sorted(index.asked) == ["/files/tinypkg-1.0-py3-none-any.whl", "/simple/tinypkg/"]
    index.asked.clear()
    again = sl("run", cwd=d, timeout=300, check=0)
    assert "tiny-and-well" in again.stdout
    # pip asks every time whether the list of files is still the same one; it is not sent again.
    assert index.asked == ["/simple/tinypkg/"] and index.unchanged == 1
    assert json.loads(sl("system", "df", "--json", check=0).stdout)["downloads"]["count"] >= 1
    # Without the caches it is downloaded again; and a clean run leaves them alone.
    sl("run", "--clean", cwd=d, timeout=300, check=0)
    assert "/files/tinypkg-1.0-py3-none-any.whl" in index.asked
