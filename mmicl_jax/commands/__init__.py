"""The subcommands of `mmicl`: each parses its arguments, calls and prints.

In: the words of a command line. Out: text or JSON, and an exit status. Each
file has add_arguments(parser), which declares its flags, and main(args), which
runs it and returns the exit status.
"""
