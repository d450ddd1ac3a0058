"""Stream features: what events add to the states of entities, in task files of SQLite."""
