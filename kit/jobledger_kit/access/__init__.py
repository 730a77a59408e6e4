"""The schema `access`: users, their groups and their API keys. It belongs to the kit: every service reads it through `auth.Access`."""
