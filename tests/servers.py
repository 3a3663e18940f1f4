"""HTTP servers that answer like an OpenAI-compatible one, from a script."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIST = "MOST_LIKELY_TISSUE:\n1. Colon\n2. Liver"


class Server(ThreadingHTTPServer):
    """Answers from a script: per request a status and a body, or a function of the request; the last one stays."""

    def __init__(self, *script) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.keys = list(script), [], []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.guard, self.released = threading.Lock(), threading.Event()

    def handle_error(self, *_) -> None:
        """A client that gave up is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.guard:
            self.server.requests.append((self.path, request))
            self.server.keys.append(self.headers.get("Authorization"))
            answer = self.server.script.pop(0) if len(self.server.script) > 1 else self.server.script[0]
        status, body = answer(request) if callable(answer) else answer
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "0")
        if status == 307:
            self.send_header("Location", "http://192.0.2.1/elsewhere")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_) -> None:
        """Silent."""


def says(text) -> tuple[int, str]:
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})
