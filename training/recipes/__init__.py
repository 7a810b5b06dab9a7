"""The recipes that ship with genrec, as YAML text."""
