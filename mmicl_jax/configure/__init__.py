"""Finds and parses gin files, and checks them against what reads them.

In: names of files and bindings. Out: gin's configuration, or a UserError.
"""
