"""The ranking loss: the true graph is preferred to a corrupted one."""
