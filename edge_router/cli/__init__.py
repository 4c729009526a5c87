"""The command line: thin. It parses, calls the layers below and formats; `main` wires, each verb has a file.

The answer or the JSON goes to stdout; everything else, errors and progress included, goes to stderr.
"""
