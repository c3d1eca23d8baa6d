"""The units of work: one stage a file; below them the store and the models."""
