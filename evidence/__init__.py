"""What people take with them from a store: reports, exports, provenance, replays."""
