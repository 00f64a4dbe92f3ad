"""Files in a bucket outlive the sandbox: one sandbox writes a file and is destroyed,
another one reads it.

    BUCKET=my-bucket ENDPOINT=https://s3.example.com \\
    AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… python mount_persistence.py
"""

import os
import uuid

from hutch import Credentials, Sandbox, SandboxManager

PATH = "/mnt/data"


def mount(sandbox: Sandbox) -> None:
    sandbox.default.mount_bucket(
        os.environ["BUCKET"],
        PATH,
        endpoint=os.environ["ENDPOINT"],
        credentials=Credentials(
            os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        ),
    )


def main() -> None:
    name, text = f"{PATH}/note-{uuid.uuid4().hex}.txt", "written by a sandbox that is gone"
    with SandboxManager() as manager:
        with manager.create() as writer:
            mount(writer)
            writer.default.write_file(name, text)
            writer.default.unmount_bucket(PATH)
        with manager.create() as reader:
            mount(reader)
            found = reader.default.read_file(name)
            reader.default.delete_file(name)
            print(found)
            assert found == text


if __name__ == "__main__":
    main()
