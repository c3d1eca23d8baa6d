"""How one file becomes elements: unstructured kept offline, a PDF reader, tables as text, and the worker processes."""
