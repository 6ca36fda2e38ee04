"""The state machine of one unit: the paper's loop as a LangGraph graph."""
