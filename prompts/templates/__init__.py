"""The prompt templates that ship with genrec, as TOML text."""
