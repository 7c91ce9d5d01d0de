"""The subcommands of `mmicl`: each parses its arguments, calls and prints.

In: the words of a command line. Out: text or JSON, and an exit status.
"""
