"""Steering commands before they are sent and after they were applied: doubtful bans, and what became of each."""
