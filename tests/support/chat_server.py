"""A server that speaks the chat protocol over real sockets, and does what a test wants of it."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DISCONNECT = object()
"""What a script returns to close the connection without a word."""


class Raw:
    """An HTTP response as it is."""

    def __init__(self, status, body=b"", **headers):
        self.status, self.body = status, body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }


def completion(text, usage=(100, 10), **changes):
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "judge-0613",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
    }
    if usage:
        body["usage"] = dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True)) | {
            "total_tokens": sum(usage)
        }
    return body | changes


class Server:
    """``script(prompt, times)`` says what to do with a prompt that is asked so many times now (from 1): a text is the
    judge's reply, a ``Raw`` is sent as it is. ``bodies`` and ``prompts`` are all that was asked, in order."""

    def __init__(self, script):
        self.script, self.bodies, self.keys, self.answered = script, [], [], 0
        self.lock = threading.Lock()
        self.at_once = self.most_at_once = 0

    @property
    def prompts(self):
        return [body["messages"][0]["content"] for body in self.bodies]

    def serve(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            self.bodies.append(body)
            self.keys.append(handler.headers["Authorization"])
            times = self.bodies.count(body)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            found = self.script(body["messages"][0]["content"], times)
        finally:
            with self.lock:
                self.at_once -= 1
        if found is DISCONNECT:
            return
        response = Raw(200, completion(found)) if isinstance(found, str) else found
        handler.send_response(response.status)
        for name, value in {**response.headers, "Content-Length": str(len(response.body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(response.body)
        with self.lock:
            self.answered += response.status == 200


@contextmanager
def serving(script):
    """Run a server for the time of the context, with its address as ``url``."""
    server = Server(script)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            if self.path != "/v1/chat/completions":
                return self.send_error(404)
            return server.serve(self)

        def log_message(self, *args): ...

        def handle(self):
            try:
                super().handle()
            except OSError:  # the other side is gone, as tests want it to be
                self.close_connection = True

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def shown(prompt):
    """Return what a prompt shows: the question, and both answers in their order."""
    return tuple(
        re.search(rf"<{tag}>\n(.*?)\n</{tag}>", prompt, re.DOTALL)[1]
        for tag in (
            "question",
            *(("assistant_1", "assistant_2") if "<assistant_1>" in prompt else ("assistant_A", "assistant_B")),
        )
    )
