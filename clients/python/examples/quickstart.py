"""Runs commands in a sandbox, keeps state in a session, and runs a program from a file."""

from hutch import SandboxManager


def main() -> None:
    with SandboxManager() as manager, manager.create() as sandbox:
        print(sandbox.run("id -un; uname -sr", check=True).stdout)
        session = sandbox.default
        session.run("mkdir -p project && cd project && export GREETING=hello")
        session.write_file("main.py", "import os; print(os.environ['GREETING'])")
        print(session.run("pwd; python3 main.py", check=True).stdout)


if __name__ == "__main__":
    main()
