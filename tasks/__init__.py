"""SeqIO tasks by name: import a module here and its tasks are registered."""
