"""What commands and runs can be told: frozen dataclasses, each checked when it is built.

Nothing here imports torch or any other heavy library, so that ``--help`` and an error about a flag
wait for none of them.
"""
