"""What every other package builds on: settings, database, clock, ids, money, errors, logging. No product terms."""
