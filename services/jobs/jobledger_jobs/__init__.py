"""The jobs service: its API, its callbacks, its read model and history."""
