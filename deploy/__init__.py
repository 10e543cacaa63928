"""Running Floodgate: the set-up, the one-machine launcher and the `floodgate` command."""
