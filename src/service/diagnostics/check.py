"""Checks Python sources; prints one JSON array of findings."""
import ast
import json
import sys

try:
    from pyflakes import checker
except ImportError:
    checker = None

found = []


def add(path, line, column, end, severity, source, message):
    line, column = max(line or 1, 1), max(column or 0, 0)
    found.append([path, line - 1, column, max(end or 0, column + 1), severity, source, message])


for path in sys.argv[1:]:
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read(), path)
    except SyntaxError as error:
        end = getattr(error, "end_offset", None)
        end = end - 1 if end and error.lineno == getattr(error, "end_lineno", None) else None
        add(path, error.lineno, (error.offset or 1) - 1, end, 1, "python", error.msg)
        continue
    except ValueError as error:
        add(path, 1, 0, None, 1, "python", str(error))
        continue
    except OSError:
        continue
    if checker:
        for finding in checker.Checker(tree, path).messages:
            severity = 1 if type(finding).__name__.startswith("Undefined") else 2
            text = finding.message % finding.message_args
            add(path, finding.lineno, finding.col, None, severity, "pyflakes", text)
print(json.dumps(found))
