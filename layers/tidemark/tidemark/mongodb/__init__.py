"""MongoDB as a source of changes: the only package that imports PyMongo."""
