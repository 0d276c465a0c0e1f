"""Learning which option does best in which context: Thompson sampling, its decisions and their outcomes."""
