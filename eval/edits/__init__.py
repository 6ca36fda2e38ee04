"""Verified edits: is it the label's thing that a unit responds to?"""
