"""The processes of a run, how they were started, and how they are stopped."""
