"""A deterministic stand-in for a model, served over both providers' wire formats, always announced as a rehearsal.

It understands nothing. It matches the words of a message with the names and descriptions of the tools it is offered,
fills their parameters from the message and from what other tools returned, and sums the results up.
"""
