"""A hub on loopback: the part of huggingface.co's API that `huggingface_hub` asks for a model's files.

Large files are redirected to a second server (another port, so another origin), as the hub redirects them to its storage. What
was asked is recorded; one file's connection can be cut, and bodies can be slow. Files come over HTTP, never through Xet.
"""

import hashlib
import json
import socket
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

#: From here on a file is in large-file storage, and the hub redirects to it.
LARGE = 100_000
#: What is asked of every hub and concerns no model: which programs call themselves agents.
REGISTRY = "/api/agent-harnesses"
PAGE = 3


class Asked(NamedTuple):
    """One request. path: decoded, without its query; range: the Range header; token: the Authorization header."""

    method: str
    path: str
    range: str
    token: str
    status: int


@dataclass
class Repository:
    """A model's repository. commits: files by their paths, for each commit; refs: commits of branches and tags.

    gated: whether files (not their names) need accepted terms; broken: the status of every answer, where it is one of an error.
    """

    commits: dict[str, dict[str, bytes]]
    refs: dict[str, str]
    gated: bool = False
    broken: int = 0

    def commit(self, revision: str) -> str | None:
        """The commit of a branch, a tag, a commit or the beginning of one."""
        if revision in self.refs:
            return self.refs[revision]
        return next((commit for commit in self.commits if len(revision) >= 7 and commit.startswith(revision)), None)


@dataclass
class Cut:
    """Close the connection after so many bytes of a body, so many times. reset: as a network that breaks does it."""

    after: int
    times: int
    reset: bool = False


@dataclass
class Hub:
    """The two servers, as a context: HF_ENDPOINT is `url`."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    cuts: dict[str, Cut] = field(default_factory=dict)
    #: Seconds between blocks of 64 KiB of large files.
    pause: float = 0.0

    def add(
        self,
        hub_id: str,
        *versions: Mapping[str, bytes],
        commits: Sequence[str] = (),
        refs: Mapping[str, int] | None = None,
        gated: bool = False,
        broken: int = 0,
    ) -> Sequence[str]:
        """Add a repository of these versions, the first of which is `main`; their commits.

        refs: the numbers of the versions that other branches and tags stand for.
        """
        commits = commits or [hashlib.sha1(f"{hub_id} {number}".encode()).hexdigest() for number in range(len(versions))]
        named = {"main": commits[0]} | {name: commits[number] for name, number in (refs or {}).items()}
        files = {commit: dict(version) for commit, version in zip(commits, versions, strict=True)}
        self.repositories[hub_id] = Repository(files, named, gated, broken)
        return commits

    def files_asked(self) -> list[str]:
        """The names of the files whose contents were asked for, each once for each request."""
        return [asked.path.rpartition("/")[2] for asked in self.asked if asked.method == "GET" and "/api/" not in asked.path]

    def __enter__(self) -> "Hub":
        self._servers = [_Server(("127.0.0.1", 0), _Api), _Server(("127.0.0.1", 0), _Storage)]
        self.url, self.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)
        for server in self._servers:
            server.hub = self
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """From now on nobody answers, on connections that are open neither."""
        for server in self._servers:
            server.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    #: A kept connection of a process that is stopped must not hold up the end of the tests.
    block_on_close = False
    hub: Hub

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        request, address = super().get_request()
        self._open.append(request)
        return request, address

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in self._open:
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no error of a test."""


class _Handler(BaseHTTPRequestHandler, ABC):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are kept, not printed."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    @abstractmethod
    def answer(self) -> None:
        """Answer one request."""

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer; headers: with underscores for hyphens."""
        self.note(status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def note(self, status: int) -> None:
        path = unquote(urlsplit(self.path).path)
        if path != REGISTRY:
            asked = Asked(self.command, path, self.headers.get("Range", ""), self.headers.get("Authorization", ""), status)
            self.server.hub.asked.append(asked)

    def send_file(self, name: str, content: bytes, **headers: str) -> None:
        """Answer with a file or, where a range of it was asked for, with its rest; cut it and pause as the hub was told."""
        hub, wanted = self.server.hub, self.headers.get("Range", "")
        first = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        if wanted:
            headers["Content_Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        body = content[first:]
        cut = hub.cuts.get(name)
        if self.command == "HEAD" or (cut is None and not hub.pause):
            return self.reply(206 if wanted else 200, body, **headers)
        self.note(206 if wanted else 200)
        self.send_response(206 if wanted else 200)
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if cut is not None and cut.times > 0:
            cut.times -= 1
            body = body[: cut.after]
            self.close_connection = True
        for start in range(0, len(body), 1 << 16):
            self.wfile.write(body[start : start + (1 << 16)])
            time.sleep(hub.pause if len(content) >= LARGE else 0.0)
        if self.close_connection and cut is not None and cut.reset:
            # With no time to linger, closing sends a reset.
            self.wfile.flush()
            time.sleep(0.2)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


class _Api(_Handler):
    """The hub itself."""

    def answer(self) -> None:
        path, api = urlsplit(self.path).path, "/api/models/"
        if path == REGISTRY:
            return self.reply(200, b'{"standardEnvVars": [], "harnesses": {}}')
        if path.startswith(api):
            words = path.removeprefix(api).split("/")
            at = next((at for at, word in enumerate(words) if word in ("revision", "tree")), len(words))
            kind = "".join(words[at : at + 1])
            # A revision's own strokes are encoded; a folder may come after it.
            hub_id, revision = "/".join(words[:at]), unquote("".join(words[at + 1 : at + 2])) or "main"
            file = unquote("/".join(words[at + 2 :]))
        else:
            hub_id, kind, rest = path.lstrip("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            revision, file = unquote(revision), unquote(file)
        repository = self.server.hub.repositories.get(unquote(hub_id))
        if repository is None:
            return self.reply(404, b'{"error": "Repository not found"}', X_Error_Code="RepoNotFound")
        if repository.broken:
            return self.reply(repository.broken, b'{"error": "it is broken"}')
        commit = repository.commit(revision)
        if commit is None:
            return self.reply(404, b'{"error": "Invalid rev id"}', X_Error_Code="RevisionNotFound")
        files = repository.commits[commit]
        if kind == "tree":
            if file and not any(name.startswith(f"{file}/") for name in files):
                return self.reply(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            return self._tree({name: content for name, content in files.items() if name.startswith(file)})
        if path.startswith(api):
            sized = "blobs=" in urlsplit(self.path).query
            siblings = [{"rfilename": name} | ({"size": len(content)} if sized else {}) for name, content in files.items()]
            said = {"id": unquote(hub_id), "modelId": unquote(hub_id), "sha": commit, "siblings": siblings, "tags": []}
            return self.reply(200, json.dumps(said | {"private": False, "downloads": 0}).encode(), X_Repo_Commit=commit)
        self._resolve(repository, commit, file)

    def _tree(self, files: Mapping[str, bytes]) -> None:
        """One page of the listing, with the address of the next."""
        query = urlsplit(self.path).query
        start = int(query.rpartition("cursor=")[2]) if "cursor=" in query else 0
        entries = [_entry(name, content) for name, content in sorted(files.items())]
        headers = {}
        if start + PAGE < len(entries):
            there = f"{self.server.hub.url}{urlsplit(self.path).path}?recursive=True&cursor={start + PAGE}"
            headers["Link"] = f'<{there}>; rel="next"'
        self.reply(200, json.dumps(entries[start : start + PAGE]).encode(), **headers)

    def _resolve(self, repository: Repository, commit: str, file: str) -> None:
        if repository.gated:
            said = {"X_Error_Code": "GatedRepo", "X_Error_Message": "Access to this model is restricted."}
            return self.reply(403 if self.headers.get("Authorization") else 401, b"", **said)
        content = repository.commits[commit].get(file)
        if content is None:
            return self.reply(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        etag = _etag(content)
        if len(content) < LARGE:
            return self.send_file(file, content, ETag=f'"{etag}"', X_Repo_Commit=commit)
        there = f"{self.server.hub.storage}/{etag}/{file}"
        size = str(len(content))
        self.reply(302, b"", Location=there, X_Linked_Etag=f'"{etag}"', X_Linked_Size=size, X_Repo_Commit=commit)


class _Storage(_Handler):
    """Where large files lie, by their checksums."""

    def answer(self) -> None:
        etag, _, file = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        for repository in self.server.hub.repositories.values():
            for files in repository.commits.values():
                if file in files and _etag(files[file]) == etag:
                    named = f'inline; filename="{file.rpartition("/")[2]}";'
                    return self.send_file(file, files[file], ETag=f'"{etag}"', Content_Disposition=named)
        self.reply(404)


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if len(content) >= LARGE else _git_id(content)


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(name: str, content: bytes) -> dict[str, Any]:
    """A file in a listing."""
    entry = {"type": "file", "path": name, "size": len(content), "oid": _git_id(content)}
    if len(content) >= LARGE:
        entry["lfs"] = {"oid": _etag(content), "size": len(content), "pointerSize": 130}
    return entry
