"""Servers with the OpenAI API: their addresses, models and chat."""
