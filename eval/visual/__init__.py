"""What excites a unit most: images of its label, and images made or chosen for its activation alone."""
