"""The lives of courses and users: add, adopt, pause, move, resync, remove, erase."""
