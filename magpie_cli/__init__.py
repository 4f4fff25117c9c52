"""Turns pairs of personas into multi-turn dialogues, one JSON line each."""
