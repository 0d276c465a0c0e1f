"""The rehearsal model: a deterministic stand-in, served over both providers' wire formats. Its answers always say that
they are a rehearsal.

It understands nothing. It matches the words of a message with the names and descriptions of the offered tools, fills
their parameters from the message and from the results of other tools, and sums the results up.
"""
