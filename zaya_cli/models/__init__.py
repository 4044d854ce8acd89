"""Models on the Hub and on this machine: names, folders, which one is meant, downloads, locks."""
