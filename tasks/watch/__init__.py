"""Keep a store up to date while its sources change: what changed and when it is due, who tells of it, and the loop."""
