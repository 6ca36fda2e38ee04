"""CoSy (Kopf et al. 2024): do units respond more to images of their label than to control images?"""
