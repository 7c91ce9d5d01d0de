"""Gin files: found, parsed, and held against what reads them.

In: names of files and bindings. Out: gin's configuration, or a UserError.
"""
