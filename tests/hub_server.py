"""A hub on this machine: as much of its HTTP interface as an upload and a download by `huggingface_hub` ask for."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """What it was told, and what it holds.

    Attributes:
        url: its address.
        repositories: the files of each commit, by repository.
        private: which repositories are.
        calls: every request, as method and path.
        tokens: what was sent as authorisation.
    """

    url: str = ""
    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def files(self, name: str) -> dict[str, bytes]:
        """Return the files of the newest commit."""
        return list(self.repositories[name].values())[-1]

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(f"{name}{len(self.repositories[name])}".encode(), usedforsecurity=False).hexdigest()
        self.repositories[name][sha] = files
        return sha


@contextmanager
def running() -> Iterator[Hub]:
    """Run a hub while the block does."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        return

    def do_POST(self) -> None:
        path, body = self._begin()
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else f"me/{asked['name']}"
            if name in self.hub.repositories:
                return self._json({"url": f"{self.hub.url}/{name}", "error": "exists"}, 409)
            self.hub.repositories[name] = {}
            self.hub.private[name] = bool(asked.get("private") or asked.get("visibility") == "private")
            self.hub.commit(name, {".gitattributes": b""})
            return self._json({"url": f"{self.hub.url}/{name}", "id": name})
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            entries = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            return self._json({"files": entries})
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            files = dict(self.hub.files(found[1]))
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
            sha = self.hub.commit(found[1], files)
            return self._json({"commitUrl": f"{self.hub.url}/{found[1]}/commit/{sha}", "commitOid": sha})
        return self._json({"error": f"not known: {path}"}, 404)

    def do_GET(self) -> None:
        path, _ = self._begin()
        self._answer(path, whole=True)

    def do_HEAD(self) -> None:
        path, _ = self._begin()
        self._answer(path, whole=False)

    def _answer(self, path: str, whole: bool) -> None:
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(\w+)", path):
            files = self._at(found[1], found[2])
            entries = [
                {
                    "type": "file",
                    "path": name,
                    "size": len(data),
                    "oid": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
                }
                for name, data in files.items()
            ]
            return self._json(entries)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(\w+))?", path):
            name = found[1]
            if name not in self.hub.repositories:
                return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            commits = self.hub.repositories[name]
            sha = found[2] if found[2] in commits else list(commits)[-1]
            siblings = [{"rfilename": file} for file in commits[sha]]
            return self._json(
                {
                    "id": name,
                    "sha": sha,
                    "private": self.hub.private[name],
                    "siblings": siblings,
                    "tags": [],
                    "downloads": 0,
                }
            )
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(\w+)/(.+)", path):
            data = self._at(found[1], found[2])[found[3]]
            etag = hashlib.sha1(data, usedforsecurity=False).hexdigest()
            return self._send(data, 200, {"ETag": f'"{etag}"', "X-Repo-Commit": found[2]}, whole)
        return self._json({"error": f"not known: {path}"}, 404)

    def _at(self, name: str, revision: str) -> dict[str, bytes]:
        return self.hub.repositories[name].get(revision) or self.hub.files(name)

    def _begin(self) -> tuple[str, bytes]:
        path = self.path.partition("?")[0]
        self.hub.calls.append(f"{self.command} {path}")
        if token := self.headers.get("authorization"):
            self.hub.tokens.add(token)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().strip(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return path, body
        return path, self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})}, True)

    def _send(self, data: bytes, status: int, headers: dict[str, str], whole: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if whole and self.command != "HEAD":
            self.wfile.write(data)
