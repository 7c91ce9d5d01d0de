"""What long-running commands need: files, progress, tables, hosts, memory.

In: paths and values. Out: files that are whole, bars, tables and pages.
"""
