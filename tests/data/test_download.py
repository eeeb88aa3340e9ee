"""Downloads, from a server that this test runs itself."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nequip_like.data.published import compute_checksum, fetch
from nequip_like.errors import DataError

CONTENT = bytes(range(256)) * 40  # 10 KiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """One file at ``/file``, served in the way that a test asks for."""

    def __init__(self):
        self.content = CONTENT
        self.ranges = True
        self.cut_after: int | None = None  # bytes of a reply, after which the connection is closed
        self.requests: list[str | None] = []  # Range header of each request
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests.append(self.headers.get("Range"))
                server.reply(self)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/file"

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.path != "/file":
            handler.send_error(404)
            return
        body, wanted = self.content, handler.headers.get("Range")
        if wanted and self.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                handler.send_error(416)
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            body = body[start:]
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body if self.cut_after is None else body[: self.cut_after])

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


def test_new_file(server, tmp_path):
    path = tmp_path / "deep" / "file"
    assert fetch(server.url, path, SHA256) == path
    assert path.read_bytes() == CONTENT
    assert compute_checksum(path) == SHA256
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_file_that_is_there_is_not_fetched_again(server, tmp_path):
    path = fetch(server.url, tmp_path / "file", SHA256)
    fetch(server.url, path, SHA256)
    assert len(server.requests) == 1


def test_file_with_other_content_is_replaced(server, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"something else")
    fetch(server.url, path, SHA256)
    assert path.read_bytes() == CONTENT


def test_transfer_that_ends_early_is_resumed(server, tmp_path):
    path = tmp_path / "file"
    server.cut_after = 3000
    with pytest.raises(DataError, match=r"cannot download .*\n.*what came so far is kept"):
        fetch(server.url, path, SHA256)
    assert not path.exists()
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:3000]
    with pytest.raises(DataError, match="cannot download"):
        fetch(server.url, path, SHA256)
    server.cut_after = None
    fetch(server.url, path, SHA256)
    assert path.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=3000-", "bytes=6000-"]
    assert not (tmp_path / "file.part").exists()


def test_server_without_ranges_starts_over(server, tmp_path):
    server.ranges = False
    (tmp_path / "file.part").write_bytes(CONTENT[:100])
    fetch(server.url, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_part_that_is_whole_already(server, tmp_path):
    """The process ended between the last byte and the new name."""
    (tmp_path / "file.part").write_bytes(CONTENT)
    fetch(server.url, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_wrong_content_is_refused_and_not_kept(server, tmp_path):
    server.content = b"an error page of a proxy"
    with pytest.raises(DataError, match=rf"its SHA-256 is .*not {SHA256}"):
        fetch(server.url, tmp_path / "file", SHA256)
    assert list(tmp_path.iterdir()) == []
    server.content = CONTENT
    fetch(server.url, tmp_path / "file", SHA256)


def test_part_of_another_file_is_not_trusted(server, tmp_path):
    """The checksum finds it; the next call starts over."""
    (tmp_path / "file.part").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="is not the expected file"):
        fetch(server.url, tmp_path / "file", SHA256)
    fetch(server.url, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_no_such_file(server, tmp_path):
    with pytest.raises(DataError, match=r"cannot download .*404.*\n.*put it at"):
        fetch(server.url.replace("/file", "/other"), tmp_path / "file", SHA256)
    assert list(tmp_path.iterdir()) == []


def test_server_that_is_gone(server, tmp_path):
    url = server.url
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(DataError, match="cannot download"):
        fetch(url, tmp_path / "file", SHA256, timeout=5)
