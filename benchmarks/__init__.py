"""One module per question: each prints a table, writes JSON with --json, and names its peers'
versions.
"""
