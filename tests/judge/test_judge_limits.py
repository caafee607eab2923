"""zipeft judge against servers that send too slowly, or too much: each ends in one line, soon."""

from __future__ import annotations

import gzip
import json
import socketserver
import threading
import time
import zlib
from contextlib import contextmanager
from itertools import repeat

import pytest

from support.chat_server import Raw, completion, serving
from zipeft.commands import main
from zipeft.judge import client as judge_client

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
REPLY = json.dumps(completion("9 2")).encode()


@pytest.fixture(autouse=True)
def files(monkeypatch, tmp_path):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(judge_client, "BACKOFF", 0.001)
    monkeypatch.setattr(judge_client, "LARGEST", 1 << 20)
    monkeypatch.chdir(tmp_path)
    for name, answer in (("a", "long"), ("b", "short")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": 1, "instruction": "Q?", "answer": answer}) + "\n")


@contextmanager
def sending(pieces, pause=0.0):
    """Serve pieces of a response, as they are, to whoever asks anything; ``sent`` counts the bytes."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(1 << 16)
            try:
                for piece in pieces():
                    self.request.sendall(piece)
                    server.sent += len(piece)
                    time.sleep(pause)
            except OSError:  # the other side has gone
                pass

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        sent = 0

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        server.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield server
        finally:
            server.shutdown()


def refused(server, capsys, *options):
    arguments = ["a.jsonl", "b.jsonl", "--endpoint", server.url, "--model", "judge", "--retries", "1"]
    start = time.monotonic()
    assert main(["judge", *arguments, *options]) == 2
    assert time.monotonic() - start < 20
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


def each_byte(content):
    return [content[place : place + 1] for place in range(len(content))]


@pytest.mark.parametrize(
    "pieces",
    [
        lambda: repeat(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        lambda: each_byte(HEAD + b"X: " + bytes(1000)),
        lambda: [HEAD + b"Content-Length: 1000000\r\n\r\n", *repeat(b" ", 1000)],
        lambda: [HEAD.replace(b"200 OK", b"400 Bad") + b"\r\n", *repeat(b"x", 1000)],
    ],
    ids=["hints that headers will come", "headers", "body", "body of a refusal"],
)
def test_reply_that_drips_is_given_up_when_its_time_is_over(pieces, capsys):
    with sending(pieces, pause=0.02) as server:
        assert "did not reply in time (0.2 s) (2 attempts)" in refused(server, capsys, "--timeout", "0.2")


def chunks(content):
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    for piece in content:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)


@pytest.mark.parametrize(
    "pieces",
    [
        lambda: [HEAD + b"Content-Length: 99999999999\r\n\r\n", *repeat(bytes(1 << 16), 1000)],
        lambda: [HEAD + b"\r\n", *repeat(bytes(1 << 16), 1000)],
        lambda: chunks(repeat(bytes(1 << 16), 1000)),
        lambda: [HEAD.replace(b"200 OK", b"500 No") + b"\r\n", *repeat(bytes(1 << 16), 1000)],
        lambda: [HEAD.replace(b"200 OK", b"307 No") + b"Location: /x\r\n\r\n", *repeat(bytes(1 << 16), 1000)],
    ],
    ids=["length", "no length", "chunks", "refusal", "redirection"],
)
def test_reply_of_any_size_is_read_up_to_a_limit(pieces, capsys):
    with sending(pieces) as server:
        assert "sent more than 1 MiB for one reply (2 attempts)" in refused(server, capsys)
    assert server.sent < 2 * (16 << 20)  # what the system holds between both sides included


def test_headers_without_an_end_are_refused(capsys):
    with sending(lambda: [HEAD, *repeat(b"X: " + bytes(1000) + b"\r\n", 10_000)]) as server:
        assert "could not be reached" in refused(server, capsys)
    assert server.sent < 2 * (8 << 20)


def packed(content, *encodings):
    for encoding in encodings:
        content = gzip.compress(content) if encoding == "gzip" else zlib.compress(content)
    named = f"Content-Encoding: {', '.join(encodings)}\r\nContent-Length: {len(content)}\r\n\r\n"
    return lambda: [HEAD + named.encode() + content]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_packed_reply_counts_as_what_it_unpacks_to(encoding, capsys):
    with sending(packed(REPLY.replace(b"9 2", b"9" * (20 << 20)), encoding)) as server:
        assert "sent more than 1 MiB for one reply" in refused(server, capsys)
    with sending(packed(REPLY, encoding)) as server:
        assert main(["judge", "a.jsonl", "b.jsonl", "--endpoint", server.url, "--model", "judge"]) == 0


def test_reply_that_is_packed_several_times_is_not_unpacked(capsys):
    with sending(packed(REPLY, "gzip", "gzip")) as server:
        assert "sent a reply that is packed as gzip, gzip, for which it was not asked" in refused(server, capsys)


def test_prompts_and_key_do_not_follow_a_redirection(capsys):
    with serving(lambda prompt, times: "9 2") as other:
        answer = Raw(307, b"", Location=f"{other.url}/chat/completions")
        with serving(lambda prompt, times: answer) as server:
            line = refused(server, capsys)
    assert f"points to {other.url}/chat/completions (status 307): give the --endpoint that is meant" in line
    assert other.bodies == []
