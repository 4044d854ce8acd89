"""Models on the Hub and on this machine: names, folders, downloads, locks."""
