"""Runs Programs: sessions and what lives in them, with one owner for memory, locking and lifetime."""
