"""What every long-running command needs of the machine it runs on.

Files, progress, tables, hosts, memory, compiled programs.
"""
