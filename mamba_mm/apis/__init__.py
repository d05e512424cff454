"""What a user calls: the toolboxes' scripts, and the report on the environment."""
