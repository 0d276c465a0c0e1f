"""What every part stands on: settings, database, clock, ids, money, errors, logging. No product words."""
