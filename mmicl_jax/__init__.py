"""MMICL in JAX."""
