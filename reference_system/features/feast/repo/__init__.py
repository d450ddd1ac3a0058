"""The folder that the `feast` command is pointed at: its configuration and its definitions."""
