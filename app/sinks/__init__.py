"""One outcome consumer a file. A sink translates; it never decides."""
