"""What a run's training will cost, said before it begins."""
