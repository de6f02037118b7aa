"""A Hugging Face Hub on this machine, in a process of its own, that speaks the real one's protocol.

    python hub.py FOLDER      prints its port; serves what FOLDER/settings.json says at each request

Large files are answered with a redirect to another host, as the real one does; there they may be
asked for in ranges. FOLDER/asked.jsonl tells what was asked and how many bytes went out.

settings.json:

    repos     name: {folder, commit, gated, says: {path: size}}
    run       a number, which asked.jsonl repeats
    token     the one that is accepted; others are refused
    hold      stop sending, and wait, after so many bytes of a large file
    cut       close the line after so many bytes of a large file, the first time it is asked for
    ranges    false: send everything whatever range is asked for
    spoil     send zeros instead of a large file
    fail      answer every question with this status
"""

import hashlib
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

LARGE = 20_000
"""Files of more bytes are stored as the real Hub stores weights: by their SHA-256."""

HOME = Path(sys.argv[1]) if __name__ == "__main__" else Path()
cut_before: set[str] = set()
writing = threading.Lock()


def settings():
    return json.loads((HOME / "settings.json").read_text())


def blob(content):
    """The hash that names a file in the cache."""
    if len(content) > LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def files(repo):
    folder = Path(repo["folder"])
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.sent, now = 0, settings()
        self.answer(now)
        asked = {
            "run": now["run"],
            "method": self.command,
            "path": self.path.partition("?")[0],
            "range": self.headers.get("Range"),
            "token": self.headers.get("Authorization"),
            "sent": self.sent,
        }
        with writing, (HOME / "asked.jsonl").open("a") as file:
            file.write(json.dumps(asked) + "\n")

    do_HEAD = do_GET  # noqa: N815

    def answer(self, now):
        path = unquote(self.path.partition("?")[0]).strip("/")
        if path.startswith("cdn/"):
            return self.large(now, path.removeprefix("cdn/"))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if status := now.get("fail"):
            return self.refuse(status, "", "The Hub is having a bad day")
        if token and token != now.get("token"):
            return self.refuse(401, "", "Invalid credentials in Authorization header")
        repo, kind, rest = self.parsed(path)
        if repo not in now["repos"]:
            return self.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        about = now["repos"][repo]
        if kind == "resolve":
            if about.get("gated"):
                return self.refuse(403 if token else 401, "GatedRepo", "Access is restricted")
            commit, _, name = rest.partition("/")
            if commit not in (about["commit"], "main") or name not in files(about):
                return self.refuse(404, "EntryNotFound", "Entry not found")
            return self.file(about, files(about)[name])
        return self.say(self.told(repo, about, tree=kind == "tree"))

    def parsed(self, path):
        """The repository, what of it is asked for, and the rest."""
        parts = path.removeprefix("api/models/").split("/")
        kind = parts[2] if len(parts) > 2 else ""
        return "/".join(parts[:2]), kind, "/".join(parts[3:])

    def told(self, repo, about, *, tree):
        found = []
        for name, content in files(about).items():
            size = about.get("says", {}).get(name, len(content))
            large = {"sha256": blob(content), "oid": blob(content), "size": size}
            pointer = hashlib.sha1(content).hexdigest()
            is_large = len(content) > LARGE
            oid = pointer if is_large else blob(content)
            extra = {"lfs": {**large, "pointerSize": 134}} if is_large else {}
            if tree:
                found.append({"type": "file", "path": name, "size": size, "oid": oid, **extra})
            else:
                found.append({"rfilename": name, "size": size, "blobId": oid, **extra})
        return found if tree else {"id": repo, "sha": about["commit"], "siblings": found}

    def file(self, about, content):
        heads = {"X-Repo-Commit": about["commit"], "Accept-Ranges": "bytes"}
        if len(content) <= LARGE:
            return self.bytes(content, {**heads, "ETag": f'"{blob(content)}"'})
        heads |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{blob(content)}"'}
        elsewhere = f"http://localhost:{self.server.server_port}/cdn/{blob(content)}?signed=1"
        return self.bytes(b"", {**heads, "Location": elsewhere}, 302)

    def large(self, now, name):
        everything = (c for repo in now["repos"].values() for c in files(repo).values())
        content = next(c for c in everything if blob(c) == name)
        if now.get("spoil"):
            content = bytes(len(content))
        begin = 0
        if (wanted := self.headers.get("Range")) and now.get("ranges", True):
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
        heads = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
        self.start(206 if begin else 200, len(content) - begin, heads if begin else {})
        if self.command == "HEAD":
            return
        for at in range(begin, len(content), 4096):
            while (hold := settings().get("hold")) is not None and at >= hold:
                time.sleep(0.01)
            if at >= now.get("cut", len(content)) and name not in cut_before:
                cut_before.add(name)
                self.close_connection = True
                return
            chunk = content[at : at + 4096]
            try:
                self.wfile.write(chunk)
            except OSError:
                self.close_connection = True
                return
            self.sent += len(chunk)

    def say(self, found):
        self.bytes(json.dumps(found).encode(), {"Content-Type": "application/json"})

    def refuse(self, status, code, message):
        heads = {"X-Error-Code": code, "X-Error-Message": message}
        self.bytes(json.dumps({"error": message}).encode(), heads, status)

    def bytes(self, body, heads, status=200):
        self.start(status, len(body), heads)
        if self.command == "GET":
            self.wfile.write(body)
            self.sent += len(body)

    def start(self, status, length, heads):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in heads.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    with ThreadingHTTPServer(("", 0), Hub) as server:
        server.daemon_threads = True
        print(server.server_port, flush=True)
        server.serve_forever()
