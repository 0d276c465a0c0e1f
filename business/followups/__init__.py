"""Follow-ups of a gym: what they begin with, and the rules that come with it."""
