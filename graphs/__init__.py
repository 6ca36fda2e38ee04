"""The LINE loop as a checkpointed LangGraph state machine, and the runs over it."""
