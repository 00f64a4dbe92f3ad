"""Checks Python sources; prints a JSON array per finding, a line each."""
import sys

# The working directory is the project's: its modules are checked, never run.
sys.path = [folder for folder in sys.path if folder]

import ast
import io
import json
import tokenize

try:
    from pyflakes import checker
except ImportError:
    checker = None


def add(path, lines, line, column, end, severity, source, message):
    """A finding at a line from 1 and columns from 0, in characters."""
    line = max(line or 1, 1)
    text = lines[line - 1] if line <= len(lines) else ""
    column = min(max(column or 0, 0), len(text))
    # Characters are UTF-16's, as in the Language Server Protocol.
    start = units(text[:column])
    end = max(units(text[:end]) if end else 0, start + 1)
    print(json.dumps([path, line - 1, start, end, severity, source, str(message)]), flush=True)


def units(text):
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def characters(text, count):
    """What so many bytes of UTF-8 are in characters: `ast` counts bytes."""
    return len(text.encode("utf-8", "surrogatepass")[:count].decode("utf-8", "ignore"))


def check(path):
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        # As text: of bytes, the parser tells some columns in bytes and some not.
        source = io.TextIOWrapper(io.BytesIO(content), encoding).read()
        lines = source.split("\n")
    except (SyntaxError, UnicodeDecodeError):
        # The parser says what is wrong with it.
        source = content
        lines = content.decode("utf-8", "replace").split("\n")
    try:
        tree = ast.parse(source, path)
    except SyntaxError as error:
        end = getattr(error, "end_offset", None)
        end = end - 1 if end and error.lineno == getattr(error, "end_lineno", None) else None
        add(path, lines, error.lineno, (error.offset or 1) - 1, end, 1, "python", error.msg)
        return
    except ValueError as error:
        add(path, lines, 1, 0, None, 1, "python", error)
        return
    if checker:
        for finding in sorted(checker.Checker(tree, path).messages, key=lambda it: it.lineno):
            severity = 1 if type(finding).__name__.startswith("Undefined") else 2
            text = finding.message % finding.message_args
            line = lines[finding.lineno - 1] if finding.lineno <= len(lines) else ""
            column = characters(line, finding.col)
            add(path, lines, finding.lineno, column, None, severity, "pyflakes", text)


for path in sys.argv[1:]:
    try:
        check(path)
    except (RecursionError, MemoryError) as error:
        # One that is nested too deeply keeps nobody from the others.
        add(path, [], 1, 0, None, 3, "python", "not checked: %s" % type(error).__name__)
