"""The command line: parsing words and showing results, nothing else.

Every verb is a module in `verbs/` with `SUMMARY`, `add_arguments(parser)`, `run(args, plane, out) -> data` and
`show(data, out)` for people. Only the verb that was typed is imported, and heavy imports wait until `run`.
"""
