"""What `zaya pull` does, in parts: what is planned and said, whole snapshots, and quantizing what arrives."""
