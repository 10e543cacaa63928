"""The subcommands of `floodgate`. Each imports what it needs as it runs: help is quick."""
