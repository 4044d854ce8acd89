"""People, terminals, pipes and the files of the user. Composes the rooms below; computes nothing."""
