"""Ollama servers: their addresses, models, chat and captions."""
