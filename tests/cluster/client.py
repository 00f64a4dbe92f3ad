"""A client like the existing ones: `requests`, one header, 30 s for every call.

    client.py URL SANDBOX begin    creates the sandbox and a session, and leaves them
    client.py URL SANDBOX go-on    uses both without creating them, and deletes them

Exits with 0 and prints `fine`, or exits with 1 and prints the deviation from the
contract.
"""

import base64
import sys
from datetime import datetime

import requests

SESSION = "job-7"


class Deviation(Exception):
    pass


def check(condition, text, *details):
    if not condition:
        raise Deviation(" ".join([text, *map(repr, details)]))


class Client:
    def __init__(self, url, sandbox):
        self.url = url
        self.sandbox = sandbox
        self.http = requests.Session()
        # A proxy of the environment is for other hosts.
        self.http.trust_env = False
        self.http.headers["x-sandbox-id"] = sandbox

    def call(self, method, path, status=200, **arguments):
        """Check the envelope of an answer and return its `data`."""
        answer = self.http.request(method, self.url + path, timeout=30, **arguments)
        where = f"{method} {path}:"
        body = answer.json()
        check(set(body) == {"data", "message", "code"}, where, body)
        check(answer.status_code == body["code"] == status, where, answer.status_code, body)
        data = body["data"]
        if status == 200 and "error" not in data:
            check(body["message"] == "ok", where, body)
        else:
            check(data.get("error"), where, body)
            check(body["message"], where, body)
        if isinstance(data, dict):
            check(data["sandboxId"] == self.sandbox, where, data)
        return data

    def post(self, route, status=200, /, **body):
        return self.call("POST", route, status, json=body)

    def get(self, route, status=200, /, **query):
        return self.call("GET", route, status, params=query)

    def delete(self, route, status=200, /, **query):
        return self.call("DELETE", route, status, params=query)

    def run(self, command, session="default", code=0, **options):
        """Return the stdout of a command; both spellings have to agree."""
        data = self.post("/session/exec", sessionId=session, command=command, **options)
        check(data["sessionId"] == session, "session of the answer:", data)
        check(data["command"] == command, "command of the answer:", data)
        result = data["result"]
        check(result["exitCode"] == code, f"exit code of {command!r}:", data)
        check(result["success"] is (code == 0), f"success of {command!r}:", data)
        check(result["output"] == result["stdout"], "output is stdout:", result)
        check(result["error"] == result["stderr"], "error is stderr:", result)
        check(result["duration"] >= 0, "duration:", result)
        datetime.fromisoformat(result["timestamp"].replace("Z", "+00:00"))
        if code:
            check(data["exitCode"] == code, "exit code of the answer:", data)
            check(data["error"] == f"Command failed with exit code {code}", "error:", data)
        return result["stdout"]


def equal(found, wanted, what):
    check(found == wanted, f"{what}: wanted {wanted!r}, found", found)


def begin(client):
    data = client.post("/lifecycle", options={"sleepAfter": "10m", "keepAlive": False})
    check(data["created"] is True and data["initialized"] is True, "lifecycle:", data)
    equal(data["init"]["stdout"], "ready", "first command")
    equal(client.post("/lifecycle", options=None)["created"], True, "lifecycle again")

    # The default session exists at once, for commands and for files.
    equal(client.run("pwd"), "/workspace", "directory of the default session")
    path = "notes/first.txt"
    data = client.post("/files/write", path=path, content="eins\n用户\n", sessionId="default")
    check(data["written"] is True and data["path"] == path, "write:", data)
    equal(client.run(f"cat {path}"), "eins\n用户", "what was written")
    data = client.get("/files/read", path=path, sessionId="default")
    equal((data["content"], data["encoding"]), ("eins\n用户\n", "utf-8"), "read by GET")
    data = client.post("/files/read", path=path, encoding="base64", sessionId="default")
    equal(base64.b64decode(data["content"]).decode(), "eins\n用户\n", "read as base64")
    equal(client.get("/files/exists", path=path, sessionId="default")["exists"], True, path)
    client.post("/files/mkdir", path="empty", recursive=True, sessionId="default")
    client.post("/files/rename", oldPath=path, newPath="notes/b", sessionId="default")
    client.post("/files/move", sourcePath="notes/b", destPath="b", sessionId="default")
    equal(client.run("ls; ls notes"), "b\nempty\nnotes", "files")
    client.delete("/files/delete", path="b", sessionId="default")
    equal(client.post("/files/exists", path="b", sessionId="default")["exists"], False, "b")
    data = client.get("/files/read", 404, path="b", sessionId="default")
    equal((data["exists"], data["error"]), (False, "File not found"), "a file that is gone")

    data = client.post("/session", id=SESSION, env={"GREETING": "hi there"}, cwd="/tmp")
    check(data["created"] is True and data["sessionId"] == SESSION, "session:", data)
    client.run("mkdir -p /workspace/job && cd /workspace/job", SESSION)
    client.run("count() { echo $(($1 + 1)); }; list=(a 'b c')", SESSION)
    data = client.post("/session/env", envVars={"TOKEN": "t'1"}, sessionId=SESSION)
    check(data["set"] is True and "sessionCreated" not in data, "env:", data)
    data = client.post("/session/env", env={"SHARED": "1"})
    equal(data["sessionId"], "default", "session of variables without one")
    client.post("/files/write", path="state", content="kept", sessionId=SESSION)


def go_on(client):
    look = 'pwd; echo "$GREETING $TOKEN ${list[1]}"; count 1; cat state'
    equal(client.run(look, SESSION), "/workspace/job\nhi there t'1 b c\n2\nkept", "the session")
    equal(client.run('echo "$SHARED$GREETING"'), "1", "the default session")
    data = client.post("/session", 409, id=SESSION)
    equal((data["created"], data["exists"]), (False, True), "a session that exists")
    data = client.get("/files/read", path="state", sessionId=SESSION)
    equal(data["content"], "kept", "a file below the session's directory")
    client.delete("/files/delete", path="state", sessionId=SESSION)
    equal(client.run("ls -A", SESSION), "", "the session's directory")

    client.run("exit 3", SESSION, code=3)
    client.run("no-such-command", SESSION, code=127)
    client.run("sleep 60", SESSION, code=124, timeout=500)
    equal(client.run("echo $TOKEN", SESSION), "t'1", "after all that")
    script = "import json, sys\nprint(json.dumps({'a': \"b'c\"}))\n"
    client.post("/files/write", path="x.py", content=script, sessionId=SESSION)
    equal(client.run("python3 x.py", SESSION), "{\"a\": \"b'c\"}", "a program")

    listed = client.get("/api/session/list")
    check(sorted(listed) == ["default", SESSION], "sessions:", listed)
    data = client.delete("/session", session_id=SESSION)
    check(data["success"] is True and data["sessionId"] == SESSION, "end of a session:", data)
    client.delete("/session", 404, session_id=SESSION)
    client.delete("/session", 400)
    equal(client.delete("/lifecycle")["destroyed"], True, "the end")
    equal(client.delete("/lifecycle")["destroyed"], True, "the end again")


def main():
    url, sandbox, part = sys.argv[1:]
    parts = {"begin": begin, "go-on": go_on}
    try:
        parts[part](Client(url, sandbox))
    except (Deviation, KeyError, ValueError, requests.RequestException) as error:
        sys.exit(f"client.py {part}: {type(error).__name__}: {error}")
    print("fine")


if __name__ == "__main__":
    main()
