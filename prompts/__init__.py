"""Histories as text and tokens: templates and the one encoder."""
