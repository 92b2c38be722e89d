"""How cells get made: the portal, the lanes, the scheduler, the table, the run."""
