"""The stages in order: each is one function of a run, resumable, returning a summary."""
