"""The files of a run: its folder, what it saves, and how a run goes on from that."""
