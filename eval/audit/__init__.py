"""Audits: what does a class of a classifier lean on, and is it the thing itself?"""
