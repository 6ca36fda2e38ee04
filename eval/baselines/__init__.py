"""Other methods that label units, from random words to Describe-and-Dissect."""
