"""MongoDB change streams on AWS Lambda: every change, in order, at least once."""
